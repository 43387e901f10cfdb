"""Takes the lock in Diego's Locket, over gRPC with mutual TLS."""

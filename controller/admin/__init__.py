"""The admin API: what operators ask a running daemon, over gRPC with mutual TLS."""

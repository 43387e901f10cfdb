"""The wire formats: .proto files with their generated code beside them."""

"""logwire: the gRPC contract between clients and the server. Everything below `v1` but the .proto files is generated."""

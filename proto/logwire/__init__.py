"""logwire: the gRPC contract between clients and the server.

In `v1` everything but the .proto files is generated; `framing` writes and reads by hand what carries batches.
"""

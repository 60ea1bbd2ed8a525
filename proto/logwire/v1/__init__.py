"""Version 1 of the wire contract. The .proto files are the source; `python -m tests.generate_proto` writes the rest."""

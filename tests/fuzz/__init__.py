"""Bytes that nobody would send: what reads them must refuse them in the way that its documentation says, and no other.

    frames             a connection: frames in whatever pieces
    requests           headers and bodies of every API but Produce
    produce            Produce requests, and the answers to them
    fetch_sessions     Fetch requests that follow one another on one connection
    consumer_protocol  what members of classic groups say to each other
    batches            record batches, with a right CRC and with any

Each module has `run(data)`, which raises when something is wrong with what it tries, and `seeds()`, from which the
search begins. `python -m tests.fuzz NAME DIRECTORY` searches with atheris (`pip install tailrace[fuzz]`). What it found
is in `corpus/NAME`, and `test_corpus` tries that again with every run of the quick tests.
"""

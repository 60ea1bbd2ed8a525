"""The server: one process, one event loop, one data directory, and the doors through which clients reach it.

A *door* (`grpc/`, `kafka/`) translates a call of its protocol into a call of the broker, and the answer back. It
decides nothing.
The *broker* is the composition: it owns the store, the coordinator of groups and the parts that act on them, and every
one of its methods takes a `RequestContext` saying who asks, through which listener, and until when.
A *waiter* stands where a request must wait for the log to grow: acknowledgements for a sync, readers for records.

Reading order: errors, context, config; checks, bytes_in_flight, time_slice, waiters; damage, openings, topics, appends,
fetches, fetch_stream, journal, scrub, compaction, topic_directory; broker; status, version; grpc/, kafka/; server,
logging_setup, moved_time; main, command.

Threads: everything here runs on the loop. Three things leave it: syncs (the store's own thread), reads of what is not
in memory and lookups by time (a small pool), and decoding for callers without a codec (one thread).
"""

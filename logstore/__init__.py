"""The storage engine: topics of partitioned, append-only logs on one disk.

Three nouns carry it. A *batch* is the unit of everything: some records, one header, one CRC, the same bytes in the
client's hands, on the wire and on disk (Kafka's record batch v2). A *segment* is one file of batches with a sparse
index beside it. A *log* is one partition: a chain of segments, of which the last is written.

    TopicStore            the data directory: names -> topics -> logs, identity, checkpoint      topics.py
      Log                 one partition: append, open_read, roll, retain                          log.py
        Segment           one .log file: positions, never offsets beyond its own                  segment.py
          OffsetIndex     where in the file may I start scanning?                                 index.py
            batch         61 bytes of header, then records                             header.py, batch.py

Reading order: errors, clock, config; compression, header, batch, partitioner, topic_name; files, syscalls, disk,
arrays, linux_disk, documents; index, handles, seal, walk, segment, reader; checkpoint, sync; scan, epochs, producers,
snapshot, snapshot_writer, log; losses, chain, recovery, opening; identity, catalog, spare, retention, compaction,
compactor, compactions, data_directory, topics. linux_disk.py and arrays.py are the only places that touch files,
clock.py the only one that tells time, errors.py lists everything that can go wrong. Then, for directories at rest:
findings, crosschecks, verification, partition_files, stopped; repair_plan, repair. docs/format.md has every file byte
by byte.

What holds everywhere:

- An *offset* numbers a record in its partition; a *position* is a byte in a file. They are never mixed.
- The log is the truth. Index, snapshot and checkpoint are hints or lower bounds, rebuilt from it when lost.
- What is acknowledged as durable was synced. What may be read was synced, unless the topic asked for less.
- Bytes below the recovery point that turn out bad are kept, quarantined and reported, never cut. Above it they are a
  torn tail: cut, and the cut bytes kept aside.
- Missing metadata never means "empty", and nothing is deleted to make a start succeed.
- A failed write or sync is final: nothing is retried, nothing that waited is acknowledged, the process ends.

Caveats. One process owns a data directory (a lock says so) and one thread owns its logs; readers of other threads get
immutable snapshots. Appends go to the page cache and return; a sync thread makes them durable, many at a time. The
broker never opens a batch, so damage *inside* a batch whose CRC is right is the producer's, and surfaces at readers.

Nothing is imported here: clients use `logstore.batch`, `logstore.partitioner`, `logstore.topic_name` and
`logstore.errors`, and must not pay for the rest.
"""

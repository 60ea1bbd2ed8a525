"""The Kafka door: every Kafka client, over the same topics, groups and bytes as the gRPC door.

Reading order:

    apis                       what is spoken, in which versions
    primitives, shapes, messages      bytes to requests, and answers to bytes
    leader_epochs, errors      domain errors to Kafka's codes
    buffers, connection        one connection: frames in, answers out in order
    produce, fetch, fetch_sessions    the hot path, written by hand
    metadata, offsets, producer_ids   what there is, and who writes
    topics, log_dirs           administration: topics, and what they take of the disk
    topic_settings, broker_settings, configs    and their settings
    handlers, server           which handler answers what; the port
"""

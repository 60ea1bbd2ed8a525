"""The Kafka door: every Kafka client, over the same topics, groups and bytes as the gRPC door.

Reading order:

    apis                                      what is spoken, in which versions
    answers, making                           memory and time of answers: not taken yet, and not made yet
    primitives, kio_types, walk, messages     bytes to requests, and answers to bytes
    errors, leader_epochs                     what is refused, and Kafka's codes for it
    strangers, few_lines                      who cannot be served, and how often the log says so
    buffers                                   what has come of requests that are not whole
    produce, fetch_sessions, fetch            the hot path, written by hand
    connection                                one connection: frames in, answers out in order
    metadata, offsets, producer_ids           what there is, and who writes
    topic_settings, broker_settings, configs  administration: settings
    topics, log_dirs                          and topics, and what they take of the disk
    membership, groups, group_offsets         who reads, together with whom, and how far
    handlers, server                          which handler answers what; the port
"""

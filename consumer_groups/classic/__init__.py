"""Groups of the classic protocol: Kafka's JoinGroup, SyncGroup, Heartbeat, LeaveGroup, without clock, socket or disk.

All members join anew whenever something changes, and one of them, the *leader*, says what each is to have in the
*generation* that begins then. The server passes that on untouched, in bytes that are the clients' own.

Reading order:

    requests                      what members ask and are answered
    roster                        all members as one thing to copy: who waits for an answer, what they have in common
    forms                         what a request must be before it is taken, whatever its group is
    partitions                    what consumers say and are assigned, as topics and partitions
    saved_state                   what of a group is durable
    seek                          what is taken from members for a seek, and what they must know before it holds
    join_phase, checks            until when it waits for joins; whether it takes a request as it is now
    rebalancing                   its states and generations
    group                         what members ask of it, and others: a state machine on top of these

Joins and syncs that wait for others wait in `consumer_groups.joins`.
"""

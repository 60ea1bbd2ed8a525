"""Consumer groups: who reads what, how far they have read, and how to send them elsewhere.

A *group* shares the partitions of its topics among its *members*, one owner each. Its members use one of two protocols.
In the *consumer group protocol* (KIP-848) members send heartbeats, the server plans who should have what, and each
member gives up and gets partitions one by one while the rest goes on. In the *classic protocol*, Kafka's older one, all
members join anew whenever something changes, and one of them plans; such a group is called a *classic* one. How far the
group has read is a *committed offset* for each partition. A group that runs is sent to another place by a *seek*.

Reading order:

    errors, config, requests      what is asked and answered, and what is refused
    room                          how much all members may bring together
    surroundings, topics          what is asked of the server around it
    assignors                     who should have what: pure arithmetic
    checks                        what a request must be before it is taken, whatever its group is
    member                        what is durable of a member, and how it moves to what it should hold
    journal_records               the journal: what outlives the process
    roster                        what of a group is durable, as one thing to copy and compare
    contacts                      what of a group is not durable
    planning                      who is meant to have what
    reconciliation                its epochs and plans, and by when members must have followed them
    group_checks                  whether a group takes a request as it is now
    group                         the consumer group protocol: a state machine without clock, socket or disk
    consumer_protocol             what members of the classic protocol exchange, in bytes of their own
    classic                       the classic protocol: a package with a state machine like `group`
    kinds                         what a group of either protocol is asked, and which of the two it is
    offsets, lag                  how far a group has read, and how far behind it is
    timers, turns, live           the groups of a running server; `live` is the one way any of them changes
    commits, seeks, descriptions  what is done to a live group, and what is told of it
    rewriting, expiry             how the journal is kept short, and what is forgotten in time
    joins                         joins and syncs of the classic protocol, which wait for others
    departures                    who left of late
    coordinator                   the front of it all: heartbeats that wait, start and stop

What to know before relying on it. Nothing is answered before it is durable. A partition has one owner, who may commit
it until it has said that it gave it up, or was fenced. Sessions run on the monotonic clock, and start afresh when the
server does. A group that has had no members for a week is forgotten, with what it has committed. Heartbeats and commits
may overtake each other if their member numbers them; else they must arrive in order.
"""

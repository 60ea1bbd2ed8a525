"""What can be set about groups, with the defaults of Kafka where Kafka has the setting."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """Times are in milliseconds of the monotonic clock, but for those of offsets."""

    #: A member unheard of for this long is removed, and its partitions go to others.
    session_timeout_ms: int = 45_000
    #: What members are told; also the longest a heartbeat is held.
    heartbeat_interval_ms: int = 5_000
    #: How long a member may take to give partitions up, unless it says otherwise when joining.
    rebalance_timeout_ms: int = 60_000
    #: What a member may ask for at most.
    rebalance_timeout_ms_max: int = 1_800_000
    #: How long a seek waits for the partitions to be given up.
    seek_timeout_ms: int = 60_000
    #: What a group has committed is kept for so long after its last member went and after the commit; -1: for ever.
    offsets_retention_ms: int = 604_800_000
    #: Targets are planned at most this often, so that a crowd that joins at once is planned for once.
    assignment_interval_ms: int = 200
    #: Above this the journal is written anew, unless it is the groups themselves that take so many records. It is read
    #: at start, which takes some 15 us of one core for each.
    journal_records_max: int = 20_000
    #: Used by members that name none.
    assignor: str = "uniform"
    members_max: int = 1_000
    groups_max: int = 10_000
    #: What the members of all groups may bring together, in groups of both protocols (see `room`).
    total_bytes_max: int = 67_108_864
    #: Names in one member's subscription.
    subscription_topics_max: int = 1_000
    #: UTF-8 bytes of the text beside a committed offset.
    metadata_bytes_max: int = 4_096

    # Of classic groups.

    #: How long the first rebalance of an empty group waits for more members: `group.initial.rebalance.delay.ms`. Kafka
    #: has 3 s in its code, and 0 in the file that it ships. 0 here, too: on one machine a second rebalance costs less
    #: than the wait, which every start of a program and every test would have. Raise it for groups of many members.
    initial_rebalance_delay_ms: int = 0
    #: What members may ask for: `group.min.session.timeout.ms`, `group.max.session.timeout.ms`.
    session_timeout_ms_min: int = 6_000
    session_timeout_ms_max: int = 1_800_000
    #: Protocols that one member may support.
    protocols_max: int = 100
    #: What one member may say of itself, for all its protocols; and what the leader may assign to one.
    member_bytes_max: int = 262_144
    #: The same of all members of a group. A change of the group is one write to the journal, of that much at most.
    group_bytes_max: int = 8_388_608

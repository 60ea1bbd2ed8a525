"""Who is meant to have what in a group: the plan of an assignor, less what is being sought."""

from collections import Counter
from collections.abc import Iterable, Mapping

from consumer_groups.assignors import ASSIGNORS, Subscriber
from consumer_groups.member import Member
from consumer_groups.requests import NOTHING, Assignment, Partition
from consumer_groups.surroundings import TopicLookup

#: Partitions that are being sought, each with the member that it was planned for.
Withheld = Mapping[Partition, str | None]


def chosen_assignor(members: Iterable[Member], default: str) -> str:
    """The one most members ask for; the default when none asks."""
    votes = Counter(member.profile.assignor for member in members if member.profile.assignor)
    if not votes:
        return default
    return min(votes, key=lambda name: (-votes[name], name))


def plan(
    members: Mapping[str, Member],
    targets: Mapping[str, Assignment],
    withheld: Withheld,
    assignor: str,
    lookup: TopicLookup,
) -> dict[str, Assignment]:
    """Who should have what, as if nothing were being sought: a seek must not shuffle what it does not touch."""
    topics = {name: lookup(name) for member in members.values() for name in member.profile.topics}
    infos = {name: info for name, info in topics.items() if info is not None}
    subscribers = {
        member_id: Subscriber(
            topics=frozenset(infos[name].topic_id for name in member.profile.topics if name in infos),
            instance_id=member.profile.instance_id,
            previous=targets.get(member_id, NOTHING)
            | {partition for partition, home in withheld.items() if home == member_id},
        )
        for member_id, member in members.items()
    }
    counts = {info.topic_id: info.partitions for info in infos.values()}
    return ASSIGNORS[assignor](subscribers, counts)


def withhold(planned: Mapping[str, Assignment], withheld: Withheld) -> tuple[dict[str, Assignment], Withheld]:
    """The target assignment that a plan leaves, and for whom it has what is being sought."""
    homes: dict[Partition, str | None] = dict.fromkeys(withheld)
    for member_id, partitions in planned.items():
        homes.update((partition, member_id) for partition in partitions if partition in withheld)
    return {member_id: partitions.difference(homes) for member_id, partitions in planned.items()}, homes

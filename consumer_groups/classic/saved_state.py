"""What the journal has of a classic group, as one thing to compare: a generation, and the members it has.

It is behind the group while members join: a generation is saved as it begins, and once more with what was assigned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from consumer_groups.journal_records import Change, ClassicGeneration, ClassicKey, ClassicMemberKey, Key, Value
from consumer_groups.member import ClassicMember


@dataclass(frozen=True, slots=True)
class ClassicSaved:
    #: None: nothing of the group is durable.
    generation: ClassicGeneration | None = None
    members: Mapping[str, ClassicMember] = field(default_factory=dict)

    @classmethod
    def restore(cls, group: str, image: Mapping[Key, Value]) -> "ClassicSaved":
        generation = image.get(ClassicKey(group))
        if not isinstance(generation, ClassicGeneration):  # A journal whose loss was accepted has members without it.
            return cls()
        members = {
            key.member_id: value
            for key, value in image.items()
            if isinstance(key, ClassicMemberKey) and isinstance(value, ClassicMember)
        }
        return cls(generation, members)

    @property
    def records_count(self) -> int:
        """How many records it takes to say it all."""
        return (self.generation is not None) + len(self.members)

    def changes_since(self, group: str, before: "ClassicSaved") -> list[Change]:
        """What to write so that the journal has this instead of what was before."""
        changes: list[Change] = []
        if self.generation != before.generation:
            changes.append((ClassicKey(group), self.generation))
        if self.members is before.members:
            return changes
        for member_id in before.members:
            if member_id not in self.members:
                changes.append((ClassicMemberKey(group, member_id), None))
        for member_id, member in self.members.items():
            if before.members.get(member_id) != member:
                changes.append((ClassicMemberKey(group, member_id), member))
        return changes

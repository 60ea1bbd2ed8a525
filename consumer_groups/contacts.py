"""What is known of live members beyond what is durable: when they were heard of, what they said and were told last.

A group and its drafts share it, since it says what has happened, and not what is decided.
"""

from collections.abc import Container
from dataclasses import dataclass

from consumer_groups.requests import Assignment


@dataclass(slots=True)
class Contact:
    session_deadline_ms: int
    #: What it last said it holds; None: nothing said yet.
    reported: Assignment | None = None
    #: Epoch and assignment of the last answer.
    told: tuple[int, Assignment] | None = None
    #: Of the newest heartbeat that was taken. Not durable, as what it guards against does not outlive the process: a
    #: heartbeat that was on its way to a server that died has died with its connection, and no member sends an older
    #: one again.
    number: int = 0
    #: Of the newest commit, likewise.
    commit_number: int = 0


class Contacts:
    def __init__(self) -> None:
        #: When the group was last planned; None: not since the start.
        self.planned_ms: int | None = None
        self._contacts: dict[str, Contact] = {}

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._contacts

    def __getitem__(self, member_id: str) -> Contact:
        return self._contacts[member_id]

    def heard_of(self, member_id: str, session_deadline_ms: int) -> Contact:
        """Give the member until then, and return what else is known of it."""
        contact = self._contacts.setdefault(member_id, Contact(session_deadline_ms))
        contact.session_deadline_ms = session_deadline_ms
        return contact

    def keep_only(self, member_ids: Container[str]) -> None:
        for member_id in [member_id for member_id in self._contacts if member_id not in member_ids]:
            del self._contacts[member_id]

"""What a group has committed, as its server says: whatever happens to the server, it never says less than before."""

from contextlib import suppress

from tailrace import Admin
from tailrace.errors import GroupIdNotFound
from tests.faults.runs import Tally


class CommittedOffsets:
    def __init__(self, server: str, group: str, tally: Tally) -> None:
        self._server = server
        self._group = group
        self._tally = tally
        self._highest: dict[int, int] = {}  # of each partition

    def observe(self) -> None:
        """Ask, and compare with what was said before. A server says only what is on its disk."""
        said = {}
        with suppress(GroupIdNotFound), Admin(server=self._server, connect_timeout=30) as admin:
            said = {row.partition: row.offset for row in admin.committed_offsets(self._group)}
        self._tally.count("commits compared", len(self._highest))
        for partition, offset in self._highest.items():
            if said.get(partition, -1) < offset:
                self._tally.violate(
                    f"group {self._group!r} had committed {offset} in partition {partition}, and now "
                    f"{said.get(partition, 'nothing')}"
                )
        self._highest |= said

"""A log on its way to being open: read by any thread, and taken over by the owner thread."""

import threading
from collections.abc import Callable

from logstore.errors import UnknownTopicOrPartition
from logstore.log import Log
from logstore.recovery import RecoveryFindings


class Opening:
    """Reads the files of one log once, however many ask: two at a time could undo what the other has put right."""

    def __init__(self, read: Callable[[], tuple[Log, RecoveryFindings]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._outcome: tuple[Log, RecoveryFindings] | Exception | None = None

    def run(self) -> None:
        """Any thread; waits for the disk, or for who runs it already. What fails is raised by `result`."""
        with self._lock:
            if self._outcome is None:
                try:
                    self._outcome = self._read()
                except Exception as error:
                    self._outcome = error

    def result(self) -> tuple[Log, RecoveryFindings]:
        """Owner thread. Raises as `recovery.open_log`, and UnknownTopicOrPartition after `abandon`."""
        self.run()
        assert self._outcome is not None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def abandon(self) -> None:
        """The topic is gone, and its files are about to be. Waits for who runs it; nobody touches them after that."""
        with self._lock:
            self._outcome = UnknownTopicOrPartition(
                "the topic was deleted while a log of it was opened", remedy="Ask for the topic's metadata again."
            )

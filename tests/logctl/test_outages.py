"""What `logctl produce` and `logctl consume` say while the server is away."""

import logging
import queue
from pathlib import Path

import pytest

from logctl.outages import outages_told
from logctl.output import Output
from tests.processes import ServerProcess


class Notes(Output):
    def __init__(self) -> None:
        super().__init__()
        self.said: queue.Queue[str] = queue.Queue()

    def note(self, sentence: str) -> None:
        self.said.put(sentence)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logctl.outages.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("logctl.outages.ANSWER_SECONDS_MAX", 0.5)


def test_an_outage_is_told_once_and_so_is_its_end(tmp_path: Path) -> None:
    notes = Notes()
    with ServerProcess(tmp_path / "data") as server:
        address = server.address
        with outages_told(notes, address):
            server.kill()
            logging.getLogger("tailrace").info("reading is interrupted")
            assert notes.said.get(timeout=30) == f"The server at {address} does not answer; trying again ..."
            logging.getLogger("tailrace").info("reading is interrupted")
            server.start()
            assert notes.said.get(timeout=30) == f"The server at {address} answers again."
    assert notes.said.empty()

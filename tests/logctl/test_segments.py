"""`logctl segments` on data directories of servers that are stopped: sound ones, damaged ones, and what is none."""

import hashlib
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logctl.main import run
from logctl.record_json import record_from_json
from logctl.segments.helpers import Verified, verify_segments
from logstore.batch import iter_headers
from logstore.errors import DataDirectoryLocked, DataDirectoryUnusable, LogStoreError, MetadataCorrupt
from logstore.linux_disk import LinuxDisk
from logstore.partition_files import read_partition
from logstore.repair import repair
from logstore.stopped import StoppedDirectory
from tests.logctl.conftest import Logctl, Ran
from tests.logctl.test_terminal import at_terminal, plain
from tests.logstore.store import SMALL, Opened
from tests.processes import ENVIRONMENT, ServerProcess

Segments = Callable[..., Ran]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The directory of a server that was stopped: topics flights and delays, several segments each."""
    directory = tmp_path / "data"
    store = Opened(LinuxDisk(), directory=directory)
    for name, partitions in (("flights", 2), ("delays", 1)):
        store.store.create_topic(name, partitions, SMALL)
        for number in range(20):
            store.append(name, number % partitions, b"%s %d" % (name.encode(), number), b"x" * 40)
            if number % 5 == 4:
                store.settle()
    store.close()
    return directory


@pytest.fixture
def segments(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Segments:
    """Run `logctl segments` with nobody at a terminal."""

    def segments(line: str, *words: object) -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        capsysbinary.readouterr()
        status = run(["segments", *shlex.split(line), *map(str, words)])
        told = capsysbinary.readouterr()
        return Ran(status, told.out.decode(), told.err.decode())

    return segments


def partition(data: Path, topic: str = "flights", number: int = 0) -> Path:
    with StoppedDirectory.open(data, LinuxDisk()) as found:
        return next(place.directory for place in found.places() if (place.topic, place.partition) == (topic, number))


def log_of(directory: Path, number: int = 0) -> Path:
    return sorted(directory.glob("*.log"))[number]


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def damage_second_batch(data: Path) -> tuple[int, int]:
    """Flip a bit in the second batch of flights 0. Returns the offsets that it has: the first, and the next."""
    path = log_of(partition(data))
    position, header = list(iter_headers(path.read_bytes()))[1]
    flip(path, position + header.size - 1)
    return header.base_offset, header.next_offset


def state(directory: Path) -> dict[str, str]:
    """Every file but the lock, which says who had the directory last."""
    return {
        str(path.relative_to(directory)): hashlib.sha1(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


# dump


def test_dump_shows_every_batch_of_a_partition(data: Path, segments: Segments) -> None:
    rows = segments("dump --json --topic flights --partition 1", data).rows

    assert {row["kind"] for row in rows} == {"segment", "batch"}
    batches = [row for row in rows if row["kind"] == "batch"]
    assert [row["base_offset"] for row in batches] == list(range(0, 20, 2))
    assert {(row["topic"], row["partition"], row["records_count"], row["crc_ok"]) for row in batches} == {
        ("flights", 1, 2, True)
    }
    kept = [row for row in rows if row["kind"] == "segment"]
    assert [row["is_sealed"] for row in kept] == [True] * (len(kept) - 1) + [False]


def test_dump_is_a_table_for_people(data: Path, segments: Segments) -> None:
    ran = segments("dump --topic delays", data)
    assert ran.status == 0
    heading, columns, first = ran.out.splitlines()[:3]
    assert heading.startswith("delays 0: 00000000000000000000.log, ")
    assert columns.split()[:3] == ["OFFSET", "RECORDS", "POSITION"]
    assert first.split()[:3] == ["0", "2", "0"]


def test_dump_begins_at_an_offset_and_ends_after_so_many(data: Path, segments: Segments) -> None:
    rows = segments("dump --json --topic delays --from-offset 13 --max 3", data).rows
    assert [row["base_offset"] for row in rows if row["kind"] == "batch"] == [12, 14, 16]

    assert segments("dump --json --from-offset 1000", data).rows == []

    rows = segments("dump --json --topic delays --from-offset 13 --max 3 --records", data).rows
    assert [row["offset"] for row in rows if "kind" not in row] == [13, 14, 15]


def test_dumped_records_can_be_produced_again(data: Path, segments: Segments) -> None:
    out = segments("dump --json --records --topic delays", data).out
    lines = [line for line in out.splitlines() if "kind" not in json.loads(line)]
    values = [record_from_json(line.encode()).value for line in lines]
    assert values == [value for n in range(20) for value in (b"delays %d" % n, b"x" * 40)]


def test_dumped_records_are_shown_to_people_below_their_batch(data: Path, segments: Segments) -> None:
    lines = segments("dump --records --topic delays --max 2", data).out.splitlines()
    assert lines[-2].startswith("0:0  ")
    assert lines[-2].endswith("delays 0")


def test_dump_shows_damage_and_goes_on_behind_it(data: Path, segments: Segments) -> None:
    offset, next_offset = damage_second_batch(data)

    ran = segments("dump --json --topic flights --partition 0", data)

    assert ran.status == 1
    (damage,) = [row for row in ran.rows if row["kind"] == "damage"]
    assert (damage["offset"], damage["next_offset"], damage["is_lost"]) == (offset, next_offset, True)
    assert damage["batch"]["base_offset"] == offset
    sound = [row["base_offset"] for row in ran.rows if row["kind"] == "batch"]
    assert sound == [at for at in range(0, 20, 2) if at != offset]
    assert f"! offsets [{offset}, {next_offset}), bytes " in segments("dump --topic flights", data).out


def test_a_torn_tail_is_no_damage(data: Path, segments: Segments) -> None:
    with log_of(partition(data), -1).open("ab") as file:
        file.write(b"torn")

    ran = segments("dump --json --topic flights --partition 0", data)

    assert ran.status == 0
    assert [row["is_lost"] for row in ran.rows if row["kind"] == "damage"] == [False]


# verify


def test_verify_finds_nothing_wrong_and_changes_nothing(data: Path, segments: Segments) -> None:
    before = state(data)
    lock = (data / "lock").stat()

    ran = segments("verify", data)

    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("Verified 3 partitions, ")
    assert ran.out.endswith(" bytes: nothing is wrong.\n")
    assert state(data) == before
    assert (data / "lock").stat().st_mtime_ns == lock.st_mtime_ns
    (summary,) = segments("verify --json", data).rows
    assert (summary["kind"], summary["records"], summary["is_sound"]) == ("summary", 80, True)


def test_verify_says_what_is_damaged_where_and_what_to_do(data: Path, segments: Segments) -> None:
    offset, next_offset = damage_second_batch(data)

    ran = segments("verify --json", data)

    assert ran.status == 1
    finding, summary = ran.rows
    assert finding["kind"] == "records-lost"
    assert finding["severity"] == "damage"
    assert (finding["topic"], finding["partition"]) == ("flights", 0)
    assert (finding["offset"], finding["next_offset"]) == (offset, next_offset)
    assert finding["position"] < finding["end_position"]
    assert finding["file"].endswith("/00000000000000000000.log")
    assert "segments repair" in finding["remedy"]
    assert (summary["damage"], summary["is_sound"]) == (1, False)

    told = segments("verify", data).out
    assert f"damage: flights 0, offsets {offset} to {next_offset - 1}: its CRC is wrong\n" in told
    assert told.endswith(": 1 damaged.\n")


def test_verify_says_what_to_do_about_each_finding(data: Path, segments: Segments) -> None:
    damage_second_batch(data)
    path = log_of(partition(data, "delays"))
    flip(path, path.stat().st_size - 1)
    out = segments("verify", data).out
    assert out.count("damage: ") == 2
    assert out.count("`logctl segments repair` accepts the loss") == 2


def test_verify_can_be_kept_to_a_topic_and_a_partition(data: Path, segments: Segments) -> None:
    damage_second_batch(data)
    assert segments("verify --topic delays", data).status == 0
    assert segments("verify --topic flights --partition 1", data).status == 0
    assert segments("verify --topic flights --partition 0", data).status == 1


def test_an_index_that_is_gone_is_rebuildable(data: Path, segments: Segments) -> None:
    array = next(partition(data).glob("*.*.index"))
    for file in array.iterdir():
        file.unlink()
    array.rmdir()
    ran = segments("verify --json", data)
    assert ran.status == 1
    assert [(row["kind"], row["severity"]) for row in ran.rows[:-1]] == [("index-wrong", "rebuildable")]


def test_files_of_others_are_noted_and_not_touched(data: Path, segments: Segments) -> None:
    strangers = [data / "notes.txt", data / "topics" / "notes.txt", partition(data) / "notes.txt"]
    for path in strangers:
        path.write_text("mine")
    ran = segments("verify --json", data)
    assert ran.status == 0
    assert {(row["kind"], row["file"]) for row in ran.rows[:-1]} == {("stranger", str(path)) for path in strangers}
    assert segments("repair --yes", data).status == 0
    assert all(path.read_text() == "mine" for path in strangers)


def test_helper_processes_find_the_same(data: Path) -> None:
    damage_second_batch(data)
    with StoppedDirectory.open(data, LinuxDisk()) as found:
        segments = [segment for place in found.places() for segment in read_partition(found.disk, place).segments]
    seen: list[tuple[int, int]] = []

    def verified(helpers: int) -> list[tuple[int, Any, Any]]:
        def on_progress(bytes_count: int, records_count: int) -> None:
            seen.append((bytes_count, records_count))

        found: list[Verified] = list(verify_segments(segments, 1 << 40, on_progress, helpers=helpers))
        return [(each.segment.base_offset, each.findings, each.report) for each in found]

    here = verified(1)
    assert len(here) == len(segments)
    assert seen[-1][1] == 78
    assert verified(2) == here


def test_what_a_helper_cannot_open_is_told_as_in_one_process(data: Path) -> None:
    with StoppedDirectory.open(data, LinuxDisk()) as found:
        place = next(found.places())
        segments = read_partition(found.disk, place).segments
    path = segments[0].log_path
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(DataDirectoryUnusable, match="cannot be used: Too many levels of symbolic links"):
        list(verify_segments(segments, 1 << 40, lambda *_: None, helpers=2))


# repair


def test_repair_needs_yes_where_nobody_can_be_asked(data: Path, segments: Segments) -> None:
    offset, next_offset = damage_second_batch(data)
    before = state(data)

    ran = segments("repair", data)

    assert ran.status == 2
    assert f"flights 0: gives up 2 records, offsets {offset} to {next_offset - 1}: its CRC is wrong" in ran.out
    assert "needs --yes" in ran.err
    assert state(data) == before


def test_repair_gives_up_what_is_lost_and_keeps_the_rest(data: Path, segments: Segments) -> None:
    offset, next_offset = damage_second_batch(data)

    ran = segments("repair --yes --json", data)

    assert ran.status == 0
    step, done = ran.rows
    assert (step["action"], step["topic"], step["partition"]) == ("accept-loss", "flights", 0)
    assert (step["offset"], step["next_offset"]) == (offset, next_offset)
    assert done == {"action": "done", "is_sound": True}
    assert segments("verify", data).status == 0
    store = Opened(LinuxDisk(), directory=data)
    assert store.append("flights", 0, b"afterwards") == 20


def test_repair_of_a_sound_directory_does_nothing(data: Path, segments: Segments) -> None:
    before = state(data)
    ran = segments("repair", data)
    assert (ran.status, ran.out) == (0, "There is nothing to repair.\n")
    assert state(data) == before


def test_repair_asks_at_a_terminal(data: Path, server: ServerProcess) -> None:
    damage_second_batch(data)
    before = state(data)

    status, shown = at_terminal(server, "segments", "repair", str(data), typed="n\n")
    assert status == 1
    assert "Give up 2 records for good? [y/N]:" in plain(shown)
    assert "Nothing was changed." in shown
    assert state(data) == before

    status, shown = at_terminal(server, "segments", "repair", str(data), typed="y\n")
    assert status == 0
    assert plain(shown).endswith("Repaired.\n")


def test_repair_makes_a_lost_checkpoint_anew(data: Path, segments: Segments) -> None:
    (data / "checkpoint").write_bytes(bytes(100))

    assert segments("repair", data).status == 2
    refused = segments("repair --yes --json --topic flights", data)
    assert (refused.status, refused.error["code"]) == (2, "BAD_USAGE")
    assert segments("repair --yes", data).status == 0

    assert segments("verify", data).status == 0
    assert Opened(LinuxDisk(), directory=data).append("delays", 0, b"afterwards") == 40


def test_who_lost_the_checkpoint_is_told_everywhere_that_deleted_records_come_back(
    data: Path, segments: Segments
) -> None:
    store = Opened(LinuxDisk(), directory=data)
    answers: list[LogStoreError | None] = []
    store.store.delete_records(store.store.log("delays", 0), 18, answers.append)
    store.settle()
    store.close()
    (data / "checkpoint").unlink()
    with pytest.raises(MetadataCorrupt) as refused:
        Opened(LinuxDisk(), directory=data)

    told = [str(refused.value.remedy), segments("verify", data).out, segments("repair --yes", data).out]
    for text in told:
        assert "records deleted by `delete-records` or retention whose segments are still there" in text, text
        assert "come back" in text

    assert Opened(LinuxDisk(), directory=data).store.log("delays", 0).log_start_offset < 18


def test_a_checkpoint_is_not_made_anew_while_a_partition_is_missing(data: Path, segments: Segments) -> None:
    """It would count as one that never had a record, if its directory came back."""
    (data / "checkpoint").unlink()
    partition(data, "flights", 1).rename(data.parent / "mislaid")
    before = state(data)
    ran = segments("repair --yes --json", data)
    assert ran.status == 1
    assert [row["kind"] for row in ran.rows] == ["topic-wrong"]
    assert "Nothing was changed." in ran.error["remedy"]
    assert state(data) == before


def test_what_is_rebuilt_without_loss_needs_no_yes(data: Path, segments: Segments) -> None:
    flip(partition(data) / "snapshot", 33)
    seal = next(partition(data).glob("*.seal"))
    flip(seal, 33)
    ran = segments("repair --json", data)
    assert ran.status == 0
    assert [row["action"] for row in ran.rows] == ["make-index", "make-snapshot", "done"]
    assert segments("verify", data).status == 0


def test_what_is_lost_by_making_anew_is_told(data: Path, segments: Segments) -> None:
    flip(partition(data) / "snapshot", 33)
    flip(next(partition(data).glob("*.seal")), 33)
    out = segments("repair", data).out
    assert "append times that only they had are lost" in out
    assert "producers whose batches are not in the log any more are forgotten" in out


def test_a_snapshot_that_is_lost_beside_records_is_told_too(data: Path, segments: Segments) -> None:
    damage_second_batch(data)
    flip(partition(data) / "snapshot", 33)
    ran = segments("repair --json --yes", data)
    assert [row["action"] for row in ran.rows] == ["accept-loss", "make-snapshot", "done"]


def test_swapped_files_are_left_to_a_person(data: Path, segments: Segments) -> None:
    first, second = (log_of(partition(data), number) for number in (0, 1))
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[0])
    first.write_bytes(contents[1])
    before = state(data)

    ran = segments("repair --yes", data)

    assert ran.status == 1
    assert "If files were renamed or swapped, give them their names back." in ran.out
    assert state(data) == before


def test_metadata_that_nothing_else_has_is_not_made_up(data: Path, segments: Segments) -> None:
    flip(data / "meta", 40)
    ran = segments("repair --yes --json", data)
    assert ran.status == 1
    assert [row["kind"] for row in ran.rows] == ["meta-wrong"]
    assert "Restore it" in ran.rows[0]["remedy"]


# What is not there, not ours, or not free.


@pytest.mark.parametrize("verb", ["dump", "verify", "repair"])
def test_a_running_servers_directory_is_refused(verb: str, server: ServerProcess, logctl: Logctl) -> None:
    ran = logctl(f"segments {verb} --json", server.directory)
    assert ran.status == 1
    assert ran.error["code"] == "DATA_DIRECTORY_LOCKED"
    assert f"in use by another process (pid {server.pid})" in ran.error["message"]
    way_out = "Stop that process first." if verb == "repair" else "Stop that process first, or look into a copy"
    assert ran.error["remedy"].startswith(way_out)


def test_a_server_does_not_start_while_its_directory_is_read(data: Path) -> None:
    with (
        StoppedDirectory.open(data, LinuxDisk()),
        pytest.raises(DataDirectoryLocked, match="being read by another process"),
    ):
        Opened(LinuxDisk(), directory=data)


@pytest.mark.parametrize("verb", ["dump", "verify", "repair"])
def test_what_is_no_data_directory_is_refused_with_the_remedy(
    verb: str, data: Path, tmp_path: Path, segments: Segments
) -> None:
    empty, file = tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.touch()
    for path, sentence, remedy in (
        (tmp_path / "missing", "there is no directory", "--data-dir"),
        (file, "is a file", "--data-dir"),
        (empty, "is not a data directory", "--data-dir"),
        (partition(data), "is not a data directory", f"It is part of one: name {data}"),
    ):
        ran = segments(f"{verb} --json", path)
        assert ran.status == 1
        assert ran.error["code"] == "DATA_DIRECTORY_UNUSABLE"
        assert sentence in ran.error["message"]
        assert remedy in ran.error["remedy"]
    assert list(empty.iterdir()) == []


def test_a_topic_or_partition_that_is_not_there_is_told(data: Path, segments: Segments) -> None:
    ran = segments("verify --json --topic fligths", data)
    assert ran.status == 1
    assert ran.error["code"] == "UNKNOWN_TOPIC_OR_PARTITION"
    assert "did you mean `flights`?" in ran.error["message"]
    assert "delays, flights" in ran.error["remedy"]
    assert "partitions 0 to 1" in segments("dump --json --topic flights --partition 7", data).error["remedy"]


def test_a_topic_goes_by_its_id_too(data: Path, segments: Segments) -> None:
    flip(partition(data).parent / "topic", 30)
    topic_id = partition(data, "delays").parent.name
    assert {row["topic"] for row in segments("dump --json --topic", topic_id, data).rows} == {"delays"}


def test_the_directory_of_a_newer_version_is_refused(data: Path, segments: Segments) -> None:
    from logstore.documents import write_document

    write_document(LinuxDisk(), data / "meta", kind="meta", version=99, content={})
    for verb in ("dump", "verify", "repair --yes"):
        ran = segments(f"{verb} --json", data)
        assert (ran.status, ran.error["code"]) == (1, "FORMAT_TOO_NEW")
        assert "99" in ran.error["message"]


def test_a_copy_without_its_lock_file_is_read_and_said_to_be_one(data: Path, segments: Segments) -> None:
    (data / "lock").unlink()
    ran = segments("verify", data)
    assert ran.status == 0
    assert "taken for a copy" in ran.err
    assert not (data / "lock").exists()


def test_a_refused_repair_of_a_copy_without_its_lock_file_makes_none(data: Path, segments: Segments) -> None:
    (data / "lock").unlink()
    damage_second_batch(data)
    before = sorted(data.rglob("*"))
    assert segments("repair", data).status == 2  # nobody to ask
    assert sorted(data.rglob("*")) == before

    assert segments("repair --yes", data).status == 0
    assert (data / "lock").exists()


def test_a_copy_that_a_server_has_taken_meanwhile_is_not_repaired(data: Path) -> None:
    (data / "lock").unlink()
    with StoppedDirectory.open(data, LinuxDisk(), to_repair=True) as found:
        Opened(LinuxDisk(), directory=data).close()
        before = state(data)
        with pytest.raises(DataDirectoryLocked, match="another process has made one since"):
            repair(found, [], now_ms=0)
    assert state(data) == before


def test_without_the_storage_engine_it_says_what_to_install(data: Path) -> None:
    program = (
        "import sys; sys.modules['mmap_ninja'] = None\n"
        "from logctl.main import run; sys.exit(run(['segments', 'verify', '--json', sys.argv[1]]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(data)], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    error = json.loads(ran.stderr)["error"]
    assert (ran.returncode, error["code"]) == (1, "NOT_INSTALLED")
    assert "mmap_ninja" in error["message"]
    assert "tailrace[server]" in error["remedy"]


@pytest.mark.parametrize("name", ["data.ninja", "dtype.ninja", "order.ninja", "shape.ninja"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "zero"])
def test_each_file_of_an_index_counts(data: Path, segments: Segments, name: str, harm: str) -> None:
    file = next(partition(data).glob("*.*.index")) / name
    content = file.read_bytes()
    match harm:
        case "flip":
            flip(file, 0)
        case "cut":
            file.write_bytes(content[:-1])
        case "remove":
            file.unlink()
        case "zero":
            file.write_bytes(bytes(len(content)))
    ran = segments("verify --json", data)
    assert [(row["kind"], row["severity"]) for row in ran.rows[:-1]] == [("index-wrong", "rebuildable")]
    assert segments("repair", data).status == 0
    assert segments("verify", data).status == 0

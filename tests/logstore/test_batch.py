"""Batches: what is written is read, what others wrote is read, and no bytes whatever raise anything but our errors."""

import json
import random
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import Any

import cramjam
import pytest
from crc32c import crc32c
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logstore import compression as compression_module
from logstore.batch import (
    HEADER_SIZE,
    BatchBuilder,
    Compression,
    Contents,
    Record,
    check_batch,
    check_header,
    crc_matches,
    decode_batch,
    decode_codec_records,
    decode_column,
    encode_batch,
    iter_headers,
    read_header,
    stamp,
    stamp_producer,
    stamped_prefix,
)
from logstore.compression import deflate, inflate
from logstore.errors import CorruptBatch, InvalidRecord

GOLDEN = Path(__file__).parent / "golden"
CODECS = list(Compression)
KIB = 1024

optional_bytes = st.none() | st.binary(max_size=40)
headers = st.lists(st.tuples(st.text(max_size=5), optional_bytes), max_size=3).map(tuple)
record_lists = st.lists(
    st.builds(
        Record,
        offset=st.just(0),
        timestamp_ms=st.integers(0, 2**45),
        key=optional_bytes,
        value=optional_bytes,
        headers=headers,
    ),
    min_size=1,
    max_size=20,
)


def some_records(count: int) -> list[Record]:
    return [Record(n, 1000 + n, b"k%d" % n, b"value-%d" % n, (("n", b"%d" % n),)) for n in range(count)]


def sealed(batch: bytes | bytearray) -> bytes:
    """The same bytes with length and CRC made right again."""
    changed = bytearray(batch)
    Struct(">i").pack_into(changed, 8, len(changed) - 12)
    Struct(">I").pack_into(changed, 17, crc32c(bytes(changed[21:])))
    return bytes(changed)


def with_body(body: bytes, *, compression: Compression = Compression.NONE, records_count: int = 1) -> bytes:
    """A batch whose header is right and whose records are `body`."""
    batch = bytearray(encode_batch(some_records(1)))[:HEADER_SIZE] + body
    Struct(">h").pack_into(batch, 21, compression)
    Struct(">i").pack_into(batch, 23, records_count - 1)
    Struct(">i").pack_into(batch, 57, records_count)
    return sealed(batch)


# Written and read back.


@given(records=record_lists, compression=st.sampled_from(CODECS), base_offset=st.integers(0, 2**62))
def test_decoding_gives_back_what_was_encoded(
    records: list[Record], compression: Compression, base_offset: int
) -> None:
    batch = encode_batch(records, compression=compression, base_offset=base_offset)

    expected = [record._replace(offset=base_offset + n) for n, record in enumerate(records)]
    assert decode_batch(batch) == expected


@given(
    records=record_lists,
    producer_id=st.integers(0, 2**62),
    producer_epoch=st.integers(0, 2**15 - 1),
    base_sequence=st.integers(0, 2**31 - 1),
    leader_epoch=st.integers(0, 2**31 - 1),
)
def test_the_header_tells_what_was_encoded(
    records: list[Record], producer_id: int, producer_epoch: int, base_sequence: int, leader_epoch: int
) -> None:
    batch = encode_batch(
        records,
        compression=Compression.ZSTD,
        base_offset=70,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        leader_epoch=leader_epoch,
    )

    header = check_batch(batch)

    assert (header.base_offset, header.last_offset, header.next_offset) == (70, 69 + len(records), 70 + len(records))
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (
        producer_id,
        producer_epoch,
        base_sequence,
    )
    assert header.last_sequence == (base_sequence + len(records) - 1) % 2**31
    assert header.leader_epoch == leader_epoch
    assert header.size == len(batch)
    assert header.records_count == len(records)
    assert header.compression is Compression.ZSTD
    assert not header.is_control
    assert not header.is_transactional
    assert header.base_timestamp_ms == records[0].timestamp_ms
    assert header.max_timestamp_ms == max(record.timestamp_ms for record in records)


def test_a_batch_without_a_producer_has_no_sequences() -> None:
    assert check_batch(encode_batch(some_records(3))).last_sequence == -1


def test_no_records_make_no_batch() -> None:
    with pytest.raises(InvalidRecord, match="without records"):
        encode_batch([])


def test_a_time_before_1970_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="-1 is before 1970"):
        encode_batch([Record(0, -1, None, b"")])


def test_a_builder_stops_at_its_size_but_takes_any_first_record() -> None:
    builder = BatchBuilder(bytes_max=100)

    assert builder.append(0, None, b"x" * 500, [])
    assert not builder.append(0, None, b"", [])

    assert builder.records_count == 1
    assert decode_batch(builder.build()) == [Record(0, 0, None, b"x" * 500)]


@pytest.mark.parametrize("compression", CODECS)
def test_a_builder_and_encode_batch_write_the_same_bytes(compression: Compression) -> None:
    records = some_records(50)
    builder = BatchBuilder(
        bytes_max=64 * KIB, compression=compression, producer_id=7, producer_epoch=1, base_sequence=5
    )
    for n, record in enumerate(records):
        assert builder.append_at(n, record.timestamp_ms, record.key, record.value, list(record.headers)) is not None

    encoded = encode_batch(records, compression=compression, producer_id=7, producer_epoch=1, base_sequence=5)
    assert bytes(builder.build()) == encoded


@given(record_lists, st.sampled_from(CODECS), st.booleans())
def test_a_builder_that_is_told_what_it_contains_writes_the_same_bytes(
    records: list[Record], compression: Compression, fills_another_buffer: bool
) -> None:
    built = []
    times = [record.timestamp_ms for record in records]
    for contents in (None, Contents(len(records), times[0], max(times))):
        builder = BatchBuilder(bytes_max=64 * KIB, compression=compression)
        builder.set_producer(7, 1, 5)
        if fills_another_buffer:  # As no codec of today does, but one of tomorrow may.
            builder._buffer = bytearray(builder._buffer)
        for n, record in enumerate(records):
            builder.append_at(n, record.timestamp_ms, record.key, record.value, list(record.headers))
        built.append(bytes(builder.build(contents)))
    assert built[0] == built[1]
    check_batch(built[0])


def test_a_record_of_the_wrong_type_is_refused_and_leaves_the_builder_as_it_was() -> None:
    builder = BatchBuilder(bytes_max=64 * KIB)
    builder.append(1, b"a", b"1", [])
    wrong: Any = "text"
    for key, value in ((wrong, b""), (b"", wrong)):
        with pytest.raises(TypeError):
            builder.append(2, key, value, [])
    with pytest.raises(TypeError):
        builder.append(2, b"", b"", [("h", wrong)])
    builder.append(3, b"b", b"2", [])

    assert decode_batch(builder.build()) == [Record(0, 1, b"a", b"1"), Record(1, 3, b"b", b"2")]


# Written by others.


def golden_records() -> list[Record]:
    def unhex(text: str | None) -> bytes | None:
        return None if text is None else bytes.fromhex(text)

    return [
        Record(
            offset,
            row["timestamp_ms"],
            unhex(row["key"]),
            unhex(row["value"]),
            tuple((name, unhex(value)) for name, value in row["headers"]),
        )
        for offset, row in enumerate(json.loads((GOLDEN / "records.json").read_text()))
    ]


@pytest.mark.parametrize("codec", [compression.name.lower() for compression in CODECS])
@pytest.mark.parametrize("library", ["kafka-python", "aiokafka"])
def test_a_batch_of_another_library_is_read(library: str, codec: str) -> None:
    batch = (GOLDEN / f"{library}-{codec}.batch").read_bytes()

    header = check_batch(batch)

    assert header.compression.name.lower() == codec
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (4711, 3, 17)
    assert decode_batch(batch) == golden_records()


@pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")  # kafka-python's, at import
@pytest.mark.parametrize("compression", CODECS)
def test_kafka_python_reads_what_we_write(compression: Compression) -> None:
    from kafka.record.default_records import DefaultRecordBatch

    records = golden_records()
    theirs = DefaultRecordBatch(encode_batch(records, compression=compression, base_offset=0))

    assert theirs.validate_crc()
    assert [Record(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in theirs] == records


def test_a_snappy_block_without_the_xerial_header_is_read() -> None:
    plain = encode_batch(some_records(9))
    batch = with_body(bytes(cramjam.snappy.compress_raw(plain[HEADER_SIZE:])), compression=Compression.SNAPPY)
    changed = bytearray(batch)
    changed[23:57] = plain[23:57]
    changed[57:61] = plain[57:61]

    assert decode_batch(sealed(changed)) == some_records(9)


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.LZ4, Compression.ZSTD])
def test_frames_that_follow_each_other_are_read_as_one(compression: Compression) -> None:
    joined = deflate(b"first " * 1000, compression) + deflate(b"second", compression)

    assert bytes(inflate(joined, compression, bytes_max=10 * KIB)) == b"first " * 1000 + b"second"


# Stamped.


def test_stamping_moves_the_offsets_and_keeps_the_crc() -> None:
    batch = bytearray(encode_batch(some_records(3)))

    stamp(batch, 2**40, 9)

    header = check_batch(batch)
    assert (header.base_offset, header.leader_epoch) == (2**40, 9)
    assert [record.offset for record in decode_batch(batch)] == [2**40, 2**40 + 1, 2**40 + 2]


def test_a_stamped_prefix_is_what_stamping_writes() -> None:
    batch = encode_batch(some_records(3))
    stamped = bytearray(batch)
    stamp(stamped, 77, 5)

    prefix = stamped_prefix(read_header(batch), 77, 5)

    assert prefix + batch[len(prefix) :] == stamped


def test_stamping_the_producer_makes_the_crc_right_again() -> None:
    batch = bytearray(encode_batch(some_records(3), producer_id=1, producer_epoch=0, base_sequence=0))

    stamp_producer(batch, 1, 1, 0)

    assert bytes(batch) == encode_batch(some_records(3), producer_id=1, producer_epoch=1, base_sequence=0)


# Damaged.


def test_a_flip_of_any_bit_but_the_leader_epochs_is_noticed() -> None:
    batch = encode_batch(some_records(2))
    for position in range(len(batch)):
        for bit in range(8):
            flipped = bytearray(batch)
            flipped[position] ^= 1 << bit
            if 12 <= position < 16:
                continue  # The leader epoch: the log writes it, and nothing can tell it wrong.
            with pytest.raises(CorruptBatch):
                check_in_its_place(flipped)


def check_in_its_place(batch: bytearray) -> None:
    """The base offset is not covered by the CRC either, but the log knows which one must follow."""
    check_header(check_batch(batch), available=len(batch), expected_base_offset=0)


@pytest.mark.parametrize("compression", CODECS)
def test_a_batch_cut_at_any_byte_is_refused(compression: Compression) -> None:
    batch = encode_batch(some_records(5), compression=compression)
    for size in range(len(batch)):
        for call in (check_batch, decode_batch):
            with pytest.raises(CorruptBatch):
                call(batch[:size])
    with pytest.raises(CorruptBatch, match="batch_length says"):
        check_batch(batch + b"\0")


def opens_or_is_corrupt(batch: bytes) -> None:
    with suppress(CorruptBatch):
        records = decode_batch(batch, inflated_bytes_max=256 * KIB)
        assert len(records) == read_header(batch).records_count
        assert all(later.offset == earlier.offset + 1 for earlier, later in pairwise(records))
        for field in ("key", "value", "timestamp", "headers"):
            assert len(decode_column(batch, field)) == len(records)


@pytest.mark.parametrize("compression", CODECS)
def test_damage_under_a_right_crc_is_corruption_and_never_another_error(compression: Compression) -> None:
    batch = encode_batch(some_records(5), compression=compression)
    rng = random.Random(4)
    for position in range(HEADER_SIZE, len(batch)):
        opens_or_is_corrupt(sealed(batch[:position]))
        for byte in {0, 1, 0x7F, 0x80, 0xFF, batch[position] ^ (1 << rng.randrange(8)), rng.randrange(256)}:
            opens_or_is_corrupt(sealed(batch[:position] + bytes([byte]) + batch[position + 1 :]))


@given(body=st.binary(max_size=200), compression=st.sampled_from(CODECS), records_count=st.integers(1, 40))
@settings(max_examples=150)
@example(body=b"\xff" * 60, compression=Compression.NONE, records_count=1)
# The length of a key, of a value, of a header's name and of its value: so large that a sum with the position overflows.
@example(body=b"\x20\0\0\0" + b"\xfe" + b"\xff" * 8 + b"\x01\0\0\0", compression=Compression.NONE, records_count=1)
@example(body=b"\x20\0\0\0\0" + b"\xfe" + b"\xff" * 8 + b"\x01\0\0", compression=Compression.NONE, records_count=1)
@example(body=b"\x20\0\0\0\0\0\2" + b"\xfe" + b"\xff" * 8 + b"\x01", compression=Compression.NONE, records_count=1)
@example(body=b"\x20\0\0\0\0\0\2\0" + b"\xee" + b"\xff" * 8 + b"\x01", compression=Compression.NONE, records_count=1)
# Not too large to be tried, which memory then refuses.
@example(body=b"\x20\0\0\0" + b"\xae" + b"\xff" * 8 + b"\x01\0\0\0", compression=Compression.NONE, records_count=1)
# Two billion headers in a record of seven bytes, and a varint that the batch's end cuts.
@example(body=b"\x0e\0\0\0\0\0\xfe\xff\xff\xff\x0f", compression=Compression.NONE, records_count=1)
@example(body=b"\x0c\0\0\0\0\0\x80", compression=Compression.NONE, records_count=1)
# A header's name that is not UTF-8.
@example(body=b"\x12\0\0\0\1\1\2\2\xff\1", compression=Compression.NONE, records_count=1)
def test_arbitrary_records_are_corruption_and_never_another_error(
    body: bytes, compression: Compression, records_count: int
) -> None:
    opens_or_is_corrupt(with_body(body, compression=compression, records_count=records_count))


@given(body=st.binary(max_size=100))
def test_arbitrary_bytes_are_corruption_and_never_another_error(body: bytes) -> None:
    for call in (
        lambda: check_batch(body),
        lambda: list(iter_headers(body)),
        lambda: read_header(body),
    ):
        with suppress(CorruptBatch):
            call()


def test_records_whose_offsets_do_not_follow_each_other_are_corruption() -> None:
    batch = encode_batch([Record(0, 0, None, b"a"), Record(0, 0, None, b"b")])
    second_offset_delta = len(batch) - 5
    assert batch[second_offset_delta] == 2, "zigzag of 1"
    for delta in (0, 1, 4):
        damaged = sealed(batch[:second_offset_delta] + bytes([delta]) + batch[second_offset_delta + 1 :])
        with pytest.raises(CorruptBatch, match="do not follow each other"):
            decode_batch(damaged)


@pytest.mark.parametrize(
    ("field", "position", "value", "complaint"),
    [
        (">b", 16, 1, "magic is 1"),
        (">b", 16, 3, "magic is 3"),
        (">i", 8, 48, "batch_length is 48"),
        (">i", 8, -1, "batch_length is -1"),
        (">i", 8, 2**31 - 1, "batch_length is 2147483647"),
        (">h", 21, 0x80, "attributes are 0x0080"),
        (">h", 21, 5, "attributes are 0x0005"),
        (">h", 21, -1, "attributes are"),
        (">i", 57, 0, "records_count is 0"),
        (">i", 57, -3, "records_count is -3"),
        (">i", 57, 2**31 - 1, "records_count is 2147483647"),
        (">i", 23, -1, "last_offset_delta -1"),
        (">i", 23, 7, "last_offset_delta 7"),
        (">q", 0, -1, "base_offset is -1"),
        (">q", 0, 2**63 - 2, "base_offset is 9223372036854775806"),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_the_fact(
    field: str, position: int, value: int, complaint: str
) -> None:
    batch = bytearray(encode_batch(some_records(3)))
    Struct(field).pack_into(batch, position, value)
    Struct(">I").pack_into(batch, 17, crc32c(bytes(batch[21:])))

    with pytest.raises(CorruptBatch, match=complaint):
        check_batch(batch)


# In a row.


def test_headers_are_found_in_a_row_of_batches() -> None:
    batches = [encode_batch(some_records(n), base_offset=10 * n) for n in (1, 2, 3)]
    row = b"".join(batches)

    found = list(iter_headers(memoryview(row)))

    assert [position for position, _ in found] == [0, len(batches[0]), len(batches[0]) + len(batches[1])]
    assert [header.base_offset for _, header in found] == [10, 20, 30]
    assert all(crc_matches(row, position, header.size) for position, header in found)


def test_a_row_that_ends_inside_a_batch_is_refused_after_the_whole_ones() -> None:
    row = encode_batch(some_records(1)) + encode_batch(some_records(2))[:-1]

    found = iter_headers(row)

    assert next(found)[0] == 0
    with pytest.raises(CorruptBatch):
        next(found)


def test_a_changed_byte_between_two_good_batches_fails_its_crc_alone() -> None:
    first, second = encode_batch(some_records(2)), encode_batch(some_records(3))
    row = bytearray(first + second)
    row[len(first) - 1] ^= 1

    assert not crc_matches(row, 0, len(first))
    assert crc_matches(row, len(first), len(second))


def test_an_offset_out_of_line_is_refused() -> None:
    header = read_header(encode_batch(some_records(2), base_offset=8))

    check_header(header, available=header.size, expected_base_offset=8)
    with pytest.raises(CorruptBatch, match="base_offset is 8 where 10 must follow"):
        check_header(header, available=header.size, expected_base_offset=10)


# Bombs.


@pytest.mark.parametrize("compression", [codec for codec in CODECS if codec is not Compression.NONE])
def test_a_bomb_ends_at_the_bound(compression: Compression) -> None:
    bomb = with_body(deflate(bytes(8 * 1024 * KIB), compression), compression=compression)

    with pytest.raises(CorruptBatch, match="inflates to more than 1048576 bytes"):
        decode_batch(bomb, inflated_bytes_max=1024 * KIB)


@pytest.mark.parametrize("compression", CODECS)
def test_data_that_just_fits_is_inflated(compression: Compression) -> None:
    data = bytes(200 * KIB)
    packed = deflate(data, compression)

    assert inflate(packed, compression, bytes_max=len(data)) == data
    if compression is not Compression.NONE:
        with pytest.raises(CorruptBatch):
            inflate(packed, compression, bytes_max=len(data) - 1)


def test_a_claim_is_not_allocated() -> None:
    claims: dict[str, tuple[bytes, Compression]] = {
        # A raw snappy block that says 2**32-1 bytes, alone and inside xerial's framing.
        "snappy": (b"\xff\xff\xff\xff\x0f" + b"\0a" * 40, Compression.SNAPPY),
        "xerial": (b"\x82SNAPPY\0\0\0\0\1\0\0\0\1\0\0\0\7\xff\xff\xff\xff\x0f\0a", Compression.SNAPPY),
        # The same with 32 MiB, which the bound would allow, but 84 bytes cannot make.
        "ratio": (b"\x80\x80\x80\x10" + b"\0a" * 40, Compression.SNAPPY),
        # A zstd frame with a content size of 2**40 and one empty last block.
        "zstd": (b"\x28\xb5\x2f\xfd\xe0" + (2**40).to_bytes(8, "little") + b"\1\0\0", Compression.ZSTD),
        # Two billion records in one byte.
        "count": (b"\0", Compression.NONE),
    }
    for name, (body, compression) in claims.items():
        batch = with_body(body, compression=compression, records_count=2**31 - 1)
        tracemalloc.start()
        try:
            with pytest.raises(CorruptBatch):
                decode_batch(batch)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 256 * KIB, name


@pytest.mark.parametrize("compression", list(compression_module._FRAMES))
def test_a_damaged_frame_costs_one_attempt_and_not_one_for_every_size(
    compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = compression_module._FRAMES[compression]
    attempts: list[int] = []

    class CountingCodec:
        @staticmethod
        def decompress_into(data: bytes, output: bytearray) -> int:
            attempts.append(len(output))
            size: int = codec.decompress_into(data, output)
            return size

    monkeypatch.setitem(compression_module._FRAMES, compression, CountingCodec)
    packed = deflate(random.Random(1).randbytes(100), compression)
    for damaged in (packed[:-3], b"\0" + packed[1:], packed + b"more"):
        attempts.clear()
        with pytest.raises(CorruptBatch):
            inflate(damaged, compression, bytes_max=64 * 1024 * KIB)
        assert len(attempts) == 1


# Weight.


def test_reading_headers_does_not_import_the_codec_or_an_event_loop() -> None:
    program = (
        "import sys; from logstore.batch import BatchHeader; "
        "sys.exit(bool({'asyncio', 'aiokafka', 'numpy'} & set(sys.modules)))"
    )
    root = Path(__file__).parent.parent.parent
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0


def test_a_column_is_one_field_of_every_record() -> None:
    records = some_records(4)
    batch = encode_batch(records, compression=Compression.ZSTD)

    assert decode_column(batch, "key") == [record.key for record in records]
    assert decode_column(batch, "value") == [record.value for record in records]
    assert decode_column(batch, "timestamp") == [record.timestamp_ms for record in records]
    assert decode_column(batch, "headers") == [list(record.headers) for record in records]
    with pytest.raises(CorruptBatch):
        decode_column(with_body(b"\xff" * 20), "value")


def test_codec_records_carry_what_records_do() -> None:
    records = some_records(4)
    opened = decode_codec_records(encode_batch(records))

    assert [Record(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in opened] == records


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
def test_a_count_that_the_bytes_cannot_hold_is_refused(compression: Compression) -> None:
    batch = bytearray(encode_batch([Record(0, 1, None, b"x")], compression=compression))
    batch[23:27] = (2**31 - 2).to_bytes(4, "big")
    batch[57:61] = (2**31 - 1).to_bytes(4, "big")
    stamp_producer(batch, -1, -1, -1)  # a CRC that fits
    with pytest.raises(CorruptBatch, match="cannot hold"):
        check_batch(batch)

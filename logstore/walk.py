"""What a log file holds: batch after batch, and the places where there is none that is sound.

    batch batch batch | damage | batch batch ... | damage

Recovery ends at the first damage; a walk goes on behind it. Where the next batch begins is believed from the damaged
one's own length, if what begins there carries its offsets on. Else every byte is tried. Either way what is found must
have the right CRC and be confirmed from outside: batch after batch carries the offsets on from there to the end of
the file, to where the checkpoint says that one ends, to one that the index names, or for longer than any batch is. A
record can hold a copy of a batch, or of several, and they are never taken for some of the log.

The first 17 bytes of a batch are not covered by its CRC, and all of them follow from the rest: base_offset from the
batch before, batch_length from where the next one begins. When the CRC says that the rest is right, the walk says how
they must read, and nothing is lost.
"""

from collections.abc import Callable, Generator, Iterator
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from logstore.batch import HEADER_SIZE, BatchHeader, check_header, crc_matches, read_header
from logstore.config import INT64_MAX
from logstore.disk import PAGE_BYTES, DiskFile
from logstore.errors import CorruptBatch, DataLoss
from logstore.header import BATCH_LENGTH_MIN, LENGTH_FIELD_END, MAGIC

WINDOW_BYTES = 2 * 1024 * 1024
#: What goes on for so long is not all inside of one batch: no request is as large at the server's default.
BATCH_BYTES_MAX = 16 * 1024 * 1024

UNCOVERED_SIZE = 17  # base_offset, batch_length, leader_epoch, magic: what the CRC leaves out
_PLACE = Struct(">qi")  # base_offset, batch_length
_COVERED_FROM = 21  # by the CRC: attributes, and all that follows
_MAGIC_AT = 16
_MAGIC_BYTE = bytes([MAGIC])


class SoundBatch(NamedTuple):
    position: int
    header: BatchHeader

    @property
    def end_position(self) -> int:
        return self.position + self.header.size


class Damage(NamedTuple):
    """No sound batch in these bytes. None of them at all where offsets are missing between two batches."""

    position: int
    end_position: int
    offset: int  # had to follow here
    next_offset: int | None  # follows behind it; None if nobody can tell, up to the end of the file
    why: str
    header: BatchHeader | None = None  # where a batch can be made out that is not what it has to be
    mended: BatchHeader | None = None  # with its prefix the batch is sound, and nothing is lost
    is_unreadable: bool = False  # the disk says so


def is_misplaced(damage: Damage) -> bool:
    """Whether what begins there is sound and of another place: offsets go back, or are not those of the file's name."""
    if damage.position < damage.end_position or damage.next_offset is None:
        return False
    return damage.position == 0 or damage.next_offset <= damage.offset


class Searching(NamedTuple):
    """Nothing was found yet up to here: for whoever counts bytes."""

    position: int


#: Whether the index says that a batch begins at that position and ends before that offset.
IsIndexed = Callable[[int, int], bool]


class Walk:
    """Walks over the bytes [start, end) of a log file. `expected_offset` has to be the first in there, `offset_end`, if
    that is known, has to follow."""

    def __init__(
        self,
        file: DiskFile,
        *,
        start: int = 0,
        end: int,
        expected_offset: int,
        offset_end: int | None = None,
        gaps_allowed: bool = False,
        is_indexed: IsIndexed = lambda position, next_offset: False,
        checkpointed: tuple[int, int] | None = None,
    ) -> None:
        """`checkpointed`: (position, offset) where one batch ends and the next begins, says the checkpoint."""
        self._window = Window(file, end)
        self._start = start
        self._end = end
        self._expected_offset = expected_offset
        self._offset_end = offset_end
        self._gaps_allowed = gaps_allowed
        self._is_indexed = is_indexed
        self._checkpointed = checkpointed

    def __iter__(self) -> Iterator[SoundBatch | Damage | Searching]:
        position, expected = self._start, self._expected_offset
        while position < self._end:
            try:
                header = self._check(position, expected)
            except CorruptBatch as error:
                damage = yield from self._find_extent(position, expected, _detail(error))
                yield damage
                if damage.next_offset is None:
                    return
                position, expected = damage.end_position, damage.next_offset
            else:
                yield SoundBatch(position, header)
                position += header.size
                expected = header.next_offset

    # One batch.

    def _check(self, position: int, expected: int | None) -> BatchHeader:
        """The header of the sound batch at position. CorruptBatch if there is none."""
        data, at = self._window.locate(position, HEADER_SIZE)
        header = read_header(data, at)
        check_header(
            header,
            available=self._end - position,
            expected_base_offset=expected,
            gaps_allowed=self._gaps_allowed,
        )
        if not self._crc_is_right(position, header.size, header.crc):
            raise CorruptBatch("its CRC is wrong", remedy="")
        unreadable = self._window.why_unreadable(position, position + header.size)
        if unreadable is not None:  # and zeros happened to be right
            raise CorruptBatch(unreadable, remedy="")
        return header

    def _header_at(self, position: int, expected: int | None) -> BatchHeader | None:
        """The header at position, if it could be the one that follows. Its CRC is not looked at."""
        data, at = self._window.locate(position, HEADER_SIZE)
        try:
            header = read_header(data, at)
            check_header(
                header,
                available=self._end - position,
                expected_base_offset=expected,
                gaps_allowed=self._gaps_allowed,
            )
        except CorruptBatch:
            return None
        return header

    def _crc_is_right(self, position: int, size: int, crc: int) -> bool:
        if size <= WINDOW_BYTES:
            data, at = self._window.locate(position, size)
            return len(data) - at >= size and crc_matches(data, at, size)
        found, done = 0, position + _COVERED_FROM
        while done < position + size:
            chunk = self._window.read(done, min(WINDOW_BYTES, position + size - done))
            if not chunk:
                return False
            found = crc32c(chunk, found)
            done += len(chunk)
        return found == crc

    # Damage.

    def _find_extent(self, position: int, expected: int, why: str) -> Generator[Searching, None, Damage]:
        """How far the damage at position goes, and what is known of it."""
        header = self._header_at(position, None)
        if header is not None:
            following = self._following(position, header, expected, why)
            if following is not None:
                return self._with_reason(following)
        found = yield from self._search(position + 1, expected)
        end, next_offset = (self._end, None) if found is None else (found.position, found.header.base_offset)
        damage = Damage(position, end, expected, next_offset, why)
        return self._with_reason(self._mended(damage))

    def _following(self, position: int, header: BatchHeader, expected: int, why: str) -> Damage | None:
        """What is damaged if the header's length can be believed: then what it leads to carries on. None if not."""
        end = position + header.size
        is_misnumbered = header.base_offset < expected if self._gaps_allowed else header.base_offset != expected
        if is_misnumbered and self._crc_is_right(position, header.size, header.crc):
            return self._misnumbered(position, header, expected)
        if end == self._end:
            return None if header.base_offset != expected else Damage(position, end, expected, None, why, header)
        follower = self._header_at(end, expected + header.last_offset_delta + 1)
        if follower is None or not self._is_confirmed(end, follower):
            return None
        return Damage(position, end, expected, follower.base_offset, why, header)

    def _misnumbered(self, position: int, header: BatchHeader, expected: int) -> Damage | None:
        """A batch whose offset alone is wrong. Either the file goes on at that offset, or only the field is damaged."""
        end = position + header.size
        why = f"offset {header.base_offset} is here where {expected} must follow"
        if self._carries_on(end, header.next_offset, otherwise=position == self._start):
            return Damage(position, position, expected, header.base_offset, why, header)
        span = header.last_offset_delta + 1
        if self._gaps_allowed or not self._carries_on(end, expected + span, otherwise=True):
            return None
        return self._mended(Damage(position, end, expected, expected + span, why, header))

    def _carries_on(self, position: int, offset: int, *, otherwise: bool) -> bool:
        """Whether that offset follows at position. `otherwise`: where the file ends, and nobody knows what follows."""
        if position < self._end:
            return self._header_at(position, offset) is not None
        if self._offset_end is None:
            return otherwise
        return offset <= self._offset_end if self._gaps_allowed else offset == self._offset_end

    def _mended(self, damage: Damage) -> Damage:
        """The same, with the prefix that would make it a sound batch, if there is one."""
        position, size = damage.position, damage.end_position - damage.position
        if self._gaps_allowed or size < HEADER_SIZE:
            return damage
        data, at = self._window.locate(position, HEADER_SIZE)
        found = read_header(data, at)
        header = found._replace(base_offset=damage.offset, batch_length=size - LENGTH_FIELD_END, magic=MAGIC)
        if damage.next_offset not in (None, header.next_offset):
            return damage
        try:
            check_header(header, available=size, expected_base_offset=damage.offset)
        except CorruptBatch:
            return damage
        if not self._crc_is_right(position, size, header.crc):
            return damage
        return damage._replace(next_offset=header.next_offset, header=found, mended=header)

    def _with_reason(self, damage: Damage) -> Damage:
        unreadable = self._window.why_unreadable(damage.position, damage.end_position)
        if unreadable is not None:
            return damage._replace(why=unreadable, is_unreadable=True, header=None, mended=None)
        begin = self._window.read(damage.position, min(HEADER_SIZE, damage.end_position - damage.position))
        if damage.mended is None and begin and not any(begin):
            return damage._replace(why="there are zeros instead of a batch", header=None)
        return damage

    def _search(self, start: int, expected: int) -> Generator[Searching, None, SoundBatch | None]:
        """The next batch that is sound and confirmed, tried at every byte from start on."""
        offset_end = INT64_MAX if self._offset_end is None else self._offset_end
        at = start
        while at + HEADER_SIZE <= self._end:
            yield Searching(at)
            data = self._window.read(at, min(WINDOW_BYTES, self._end - at))
            number = data.find(_MAGIC_BYTE, _MAGIC_AT)
            while 0 <= number <= len(data) - HEADER_SIZE + _MAGIC_AT:
                place = number - _MAGIC_AT
                base_offset, batch_length = _PLACE.unpack_from(data, place)
                room = self._end - at - place - LENGTH_FIELD_END
                if expected <= base_offset < offset_end and BATCH_LENGTH_MIN <= batch_length <= room:
                    header = self._confirmed(at + place)
                    if header is not None:
                        return SoundBatch(at + place, header)
                number = data.find(_MAGIC_BYTE, number + 1)
            at += max(1, len(data) - HEADER_SIZE + 1)
        return None

    def _confirmed(self, position: int) -> BatchHeader | None:
        try:
            header = self._check(position, None)
        except CorruptBatch:
            return None
        return header if self._is_confirmed(position, header) else None

    def _is_confirmed(self, position: int, header: BatchHeader) -> bool:
        """Whether the offsets are carried on from the batch at position to something that no record can hold."""
        at = position
        while True:
            if self._is_indexed(at, header.next_offset):
                return True
            at += header.size
            if at == self._end or at - position > BATCH_BYTES_MAX or (at, header.next_offset) == self._checkpointed:
                return True
            following = self._header_at(at, header.next_offset)
            if following is None:
                return False
            header = following


class Window:
    """A part of a file, read ahead. What the disk cannot read is zeros in here, and known to be."""

    def __init__(self, file: DiskFile, end: int) -> None:
        self._file = file
        self._end = end
        self._position = 0
        self._data = b""
        self._unreadable: set[int] = set()  # numbers of pages
        self._why = ""

    def locate(self, position: int, size: int) -> tuple[bytes, int]:
        """(bytes, where in them position is): size of them from there on, or fewer at the end of the file."""
        at = position - self._position
        if at < 0 or at + size > len(self._data):
            self._fill(position, max(size, WINDOW_BYTES))
            at = 0
        return self._data, at

    def read(self, position: int, size: int) -> bytes:
        data, at = self.locate(position, size)
        return data[at : at + size]

    def why_unreadable(self, position: int, end: int) -> str | None:
        """What the disk said, if it could not read all of these bytes."""
        if not self._unreadable:
            return None
        pages = range(position // PAGE_BYTES, -(-end // PAGE_BYTES))
        return None if self._unreadable.isdisjoint(pages) else self._why

    def _fill(self, position: int, size: int) -> None:
        size = max(0, min(size, self._end - position))
        self._position = position
        try:
            self._data = self._file.pread(size, position)
        except DataLoss:
            self._data = b"".join(self._pages(position, position + size))

    def _pages(self, start: int, end: int) -> Iterator[bytes]:
        position = start
        while position < end:
            size = min(end, position - position % PAGE_BYTES + PAGE_BYTES) - position
            try:
                yield self._file.pread(size, position)
            except DataLoss as error:
                self._why = str(error)
                self._unreadable.add(position // PAGE_BYTES)
                yield bytes(size)
            position += size


def prefix_of(header: BatchHeader) -> bytes:
    """What of a batch its CRC leaves out."""
    return header.pack()[:UNCOVERED_SIZE]


def _detail(error: CorruptBatch) -> str:
    return str(error).removeprefix("not a valid record batch: ")

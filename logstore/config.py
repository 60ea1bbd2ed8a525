"""Settings of topics and of the store. Topic settings have Kafka's names and Kafka's meaning, where Kafka has them."""

import re
import resource
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from logstore.errors import InvalidConfig

KIB = 1024
MIB = 1024 * KIB
HOUR_MS = 60 * 60 * 1000
DAY_MS = 24 * HOUR_MS

INT64_MAX = 2**63 - 1

#: Of one topic.
PARTITIONS_MAX = 10_000

_WHOLE_NUMBER = re.compile("-?[0-9]{1,19}")
_RATIO = re.compile(r"0(\.[0-9]{1,4})?|1(\.0{1,4})?")


class Described(NamedTuple):
    """One setting of a topic, for people."""

    name: str
    value: str
    is_default: bool
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """How one topic is kept. Make it with `from_strings`, which checks; the fields are checked values."""

    segment_bytes: int = 256 * MIB
    segment_ms: int = 7 * DAY_MS
    index_interval_bytes: int = 4 * KIB
    retention_ms: int = 7 * DAY_MS
    retention_bytes: int = -1
    max_message_bytes: int = 1048588
    flush_ms: int = 1000
    durability: str = "durable"
    timestamp_after_max_ms: int = HOUR_MS
    compression_type: str = "producer"
    cleanup_policy: str = "delete"
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = INT64_MAX
    delete_retention_ms: int = DAY_MS

    @classmethod
    def from_strings(cls, settings: Mapping[str, str]) -> "TopicConfig":
        """Make a config from names and values as users write them. Raises `InvalidConfig`."""
        return cls().with_changes(set=settings)

    def with_changes(self, set: Mapping[str, str] | None = None, unset: Collection[str] = ()) -> "TopicConfig":
        """A copy in which some settings have new values and some their defaults again. Raises `InvalidConfig`."""
        changes: dict[str, Any] = {}
        for name in unset:
            setting = _setting(name)
            changes[setting.field] = setting.default
        for name, value in (set or {}).items():
            setting = _setting(name)
            changes[setting.field] = setting.parse(value)
        changed = replace(self, **changes)
        if changed.min_compaction_lag_ms > changed.max_compaction_lag_ms:
            raise InvalidConfig(
                f"min.compaction.lag.ms = {changed.min_compaction_lag_ms} is more than max.compaction.lag.ms = "
                f"{changed.max_compaction_lag_ms}: a record would have to stay for longer than it may wait",
                remedy="Give min.compaction.lag.ms the smaller of the two, or leave one of them out.",
            )
        return changed

    def to_strings(self) -> dict[str, str]:
        """The settings that differ from the defaults, such that `from_strings` gives the same config."""
        return {row.name: row.value for row in self.describe() if not row.is_default}

    def describe(self) -> list[Described]:
        """Every setting, in the order of the table below."""
        rows = []
        for setting in SETTINGS:
            value = getattr(self, setting.field)
            rows.append(Described(setting.name, str(value), value == setting.default, setting.doc))
        return rows

    @property
    def is_durable(self) -> bool:
        """Whether readers see only what is on disk."""
        return self.durability == "durable"

    @property
    def is_compacted(self) -> bool:
        """Whether of each key the last record stays, and others go in time."""
        return "compact" in self.cleanup_policy

    @property
    def segment_age_ms_max(self) -> int:
        """When a segment is closed, full or not. What is appended to cannot be compacted."""
        return min(self.segment_ms, self.max_compaction_lag_ms) if self.is_compacted else self.segment_ms

    @property
    def deletes_old(self) -> bool:
        """Whether segments go by their age and by the size of the log."""
        return "delete" in self.cleanup_policy


_DEFAULTS = {field.name: field.default for field in fields(TopicConfig)}


class Setting:
    """A row of the table: a name, the field it fills, and what it can be."""

    def __init__(self, name: str, field: str, doc: str) -> None:
        self.name = name
        self.field = field
        self.doc = doc
        self.default = _DEFAULTS[field]

    def parse(self, value: str) -> int | float | str:
        raise NotImplementedError

    def refuse(self, value: str, allowed: str) -> InvalidConfig:
        return InvalidConfig(f"{self.name} = {value!r} is not allowed", remedy=f"Give {self.name} {allowed}.")


class WholeNumber(Setting):
    """A number from `least` to `most`, in the unit its name says. `unlimited`: -1 is allowed too, and means that."""

    def __init__(
        self, name: str, field: str, doc: str, *, least: int, most: int = INT64_MAX, unlimited: bool = False
    ) -> None:
        super().__init__(name, field, doc)
        self.least = least
        self.most = most
        self.unlimited = unlimited

    def parse(self, value: str) -> int:
        if not _WHOLE_NUMBER.fullmatch(value):  # int() would take " 1_000 " too
            raise self.refuse(value, self._allowed())
        number = int(value)
        if not (self.least <= number <= self.most or (self.unlimited and number == -1)):
            raise self.refuse(value, self._allowed())
        return number

    def _allowed(self) -> str:
        return f"a whole number from {self.least} to {self.most}" + (", or -1 for no limit" if self.unlimited else "")


class Ratio(Setting):
    """A number from 0 to 1."""

    def parse(self, value: str) -> float:
        if not _RATIO.fullmatch(value):
            raise self.refuse(value, "a number from 0 to 1, such as 0.5")
        return float(value)


class Choice(Setting):
    """One of a few words. `later` are words that are right in Kafka and that we do not do yet."""

    def __init__(self, name: str, field: str, doc: str, *words: str, later: Collection[str] = ()) -> None:
        super().__init__(name, field, doc)
        self.words = words
        self.later = later

    def parse(self, value: str) -> str:
        if value in self.words:
            return value
        if value in self.later:
            raise InvalidConfig(
                f"{self.name} = {value!r} is not supported yet", remedy=f"Give {self.name} {self._allowed()}."
            )
        raise self.refuse(value, self._allowed())

    def _allowed(self) -> str:
        return " or ".join(self.words)


SETTINGS: tuple[Setting, ...] = (
    WholeNumber(
        "segment.bytes",
        "segment_bytes",
        "A segment file is closed and the next begun before it would grow past this many bytes.",
        least=1024,
        most=2**31 - 1,
    ),
    WholeNumber(
        "segment.ms",
        "segment_ms",
        "A segment file is closed this long after its first append, full or not.",
        least=1,
    ),
    WholeNumber(
        "index.interval.bytes",
        "index_interval_bytes",
        "The offset index has an entry for about every so many bytes of log.",
        least=0,
        most=2**31 - 1,
    ),
    WholeNumber(
        "retention.ms",
        "retention_ms",
        "Segments are deleted when their last append is older than this. The time of append counts, not that of the "
        "records.",
        least=0,
        unlimited=True,
    ),
    WholeNumber(
        "retention.bytes",
        "retention_bytes",
        "The oldest segments of a partition are deleted while it has more bytes than this.",
        least=0,
        unlimited=True,
    ),
    WholeNumber(
        "max.message.bytes",
        "max_message_bytes",
        "A record batch may have at most so many bytes, compressed as it comes.",
        least=61,
        most=2**31 - 1,
    ),
    WholeNumber(
        "flush.ms",
        "flush_ms",
        "What nobody waits for is on disk, and so visible, after this long at the latest.",
        least=1,
        most=DAY_MS,
    ),
    Choice(
        "durability",
        "durability",
        "durable: readers see only what is on disk. relaxed: readers see it as soon as it is written, and a power cut "
        "can take back what they have seen.",
        "durable",
        "relaxed",
    ),
    WholeNumber(
        "message.timestamp.after.max.ms",
        "timestamp_after_max_ms",
        "A batch whose largest timestamp is further in the future than this is refused.",
        least=0,
    ),
    Choice(
        "compression.type",
        "compression_type",
        "producer: batches are stored as the producer compressed them.",
        "producer",
        later=("uncompressed", "gzip", "snappy", "lz4", "zstd"),
    ),
    Choice(
        "cleanup.policy",
        "cleanup_policy",
        "delete: old segments are deleted, by retention.ms and retention.bytes. compact: of each key the last record "
        "stays, and every record needs a key. compact,delete: both.",
        "delete",
        "compact",
        "compact,delete",
        "delete,compact",
    ),
    Ratio(
        "min.cleanable.dirty.ratio",
        "min_cleanable_dirty_ratio",
        "A log is compacted when at least this part of what may be compacted has not been yet, or when "
        "max.compaction.lag.ms says so.",
    ),
    WholeNumber(
        "min.compaction.lag.ms",
        "min_compaction_lag_ms",
        "A record stays for at least this long after its append, whatever replaces it.",
        least=0,
    ),
    WholeNumber(
        "max.compaction.lag.ms",
        "max_compaction_lag_ms",
        "A log is compacted when a record in it has waited for that for longer than this since its append, however "
        "little else has. Segment files are closed by then.",
        least=1,
    ),
    WholeNumber(
        "delete.retention.ms",
        "delete_retention_ms",
        "A tombstone, a record without a value, stays this long after compaction first met it, so that readers who saw "
        "the key before learn that it is gone.",
        least=0,
    ),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}


def _setting(name: str) -> Setting:
    try:
        return _BY_NAME[name]
    except KeyError:
        raise InvalidConfig(
            f"there is no topic setting {name!r}", remedy=f"The settings are: {', '.join(_BY_NAME)}."
        ) from None


def _descriptors_max() -> int:
    """A quarter of the process's limit. Connections get half, and the rest is for everything else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 16_384 if limit == resource.RLIM_INFINITY else max(32, limit // 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Bounds of one data directory. Those on files are what is kept open for the next use, not what a use may open."""

    #: Written and not yet synced, in all partitions. Over it, appends wait: beside a sync, one written flat out blocked
    #: for 470 ms, and paced to this for 0.2 ms.
    dirty_bytes_max: int = 64 * MIB
    #: Files kept open, of all partitions.
    open_files_max: int = field(default_factory=lambda: _descriptors_max() * 3 // 4)
    #: Sealed segments and indexes kept mapped. Each costs a descriptor too.
    map_count_max: int = field(default_factory=lambda: _descriptors_max() // 4)
    #: Producer ids are set aside, synced, this many at a time; a restart skips what is left of them.
    producer_id_block: int = 1000
    #: Idempotent producers remembered in one partition. Over it, the one that was silent for longest is forgotten.
    producers_per_partition_max: int = 10_000
    #: An idempotent producer is forgotten after this silence.
    producer_expiry_ms: int = DAY_MS

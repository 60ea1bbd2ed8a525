"""Topic settings: Kafka's names, checked values, and a refusal that says what would have been right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.config import SETTINGS, Choice, StoreConfig, TopicConfig, WholeNumber
from logstore.errors import InvalidConfig

#: Between the two, so that any pair of them is allowed.
LAG_MS = 60_000


def allowed_values(setting: WholeNumber | Choice) -> st.SearchStrategy[str]:
    if isinstance(setting, Choice):
        return st.sampled_from(setting.words)
    most = LAG_MS if setting.name == "min.compaction.lag.ms" else setting.most
    least = LAG_MS if setting.name == "max.compaction.lag.ms" else setting.least
    numbers = st.integers(least, most)
    return (numbers | st.just(-1) if setting.unlimited else numbers).map(str)


some_settings = st.fixed_dictionaries(
    {},
    optional={
        setting.name: allowed_values(setting) for setting in SETTINGS if isinstance(setting, WholeNumber | Choice)
    },
)


@given(settings=some_settings)
def test_what_was_set_is_described_and_comes_back(settings: dict[str, str]) -> None:
    config = TopicConfig.from_strings(settings)

    described = {row.name: row for row in config.describe()}
    assert {name: described[name].value for name in settings} == settings
    assert TopicConfig.from_strings(config.to_strings()) == config
    assert all(described[name].is_default for name in described.keys() - settings.keys())


@given(settings=some_settings, later=some_settings)
def test_a_change_touches_what_it_names_and_unset_brings_the_default_back(
    settings: dict[str, str], later: dict[str, str]
) -> None:
    config = TopicConfig.from_strings(settings)

    assert config.with_changes(set=later) == TopicConfig.from_strings({**settings, **later})
    assert config.with_changes(unset=settings.keys()) == TopicConfig()
    assert config.with_changes(set=later, unset=settings.keys()) == TopicConfig.from_strings(later)


def test_every_setting_is_described_and_every_default_is_one_that_could_be_set() -> None:
    rows = TopicConfig().describe()

    assert len({row.name for row in rows}) == len(rows) == len(TopicConfig.__dataclass_fields__)
    assert all(row.is_default and row.doc.endswith(".") for row in rows)
    assert TopicConfig.from_strings({row.name: row.value for row in rows}) == TopicConfig()


def test_defaults_are_kafkas() -> None:
    defaults = {row.name: row.value for row in TopicConfig().describe()}

    assert defaults["retention.ms"] == str(7 * 24 * 3600 * 1000)
    assert defaults["retention.bytes"] == "-1"
    assert defaults["segment.ms"] == str(7 * 24 * 3600 * 1000)
    assert defaults["max.message.bytes"] == "1048588"
    assert defaults["index.interval.bytes"] == "4096"
    assert defaults["cleanup.policy"] == "delete"


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("segment.bytes", "1023", "from 1024 to 2147483647"),
        ("segment.bytes", "2147483648", "from 1024 to 2147483647"),
        ("segment.bytes", "many", "from 1024 to 2147483647"),
        ("segment.bytes", "", "from 1024 to 2147483647"),
        ("segment.bytes", "100_000", "from 1024 to 2147483647"),
        ("segment.bytes", " 100000", "from 1024 to 2147483647"),
        ("segment.bytes", "1e6", "from 1024 to 2147483647"),
        ("segment.bytes", "-1", "from 1024 to 2147483647"),
        ("segment.ms", "0", "a whole number from 1 to 9223372036854775807."),
        ("retention.ms", "-2", "from 0 to 9223372036854775807, or -1 for no limit"),
        ("retention.bytes", "9223372036854775808", "or -1 for no limit"),
        ("delete.retention.ms", "9223372036854775808", "from 0 to 9223372036854775807."),
        ("durability", "eventual", "durable or relaxed"),
        ("durability", "Durable", "durable or relaxed"),
        ("compression.type", "brotli", "producer"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_can(name: str, value: str, remedy: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        TopicConfig.from_strings({name: value})
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)
    assert remedy in caught.value.remedy


def test_what_kafka_has_and_we_do_not_yet_is_refused_as_that() -> None:
    with pytest.raises(InvalidConfig, match="is not supported yet"):
        TopicConfig.from_strings({"compression.type": "zstd"})


@pytest.mark.parametrize(
    ("policy", "compacted", "deletes"),
    [("delete", False, True), ("compact", True, False), ("compact,delete", True, True), ("delete,compact", True, True)],
)
def test_a_policy_says_what_goes(policy: str, compacted: bool, deletes: bool) -> None:
    config = TopicConfig.from_strings({"cleanup.policy": policy})
    assert (config.is_compacted, config.deletes_old) == (compacted, deletes)
    assert TopicConfig.from_strings(config.to_strings()) == config


@pytest.mark.parametrize("value", ["0", "0.5", "0.0001", "1", "1.0"])
def test_a_ratio_is_read_back_as_it_was_written(value: str) -> None:
    config = TopicConfig.from_strings({"min.cleanable.dirty.ratio": value})
    assert config.min_cleanable_dirty_ratio == float(value)
    assert TopicConfig.from_strings(config.to_strings()) == config


@pytest.mark.parametrize("value", ["", "-0.1", "1.1", "2", "half", "1e-3", ".5", "0,5", "nan"])
def test_what_is_no_ratio_is_refused(value: str) -> None:
    with pytest.raises(InvalidConfig, match=r"min.cleanable.dirty.ratio = '.*' is not allowed"):
        TopicConfig.from_strings({"min.cleanable.dirty.ratio": value})


def test_an_unknown_setting_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidConfig, match="no topic setting 'retention'") as caught:
        TopicConfig.from_strings({"retention": "1"})
    assert "retention.ms" in caught.value.remedy
    with pytest.raises(InvalidConfig, match="no topic setting 'retention'"):
        TopicConfig().with_changes(unset=["retention"])


def test_partitions_keep_within_a_quarter_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (1024, 20_000, 1_048_576):
        monkeypatch.setattr("resource.getrlimit", lambda _, limit=limit: (limit, limit))
        config = StoreConfig()
        assert 0 < config.open_files_max + config.map_count_max <= limit // 4


@pytest.mark.parametrize("first", ["min.compaction.lag.ms", "max.compaction.lag.ms"])
def test_a_record_cannot_have_to_stay_for_longer_than_it_may_wait_for_compaction(first: str) -> None:
    lags = {"min.compaction.lag.ms": "5001", "max.compaction.lag.ms": "5000"}
    with pytest.raises(InvalidConfig, match=r"min\.compaction\.lag\.ms = 5001 is more than .* = 5000") as refused:
        TopicConfig.from_strings(lags)
    assert refused.value.remedy
    with pytest.raises(InvalidConfig, match="is more than"):
        TopicConfig.from_strings({first: lags.pop(first)}).with_changes(lags)
    equal = TopicConfig.from_strings({"min.compaction.lag.ms": "5000", "max.compaction.lag.ms": "5000"})
    with pytest.raises(InvalidConfig, match="is more than"):
        equal.with_changes({"min.compaction.lag.ms": "5001"})
    assert equal.with_changes({"min.compaction.lag.ms": "5001"}, ["max.compaction.lag.ms"])

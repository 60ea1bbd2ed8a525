"""Settings read and changed through the Kafka door, in every version that is spoken."""

from collections.abc import Sequence
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from logserver.config import Address
from logserver.context import SERVER_ITSELF
from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.configs import AlterOperation, ResourceType
from logserver.kafka.topic_settings import NAMES
from logserver.server import Server
from logstore.config import SETTINGS, TopicConfig
from tests.server.conftest import StartServer
from tests.server.kafka_door.client import KafkaClient

TOPIC, BROKER, GROUP = ResourceType.TOPIC, ResourceType.BROKER, ResourceType.GROUP
SET, DELETE, APPEND, SUBTRACT = AlterOperation

Change = tuple[AlterOperation | int, str, str | None]


async def describe(
    kafka: KafkaClient,
    *resources: tuple[int, str],
    keys: Sequence[str] | None = None,
    version: int | None = None,
    details: bool = False,
) -> list[Any]:
    asked = [{"resource_type": kind, "resource_name": name, "configuration_keys": keys} for kind, name in resources]
    shown = {"include_synonyms": details, "include_documentation": details}
    return list((await kafka.call(ApiKey.DESCRIBE_CONFIGS, version, resources=asked, **shown)).results)


async def settings(kafka: KafkaClient, kind: int, name: str, **options: Any) -> dict[str, Any]:
    [answer] = await describe(kafka, (kind, name), **options)
    assert (answer.error_code, answer.resource_type, answer.resource_name) == (ErrorCode.none, kind, name)
    return {each.name: each for each in answer.configs}


async def replace(
    kafka: KafkaClient, *resources: tuple[int, str, dict[str, str | None]], version: int | None = None, **more: Any
) -> list[Any]:
    asked = [
        {
            "resource_type": kind,
            "resource_name": name,
            "configs": [{"name": setting, "value": value} for setting, value in values.items()],
        }
        for kind, name, values in resources
    ]
    fields = {"resources": asked, "validate_only": False} | more
    return list((await kafka.call(ApiKey.ALTER_CONFIGS, version, **fields)).responses)


async def change(
    kafka: KafkaClient, kind: int, name: str, *changes: Change, version: int | None = None, **more: Any
) -> Any:
    configs = [
        {"name": setting, "config_operation": operation, "value": value} for operation, setting, value in changes
    ]
    asked = [{"resource_type": kind, "resource_name": name, "configs": configs}]
    fields = {"resources": asked, "validate_only": False} | more
    [answer] = (await kafka.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, version, **fields)).responses
    assert (answer.resource_type, answer.resource_name) == (kind, name)
    return answer


@pytest.fixture
async def topic(door: Server) -> str:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {"retention.ms": "1000", "segment.ms": "2000"})
    return "t"


def config(door: Server) -> TopicConfig:
    return door.broker.store.topic("t").config


# Read.


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.DESCRIBE_CONFIGS])
async def test_a_topic_is_described_in_every_version(kafka: KafkaClient, topic: str, version: int) -> None:
    found = await settings(kafka, TOPIC, topic, version=version, details=True)
    assert set(found) > NAMES
    given, default, fixed = found["retention.ms"], found["cleanup.policy"], found["min.insync.replicas"]
    assert (given.value, given.config_source, given.read_only, given.is_sensitive) == ("1000", 1, False, False)
    assert (default.value, default.config_source, default.read_only) == ("delete", 5, False)
    assert (fixed.value, fixed.config_source, fixed.read_only) == ("1", 5, True)
    assert [(each.name, each.value, each.source) for each in given.synonyms] == [
        ("retention.ms", "1000", 1),
        ("log.retention.ms", "604800000", 5),
    ]
    assert [each.name for each in default.synonyms] == ["log.cleanup.policy"]
    if version >= 3:
        assert (given.config_type, default.config_type, fixed.config_type) == (5, 7, 3)
        assert all(each.documentation for each in found.values())


async def test_what_is_not_asked_for_is_not_told(kafka: KafkaClient, topic: str) -> None:
    found = await settings(kafka, TOPIC, topic, keys=["retention.ms", "no.such.setting"])
    assert set(found) == {"retention.ms"}
    assert (found["retention.ms"].synonyms, found["retention.ms"].documentation) == ((), None)


def test_every_setting_of_a_topic_has_its_place_in_kafka() -> None:
    assert {setting.name for setting in SETTINGS} == NAMES


async def test_every_default_of_a_topic_is_a_setting_of_the_broker(kafka: KafkaClient, topic: str) -> None:
    ours = await settings(kafka, TOPIC, topic, details=True)
    answers = await describe(kafka, (BROKER, "1"))
    told = [(each.name, each.value) for each in answers[0].configs]
    assert {(each.synonyms[-1].name, each.synonyms[-1].value) for each in ours.values()} <= set(told)
    assert len(dict(told)) == len(told), "each once"


async def test_the_broker_tells_what_tools_ask_for(start_server: StartServer) -> None:
    server = await start_server(kafka_listen=Address("127.0.0.1", 0), default_partitions=4, auto_create_topics=False)
    kafka = await KafkaClient.connect(server.kafka_address)
    found = await settings(kafka, BROKER, "1", details=True)
    assert (found["num.partitions"].value, found["num.partitions"].config_source) == ("4", 4)
    assert (found["delete.topic.enable"].value, found["delete.topic.enable"].config_source) == ("true", 5)
    assert found["auto.create.topics.enable"].value == "false"
    assert found["default.replication.factor"].value == "1"
    assert found["message.max.bytes"].value == "1048588"
    assert found["log.dirs"].value == str(server.broker.config.data_dir)
    assert found["advertised.listeners"].value == f"PLAINTEXT://{server.kafka_address}"
    assert all(each.read_only and each.documentation and each.synonyms for each in found.values())
    assert await settings(kafka, BROKER, "") == {}
    await kafka.close()


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "u", ErrorCode.unknown_topic_or_partition),
        (TOPIC, "", ErrorCode.invalid_topic_exception),
        (TOPIC, "a b", ErrorCode.invalid_topic_exception),
        (BROKER, "2", ErrorCode.invalid_request),
        (BROKER, "one", ErrorCode.invalid_request),
        (GROUP, "g", ErrorCode.invalid_request),
        (ResourceType.BROKER_LOGGER, "1", ErrorCode.invalid_request),
        (ResourceType.CLIENT_METRICS, "m", ErrorCode.invalid_request),
        (99, "t", ErrorCode.invalid_request),
    ],
)
async def test_what_has_no_settings_is_refused_and_nothing_else(
    kafka: KafkaClient, topic: str, kind: int, name: str, code: ErrorCode
) -> None:
    refused, told = await describe(kafka, (kind, name), (TOPIC, topic))
    assert (refused.error_code, refused.resource_type, refused.resource_name) == (code, kind, name)
    assert refused.error_message
    assert refused.configs == ()
    assert told.configs


async def test_what_has_settings_is_listed(door: Server, kafka: KafkaClient, topic: str) -> None:
    async def listed(*kinds: int) -> set[tuple[int, str]]:
        answer = await kafka.call(ApiKey.LIST_CONFIG_RESOURCES, 1, resource_types=kinds)
        assert answer.error_code == ErrorCode.none
        return {(each.resource_type, each.resource_name) for each in answer.config_resources}

    topics = {(TOPIC, each.name) for each in door.broker.topics.listed(SERVER_ITSELF, include_internal=True)}
    assert await listed(TOPIC) == topics
    assert (TOPIC, topic) in topics
    assert await listed() == topics | {(BROKER, "1")}
    assert await listed(GROUP) == set()
    refused = await kafka.call(ApiKey.LIST_CONFIG_RESOURCES, 1, resource_types=[99])
    assert refused.error_code == ErrorCode.unsupported_version
    assert (await kafka.call(ApiKey.LIST_CONFIG_RESOURCES, 0)).config_resources == ()


# Replaced.


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.ALTER_CONFIGS])
async def test_settings_are_replaced_in_every_version(
    door: Server, kafka: KafkaClient, topic: str, version: int
) -> None:
    given: dict[str, str | None] = {"retention.bytes": "5000", "unclean.leader.election.enable": "False"}
    [answer] = await replace(kafka, (TOPIC, topic, given), version=version)
    assert (answer.error_code, answer.error_message) == (ErrorCode.none, None)
    assert config(door) == TopicConfig(retention_bytes=5000)


async def test_settings_that_are_only_validated_stay(door: Server, kafka: KafkaClient, topic: str) -> None:
    before = config(door)
    [answer] = await replace(kafka, (TOPIC, topic, {}), validate_only=True)
    assert answer.error_code == ErrorCode.none
    [answer] = await replace(kafka, (TOPIC, topic, {"segment.ms": "0"}), validate_only=True)
    assert answer.error_code == ErrorCode.invalid_config
    assert (await change(kafka, TOPIC, topic, (DELETE, "segment.ms", None), validate_only=True)).error_code == 0
    assert config(door) == before


async def test_a_resource_is_named_once(door: Server, kafka: KafkaClient, topic: str) -> None:
    before = config(door)
    answers = await replace(kafka, (TOPIC, topic, {}), (TOPIC, topic, {}))
    assert [answer.error_code for answer in answers] == [ErrorCode.invalid_request] * 2
    assert config(door) == before


# Changed.


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.INCREMENTAL_ALTER_CONFIGS])
async def test_settings_are_set_and_deleted_in_every_version(
    door: Server, kafka: KafkaClient, topic: str, version: int
) -> None:
    answer = await change(
        kafka, TOPIC, topic, (SET, "retention.bytes", "5000"), (DELETE, "segment.ms", None), version=version
    )
    assert (answer.error_code, answer.error_message) == (ErrorCode.none, None)
    assert config(door) == TopicConfig(retention_ms=1000, retention_bytes=5000)


async def test_words_are_added_to_a_list_and_taken_out_of_it(door: Server, kafka: KafkaClient, topic: str) -> None:
    for operation, words, then in (
        (APPEND, "compact", "delete,compact"),
        (APPEND, "compact,delete", "delete,compact"),
        (SUBTRACT, "delete,other", "compact"),
    ):
        assert (await change(kafka, TOPIC, topic, (operation, "cleanup.policy", words))).error_code == ErrorCode.none
        assert config(door).cleanup_policy == then
    refused = await change(kafka, TOPIC, topic, (SUBTRACT, "cleanup.policy", "compact"))
    assert refused.error_code == ErrorCode.invalid_config


async def test_what_nobody_has_set_is_deleted_already(door: Server, kafka: KafkaClient, topic: str) -> None:
    before = config(door)
    throttled = "leader.replication.throttled.replicas"
    changes = [
        (DELETE, throttled, None),
        (DELETE, "min.insync.replicas", None),
        (DELETE, "retention.bytes", None),
        (DELETE, "no.such.setting", None),
    ]
    assert (await change(kafka, TOPIC, topic, *changes)).error_code == ErrorCode.none
    assert (await change(kafka, TOPIC, topic, (SUBTRACT, throttled, "0:1"))).error_code == ErrorCode.none
    assert config(door) == before


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [
        ("min.insync.replicas", "1", "2"),
        ("unclean.leader.election.enable", "false", "true"),
        ("message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("message.timestamp.before.max.ms", "9223372036854775807", "1000"),
        ("flush.messages", "9223372036854775807", "1"),
        ("preallocate", "false", "true"),
        ("segment.jitter.ms", "0", "1"),
        ("remote.storage.enable", "false", "true"),
        ("leader.replication.throttled.replicas", "", "*"),
        ("follower.replication.throttled.replicas", "", "*"),
    ],
)
async def test_a_setting_that_can_have_one_value_here_is_taken_with_that(
    door: Server, kafka: KafkaClient, topic: str, name: str, value: str, other: str
) -> None:
    before = config(door)
    assert (await change(kafka, TOPIC, topic, (SET, name, value))).error_code == ErrorCode.none
    refused = await change(kafka, TOPIC, topic, (SET, name, other), (SET, "retention.bytes", "5000"))
    assert refused.error_code == ErrorCode.invalid_config
    assert name in refused.error_message
    assert config(door) == before
    assert (await settings(kafka, TOPIC, topic))[name].value == value


@pytest.mark.parametrize(
    ("kind", "name", "wrong", "code"),
    [
        (TOPIC, "u", (SET, "retention.ms", "1"), ErrorCode.unknown_topic_or_partition),
        (TOPIC, "a b", (SET, "retention.ms", "1"), ErrorCode.invalid_topic_exception),
        (TOPIC, "", (SET, "retention.ms", "1"), ErrorCode.invalid_request),
        (TOPIC, "t", (SET, "retention.ms", "soon"), ErrorCode.invalid_config),
        (TOPIC, "t", (SET, "no.such.setting", "1"), ErrorCode.invalid_config),
        (TOPIC, "t", (SET, "max.message.bytes", "2000000000"), ErrorCode.invalid_config),
        (TOPIC, "t", (SET, "retention.ms", None), ErrorCode.invalid_request),
        (TOPIC, "t", (APPEND, "cleanup.policy", None), ErrorCode.invalid_request),
        (TOPIC, "t", (APPEND, "retention.ms", "1"), ErrorCode.invalid_config),
        (TOPIC, "t", (SUBTRACT, "no.such.setting", "1"), ErrorCode.invalid_config),
        (TOPIC, "t", (APPEND, "leader.replication.throttled.replicas", "0:1"), ErrorCode.invalid_config),
        (TOPIC, "t", (7, "retention.ms", "1"), ErrorCode.invalid_request),
        (TOPIC, "t", (SET, "retention.bytes", "1"), ErrorCode.invalid_request),  # for the second time
        (BROKER, "1", (SET, "num.partitions", "2"), ErrorCode.invalid_request),
        (BROKER, "", (SET, "num.partitions", "2"), ErrorCode.invalid_request),
        (BROKER, "2", (SET, "num.partitions", "2"), ErrorCode.invalid_request),
        (GROUP, "g", (SET, "consumer.session.timeout.ms", "2"), ErrorCode.invalid_request),
    ],
)
async def test_a_wrong_change_is_refused_and_nothing_is_changed(
    door: Server, kafka: KafkaClient, topic: str, kind: int, name: str, wrong: Change, code: ErrorCode
) -> None:
    before = config(door)
    refused = await change(kafka, kind, name, (SET, "retention.bytes", "5000"), wrong)
    assert refused.error_code == code
    assert refused.error_message
    assert config(door) == before
    if wrong[0] == SET and wrong[1] != "retention.bytes":
        [refused] = await replace(kafka, (kind, name, {wrong[1]: wrong[2]}))
        assert refused.error_code == code

"""Settings read and changed: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources."""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from kio.schema.errors import ErrorCode

from logserver.broker import Broker
from logserver.config import Address
from logserver.context import Operation, RequestContext, Resource, authorize
from logserver.errors import InvalidRequest
from logserver.kafka.broker_settings import broker_settings
from logserver.kafka.errors import named_twice, refusal
from logserver.kafka.messages import Fields, Items, get
from logserver.kafka.topic_settings import NAMES, accepted, described, list_value
from logstore.config import TopicConfig
from logstore.errors import InvalidConfig
from logstore.topic_name import check_topic_name
from logstore.topics import Topic


class ResourceType(IntEnum):
    """What has settings in Kafka. Here topics and the broker have."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class AlterOperation(IntEnum):
    """KIP-339."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class _Changes(NamedTuple):
    set: dict[str, str]
    unset: list[str]


class ConfigHandlers:
    def __init__(self, broker: Broker, advertised: Address) -> None:
        self._broker = broker
        self._advertised = advertised

    # Read.

    async def describe_configs(self, request: Any, context: RequestContext) -> Fields:
        hidden: dict[str, Any] = {}
        if not request.include_synonyms:
            hidden["synonyms"] = ()
        if not get(request, "include_documentation", False):
            hidden["documentation"] = None
        answers = Items.of_answer(request, "results", self._broker.clock)
        for resource in request.resources:
            answer: Fields
            try:
                # An empty list is all of them, too, as with Kafka.
                wanted = frozenset(resource.configuration_keys or ())
                settings = self._settings(context, resource.resource_type, resource.resource_name)
                answer = {
                    "error_code": ErrorCode.none,
                    "error_message": None,
                    "configs": [{**row, **hidden} for row in settings if not wanted or row["name"] in wanted],
                }
            except Exception as error:
                answer = refusal(error) | {"configs": ()}
            await answers.add({**_named(resource), **answer})
        return {"results": answers}

    def _settings(self, context: RequestContext, kind: int, name: str) -> Sequence[Fields]:
        if kind == ResourceType.TOPIC:
            return described(self._topic(context, name, Operation.DESCRIBE).config)
        if kind == ResourceType.BROKER:
            authorize(context, Operation.DESCRIBE, Resource.CLUSTER, "")
            if not name:  # what all brokers have in common, and was changed while they run: nothing can be
                return []
            self._check_broker(name)
            return broker_settings(self._broker.config, self._broker.store.node_id, self._advertised)
        raise _no_settings(kind, name)

    async def list_config_resources(self, request: Any, context: RequestContext) -> Fields:
        """What DescribeConfigs can be asked for (KIP-1142). Version 0 asks for the subscriptions of clients' metrics
        (KIP-714) alone, and there are none."""
        answers = Items.of_answer(request, "config_resources", self._broker.clock)
        kinds = get(request, "resource_types", (ResourceType.CLIENT_METRICS,)) or tuple(ResourceType)
        if not set(kinds) <= set(ResourceType):
            return {"error_code": ErrorCode.unsupported_version, "config_resources": ()}
        if ResourceType.TOPIC in kinds:
            for topic in self._broker.topics.listed(context, include_internal=True):
                await answers.add({"resource_name": topic.name, "resource_type": ResourceType.TOPIC})
        if ResourceType.BROKER in kinds:
            await answers.add({"resource_name": str(self._broker.store.node_id), "resource_type": ResourceType.BROKER})
        return {"config_resources": answers}

    # Changed.

    async def alter_configs(self, request: Any, context: RequestContext) -> Fields:
        """All settings of a topic are replaced: those that are not given have their defaults again."""
        return await self._alter_each(request, context, _replaced)

    async def incremental_alter_configs(self, request: Any, context: RequestContext) -> Fields:
        return await self._alter_each(request, context, _changed)

    async def _alter_each(
        self, request: Any, context: RequestContext, changes: Callable[[TopicConfig, Sequence[Any]], _Changes]
    ) -> Fields:
        times = Counter((each.resource_type, each.resource_name) for each in request.resources)
        answers = Items.of_answer(request, "responses", self._broker.clock)
        for resource in request.resources:
            answer: Fields = {"error_code": ErrorCode.none, "error_message": None}
            try:
                if times[resource.resource_type, resource.resource_name] > 1:
                    raise named_twice(repr(resource.resource_name))
                self._alter(context, resource, changes, validate_only=request.validate_only)
            except Exception as error:
                answer = refusal(error)
            await answers.add({**_named(resource), **answer})
        return {"responses": answers}

    def _alter(
        self,
        context: RequestContext,
        resource: Any,
        changes: Callable[[TopicConfig, Sequence[Any]], _Changes],
        *,
        validate_only: bool,
    ) -> None:
        kind, name = resource.resource_type, resource.resource_name
        if kind == ResourceType.BROKER:
            if name:
                self._check_broker(name)
            raise InvalidRequest(
                "the settings of the server are given when it starts, and cannot be changed while it runs",
                remedy="Start it again with the flag that `logserver --help` names.",
            )
        if kind != ResourceType.TOPIC:
            raise _no_settings(kind, name)
        if not name:
            raise InvalidRequest(
                "topics have no defaults that could be changed while the server runs", remedy="Name a topic."
            )
        for setting, count in Counter(each.name for each in resource.configs).items():
            if count > 1:
                raise named_twice(f"the setting {setting!r}")
        topic = self._topic(context, name, Operation.ALTER)
        given, unset = changes(topic.config, resource.configs)
        self._broker.topics.alter(
            context,
            name,
            partitions=0,
            set_config=accepted(given),
            unset_config=unset,
            validate_only=validate_only,
        )

    def _topic(self, context: RequestContext, name: str, operation: Operation) -> Topic:
        check_topic_name(name)
        return self._broker.topics.find(context, name, operation)

    def _check_broker(self, name: str) -> None:
        node_id = self._broker.store.node_id
        if name != str(node_id):
            raise InvalidRequest(f"there is no broker {name!r}", remedy=f"Name {node_id}, which is the one that is.")


def _named(resource: Any) -> Fields:
    return {"resource_type": resource.resource_type, "resource_name": resource.resource_name}


def _no_settings(kind: int, name: str) -> InvalidRequest:
    return InvalidRequest(
        f"a resource of type {kind} has no settings here (it is {name!r})",
        remedy=f"Name a topic (type {ResourceType.TOPIC}) or the broker (type {ResourceType.BROKER}).",
    )


def _replaced(config: TopicConfig, given: Sequence[Any]) -> _Changes:
    values = {each.name: _value(each) for each in given}
    return _Changes(values, sorted(NAMES - values.keys()))


def _changed(config: TopicConfig, changes: Sequence[Any]) -> _Changes:
    values, unset = {}, []
    for each in changes:
        match each.config_operation:
            case AlterOperation.SET:
                values[each.name] = _value(each)
            case AlterOperation.DELETE:
                if each.name in NAMES:  # what nobody has set is deleted already, whatever it is called
                    unset.append(each.name)
            case AlterOperation.APPEND:
                now = _words(config, each.name)
                values[each.name] = ",".join([*now, *(word for word in _value(each).split(",") if word not in now)])
            case AlterOperation.SUBTRACT:
                less = _value(each).split(",")
                values[each.name] = ",".join(word for word in _words(config, each.name) if word not in less)
            case unknown:
                raise InvalidRequest(
                    f"{each.name} is to be changed by operation {unknown}, which there is not",
                    remedy="The operations are "
                    + ", ".join(f"{operation.name} ({operation})" for operation in AlterOperation)
                    + ".",
                )
    return _Changes(values, unset)


def _words(config: TopicConfig, name: str) -> list[str]:
    value = list_value(config, name)
    if value is None:
        raise InvalidConfig(f"{name} is no list, and nothing can be added to it or taken out", remedy="Set it.")
    return [word for word in value.split(",") if word]


def _value(change: Any) -> str:
    if change.value is None:
        raise InvalidRequest(f"{change.name} is given no value", remedy="Give it one, or delete it.")
    return str(change.value)

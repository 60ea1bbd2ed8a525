"""Which handler answers which API, but for Produce and Fetch, which write their answers themselves."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from logserver.broker import Broker
from logserver.config import Address
from logserver.context import RequestContext
from logserver.kafka.apis import ApiKey
from logserver.kafka.configs import ConfigHandlers
from logserver.kafka.group_offsets import GroupOffsetHandlers
from logserver.kafka.groups import GroupHandlers
from logserver.kafka.log_dirs import LogDirHandlers
from logserver.kafka.membership import MembershipHandlers
from logserver.kafka.messages import Fields
from logserver.kafka.metadata import MetadataHandlers
from logserver.kafka.offsets import OffsetHandlers
from logserver.kafka.producer_ids import ProducerIdHandlers
from logserver.kafka.topics import TopicHandlers

Handler = Callable[[Any, RequestContext], Coroutine[Any, Any, Fields]]


def handlers(broker: Broker, advertised: Address) -> Mapping[int, Handler]:
    """By the key of the API."""
    metadata = MetadataHandlers(broker, advertised)
    offsets = OffsetHandlers(broker)
    topics = TopicHandlers(broker)
    configs = ConfigHandlers(broker, advertised)
    producer_ids = ProducerIdHandlers(broker)
    groups = GroupHandlers(broker, advertised)
    membership = MembershipHandlers(broker.groups)
    group_offsets = GroupOffsetHandlers(broker.groups, broker.clock)
    return {
        ApiKey.API_VERSIONS: metadata.api_versions,
        ApiKey.METADATA: metadata.metadata,
        ApiKey.DESCRIBE_CLUSTER: metadata.describe_cluster,
        ApiKey.DESCRIBE_TOPIC_PARTITIONS: metadata.describe_topic_partitions,
        ApiKey.CREATE_TOPICS: topics.create_topics,
        ApiKey.DELETE_TOPICS: topics.delete_topics,
        ApiKey.CREATE_PARTITIONS: topics.create_partitions,
        ApiKey.DELETE_RECORDS: topics.delete_records,
        ApiKey.DESCRIBE_CONFIGS: configs.describe_configs,
        ApiKey.ALTER_CONFIGS: configs.alter_configs,
        ApiKey.INCREMENTAL_ALTER_CONFIGS: configs.incremental_alter_configs,
        ApiKey.LIST_CONFIG_RESOURCES: configs.list_config_resources,
        ApiKey.DESCRIBE_LOG_DIRS: LogDirHandlers(broker).describe_log_dirs,
        ApiKey.LIST_OFFSETS: offsets.list_offsets,
        ApiKey.OFFSET_FOR_LEADER_EPOCH: offsets.offset_for_leader_epoch,
        ApiKey.INIT_PRODUCER_ID: producer_ids.init_producer_id,
        ApiKey.OFFSET_COMMIT: group_offsets.offset_commit,
        ApiKey.OFFSET_FETCH: group_offsets.offset_fetch,
        ApiKey.OFFSET_DELETE: group_offsets.offset_delete,
        ApiKey.FIND_COORDINATOR: groups.find_coordinator,
        ApiKey.LIST_GROUPS: groups.list_groups,
        ApiKey.DESCRIBE_GROUPS: groups.describe_groups,
        ApiKey.DELETE_GROUPS: groups.delete_groups,
        ApiKey.CONSUMER_GROUP_DESCRIBE: groups.consumer_group_describe,
        ApiKey.JOIN_GROUP: membership.join_group,
        ApiKey.SYNC_GROUP: membership.sync_group,
        ApiKey.HEARTBEAT: membership.heartbeat,
        ApiKey.LEAVE_GROUP: membership.leave_group,
        ApiKey.CONSUMER_GROUP_HEARTBEAT: membership.consumer_group_heartbeat,
    }

"""InitProducerId: the identity of an idempotent producer (KIP-98, KIP-360)."""

from typing import Any

from kio.schema.errors import ErrorCode

from logserver.broker import Broker
from logserver.context import RequestContext
from logserver.kafka.errors import error_code, transactions_unsupported
from logserver.kafka.messages import Fields

NO_PRODUCER = -1


class ProducerIdHandlers:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def init_producer_id(self, request: Any, context: RequestContext) -> Fields:
        """A new id each time, with epoch 0: as Kafka does where there is no transactional id, also for a producer that
        says which it had."""
        try:
            if request.transactional_id is not None:
                raise transactions_unsupported(request.transactional_id)
            producer_id = self._broker.new_producer_id(context)
        except Exception as refused:
            return {"error_code": error_code(refused), "producer_id": NO_PRODUCER, "producer_epoch": NO_PRODUCER}
        return {"error_code": ErrorCode.none, "producer_id": producer_id, "producer_epoch": 0}

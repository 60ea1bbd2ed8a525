"""Plain records are encoded on the event loop, so a request has no more of them than others can wait for."""

from logwire.v1 import records_pb2 as pb
from tests.server.wire import Client


async def test_a_request_has_a_bound_on_plain_records_in_all_its_parts_together(client: Client) -> None:
    await client.create("t")
    full = pb.RecordList(records=[pb.Record()] * 9_999)
    request = pb.ProduceRequest(
        partitions=[
            pb.PartitionRecords(topic="t", partition=0, records=records)
            for records in (full, full, pb.RecordList(records=[pb.Record()]), full)
        ]
    )
    response = await client.producing.Produce(request)
    assert [ack.HasField("error") for ack in response.acks] == [False, True, False, True]
    assert "10000 plain records in all" in response.acks[1].error.message

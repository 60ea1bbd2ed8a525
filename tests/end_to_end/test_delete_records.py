"""Records deleted from a server that is then killed: they stay gone, and consumers in the middle go on."""

from pathlib import Path

from tailrace import Admin, Consumer, Producer
from tests.processes import ServerProcess


def test_deleted_records_stay_gone_when_the_server_is_killed_and_its_groups_go_on(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        with Producer(server=server.address) as producer:
            producer.send_many("flights", [b"%d" % n for n in range(1000)])
        with Consumer("flights", group="behind", server=server.address) as behind:
            for record in behind:
                if record.offset == 99:
                    break
        with Admin(server=server.address) as admin:
            assert admin.delete_records("flights", {0: 950}) == {0: 950}
        server.kill()
        server.start()
        with Admin(server=server.address) as admin:
            [partition] = admin.describe_topic("flights").partitions
            assert (partition.log_start_offset, partition.high_watermark) == (950, 1000)
        with Producer(server=server.address) as producer:
            assert producer.send("flights", b"1000").result().offset == 1000
        for group in ("behind", None):
            with Consumer(
                "flights", group=group, server=server.address, stop_at_end=True, out_of_range="beginning"
            ) as consumer:
                assert [record.value for record in consumer] == [b"%d" % n for n in range(950, 1001)]

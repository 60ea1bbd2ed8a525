"""A real broker for tests: the program `logserver`, on a directory and ports of its own, that ends with the test.

    def test_flights_arrive(tailrace_broker):                    # pytest: the fixture is there by installing
        tailrace_broker.create_topic("flights", partitions=4, retention_ms=3_600_000)
        with Producer(server=tailrace_broker.grpc_address) as producer:
            ...

    with tailrace.testing.broker() as broker:                    # any other runner
        consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap, ...})

It stores and syncs as it does in production; only looks for old and for compactable segments come often. It can be
killed, stopped, paused and started again on its directory and ports, and `advance` moves its time. The server ends with
its standard input, which only the process of the tests has, so a test run that is killed leaves no server behind.

Reading order: template, from which a server is forked because a start of its own takes many times as long;
broker_process; plugin.
"""

from tailrace.testing.broker_process import BrokerProcess, broker

__all__ = ["BrokerProcess", "broker"]

"""What Kafka's clients may rely on, asked of two brokers: Apache Kafka, and the Kafka door of `logserver`.

The tests were written against Apache Kafka, so what they expect is its behaviour and not our opinion of it. Each takes
the fixture `broker` and so runs against both: `-k apache` and `-k tailrace` choose one. Two kinds:

- `test_<subject>.py`: the subject through every client that has it, behind one face (`clients`).
- `test_wire_<subject>.py`: requests that no client sends, by hand over a socket (`wire`).

A broker or client that is not there is skipped with the reason; where TAILRACE_CI=1 it fails instead. Apache Kafka is
the jars of its Maven artifacts in TAILRACE_KAFKA_HOME, by default `.kafka` in the checkout; `apache.py` says how they
get there. Names of topics and groups are new for every test, so the tests share one broker and need no order.
"""

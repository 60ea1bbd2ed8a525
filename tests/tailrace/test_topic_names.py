"""Names that no topic can have: refused by every client before any server is asked."""

from collections.abc import Callable

import pytest

from tailrace import Admin, Consumer, Producer, errors

NOWHERE = "127.0.0.1:1"


def asked_by_a_producer(topic: str) -> object:
    with Producer(server=NOWHERE) as producer:
        return producer.send(topic, value="v")


def asked_by_a_consumer(topic: str) -> object:
    with Consumer(topic, server=NOWHERE) as consumer:
        return consumer.poll(0)


def asked_of(method: str, *arguments: object, **settings: object) -> Callable[[str], object]:
    def ask(topic: str) -> object:
        with Admin(server=NOWHERE) as admin:
            return getattr(admin, method)(
                *(topic if argument is ... else argument for argument in arguments), **settings
            )

    return ask


def offsets_of(topic: str) -> object:
    with Admin(server=NOWHERE) as admin:
        return admin.list_offsets([(topic, 0)], "latest")


@pytest.mark.parametrize("topic", ["fli/ghts", "two words", ".", "..", "é", "x" * 250])
@pytest.mark.parametrize(
    "ask",
    [
        asked_by_a_producer,
        asked_by_a_consumer,
        asked_of("create_topic", ...),
        asked_of("delete_topic", ...),
        asked_of("alter_topic", ..., partitions=2),
        asked_of("delete_records", ..., {0: 1}),
        asked_of("describe_topic", ...),
        asked_of("seek_group", "group", ..., to_end=True),
        offsets_of,
    ],
)
def test_a_name_that_no_topic_can_have_is_refused_without_a_server(ask: Callable[[str], object], topic: str) -> None:
    with pytest.raises(errors.InvalidTopic, match="cannot be the name of a topic") as refused:
        ask(topic)
    assert "249" in refused.value.remedy


@pytest.mark.parametrize("topic", [None, 5, b"flights", ["flights"]])
def test_a_topic_is_named_by_a_str(topic: object) -> None:
    with Admin(server=NOWHERE) as admin:
        with pytest.raises(errors.InvalidRequest, match="is not the name of a topic"):
            admin.create_topic(topic)  # type: ignore[arg-type]  # what is tested

"""How long answers are encoded."""

import asyncio
from typing import Any

import pytest
from kio.index import load_request_schema

from logserver.errors import RequestTooLarge
from logserver.kafka import messages
from logserver.kafka.apis import ApiKey
from logserver.kafka.messages import Items, build, encode_response
from tests.server.kafka_door.conftest import Hurrying


def log_dirs_request(version: int) -> Any:
    return build(load_request_schema(ApiKey.DESCRIBE_LOG_DIRS, version), {"topics": None})


def partition(number: int) -> dict[str, Any]:
    return {"partition_index": number, "partition_size": number * 1000, "offset_lag": 0, "is_future_key": False}


def directory(topics: Any) -> dict[str, Any]:
    return {"error_code": 0, "log_dir": "/logs", "topics": topics, "total_bytes": 1, "usable_bytes": 2}


@pytest.mark.parametrize("version", [1, 2, 5])  # the first has no tagged fields
@pytest.mark.parametrize("counts", [(), (0,), (3, 0, 200)])
async def test_items_that_are_encoded_one_by_one_are_the_same_bytes(version: int, counts: tuple[int, ...]) -> None:
    plain = [{"name": f"t{count}", "partitions": [partition(n) for n in range(count)]} for count in counts]
    results = Items.of_answer(log_dirs_request(version), "results", Hurrying())
    topics = results.within("topics")
    for count in counts:
        partitions = topics.within("partitions")
        for number in range(count):
            await partitions.add(partition(number))
        await topics.add({"name": f"t{count}", "partitions": partitions})
    await results.add(directory(topics))
    key = ApiKey.DESCRIBE_LOG_DIRS
    assert encode_response(key, version, 7, {"results": results}) == encode_response(
        key, version, 7, {"results": [directory(plain)]}
    )


async def test_others_run_between_two_items() -> None:
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    results = Items.of_answer(log_dirs_request(5), "results", Hurrying())
    for number in range(10):
        assert others >= number
        await results.add(directory(()))
    task.cancel()


async def test_an_answer_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "ANSWER_BYTES_MAX", 100)
    results = Items.of_answer(log_dirs_request(5), "results", Hurrying())
    await results.add({**directory(()), "log_dir": "d" * 50})
    with pytest.raises(RequestTooLarge):
        await results.add({**directory(()), "log_dir": "d" * 50})

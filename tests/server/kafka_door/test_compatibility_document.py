"""docs/kafka-compatibility.md tells users what the code does."""

import re
from pathlib import Path

from logserver.config import ServerConfig
from logserver.kafka import connection
from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.few_lines import INTERVAL_MS, LINES_MAX
from logserver.kafka.messages import ANSWER_BYTES_MAX, ITEMS_MAX
from logserver.kafka.metadata import CREATED_MAX
from logserver.kafka.primitives import TAGS_MAX
from tests.conformance.differences import DIFFERENCES
from tests.conformance.kafka_python_own import EXPECTED

DOCUMENT = (Path(__file__).parents[3] / "docs" / "kafka-compatibility.md").read_text()


def test_the_table_of_apis_is_what_is_advertised() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (\d+)-(\d+) \|$", DOCUMENT, re.MULTILINE)
    told = {int(key): range(int(first), int(last) + 1) for key, _, first, last in rows}
    assert told == {int(key): versions for key, versions in API_VERSIONS.items()}
    names = {int(key): name.lower() for key, name, _, _ in rows}
    assert names == {int(key): key.name.replace("_", "").lower() for key in ApiKey}


def test_the_tests_of_others_that_fail_are_listed_with_their_reasons() -> None:
    assert dict(re.findall(r"^\| `(test_\w+)` \| (.+) \|$", DOCUMENT, re.MULTILINE)) == EXPECTED


def test_every_difference_that_the_conformance_suite_expects_has_its_section() -> None:
    _, _, differences = DOCUMENT.partition("## What differs")
    sections = set(re.findall(r"^### (.+)$", differences, re.MULTILINE))
    assert {difference.title for difference in DIFFERENCES} <= sections


def test_the_bounds_of_requests_are_those_of_the_code() -> None:
    _, _, after = DOCUMENT.partition("### Requests have bounds")
    section, _, _ = after.partition("###")
    told = dict(re.findall(r"^\| (.+) \| ([\d,]+ (?:[MK]iB|items|s)\b).*\|$", section, re.MULTILINE))
    given = ServerConfig()
    assert told == {
        "a Produce request": f"{given.kafka_request_bytes_max >> 20} MiB",
        "any other request": f"{connection.OTHER_REQUEST_BYTES_MAX >> 20} MiB",
        "the first request of a connection": f"{connection.FIRST_REQUEST_BYTES_MAX >> 10} KiB",
        "all arrays of a request together; of Produce, its topics and partitions": f"{ITEMS_MAX:,} items",
        "an answer about topics, settings or groups": f"{ANSWER_BYTES_MAX >> 20} MiB",
        "answers that clients have not taken yet, of all connections": f"{given.kafka_answers_bytes_max >> 20} MiB",
        "from a request's first byte to its last": f"{connection.REQUEST_MS_MAX // 1000} s",
    }
    assert f"up to {ITEMS_MAX:,}, and up to {TAGS_MAX:,} in its header" in section
    assert f"makes up to {CREATED_MAX} topics" in section
    assert "(`--kafka-answers-bytes-max`)" in section
    assert f"1 s more for each {connection.BYTES_PER_SECOND_MIN >> 10} KiB" in section


def test_how_often_the_log_tells_of_connections_is_as_in_the_code() -> None:
    assert f"there are up to {LINES_MAX} lines in {INTERVAL_MS // 1000} s" in DOCUMENT

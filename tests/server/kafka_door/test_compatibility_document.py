"""docs/kafka-compatibility.md tells users what the code does."""

import re
from pathlib import Path

from logserver.kafka.apis import API_VERSIONS, ApiKey
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

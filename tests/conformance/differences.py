"""Where our door answers otherwise than Apache Kafka, and means to. `docs/kafka-compatibility.md` tells users the same.

A test that stands here must fail against ours: one that passes after all is taken out of the list.
"""

from typing import NamedTuple


class Difference(NamedTuple):
    #: As a heading of the document.
    title: str
    #: Names of the tests, of all their parameters.
    tests: frozenset[str]


DIFFERENCES = (
    Difference(
        "Timestamps are the producer's",
        frozenset({"test_with_log_append_time_a_record_has_the_brokers_time"}),
    ),
    Difference(
        "A producer that is not known begins at sequence 0",
        frozenset(
            {
                "test_a_producer_that_is_not_known_may_begin_anywhere",
                "test_the_sequence_goes_on_at_0_after_the_greatest",
                "test_a_sequence_may_wrap_within_a_batch",
            }
        ),
    ),
    Difference(
        "A fetch session belongs to its connection",
        frozenset({"test_a_session_of_another_connection_is_the_same"}),
    ),
    Difference(
        "A member that claims too much joins again",
        frozenset({"test_a_member_in_its_epoch_may_claim_what_it_does_not_have"}),
    ),
)


def difference_of(test: str) -> Difference | None:
    return next((difference for difference in DIFFERENCES if test in difference.tests), None)

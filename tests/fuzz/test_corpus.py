"""What the search has found once stays found, and a little more is tried each time."""

import tracemalloc

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, Target

#: Memory for each byte of an input, and for any: what is inflated has its own bound.
BYTES_PER_BYTE_MAX = 200
BYTES_MAX = 2 << 20

FOUND = [(target, path.name) for target in TARGETS.values() for path in sorted(target.corpus.glob("*"))]


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_what_is_right_is_read(target: Target) -> None:
    """Some seeds are right but for one thing."""
    are_read = [target.run(seed) for seed in target.seeds()]
    assert are_read.count(True) * 3 > len(are_read)


@pytest.mark.parametrize(("target", "name"), FOUND, ids=[f"{target.name}-{name}" for target, name in FOUND])
def test_what_was_found_once_is_refused_as_documented(target: Target, name: str) -> None:
    data = (target.corpus / name).read_bytes()
    target.run(data)  # and what is made once and kept is made now
    tracemalloc.start()
    try:
        target.run(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= BYTES_MAX + BYTES_PER_BYTE_MAX * len(data)


def test_every_target_has_a_corpus() -> None:
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)


@st.composite
def mutations(draw: st.DrawFn, target: Target) -> bytes:
    """A seed with some of its bytes changed, cut out, doubled and put in."""
    data = bytearray(draw(st.sampled_from(list(target.seeds()))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 8)))
        data[at:end] = draw(st.sampled_from([b"", bytes(data[at:end]) * 2]) | st.binary(max_size=8))
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
@given(data=st.data())
def test_what_was_changed_is_refused_as_documented(target: Target, data: st.DataObject) -> None:
    mutated = data.draw(mutations(target))
    note(f"an input of {target.name} for its corpus: {mutated!r}")
    target.run(mutated)

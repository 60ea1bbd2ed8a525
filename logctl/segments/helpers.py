"""Runs the verification of many segments: in this process when they are small, else in helper processes.

What takes the time is the CPU work for each batch, so it is shared out segment by segment. A helper reads a few MiB,
counts what it has done where all can see it, looks there whether it is to stop, and reads on.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing.sharedctypes import Synchronized
from typing import TYPE_CHECKING, NamedTuple

from logctl.output import Progress

if TYPE_CHECKING:
    from logstore.errors import LogStoreError
    from logstore.findings import Finding
    from logstore.verification import SegmentReport, SegmentToVerify

STEP_BYTES = 4 * 1024 * 1024
#: Below that, starting the helpers takes longer than they save.
BYTES_PER_HELPER_MIN = 64 * 1024 * 1024
HELPERS_MAX = 16


class Verified(NamedTuple):
    segment: "SegmentToVerify"
    report: "SegmentReport"
    findings: "list[Finding]"


class Counters(NamedTuple):
    """Shared by all helpers."""

    bytes_count: "Synchronized[int]"
    records_count: "Synchronized[int]"
    is_stopping: "Synchronized[int]"


OnProgress = Callable[[int, int], None]  # bytes and records verified so far


def verify_segments(
    segments: "Sequence[SegmentToVerify]", bytes_total: int, on_progress: OnProgress, *, helpers: int | None = None
) -> Generator[Verified, None, None]:
    """Verify all segments; what is found comes in their order. `helpers` are processes; None: as many as pay off."""
    if helpers is None:
        helpers = min(os.cpu_count() or 1, bytes_total // BYTES_PER_HELPER_MIN, len(segments), HELPERS_MAX)
    if helpers < 2:
        yield from _verify_here(segments, on_progress)
    else:
        yield from _verify_in_helpers(segments, on_progress, helpers)


def _verify_here(segments: "Sequence[SegmentToVerify]", on_progress: OnProgress) -> Iterator[Verified]:
    bytes_count = records_count = 0

    def on_step(bytes_more: int, records_more: int) -> bool:
        nonlocal bytes_count, records_count
        bytes_count += bytes_more
        records_count += records_more
        on_progress(bytes_count, records_count)
        return True

    for segment in segments:
        yield _verify(segment, on_step)


def _verify_in_helpers(
    segments: "Sequence[SegmentToVerify]", on_progress: OnProgress, helpers: int
) -> Iterator[Verified]:
    context = multiprocessing.get_context("spawn")
    counters = Counters(context.Value("q"), context.Value("q"), context.Value("b"))
    pool = ProcessPoolExecutor(helpers, mp_context=context, initializer=_begin, initargs=(counters,))
    try:
        for future in [pool.submit(_verify_in_helper, segment) for segment in segments]:
            while not wait([future], timeout=Progress.UPDATE_SECONDS).done:
                on_progress(counters.bytes_count.value, counters.records_count.value)
            result = future.result()
            if isinstance(result, _Failed):
                raise result.kind(result.message, remedy=result.remedy)
            yield result
    finally:
        counters.is_stopping.value = 1
        pool.shutdown(cancel_futures=True)


def _verify(segment: "SegmentToVerify", on_step: Callable[[int, int], bool]) -> Verified:
    """Verify one segment. `on_step` hears how many bytes and records each step adds, and says whether to go on."""
    from logstore.linux_disk import LinuxDisk
    from logstore.verification import SegmentVerification

    verification = SegmentVerification(LinuxDisk(), segment)
    verified = Verified(segment, verification.report, [])
    try:
        goes_on = True
        while goes_on and not verification.is_done:
            position, records_count = verification.position, verified.report.records_count
            verified.findings.extend(verification.step(STEP_BYTES))
            goes_on = on_step(verification.position - position, verified.report.records_count - records_count)
    finally:
        verification.close()
    return verified


# In a helper.


class _Failed(NamedTuple):
    """An error of the storage engine, whose class takes its arguments in a way that pickle does not know."""

    kind: "type[LogStoreError]"
    message: str
    remedy: str


_counters: Counters


def _begin(counters: Counters) -> None:
    global _counters
    _counters = counters
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of us; the parent says when to stop


def _verify_in_helper(segment: "SegmentToVerify") -> Verified | _Failed:
    from logstore.errors import LogStoreError

    def on_step(bytes_more: int, records_more: int) -> bool:
        _add(_counters.bytes_count, bytes_more)
        _add(_counters.records_count, records_more)
        return not _counters.is_stopping.value

    try:
        return _verify(segment, on_step)
    except LogStoreError as error:
        return _Failed(type(error), str(error), error.remedy)


def _add(counter: "Synchronized[int]", amount: int) -> None:
    with counter.get_lock():
        counter.value += amount

"""The past of the wall clock: whichever way it jumps, nothing is taken for older than it is."""

from hypothesis import given
from hypothesis import strategies as st

from logstore.clock import JUMP_MS, RUNS_MAX, WallClockPast

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
START_MS = 1_700_000_000_000


class JumpingClock:
    def __init__(self) -> None:
        self.elapsed_ms = 0
        self.jumped_ms = 0

    def wall_ms(self) -> int:
        return START_MS + self.elapsed_ms + self.jumped_ms

    def monotonic_ms(self) -> int:
        return self.elapsed_ms


def test_without_jumps_it_is_what_the_clock_says() -> None:
    clock = JumpingClock()
    past = WallClockPast(clock)
    for _ in range(100):
        clock.elapsed_ms += HOUR_MS
        assert past.ago(5 * HOUR_MS) == clock.wall_ms() - 5 * HOUR_MS


def test_what_was_stamped_before_a_jump_is_as_old_as_it_is() -> None:
    clock = JumpingClock()
    past = WallClockPast(clock)
    clock.elapsed_ms += HOUR_MS
    stamped_ms = clock.wall_ms()
    clock.jumped_ms += YEAR_MS
    assert past.ago(HOUR_MS) < stamped_ms
    clock.elapsed_ms += HOUR_MS
    assert past.ago(HOUR_MS) == stamped_ms
    clock.elapsed_ms += 1
    assert past.ago(HOUR_MS) > stamped_ms


def test_what_was_stamped_since_a_jump_back_that_nobody_has_seen_yet_is_not_old() -> None:
    clock = JumpingClock()
    past = WallClockPast(clock)
    clock.elapsed_ms += YEAR_MS
    past.ago(0)
    clock.elapsed_ms += 1000
    clock.jumped_ms -= HOUR_MS
    stamped_ms = clock.wall_ms()
    clock.elapsed_ms += 59_000
    assert past.ago(HOUR_MS) <= stamped_ms
    clock.elapsed_ms += HOUR_MS + 1
    assert past.ago(HOUR_MS) > stamped_ms


def test_a_clock_that_was_wrong_at_the_start_keeps_nothing_for_ever() -> None:
    clock = JumpingClock()
    clock.jumped_ms = -START_MS  # 1970
    past = WallClockPast(clock)
    clock.elapsed_ms += HOUR_MS
    clock.jumped_ms = 0
    past.ago(0)
    written_years_ago_ms = START_MS - 3 * YEAR_MS
    assert past.ago(HOUR_MS) < written_years_ago_ms, "who knows by what clock"
    clock.elapsed_ms += HOUR_MS + 1
    assert past.ago(HOUR_MS) > written_years_ago_ms


def test_small_corrections_of_the_clock_are_no_jumps() -> None:
    clock = JumpingClock()
    past = WallClockPast(clock)
    for _ in range(RUNS_MAX):
        clock.elapsed_ms += HOUR_MS
        clock.jumped_ms = JUMP_MS // 2 - clock.jumped_ms
        assert abs(past.ago(HOUR_MS) - (clock.wall_ms() - HOUR_MS)) <= JUMP_MS


def test_a_clock_that_jumps_all_the_time_is_remembered_so_long_and_before_that_nothing_is_old() -> None:
    clock = JumpingClock()
    past = WallClockPast(clock)
    for number in range(2 * RUNS_MAX):
        clock.elapsed_ms += HOUR_MS
        clock.jumped_ms = number % 2 * YEAR_MS
        past.ago(0)
    assert past.ago(RUNS_MAX // 2 * HOUR_MS) > 0
    assert past.ago(2 * RUNS_MAX * HOUR_MS) < 0


@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 3 * HOUR_MS),
            st.sampled_from([0, 0, 0, HOUR_MS, -HOUR_MS, YEAR_MS, -YEAR_MS]),
            st.booleans(),
        ),
        max_size=30,
    ),
    age_ms=st.integers(0, 10 * HOUR_MS),
)
def test_nothing_is_older_than_it_is_and_what_is_old_after_the_last_jump_is_told(
    steps: list[tuple[int, int, bool]], age_ms: int
) -> None:
    clock = JumpingClock()
    past = WallClockPast(clock)
    stamps: list[tuple[int, int]] = []  # by the wall clock, and when that was
    last_jump_ms = 0
    for elapsed_ms, jump_ms, stamps_before in steps:
        clock.elapsed_ms += elapsed_ms
        if stamps_before:
            stamps.append((clock.wall_ms(), clock.elapsed_ms))
        if jump_ms:
            clock.jumped_ms += jump_ms
            last_jump_ms = clock.elapsed_ms
            past.ago(0)
        stamps.append((clock.wall_ms(), clock.elapsed_ms))
    limit_ms = past.ago(age_ms)
    for stamped_ms, then_ms in stamps:
        if stamped_ms < limit_ms:
            assert clock.elapsed_ms - then_ms > age_ms
        elif then_ms > last_jump_ms:
            assert clock.elapsed_ms - then_ms <= age_ms

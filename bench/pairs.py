"""Comparing two ways of doing one thing on a machine whose speed drifts.

The two run in turn, ours and theirs, and each turn gives one ratio; a slow moment hits both sides of a ratio alike. The
median of the ratios is the figure to quote, the spread beside it tells how far to trust it.
"""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """One row of the table.

    `ours` and `theirs` hold one figure per turn, in `unit`. `target` is the least median ratio wanted, of a rate, and
    `ratio_at_most` the largest, of what is better if it is less.
    """

    name: str
    unit: str
    ours: list[float]
    theirs: list[float]
    against: str
    target: float | None = None
    ratio_at_most: float | None = None
    #: Wanted of our own median, where the figure was asked for and not the ratio.
    at_least: float | None = None
    #: Other figures seen in the same run, such as the bare rate of the disk.
    beside: dict[str, float] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def ours_median(self) -> float:
        return statistics.median(self.ours)

    @property
    def theirs_median(self) -> float:
        return statistics.median(self.theirs)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool | None:
        if self.at_least is not None:
            return self.ours_median >= self.at_least
        if self.ratio_at_most is not None:
            return self.ratio <= self.ratio_at_most
        return None if self.target is None else self.ratio >= self.target

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio, "ratio_min": min(self.ratios), "ratio_max": max(self.ratios)}


@dataclass(frozen=True)
class Rate:
    """A row without a counterpart: a figure of ours alone, held against what was asked for."""

    name: str
    unit: str
    values: list[float]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        if self.at_least is not None:
            return self.median >= self.at_least
        if self.at_most is not None:
            return self.median <= self.at_most
        return None

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"median": self.median, "min": min(self.values), "max": max(self.values)}


def take_turns(
    ours: Callable[[], float], theirs: Callable[[], float], *, turns: int, warmups: int = 1
) -> tuple[list[float], list[float]]:
    """Call the two alternately and return their rates turn by turn; who goes first alternates too."""
    for _ in range(warmups):
        ours()
        theirs()
    rates_ours: list[float] = []
    rates_theirs: list[float] = []
    for turn in range(turns):
        if turn % 2 == 0:
            rates_ours.append(ours())
            rates_theirs.append(theirs())
        else:
            rates_theirs.append(theirs())
            rates_ours.append(ours())
    return rates_ours, rates_theirs

"""Intervals and comparisons: percentile bootstrap over rows, paired bootstrap, McNemar's exact test.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 16; McNemar, Psychometrika 12, 1947.
A bootstrap draws as many rows as there are, with replacement, 10,000 times; the same seed draws the same rows, so that
every metric of a set, and both sides of a pair, are seen on the same draws.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

SAMPLES = 10_000
LEVEL = 0.95
BLOCK = 1_000
"""Draws that are worked on at a time."""

Floats = NDArray[np.float64]
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of a set of rows, and the interval that 95% of the draws lie in."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Interval:
    """By how much the first is above the second, the 95% interval of it, and the two-sided p."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Terms:
    """A metric as a ratio of two sums over rows: what each row adds above and below the line."""

    top: Floats
    bottom: Floats

    @classmethod
    def of(cls, rows: Sequence[Row], metric: Callable[[Row], tuple[float, float]]) -> Terms:
        pairs = np.array([metric(row) for row in rows], dtype=np.float64).reshape(-1, 2)
        return cls(pairs[:, 0], pairs[:, 1])

    @property
    def value(self) -> float | None:
        """The metric; None where there is nothing to divide by."""
        below = float(self.bottom.sum())
        return float(self.top.sum()) / below if below else None

    def drawn(self, samples: int, seed: int) -> Floats:
        """The metric of every draw, shape (samples,); NaN where there is nothing to divide by."""
        above, below = _sums(self.top, samples, seed), _sums(self.bottom, samples, seed)
        ratios: Floats = np.divide(above, below, out=np.full(samples, np.nan), where=below != 0)
        return ratios


def estimate(terms: Terms, *, samples: int = SAMPLES, seed: int = 0) -> Estimate | None:
    """A metric with its percentile interval; None where there is nothing to divide by."""
    value = terms.value
    if value is None:
        return None
    low, high = _percentiles(terms.drawn(samples, seed))
    return Estimate(value, low, high)


def median(values: Sequence[float], *, samples: int = SAMPLES, seed: int = 0) -> Estimate:
    """The median of the rows with its percentile interval. Raises ValueError without rows."""
    if not values:
        raise ValueError("there is no median of no rows")
    given = np.asarray(values, dtype=np.float64)
    order = np.argsort(given)
    ordered, count = given[order], len(given)
    places = [(count - 1) // 2, count // 2]
    draws = np.concatenate([_medians(block[:, order], ordered, places) for block in _blocks(count, samples, seed)])
    low, high = _percentiles(draws)
    return Estimate(float(ordered[places].mean()), low, high)


def summarise(
    rows: Sequence[Row], metrics: Mapping[str, Callable[[Row], tuple[float, float]]], *, seed: int = 0
) -> dict[str, Estimate]:
    """Every metric of a set of rows; those with nothing to divide by are left out."""
    found = {name: estimate(Terms.of(rows, metric), seed=seed) for name, metric in metrics.items()}
    return {name: value for name, value in found.items() if value is not None}


def paired_bootstrap(a: Sequence[float], b: Sequence[float], *, samples: int = SAMPLES, seed: int = 0) -> Interval:
    """Compare the means of two models on the same rows.

    Args:
        a: the first model's value of each row.
        b: the second model's, in the same order of rows.
        samples: how many draws.
        seed: decides the draws.

    Returns:
        mean(a) - mean(b). `p` is twice the smaller share of draws on one side of zero (a draw of exactly zero is on
        both); with one draw added to it, for the observation itself, so that it is never 0.

    Raises:
        ValueError: no rows, or not the same number.
    """
    left, right = (Terms(np.asarray(values, np.float64), np.ones(len(values))) for values in (a, b))
    return paired(left, right, samples=samples, seed=seed)


def paired(a: Terms, b: Terms, *, samples: int = SAMPLES, seed: int = 0) -> Interval:
    """The same for metrics that are any ratio of sums, such as a pooled F1. Raises ValueError as above."""
    if len(a.top) != len(b.top) or not len(a.top):
        raise ValueError(f"the rows are not pairs: {len(a.top)} and {len(b.top)}")
    if a.value is None or b.value is None:
        raise ValueError("one side has nothing to divide by")
    draws = a.drawn(samples, seed) - b.drawn(samples, seed)
    draws = draws[~np.isnan(draws)]
    low, high = _percentiles(draws)
    side = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    p = min(1.0, 2 * (side + 1) / (len(draws) + 1))
    return Interval(a.value - b.value, low, high, p)


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """The exact two-sided p that two models pass equally often, from the rows on which they differ.

    Raises:
        ValueError: not the same number of rows.
    """
    pairs = list(zip(a, b, strict=True))
    only_a, only_b = sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)
    differ = only_a + only_b
    tail = sum(math.comb(differ, count) for count in range(min(only_a, only_b) + 1))
    return min(1.0, float(2 * tail / 2**differ))


def comparison(
    a: Sequence[Any],
    b: Sequence[Any],
    name: str,
    metric: Callable[[Any], tuple[float, float]],
    *,
    passed: bool = False,
) -> dict[str, float | str] | None:
    """One line of a report's comparisons; None where one side has nothing to divide by.

    Args:
        a: the first model's rows.
        b: the second model's, in the same order.
        name: what the metric is called.
        metric: what a row adds to it.
        passed: whether a row either passes or not: then `p` is McNemar's.
    """
    left, right = Terms.of(a, metric), Terms.of(b, metric)
    if left.value is None or right.value is None:
        return None
    found = paired(left, right)
    p = mcnemar([bool(x) for x in left.top], [bool(x) for x in right.top]) if passed else found.p
    return {
        "metric": name,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p": p,
        "test": "McNemar" if passed else "paired bootstrap",
    }


@functools.lru_cache(maxsize=4)
def _draws(rows: int, samples: int, seed: int) -> NDArray[np.uint16]:
    """How often each draw holds each row, shape (samples, rows)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(rows, np.full(rows, 1 / rows), size=samples).astype(np.uint16)


def _blocks(rows: int, samples: int, seed: int) -> list[NDArray[np.uint16]]:
    draws = _draws(rows, samples, seed)
    return [draws[start : start + BLOCK] for start in range(0, samples, BLOCK)]


def _sums(values: Floats, samples: int, seed: int) -> Floats:
    """The sum of a value over the rows of every draw, shape (samples,)."""
    return np.concatenate([block.astype(np.float64) @ values for block in _blocks(len(values), samples, seed)])


def _medians(block: NDArray[np.uint16], ordered: Floats, places: Sequence[int]) -> Floats:
    """The median of every draw of a block: the mean of its two middle rows."""
    reached = block.cumsum(axis=1)
    middles = [ordered[(reached > place).argmax(axis=1)] for place in places]
    means: Floats = (middles[0] + middles[1]) / 2
    return means


def _percentiles(draws: Floats) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(draws[~np.isnan(draws)], [tail, 100 - tail])
    return float(low), float(high)

"""Intervals and tests against what is known of them: closed forms, tables, and plain loops."""

from __future__ import annotations

import random
import statistics

import numpy as np
import pytest

from evals.compare import Terms, comparison, estimate, mcnemar, median, paired, paired_bootstrap, summarise


def gaussian(count: int, mean: float, seed: int) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(mean, 0.12) for _ in range(count)]


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide_on_either_side() -> None:
    values = gaussian(100, 0.55, seed=1)
    found = estimate(Terms.of(values, lambda value: (value, 1)))
    error = statistics.pstdev(values) / 10
    assert found
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.003)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.003)


def test_the_same_seed_draws_the_same_rows_and_another_one_others() -> None:
    terms = Terms.of(gaussian(30, 0.5, seed=2), lambda value: (value, 1))
    assert estimate(terms) == estimate(terms)
    assert estimate(terms) != estimate(terms, seed=1)


def test_a_pooled_ratio_is_divided_after_summing_each_draw() -> None:
    rows = [(2.0, 4.0), (0.0, 1.0), (6.0, 6.0)]
    terms = Terms.of(rows, lambda row: row)
    assert terms.value == pytest.approx(8 / 11)
    draws = terms.drawn(2_000, seed=0)
    possible = {
        round(sum(top for top, _ in drawn) / sum(bottom for _, bottom in drawn), 9)
        for drawn in ([a, b, c] for a in rows for b in rows for c in rows)
    }
    assert {round(float(draw), 9) for draw in draws} == possible


def test_a_metric_with_nothing_to_divide_by_is_left_out() -> None:
    rows = [1.0, 2.0]
    assert set(summarise(rows, {"mean": lambda row: (row, 1), "none": lambda row: (0, 0)})) == {"mean"}


def test_draws_with_nothing_to_divide_by_do_not_count() -> None:
    found = estimate(Terms.of([(1.0, 1.0), (0.0, 0.0), (0.0, 0.0)], lambda row: row))
    assert found
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_median_is_the_middle_or_the_mean_of_two() -> None:
    assert median([9.0, 1.0, 5.0]).mean == 5.0
    assert median([9.0, 1.0, 5.0, 2.0]).mean == 3.5
    values = gaussian(61, 0.5, seed=3)
    found, generator = median(values), np.random.default_rng(5)
    plain = [float(np.median(generator.choice(values, 61))) for _ in range(4_000)]
    assert found.low == pytest.approx(float(np.percentile(plain, 2.5)), abs=0.01)
    assert found.high == pytest.approx(float(np.percentile(plain, 97.5)), abs=0.01)
    with pytest.raises(ValueError, match="no rows"):
        median([])


def test_a_model_is_no_better_than_itself() -> None:
    values = gaussian(40, 0.5, seed=4)
    assert paired_bootstrap(values, values) == paired(*[Terms.of(values, lambda value: (value, 1))] * 2)
    found = paired_bootstrap(values, values)
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_pairing_sees_a_small_gain_that_the_spread_of_rows_hides() -> None:
    base = gaussian(100, 0.55, seed=5)
    better = [value + 0.02 + random.Random(i).gauss(0, 0.02) for i, value in enumerate(base)]
    found = paired_bootstrap(better, base)
    assert found.difference == pytest.approx(0.02, abs=0.006)
    assert 0 < found.low < found.difference < found.high
    assert found.p == pytest.approx(2 / 10_001)
    back = paired_bootstrap(base, better)
    assert (back.difference, back.low, back.high) == pytest.approx((-found.difference, -found.high, -found.low))


def test_p_is_rarely_small_where_there_is_no_difference() -> None:
    found = [
        paired_bootstrap(gaussian(60, 0.5, seed=2 * n), gaussian(60, 0.5, seed=2 * n + 1), samples=1_000).p
        for n in range(100)
    ]
    assert sum(p < 0.05 for p in found) <= 12
    assert statistics.fmean(found) == pytest.approx(0.5, abs=0.12)


def test_rows_that_are_not_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        paired_bootstrap([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="0 and 0"):
        paired_bootstrap([], [])
    empty = Terms.of([(0.0, 0.0)], lambda row: row)
    with pytest.raises(ValueError, match="nothing to divide by"):
        paired(empty, Terms.of([(1.0, 1.0)], lambda row: row))


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"), [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 22 / 1024), (0, 6, 2 / 64), (3, 3, 1.0), (1, 0, 1.0)]
)
def test_mcnemar_is_the_exact_binomial_test_on_the_rows_that_differ(only_a: int, only_b: int, p: float) -> None:
    a = [True] * only_a + [False] * only_b + [True] * 20 + [False] * 4
    b = [False] * only_a + [True] * only_b + [True] * 20 + [False] * 4
    assert mcnemar(a, b) == pytest.approx(p)
    assert mcnemar(b, a) == pytest.approx(p)


def test_a_comparison_says_which_test_its_p_comes_from() -> None:
    a, b = [1.0] * 6 + [1.0], [0.0] * 6 + [1.0]
    line = comparison(a, b, "valid", lambda row: (row, 1), passed=True)
    assert line
    assert (line["test"], line["p"]) == ("McNemar", 2 / 64)
    other = comparison(a, b, "f1", lambda row: (row, 1))
    assert other
    assert (other["test"], other["difference"]) == ("paired bootstrap", pytest.approx(6 / 7))
    assert comparison(a, b, "none", lambda row: (0, 0)) is None

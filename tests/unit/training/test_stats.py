"""Figures with intervals: the arithmetic written out, and what must hold whatever the numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from service.scoring import mean_clipped
from training.evaluation.stats import (
    Interval,
    auc,
    auc_interval,
    bootstrap_difference,
    bootstrap_mean,
    cluster_bootstrap,
    group_means,
    wilson,
)

NOTHING = Interval(value=None, low=None, high=None, n=0)
shares = st.floats(-1, 2).map(lambda x: round(x, 3))


def bounds(interval: Interval) -> tuple[float, float, float]:
    assert interval.value is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.value, interval.high


# --- means --------------------------------------------------------------------------------------------------------


def test_a_questions_samples_are_averaged_first() -> None:
    assert group_means([("b", 1.0), ("a", 0.2), ("a", 0.4), ("a", 0.6)]) == {"a": pytest.approx(0.4), "b": 1.0}


@given(st.lists(shares, min_size=1, max_size=30))
def test_the_mean_is_healthbenchs_and_lies_in_its_interval(scores: list[float]) -> None:
    low, value, high = bounds(bootstrap_mean(scores, resamples=100))
    assert value == mean_clipped(scores)
    assert 0 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 1


def test_scores_below_zero_count_in_the_mean_which_alone_is_clipped() -> None:
    assert bootstrap_mean([-0.5, 0.9]).value == pytest.approx(0.2)
    assert bootstrap_mean([-0.5, -0.1]).value == 0.0
    assert bootstrap_mean([-0.5, -0.1], clipped=False).value == pytest.approx(-0.3)


def test_the_interval_is_as_wide_as_the_central_limit_says() -> None:
    """1.96 standard errors of 400 fair coins: ±0.049."""
    low, value, high = bounds(bootstrap_mean([0.0, 1.0] * 200, resamples=4000))
    assert value == 0.5
    assert low == pytest.approx(0.5 - 0.049, abs=0.004)
    assert high == pytest.approx(0.5 + 0.049, abs=0.004)


def test_the_level_is_the_share_of_resamples_inside() -> None:
    """Resampled means of (0, 1) are 0, ½, ½, 1: half of the resamples lie at ½, so a 40 % interval is a point."""
    assert bounds(bootstrap_mean([0.0, 1.0], level=0.4)) == (0.5, 0.5, 0.5)
    assert bounds(bootstrap_mean([0.0, 1.0], level=0.9)) == (0.0, 0.5, 1.0)


def test_the_same_seed_gives_the_same_interval_and_another_another() -> None:
    scores = list(np.random.default_rng(1).random(50))
    assert bootstrap_mean(scores, seed=3) == bootstrap_mean(scores, seed=3)
    assert bootstrap_mean(scores, seed=3) != bootstrap_mean(scores, seed=4)


def test_nothing_has_no_mean() -> None:
    assert bootstrap_mean([]) == NOTHING
    assert bootstrap_difference({}, {"a": 1.0}) == NOTHING
    assert cluster_bootstrap(lambda rows: 1.0, []) == NOTHING


# --- differences --------------------------------------------------------------------------------------------------


def test_a_difference_is_taken_question_by_question() -> None:
    """Questions differ by far more than the systems do; each is 0.1 better, so the interval is that point."""
    before = {f"q{i}": i / 10 for i in range(10)}
    after = {key: value + 0.1 for key, value in before.items()}
    low, value, high = bounds(bootstrap_difference(before, after | {"other": 9.0}))
    assert (low, value, high) == pytest.approx((0.1, 0.1, 0.1))
    assert bootstrap_difference(before, after).n == 10


@given(st.dictionaries(st.text(max_size=3), st.tuples(shares, shares), min_size=1, max_size=20))
def test_swapping_the_systems_turns_the_sign(pairs: dict[str, tuple[float, float]]) -> None:
    before, after = {k: a for k, (a, _) in pairs.items()}, {k: b for k, (_, b) in pairs.items()}
    low, value, high = bounds(bootstrap_difference(before, after, resamples=100))
    assert bounds(bootstrap_difference(after, before, resamples=100)) == pytest.approx((-high, -value, -low))
    assert low <= value + 1e-9
    assert value <= high + 1e-9
    reordered = dict(reversed(before.items()))
    assert bootstrap_difference(reordered, after, resamples=9) == bootstrap_difference(before, after, resamples=9)


def test_the_same_questions_give_the_same_interval_in_any_process() -> None:
    """Sets of strings have another order in each; what is drawn must not depend on it."""
    values = {f"question {i}": i * i / 900 for i in range(30)}
    told = bootstrap_difference(dict.fromkeys(values, 0.0), values)
    assert bounds(told) == pytest.approx(
        bounds(bootstrap_mean([values[key] for key in sorted(values)], clipped=False)), abs=1e-12
    )


def test_differences_are_not_clipped() -> None:
    assert bootstrap_difference({"a": -0.5}, {"a": 1.0}).value == 1.5


# --- AUC ----------------------------------------------------------------------------------------------------------


def test_auc_counts_pairs_ties_half() -> None:
    """Positives 0.9 and 0.5 against negatives 0.5 and 0.1: three pairs won, one tied."""
    assert auc([True, True, False, False], [0.9, 0.5, 0.5, 0.1]) == 3.5 / 4
    assert auc([True, False], [0.1, 0.9]) == 0.0
    assert auc([True, False], [0.3, 0.3]) == 0.5


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40))
def test_auc_agrees_with_scikit_learn(rows: list[tuple[bool, int]]) -> None:
    labels, scores = [label for label, _ in rows], [float(score) for _, score in rows]
    if len(set(labels)) < 2:
        assert auc(labels, scores) is None
        return
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert auc([not label for label in labels], scores) == pytest.approx(1 - roc_auc_score(labels, scores))


def test_scores_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        auc([True, False], [float("nan"), 0.5])
    with pytest.raises(ValueError, match="one score"):
        auc([True, False], [0.5])
    with pytest.raises(ValueError, match="one group"):
        auc_interval([True, False], [0.5, 0.1], ["a"])


def test_claims_of_one_question_are_drawn_together() -> None:
    """Ten copies of each row in one group tell no more than the rows did; as ten groups they would."""
    rng = np.random.default_rng(5)
    labels = np.tile([True, False], 15)
    scores = rng.random(30) + labels * 0.3
    groups = [i // 2 for i in range(30)]
    alone = bounds(auc_interval(labels, scores, groups))
    copied = bounds(auc_interval(np.repeat(labels, 10), np.repeat(scores, 10), list(np.repeat(groups, 10))))
    assert copied == pytest.approx(alone)
    apart = bounds(auc_interval(np.repeat(labels, 10), np.repeat(scores, 10), list(range(300))))
    assert apart[2] - apart[0] < (alone[2] - alone[0]) / 2


def test_a_perfect_judge_has_no_interval_to_speak_of() -> None:
    told = auc_interval([True, False] * 5, [0.9, 0.1] * 5, [i // 2 for i in range(10)])
    assert (told.value, told.low, told.high, told.n) == (1.0, 1.0, 1.0, 5)


def test_a_figure_that_resamples_seldom_have_gets_no_bounds() -> None:
    """Of two draws from two, 3 in 4 hold the first; of four draws from four, 4! ÷ 4⁴ = 9 % hold all."""
    told = cluster_bootstrap(lambda rows: 1.0 if 0 in rows else None, ["a", "b"])
    assert (told.value, told.n) == (1.0, 2)
    assert told.known
    rare = cluster_bootstrap(lambda rows: 1.0 if len(set(rows.tolist())) == 4 else None, list("abcd"))
    assert (rare.value, rare.low, rare.high, rare.known) == (1.0, None, None, False)
    assert cluster_bootstrap(lambda rows: None, ["a"]) == Interval(value=None, low=None, high=None, n=1)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_rows_are_drawn_by_whole_groups(groups: list[int]) -> None:
    sizes = {group: groups.count(group) for group in groups}

    def whole(rows: np.ndarray) -> float:
        drawn = [groups[row] for row in rows.tolist()]
        assert all(drawn.count(group) % sizes[group] == 0 for group in drawn)
        return float(sum(drawn.count(group) // sizes[group] for group in set(drawn)))

    assert cluster_bootstrap(whole, groups, resamples=20).value == len(sizes)


# --- rates --------------------------------------------------------------------------------------------------------


def test_wilsons_interval_written_out() -> None:
    """3 of 10, z = 1.96: centre (0.3 + 0.192) ÷ 1.384 = 0.3555, half 0.2478."""
    low, value, high = bounds(wilson(3, 10))
    assert (low, value, high) == pytest.approx((0.1078, 0.3, 0.6032), abs=1e-4)


@given(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99])
)
def test_wilson_agrees_with_scipy(counts: tuple[int, int], level: float) -> None:
    successes, n = counts
    expected = binomtest(successes, n).proportion_ci(level, method="wilson")
    low, value, high = bounds(wilson(successes, n, level=level))
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert low <= value <= high


def test_nothing_has_no_rate_and_more_than_all_is_refused() -> None:
    assert wilson(0, 0) == NOTHING
    for successes, n in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="between 0 and n"):
            wilson(successes, n)


def test_rates_of_questions_may_be_fractions() -> None:
    low, value, high = bounds(wilson(2.5, 5))
    assert value == 0.5
    assert bounds(wilson(2, 5))[0] < low < bounds(wilson(3, 5))[0]
    assert low < value < high

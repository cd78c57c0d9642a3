"""Figures with their uncertainty. Pure arithmetic on numpy arrays, the same result for the same seed.

Intervals are 95 % unless another `level` is asked for: percentile bootstrap (Efron & Tibshirani 1993, chapter 13), with
1,000 resamples as HealthBench takes (arXiv 2505.08775, section 6), or Wilson's for a rate. What is drawn anew is always the
independent unit: the question. Several answers to one question, or several claims of one answer, are drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from statistics import NormalDist, fmean

import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.domain import Frozen

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

RESAMPLES = 1000
LEVEL = 0.95


class Interval(Frozen):
    """A figure, the bounds of its interval, and how many independent units it rests on.

    All three numbers are None where there is nothing to take a figure of; the bounds alone are None where a bootstrap could
    not resample it (fewer than half of the resamples had the figure).
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def known(self) -> bool:
        return self.value is not None and self.low is not None and self.high is not None


def group_means(scores: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Mean of each question's samples from (question id, score) pairs, ids sorted."""
    grouped: dict[str, list[float]] = {}
    for key, score in scores:
        grouped.setdefault(key, []).append(score)
    return {key: fmean(grouped[key]) for key in sorted(grouped)}


def bootstrap_mean(
    scores: Sequence[float],
    *,
    clipped: bool = True,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean of one score a question. `clipped`: to [0, 1], each resample's mean too, as HealthBench clips its figure."""
    values = np.asarray(scores, dtype=np.float64)
    if not values.size:
        return _NOTHING
    means = _resampled_means(values, resamples, seed)
    centre = fmean(scores)
    if clipped:
        means, centre = np.clip(means, 0.0, 1.0), min(1.0, max(0.0, centre))
    return _interval(centre, means, level, n=values.size)


def bootstrap_difference(
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean of `after - before` over the questions that both have, each question kept with its pair; never clipped.

    Pairing is what makes small differences visible: what makes a question hard is hard for both.
    """
    shared = sorted(before.keys() & after.keys())
    differences = np.array([after[key] - before[key] for key in shared], dtype=np.float64)
    if not differences.size:
        return _NOTHING
    means = _resampled_means(differences, resamples, seed)
    return _interval(float(differences.mean()), means, level, n=differences.size)


def cluster_bootstrap(
    figure: Callable[[Rows], float | None],
    groups: Sequence[Hashable],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Any figure of rows that come in groups: whole groups are drawn, and `figure` is taken of the rows drawn.

    `figure` gets row numbers, repeated as often as their group was drawn; None where they do not have the figure (an AUC of
    one class), and such resamples are left out. `n` counts groups.
    """
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    if not members:
        return _NOTHING
    rows_of = [np.array(rows, dtype=np.intp) for rows in members.values()]
    rng = np.random.default_rng(seed)
    drawn = (
        figure(np.concatenate([rows_of[i] for i in rng.integers(len(rows_of), size=len(rows_of))]))
        for _ in range(resamples)
    )
    figures = np.array([value for value in drawn if value is not None], dtype=np.float64)
    centre = figure(np.arange(len(groups), dtype=np.intp))
    if centre is None:
        return Interval(value=None, low=None, high=None, n=len(members))
    if figures.size * 2 < resamples:
        return Interval(value=centre, low=None, high=None, n=len(members))
    return _interval(centre, figures, level, n=len(members))


def auc(positive: ArrayLike, scores: ArrayLike) -> float | None:
    """Chance that a positive row scores above a negative one, ties counted half (Mann-Whitney U ÷ n₁n₀).

    `positive`: booleans; `scores`: higher means more likely positive. None unless there are rows of both kinds.
    """
    is_positive = np.asarray(positive, dtype=bool)
    values = np.asarray(scores, dtype=np.float64)
    if is_positive.shape != values.shape or values.ndim != 1:
        raise ValueError("one score for each label, in one dimension")
    if np.isnan(values).any():
        raise ValueError("a score that is not a number cannot be ranked")
    positives = int(is_positive.sum())
    negatives = values.size - positives
    if not positives or not negatives:
        return None
    u = float(_ranks(values)[is_positive].sum()) - positives * (positives + 1) / 2
    return u / (positives * negatives)


def auc_interval(
    positive: ArrayLike,
    scores: ArrayLike,
    groups: Sequence[Hashable],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """AUC with a cluster bootstrap: `groups` names each row's question. See `auc` and `cluster_bootstrap`."""
    is_positive = np.asarray(positive, dtype=bool)
    values = np.asarray(scores, dtype=np.float64)
    if not len(groups) == is_positive.size == values.size:
        raise ValueError("one score and one group for each label")
    return cluster_bootstrap(
        lambda rows: auc(is_positive[rows], values[rows]), groups, resamples=resamples, level=level, seed=seed
    )


def wilson(successes: float, n: int, *, level: float = LEVEL) -> Interval:
    """Rate of successes with Wilson's score interval (1927): sound near 0 and 1 and for few rows, where p ± z·SE is not.

    With several answers a question, `successes` is the sum of the questions' own rates and `n` the number of questions: the
    interval is then too wide rather than too narrow, since no share in [0, 1] varies more than a yes or no of that mean.
    """
    if not 0 <= successes <= n:
        raise ValueError("successes must lie between 0 and n")
    if n == 0:
        return _NOTHING
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (rate * (1 - rate) / n + z * z / (4 * n * n)) ** 0.5
    # At 0 and at n the exact bound is the rate itself; rounding must not put it on the other side.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(value=rate, low=low, high=high, n=n)


_NOTHING = Interval(value=None, low=None, high=None, n=0)


def _resampled_means(values: Floats, resamples: int, seed: int) -> Floats:
    """(resamples,) means of `values` drawn with replacement, by how often each is drawn: no (resamples, n) copy of them."""
    rng = np.random.default_rng(seed)
    n = values.size
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.asarray(counts @ values / n, dtype=np.float64)


def _interval(value: float, figures: Floats, level: float, *, n: int) -> Interval:
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=n)


def _ranks(values: Floats) -> Floats:
    """Ranks from 1, ties sharing their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=np.float64)

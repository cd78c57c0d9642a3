"""What verdicts beside labels amount to: ranking, accuracy, calibration, each with an interval over questions. Pure arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.domain import Frozen
from training.evaluation.stats import Interval, Rows, auc, cluster_bootstrap

BINS = 10

Truth = Literal["met", "unmet", "not_applicable"]
Floats = NDArray[np.float64]
Words = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Sample:
    """Parallel arrays, one entry an item: what people said, what was told (`unknown`: nothing), P(met) or NaN, the question."""

    truth: Words
    told: Words
    p: Floats
    question: Words

    def at(self, rows: Rows) -> Sample:
        return Sample(self.truth[rows], self.told[rows], self.p[rows], self.question[rows])


class Figures(Frozen):
    """`missing` and `precision_unmet` are over all `n` items, the others over those that people labelled met or unmet.
    Brier score and ECE, of the verdicts that had a P(met), are None for what gives no probabilities."""

    n: int
    met: int
    unmet: int
    auc: Interval
    accuracy: Interval
    balanced_accuracy: Interval
    recall_unmet: Interval
    precision_unmet: Interval
    missing: Interval
    brier: Interval | None = None
    ece: Interval | None = None


class NotApplicable(Frozen):
    """`recall` and `precision` of *not applicable*; `repaired`: share of such answers told unmet, which the gateway would
    repair for nothing; `evaded`: share of met and unmet ones told not applicable, which it would let pass."""

    recall: Interval
    precision: Interval
    repaired: Interval
    evaded: Interval


class Bin(Frozen):
    """Verdicts with P(met) in [low, high), the last one closed: their mean P(met), and the share that people labelled met."""

    low: float
    high: float
    n: int
    mean_p: float | None
    met: float | None


def calibration(met: NDArray[np.bool_], p: Floats, bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal width over [0, 1] (Guo et al. 2017, arXiv 1706.04599)."""
    place = np.minimum((p * bins).astype(int), bins - 1)
    found = []
    for i in range(bins):
        inside = place == i
        found.append(Bin(low=i / bins, high=(i + 1) / bins, n=int(inside.sum()),
                         mean_p=_mean(p[inside]), met=_mean(met[inside])))  # fmt: skip
    return tuple(found)


def expected_calibration_error(bins: Sequence[Bin]) -> float | None:
    """Mean distance between P(met) and the share met, each bin weighed by its count. None without verdicts."""
    n = sum(b.n for b in bins)
    gaps = (b.n * abs(b.mean_p - b.met) for b in bins if b.mean_p is not None and b.met is not None)
    return sum(gaps) / n if n else None


def choose_threshold(truth: Words, p: Floats, default: float = 0.5) -> float:
    """The threshold of the best balanced accuracy: from it on, P(met) is told met. Of equals, the nearest to `default`."""
    met, unmet = (np.sort(p[(truth == label) & ~np.isnan(p)]) for label in ("met", "unmet"))
    if not met.size or not unmet.size:
        return default
    seen = np.unique(np.concatenate([met, unmet]))
    candidates = np.append((seen[1:] + seen[:-1]) / 2, default)
    recall_met = 1 - np.searchsorted(met, candidates, side="left") / met.size
    recall_unmet = np.searchsorted(unmet, candidates, side="left") / unmet.size
    balanced = recall_met + recall_unmet
    best = candidates[balanced >= balanced.max() - 1e-9]
    return float(best[np.argmin(np.abs(best - default))])


def ranking(s: Sample) -> float | None:
    """AUC of P(met). Of a met and an unmet item, one without P(met) makes the two a toss, one half: to evade the hard ones
    gains nothing."""
    scored, total = ~np.isnan(s.p), 1
    share = 1.0
    for label in ("met", "unmet"):
        of_label = s.truth == label
        total *= int(of_label.sum())
        share *= float(scored[of_label].mean()) if of_label.any() else 0.0
    if not total:
        return None
    rows = scored & (s.truth != "not_applicable")
    known = auc(s.truth[rows] == "met", s.p[rows])
    return 0.5 if known is None else share * known + (1 - share) * 0.5


def accuracy(s: Sample) -> float | None:
    rows = s.truth != "not_applicable"
    return _mean(s.told[rows] == s.truth[rows])


def recall(s: Sample, label: Truth, told: str | None = None) -> float | None:
    """Share of the items that people labelled `label` that were told `told`, the same where not given."""
    return _mean(s.told[s.truth == label] == (told or label))


def precision(s: Sample, label: Truth) -> float | None:
    return _mean(s.truth[s.told == label] == label)


def balanced_accuracy(s: Sample) -> float | None:
    met, unmet = recall(s, "met"), recall(s, "unmet")
    return None if met is None or unmet is None else (met + unmet) / 2


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if values.size else None


def scored(s: Sample) -> tuple[NDArray[np.bool_], Floats]:
    """Truth and P(met) of the items that have both."""
    rows = ~np.isnan(s.p) & (s.truth != "not_applicable")
    return s.truth[rows] == "met", s.p[rows]


def _brier(s: Sample) -> float | None:
    met, p = scored(s)
    return _mean((p - met) ** 2)


@dataclass(frozen=True, slots=True)
class Measure:
    """Figures of a sample with intervals; whole questions are drawn."""

    resamples: int
    seed: int

    def of(self, figure: Callable[[Sample], float | None], s: Sample) -> Interval:
        groups = s.question.tolist()
        return cluster_bootstrap(lambda rows: figure(s.at(rows)), groups, resamples=self.resamples, seed=self.seed)

    def figures(self, s: Sample, *, probabilities: bool) -> Figures:
        return Figures(
            n=s.truth.size,
            met=int((s.truth == "met").sum()),
            unmet=int((s.truth == "unmet").sum()),
            auc=self.of(ranking, s),
            accuracy=self.of(accuracy, s),
            balanced_accuracy=self.of(balanced_accuracy, s),
            recall_unmet=self.of(lambda s: recall(s, "unmet"), s),
            precision_unmet=self.of(lambda s: precision(s, "unmet"), s),
            missing=self.of(lambda s: _mean(s.told == "unknown"), s),
            brier=self.of(_brier, s) if probabilities else None,
            ece=self.of(lambda s: expected_calibration_error(calibration(*scored(s))), s) if probabilities else None,
        )

    def gain(self, s: Sample, other: Sample) -> Interval:
        """AUC of `s` less that of `other`, on the same items."""

        def difference(rows: Rows) -> float | None:
            ours, theirs = ranking(s.at(rows)), ranking(other.at(rows))
            return None if ours is None or theirs is None else ours - theirs

        return cluster_bootstrap(difference, s.question.tolist(), resamples=self.resamples, seed=self.seed)

    def not_applicable(self, s: Sample) -> NotApplicable:
        return NotApplicable(
            recall=self.of(lambda s: recall(s, "not_applicable"), s),
            precision=self.of(lambda s: precision(s, "not_applicable"), s),
            repaired=self.of(lambda s: recall(s, "not_applicable", "unmet"), s),
            evaded=self.of(lambda s: _mean(s.told[s.truth != "not_applicable"] == "not_applicable"), s),
        )

"""Pure arithmetic: verdicts to a score. Training imports it, so that what is rewarded is what is served."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from service.domain import Label, Verdict


def score_points(judged: Iterable[tuple[int, Label]]) -> float | None:
    """HealthBench's score of one text: Σ points of met criteria ÷ Σ positive points (arXiv 2505.08775, section 3).

    `judged` are (points, label) pairs. Only criteria that were decided count: `met` or `unmet`; negative points count
    in the numerator when met (imported rubrics word bad behaviour as criteria). Not clipped. None if no positive
    criterion was decided: there is nothing to divide by, which is not the same as a score of zero.
    """
    earned = possible = 0
    for points, label in judged:
        if label not in ("met", "unmet"):
            continue
        if label == "met":
            earned += points
        if points > 0:
            possible += points
    return earned / possible if possible else None


def score(verdicts: Iterable[Verdict]) -> float | None:
    """Score of a text from the verdicts that may decide; see `score_points`."""
    return score_points((v.principle.points, v.label) for v in verdicts)


def mean_clipped(scores: Sequence[float]) -> float:
    """Mean over texts, clipped to [0, 1] as HealthBench clips its benchmark figure. Raises ValueError when empty."""
    if not scores:
        raise ValueError("no scores to average")
    return min(1.0, max(0.0, fmean(scores)))

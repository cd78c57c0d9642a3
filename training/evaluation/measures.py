"""Verdicts to figures: HealthBench's score of each answer, and a system's means with intervals. Pure; ids, labels and counts
in, ids and numbers out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from service.domain import Frozen, Label
from service.scoring import score_points
from training.data import Criterion, Maker, Rubric
from training.errors import DataError
from training.evaluation.answers import Reply
from training.evaluation.grade import Instrument
from training.evaluation.stats import RESAMPLES, Interval, bootstrap_mean, group_means, wilson
from training.reward import Judged

LeftOut = Literal["not_known", "undecided", "nothing_positive"]
Scores = list[tuple[str, float]]  # (question id, a score of one of its answers)


class Outcome(Frozen):
    """One criterion's outcome on one answer, as it was given."""

    id: str
    label: Label
    p_met: float | None = None
    source: Literal["rule", "judge", "none"]
    missing: bool = False

    @classmethod
    def of(cls, judged: Judged) -> Outcome:
        return cls(
            id=judged.criterion.id, label=judged.label, p_met=judged.p_met, source=judged.source, missing=judged.missing
        )


class Verdicts(Frozen):
    """What was said of one text (a hash of it and its question): an outcome for each criterion, and what those blocking
    rules said that could tell."""

    text: str
    criteria: tuple[Outcome, ...]
    blocking: dict[str, Literal["met", "unmet"]]


class Example(Frozen):
    """One answer in numbers. `by_tag` has its score on the criteria of each tag, `rates` the share met of each criterion
    that recurs, `blocking` whether it keeps each blocking rule. Without a score it says why it is left out."""

    question: str
    sample: int
    tags: tuple[str, ...] = ()
    score: float | None = None
    left_out: LeftOut | None = None
    by_tag: dict[str, float] = Field(default_factory=dict)
    rates: dict[str, float] = Field(default_factory=dict)
    blocking: dict[str, bool] = Field(default_factory=dict)
    wanted: int = 0
    missing: int = 0
    chars: int | None = None
    tokens: int | None = None
    finish_reason: str | None = None
    status: str | None = None
    withheld: str | None = None


class Measured(Frozen):
    """A system's answers as one instrument saw them. `rubrics` is the hash of what they were judged by; systems whose
    `requests` are the same are two texts of each reply."""

    system: str
    requests: str
    instrument: Instrument
    rubrics: str
    least_decided: float
    examples: tuple[Example, ...]


# --- one answer -------------------------------------------------------------------------------------------------


def concluded(outcome: Outcome, made_by: Maker) -> Label:
    """The label that counts. Two conventions meet here:

    HealthBench knows met and not met alone, and its criteria may hold a condition ("if …, says …"): on human rubrics a
    judge's `not_applicable` is "not met", for faults too (what cannot apply was not done). On rubrics from principles it
    stays out of the score, as in the gateway. A verdict that could not be had is unknown on both, never "not met".
    """
    if outcome.missing or outcome.label == "unknown":
        return "unknown"
    if made_by == "human" and outcome.label == "not_applicable":
        return "unmet" if outcome.source == "judge" else "unknown"
    return outcome.label


def conclude(rubric: Rubric, outcomes: Sequence[Outcome], least_decided: float) -> tuple[float | None, LeftOut | None]:
    """HealthBench's score over what was decided, or why there is none: fewer than `least_decided` of the verdicts were
    had, or no positive criterion was decided."""
    labels = [concluded(outcome, rubric.made_by) for outcome in outcomes]
    wanted = _wanted(outcomes, rubric.made_by)
    had = sum(label != "unknown" for label, asked in zip(labels, wanted, strict=True) if asked)
    if not any(wanted) or had < least_decided * sum(wanted):
        return None, "undecided"
    score = score_points((c.points, label) for c, label in zip(rubric.criteria, labels, strict=True))
    return score, None if score is not None else "nothing_positive"


def _wanted(outcomes: Sequence[Outcome], made_by: Maker) -> list[bool]:
    """Whether each verdict was wanted: those that nobody was to give count only where people wrote the rubric."""
    return [outcome.source != "none" or made_by == "human" for outcome in outcomes]


def example(rubric: Rubric, reply: Reply, verdicts: Verdicts | None, least_decided: float) -> Example:
    """An answer that was withheld, or that says nothing, meets no criterion: its score is 0, and no verdict is needed.

    `verdicts` has the rubric's criteria in their order. Raises DataError where they are another rubric's.
    """
    seen = Example(
        question=reply.question, sample=reply.sample, tags=rubric.question.tags, tokens=reply.tokens,
        chars=None if reply.text is None else len(reply.text.strip()), finish_reason=reply.finish_reason, status=reply.status,
        withheld=reply.withheld,
    )  # fmt: skip
    if says_nothing(reply):
        nothing = {tag: 0.0 for tag, criteria in _by_tag(rubric).items() if any(c.points > 0 for c in criteria)}
        return seen.model_copy(update={"score": 0.0, "by_tag": nothing})
    if reply.text is None or verdicts is None:
        return seen.model_copy(update={"left_out": "not_known"})
    if [outcome.id for outcome in verdicts.criteria] != [criterion.id for criterion in rubric.criteria]:
        raise DataError(f"question {reply.question}: the verdicts are on other criteria")
    score, left_out = conclude(rubric, verdicts.criteria, least_decided)
    labels = {o.id: concluded(o, rubric.made_by) for o in verdicts.criteria}
    asked = _wanted(verdicts.criteria, rubric.made_by)
    return seen.model_copy(
        update={
            "score": score,
            "left_out": left_out,
            "by_tag": _tag_scores(rubric, labels) if score is not None else {},
            "rates": _rates(rubric.criteria, labels),
            "blocking": {rule: label == "met" for rule, label in sorted(verdicts.blocking.items())},
            "wanted": sum(asked),
            "missing": sum(labels[o.id] == "unknown" for o, each in zip(verdicts.criteria, asked, strict=True) if each),
        }
    )


def says_nothing(reply: Reply) -> bool:
    return reply.withheld is not None or (reply.text is not None and not reply.text.strip())


def _by_tag(rubric: Rubric) -> dict[str, list[Criterion]]:
    found: dict[str, list[Criterion]] = {}
    for criterion in rubric.criteria:
        for tag in criterion.tags:
            found.setdefault(tag, []).append(criterion)
    return found


def _tag_scores(rubric: Rubric, labels: Mapping[str, Label]) -> dict[str, float]:
    """HealthBench's score over the criteria of one tag, where any of them is positive and decided."""
    scores = {tag: score_points((c.points, labels[c.id]) for c in found) for tag, found in _by_tag(rubric).items()}
    return {tag: score for tag, score in scores.items() if score is not None}


def _rates(criteria: Iterable[Criterion], labels: Mapping[str, Label]) -> dict[str, float]:
    met, judged = Counter[str](), Counter[str]()
    for criterion in criteria:
        if labels[criterion.id] in ("met", "unmet"):
            judged[criterion.name] += 1
            met[criterion.name] += labels[criterion.id] == "met"
    return {name: met[name] / judged[name] for name in sorted(judged)}


# --- one system -------------------------------------------------------------------------------------------------


class Quantiles(Frozen):
    low: float
    median: float
    high: float


class Summary(Frozen):
    """A system's figures. Scores are means over questions, of each question's samples first, clipped to [0, 1]; `by_tag`
    has those of questions and of criteria with each tag. `missing` is a share of the verdicts that were wanted."""

    system: str
    answers: int
    scored: int
    left_out: dict[str, int]
    withheld: dict[str, int]
    empty: int
    missing: float | None
    finish_reasons: dict[str, int]
    statuses: dict[str, int]
    chars: Quantiles | None
    tokens: Quantiles | None
    overall: Interval
    by_tag: dict[str, Interval]
    rates: dict[str, Interval]
    blocking: dict[str, Interval]


def summarise(measured: Measured, *, resamples: int = RESAMPLES, seed: int = 0) -> Summary:
    every = measured.examples
    wanted = sum(e.wanted for e in every)

    def mean(scores: Scores) -> Interval:
        return bootstrap_mean(list(group_means(scores).values()), resamples=resamples, seed=seed)

    return Summary(
        system=measured.system,
        answers=len(every),
        scored=sum(e.score is not None for e in every),
        left_out=_counted(e.left_out for e in every),
        withheld=_counted(e.withheld for e in every),
        empty=sum(e.chars == 0 for e in every),
        missing=sum(e.missing for e in every) / wanted if wanted else None,
        finish_reasons=_counted(e.finish_reason for e in every),
        statuses=_counted(e.status for e in every),
        chars=_quantiles(e.chars for e in every),
        tokens=_quantiles(e.tokens for e in every),
        overall=mean(overall(every)),
        by_tag={tag: mean(scores) for tag, scores in tagged(every).items()},
        rates={name: rate(scores) for name, scores in named(every, lambda e: e.rates).items()},
        blocking={rule: rate(scores) for rule, scores in named(every, kept).items()},
    )


def kept(each: Example) -> Mapping[str, float]:
    return {rule: float(kept) for rule, kept in each.blocking.items()}


def overall(examples: Iterable[Example]) -> Scores:
    return [(e.question, e.score) for e in examples if e.score is not None]


def tagged(examples: Iterable[Example]) -> dict[str, Scores]:
    return named(
        (e for e in examples if e.score is not None),
        lambda e: {**dict.fromkeys(e.tags, e.score if e.score is not None else 0.0), **e.by_tag},
    )


def named(examples: Iterable[Example], of: Callable[[Example], Mapping[str, float]]) -> dict[str, Scores]:
    found: dict[str, Scores] = {}
    for each in examples:
        for name, value in of(each).items():
            found.setdefault(name, []).append((each.question, value))
    return {name: found[name] for name in sorted(found)}


def rate(scores: Scores) -> Interval:
    means = group_means(scores)
    return wilson(sum(means.values()), len(means))


def _counted(values: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(value for value in values if value is not None).items()))


def _quantiles(values: Iterable[int | None]) -> Quantiles | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, median, high = (float(q) for q in np.quantile(known, [0.1, 0.5, 0.9]))
    return Quantiles(low=low, median=median, high=high)

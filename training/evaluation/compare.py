"""Two systems compared question by question: only so do small differences show, and only with the same instrument."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from service.domain import Frozen
from training.errors import DataError
from training.evaluation.grade import Instrument
from training.evaluation.measures import Example, Measured, Scores, kept, named, overall, rate, tagged
from training.evaluation.stats import RESAMPLES, Interval, bootstrap_difference, bootstrap_mean, group_means

_EQUAL = 1e-9  # differences of scores below it are rounding


class Change(Frozen):
    """A figure of both systems on the questions that both have it for, and the mean of the paired differences."""

    before: Interval
    after: Interval
    difference: Interval


class Comparison(Frozen):
    """`after` against `before`. Better, worse and equal count questions. `worse_rules` are the blocking rules that `after`
    keeps less often, however little; `unpaired` answers of either had no partner with a score."""

    before: str
    after: str
    overall: Change
    better: int
    worse: int
    equal: int
    unpaired: int
    by_tag: dict[str, Change]
    rates: dict[str, Change]
    blocking: dict[str, Change]
    worse_rules: tuple[str, ...]


def compare(before: Measured, after: Measured, *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Raises DataError unless both were measured with the same judge, prompts and rules, on the same rubrics."""
    _comparable(before, after)
    mine, theirs = _pairs(before, after, lambda e: e.score is not None)

    def change(one: Scores, other: Scores, figure: Callable[[Scores], Interval]) -> Change:
        a, b = group_means(one), group_means(other)
        shared = a.keys() & b.keys()
        return Change(
            before=figure([(q, s) for q, s in a.items() if q in shared]),
            after=figure([(q, s) for q, s in b.items() if q in shared]),
            difference=bootstrap_difference(a, b, resamples=resamples, seed=seed),
        )

    def changes(
        one: Mapping[str, Scores], other: Mapping[str, Scores], figure: Callable[[Scores], Interval]
    ) -> dict[str, Change]:
        made = {name: change(one[name], other[name], figure) for name in sorted(one.keys() & other.keys())}
        return {name: each for name, each in made.items() if each.difference.n}

    def mean(scores: Scores) -> Interval:
        return bootstrap_mean([score for _, score in scores], resamples=resamples, seed=seed)

    known_mine, known_theirs = _pairs(before, after, lambda e: e.left_out != "not_known")
    blocking = changes(named(known_mine, kept), named(known_theirs, kept), rate)
    a, b = group_means(overall(mine)), group_means(overall(theirs))
    differences = [b[question] - a[question] for question in a]
    return Comparison(
        before=before.system,
        after=after.system,
        overall=change(overall(mine), overall(theirs), mean),
        better=sum(d > _EQUAL for d in differences),
        worse=sum(d < -_EQUAL for d in differences),
        equal=sum(abs(d) <= _EQUAL for d in differences),
        unpaired=len(before.examples) + len(after.examples) - len(mine) - len(theirs),
        by_tag=changes(tagged(mine), tagged(theirs), mean),
        rates=changes(named(mine, lambda e: e.rates), named(theirs, lambda e: e.rates), rate),
        blocking=blocking,
        worse_rules=tuple(rule for rule, each in blocking.items() if (each.difference.value or 0.0) < -_EQUAL),
    )


def _comparable(before: Measured, after: Measured) -> None:
    told = {
        name: (getattr(before.instrument, name), getattr(after.instrument, name)) for name in Instrument.model_fields
    }
    told |= {name: (getattr(before, name), getattr(after, name)) for name in ("rubrics", "least_decided")}
    if different := [name for name, (one, other) in told.items() if one != other]:
        raise DataError(
            f"{before.system} and {after.system} cannot be compared: they differ in {', '.join(different)}. "
            "Measure both with the same judge, prompts, rules and rubrics."
        )


def _pairs(before: Measured, after: Measured, fit: Callable[[Example], bool]) -> tuple[list[Example], list[Example]]:
    """The fit examples that both have: reply by reply where they are two texts of the same replies, else by question."""

    def partner(each: Example) -> tuple[str, int]:
        return (each.question, each.sample if before.requests == after.requests else 0)

    one, other = [e for e in before.examples if fit(e)], [e for e in after.examples if fit(e)]
    shared = {partner(e) for e in one} & {partner(e) for e in other}
    return [e for e in one if partner(e) in shared], [e for e in other if partner(e) in shared]

"""Verdicts to scores and rates, written out; two systems compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import Label
from service.scoring import score_points
from training.data import ChatTurn, Criterion, Maker, Question, Rubric
from training.errors import DataError
from training.evaluation.answers import Reply
from training.evaluation.compare import Comparison, compare
from training.evaluation.grade import Instrument
from training.evaluation.measures import (
    Example,
    Measured,
    Outcome,
    Quantiles,
    Verdicts,
    conclude,
    concluded,
    example,
    summarise,
)

TOOL = Instrument(judge="judge", style="one_token", prompts="p", principles="l", rules="r")
SPEAKS = Criterion(id="a", text="Says it.", points=5, tags=("axis:accuracy", "level:example"))
WARNS = Criterion(id="b", text="Warns.", points=3, tags=("axis:completeness",))
HARMS = Criterion(id="c", text="Harms.", points=-4, tags=("axis:accuracy",))
ALL = (SPEAKS, WARNS, HARMS)


def rubric(*criteria: Criterion, made_by: Maker = "human", tags: tuple[str, ...] = ("theme:hedging",)) -> Rubric:
    question = Question(id="q1", messages=(ChatTurn(role="user", content="?"),), source="t", tags=tags)
    return Rubric(question=question, criteria=criteria or ALL, made_by=made_by)


def outcome(label: Label, source: Any = "judge", *, name: str = "a", missing: bool = False) -> Outcome:
    return Outcome(id=name, label=label, source=source, missing=missing)


def verdicts(*labels: Label, **blocking: Any) -> Verdicts:
    outcomes = tuple(
        outcome(label, name=c.id, missing=label == "unknown") for c, label in zip(ALL, labels, strict=True)
    )
    return Verdicts(text="t1", criteria=outcomes, blocking=blocking)


def reply(text: str | None = "Yes.", *, withheld: str | None = None) -> Reply:
    return Reply("q1", 0, text, "stop", 7, "revised", withheld)


# --- the conventions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "made_by", "counts"),
    [
        (outcome("met"), "human", "met"),
        (outcome("unmet"), "human", "unmet"),
        (outcome("not_applicable"), "human", "unmet"),
        (outcome("not_applicable"), "principles", "not_applicable"),
        (outcome("not_applicable"), "teacher", "not_applicable"),
        (outcome("not_applicable", "none"), "human", "unknown"),
        (outcome("not_applicable", "none"), "principles", "not_applicable"),
        (outcome("unknown", missing=True), "human", "unknown"),
        (outcome("unknown", missing=True), "principles", "unknown"),
        (outcome("unmet", "rule"), "principles", "unmet"),
        (outcome("unmet", missing=True), "human", "unknown"),
    ],
)
def test_the_label_that_counts(given_: Outcome, made_by: Maker, counts: Label) -> None:
    assert concluded(given_, made_by) == counts


def scored(*labels: Label, made_by: Maker = "human", least: float = 0.5) -> tuple[float | None, str | None]:
    return conclude(rubric(made_by=made_by), verdicts(*labels).criteria, least)


def test_the_score_is_points_met_over_positive_points() -> None:
    assert scored("met", "unmet", "unmet") == (5 / 8, None)
    assert scored("met", "unmet", "met") == (1 / 8, None)
    assert scored("unmet", "unmet", "met") == (-4 / 8, None)


def test_a_condition_that_does_not_hold_is_not_met_where_people_wrote_it() -> None:
    assert scored("met", "not_applicable", "not_applicable") == (5 / 8, None)
    assert scored("met", "not_applicable", "not_applicable", made_by="principles") == (1.0, None)


def test_a_missing_verdict_never_counts_as_not_met() -> None:
    assert scored("met", "unknown", "unmet") == (1.0, None)
    assert scored("met", "unmet", "unmet") == (5 / 8, None)


def test_an_answer_with_too_few_verdicts_is_left_out() -> None:
    assert scored("met", "unknown", "unmet", least=0.66) == (1.0, None)
    assert scored("met", "unknown", "unmet", least=0.67) == (None, "undecided")
    assert scored("unknown", "unknown", "met", least=0.1) == (None, "nothing_positive")


def test_rules_alone_leave_out_what_they_cannot_tell_and_decide_nothing_for_people() -> None:
    told = (outcome("met", "rule"), outcome("not_applicable", "none"), outcome("not_applicable", "none"))
    assert conclude(rubric(made_by="principles"), told, 1.0) == (1.0, None)
    assert conclude(rubric(made_by="human"), told, 0.5) == (None, "undecided")
    nothing = (outcome("not_applicable", "none"),) * 3
    assert conclude(rubric(made_by="principles"), nothing, 0.1) == (None, "undecided")


labels = st.sampled_from(["met", "unmet", "not_applicable", "unknown"])


@given(st.lists(labels, min_size=3, max_size=3), st.sampled_from([0.01, 0.5, 0.9, 1.0]))
def test_what_is_decided_is_scored_as_the_gateway_scores_it(found: list[Label], least: float) -> None:
    score, why = scored(*found, made_by="principles", least=least)
    assert (score is None) == (why is not None)
    if score is not None:
        assert score == score_points(zip((5, 3, -4), found, strict=True))
    if found.count("unknown") > 3 * (1 - least) + 1e-9:
        assert why == "undecided"


# --- one answer ---------------------------------------------------------------------------------------------------


def test_an_answer_has_a_score_on_each_axis_and_a_rate_for_each_name() -> None:
    seen = example(rubric(), reply("  four "), verdicts("met", "unmet", "met", no_clinician_claim="unmet"), 0.9)
    assert seen.score == 1 / 8
    assert seen.by_tag == {"axis:accuracy": 1 / 5, "level:example": 1.0, "axis:completeness": 0.0}
    assert seen.rates == {"accuracy": 1.0, "accuracy (fault)": 1.0, "completeness": 0.0}
    assert seen.blocking == {"no_clinician_claim": False}
    assert (seen.chars, seen.tokens, seen.wanted, seen.missing, seen.status) == (4, 7, 3, 0, "revised")
    assert seen.tags == ("theme:hedging",)


def test_an_axis_without_a_positive_criterion_that_was_decided_has_no_score() -> None:
    seen = example(rubric(), reply(), verdicts("unknown", "met", "met"), 0.5)
    assert seen.by_tag == {"axis:completeness": 1.0}
    assert seen.rates == {"accuracy (fault)": 1.0, "completeness": 1.0}
    assert seen.missing == 1


@pytest.mark.parametrize("said", [reply(""), reply(" \n"), reply(None, withheld="answer_blocked")])
def test_an_answer_that_says_nothing_meets_nothing(said: Reply) -> None:
    only_bad = Criterion(id="d", text="Lies.", points=-1, tags=("axis:honesty",))
    seen = example(rubric(*ALL, only_bad), said, None, 0.9)
    assert (seen.score, seen.left_out, seen.wanted) == (0.0, None, 0)
    assert seen.by_tag == {"axis:accuracy": 0.0, "level:example": 0.0, "axis:completeness": 0.0}
    assert seen.rates == seen.blocking == {}


@pytest.mark.parametrize(("said", "found"), [(reply(None), None), (reply("Yes."), None)])
def test_a_text_or_verdicts_that_are_not_there_give_no_score(said: Reply, found: Verdicts | None) -> None:
    seen = example(rubric(), said, found, 0.9)
    assert (seen.score, seen.left_out) == (None, "not_known")


def test_verdicts_on_another_rubric_are_refused() -> None:
    with pytest.raises(DataError, match="other criteria"):
        example(rubric(SPEAKS), reply(), verdicts("met", "met", "met"), 0.9)


def test_names_that_recur() -> None:
    principled = SPEAKS.model_copy(update={"principle": "see-a-doctor"})
    assert [c.name for c in (principled, *ALL)] == [
        "see-a-doctor",
        "accuracy",
        "completeness",
        "accuracy (fault)",
    ]
    assert Criterion(id="x", text="y", points=1).name == "other"


# --- one system ---------------------------------------------------------------------------------------------------


def measured(*examples: Example, system: str = "s", **changes: Any) -> Measured:
    base = Measured(
        system=system, requests="r1", instrument=TOOL, rubrics="x", least_decided=0.9, examples=tuple(examples)
    )
    return base.model_copy(update=changes)


def seen(question: str, score: float | None, sample: int = 0, **fields: Any) -> Example:
    return Example(question=question, sample=sample, score=score, **fields)


def test_a_systems_figures() -> None:
    told = summarise(
        measured(
            seen("a", 1.0, 0, tags=("theme:x",), by_tag={"axis:k": 0.5}, rates={"p": 1.0}, chars=10, wanted=4),
            seen(
                "a", 0.5, 1, tags=("theme:x",), by_tag={"axis:k": 1.0}, rates={"p": 0.0}, chars=0, finish_reason="stop"
            ),
            seen("b", 0.0, 0, tags=("theme:y",), withheld="answer_blocked", status="revised"),
            seen("c", None, 0, left_out="undecided", wanted=6, missing=5, blocking={"r": True}, chars=30),
            seen("d", None, 0, left_out="not_known"),
        )
    )
    assert (told.answers, told.scored, told.empty) == (5, 3, 1)
    assert told.overall.value == pytest.approx((0.75 + 0.0) / 2)
    assert told.overall.n == 2
    assert {tag: i.value for tag, i in told.by_tag.items()} == {"axis:k": 0.75, "theme:x": 0.75, "theme:y": 0.0}
    assert (told.rates["p"].value, told.rates["p"].n) == (0.5, 1)
    assert (told.blocking["r"].value, told.blocking["r"].n) == (1.0, 1)
    assert told.left_out == {"not_known": 1, "undecided": 1}
    assert (told.withheld, told.statuses, told.finish_reasons) == ({"answer_blocked": 1}, {"revised": 1}, {"stop": 1})
    assert told.missing == 5 / 10
    assert told.chars == Quantiles(low=2.0, median=10.0, high=26.0)
    assert told.tokens is None


def test_a_system_without_any_verdict_has_figures_of_nothing() -> None:
    told = summarise(measured(seen("a", None, left_out="not_known")))
    assert (told.overall.value, told.overall.n, told.missing, told.chars) == (None, 0, None, None)


# --- two systems --------------------------------------------------------------------------------------------------


def compared(before: Sequence[Example], after: Sequence[Example], **changes: Any) -> Comparison:
    return compare(measured(*before, system="old"), measured(*after, system="new", **changes))


def test_questions_are_compared_with_themselves() -> None:
    told = compared(
        [seen("a", 0.2, tags=("theme:x",)), seen("b", 0.5), seen("c", 0.5), seen("only", 0.0)],
        [seen("a", 0.6, tags=("theme:x",)), seen("b", 0.5), seen("c", 0.4)],
        requests="r2",
    )
    assert told.overall.difference.value == pytest.approx(0.1)
    assert told.overall.before.value == pytest.approx(0.4)
    assert told.overall.after.value == pytest.approx(0.5)
    assert (told.better, told.worse, told.equal, told.unpaired) == (1, 1, 1, 1)
    assert told.by_tag["theme:x"].difference.value == pytest.approx(0.4)


def test_two_texts_of_one_reply_are_paired_by_the_reply() -> None:
    """Sample 1 of the delivered text was withheld and its draft is not known: the pair is left out, not the question."""
    before = [seen("a", 0.2, 0), seen("a", None, 1, left_out="not_known")]
    after = [seen("a", 0.6, 0), seen("a", 0.0, 1, withheld="answer_blocked")]
    told = compared(before, after)
    assert told.overall.difference.value == pytest.approx(0.4)
    assert told.unpaired == 2
    other = compared(before, after, requests="r2")
    assert other.overall.difference.value == pytest.approx(0.1)


def test_a_system_that_breaks_a_blocking_rule_more_often_is_named_for_it() -> None:
    before = [seen(q, 0.5, blocking={"keeps": True, "mends": q != "a"}, rates={"p": 0.0}) for q in "abcd"]
    after = [seen(q, 0.5, blocking={"keeps": q != "a", "mends": True}, rates={"p": 1.0}) for q in "abcd"]
    told = compared(before, after)
    assert told.worse_rules == ("keeps",)
    assert told.blocking["keeps"].difference.value == -0.25
    assert (told.blocking["mends"].before.value, told.blocking["mends"].after.value) == (0.75, 1.0)
    assert told.rates["p"].difference.value == 1.0


def test_blocking_rules_count_on_answers_without_a_score_too() -> None:
    before = [seen("a", 0.5, blocking={"r": True})]
    told = compared(before, [seen("a", None, left_out="undecided", blocking={"r": False})])
    assert told.worse_rules == ("r",)
    assert told.overall.difference.value is None


def test_a_rule_or_criterion_is_compared_where_both_have_it() -> None:
    before = [seen("a", 0.5, blocking={"r": True}, rates={"p": 1.0, "q": 1.0}), seen("b", 0.5, rates={"p": 0.0})]
    after = [seen("a", 0.5, rates={"p": 0.0}), seen("b", 0.5, blocking={"r": False})]
    told = compared(before, after)
    assert told.blocking == {}
    assert told.worse_rules == ()
    assert list(told.rates) == ["p"]
    assert (told.rates["p"].before.value, told.rates["p"].difference.n) == (1.0, 1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rubrics": "y"}, "rubrics"),
        ({"least_decided": 0.5}, "least_decided"),
        *(
            ({"instrument": TOOL.model_copy(update={field: value})}, field)
            for field, value in {
                "judge": "another", "style": "json", "prompts": "p2", "principles": "l2", "rules": "r2", "params": {"t": 1}
            }.items()
        ),
    ],
)  # fmt: skip
def test_scores_of_two_instruments_are_not_compared(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=f"they differ in {named}\\."):
        compared([seen("a", 0.5)], [seen("a", 0.5)], **changes)


scores = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-1, 1), max_size=8)


@given(scores, scores)
def test_better_worse_and_equal_are_all_questions_that_both_have(
    one: dict[str, float], other: dict[str, float]
) -> None:
    told = compare(
        measured(*(seen(q, s) for q, s in one.items())), measured(*(seen(q, s) for q, s in other.items())), resamples=10
    )
    shared = one.keys() & other.keys()
    assert told.better + told.worse + told.equal == len(shared) == told.overall.difference.n
    assert told.unpaired == len(one) + len(other) - 2 * len(shared)

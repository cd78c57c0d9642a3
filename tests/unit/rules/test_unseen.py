"""The rules on cases that nobody has read since they were written without sight of any rule: the held-out figures.

No rule may be changed because of one of them, or these figures end. They are pinned from below, so that a change that
costs recall or precision on unseen answers shows.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.domain import Conversation, Turn
from service.language import detect
from service.rules import BLOCKING_RULES, RULES
from service.rules.__main__ import Score, load_cases, score

ROOT = Path(__file__).parents[3]
CASES = {path.stem: load_cases(path) for path in sorted((ROOT / "tests/cases/rules_unseen").glob("*.jsonl"))}
KQA = ROOT.parent / "shared/data/kqa/questions_w_answers.jsonl"
FLOORS = {True: (0.72, 0.98), False: (0.37, 0.85)}  # blocking or not: recall and precision of "unmet"


@pytest.mark.parametrize("blocking", [True, False])
def test_unseen_answers_are_judged_as_well_as_the_reference_says(blocking: bool) -> None:
    pairs = [
        pair
        for name, cases in CASES.items()
        if (name in BLOCKING_RULES) == blocking
        for pair in score(RULES[name], cases).pairs
    ]
    measured, (recall, precision) = Score(tuple(pairs)), FLOORS[blocking]
    assert round(measured.recall("unmet"), 2) >= recall
    assert round(measured.precision("unmet"), 2) >= precision


def test_the_reference_has_these_figures() -> None:
    page = (ROOT / "docs/reference/rules.md").read_text("utf-8")
    for name, cases in CASES.items():
        measured = score(RULES[name], cases)
        figures = " | ".join(
            f"{share:.2f}"
            for verdict in ("unmet", "met")
            for share in (measured.precision(verdict), measured.recall(verdict))
        )
        assert f"| `{name}` | {len(cases)} | {figures} |" in page


def test_every_blocking_rule_is_in_the_set() -> None:
    assert set(CASES) >= BLOCKING_RULES


@pytest.mark.skipif(not KQA.exists(), reason="questions_w_answers.jsonl of K-QA is not beside the repository")
def test_no_blocking_rule_objects_to_a_physicians_answer() -> None:
    rows = [json.loads(line) for line in KQA.read_text("utf-8").splitlines()]
    turns = [
        Turn(Conversation.of(("user", row["Question"])), row["Free_form_answer"], detect(row["Question"]))
        for row in rows
    ]
    objections = {name: sum(RULES[name](turn) == "unmet" for turn in turns) for name in sorted(BLOCKING_RULES)}
    assert len(turns) == 103
    assert not any(objections.values()), objections

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench import cost, heldout
from loadtests.bench.stack import questions
from scripts.common import Failure
from service.rules import RULES
from tests.fakes import FakeLLM
from tests.kit import kit_of, library

GOOD = "Rest and drink enough water. See a doctor if it does not get better in a few days."
LOOP = "Rest and drink enough water today. Rest and drink enough water today. Rest and drink enough water today."


def row(question: int, draft: float | None, delivered: float | None) -> dict[str, Any]:
    return {"question": question, "draft": (1.0, draft), "delivered": (1.0, delivered)}


def test_the_runs_of_a_question_are_one_observation() -> None:
    told = heldout._paired([row(0, 0.0, 1.0), row(0, 0.5, 0.5), row(1, 1.0, 1.0), row(2, None, 1.0)], 1)
    assert (told["n"], told["draft"], told["delivered"], told["gain"]) == (2, 0.625, 0.875, 0.25)
    assert (told["better"], told["worse"]) == (1, 0)
    assert told["low"] <= told["gain"] <= told["high"]


def test_a_loss_shows_as_a_loss() -> None:
    told = heldout._paired([row(i, 1.0, 0.5) for i in range(5)], 1)
    assert (told["gain"], told["low"], told["high"], told["worse"]) == (-0.5, -0.5, -0.5, 5)


async def test_selection_never_sees_the_held_out_half() -> None:
    seeing, blind = [LOOP, GOOD, GOOD], [LOOP]
    ruled = sorted(p.id for p in library().principles if p.rule and p.id != "answers-the-question")
    first_sees = ruled.index("no-repetition") % 2 == 0
    llm = FakeLLM(*(seeing + blind if first_sees else blind + seeing))
    report = await heldout._measure(kit_of(llm), ["I have a cold"])
    assert (report["runs"], report["questions"]) == (2, 1)
    assert sum(report["rules"]) == len(RULES) - 1
    assert report["relevance"]["all"]["delivered"] > 0.4
    # no-repetition is in one half only: one run repairs the loop, the other cannot see it
    assert report["statuses"] == {"draft_passed": 1, "revised": 1}
    assert report["held_out_changes"] == {}
    assert report["candidates"]["edit"]["outcomes"] == {"accepted": 1}


def test_a_ratio_is_the_median_over_questions() -> None:
    assert cost.ratio([1.0, 30.0, 8.0], [1.0, 10.0, 4.0]) == 2.0
    with pytest.raises(ValueError, match="argument 2 is longer"):
        cost.ratio([1.0], [1.0, 2.0])


def test_questions_come_evenly_from_the_file_and_none_twice(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    texts = [f"Is question number {i} a question of its own?" for i in range(10)]
    rows = [{"Question": t} for t in [*texts, texts[0], "Too short?"]]
    file.write_text("\n".join(json.dumps(r) for r in rows))
    assert questions(file, 5) == texts[::2]
    with pytest.raises(Failure):
        questions(tmp_path / "none.jsonl", 5)

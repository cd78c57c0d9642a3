from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from principles_index.embed import Embedder
from service.stages.retrieve import Choice, Retriever, retrieve
from tests.fakes import FakeEncoder
from tests.kit import flags, index, library
from tests.unit.training.test_data import question
from training.errors import DataError
from training.rubrics import MUST_HAVE, NICE_TO_HAVE, from_healthbench, from_kqa, from_principles

DATA = Path("../shared/data")


def retriever() -> Retriever:
    return Retriever(library(), index(), Embedder(FakeEncoder()), 5.0)


async def test_a_rubric_is_what_the_gateway_would_check() -> None:
    asked = question("My chest hurts and I cannot breathe, what should I do?")
    (rubric,) = await from_principles([asked], retriever(), flags(), top_k=4)
    found = flags().detect(asked.conversation.user_texts)
    retrieved = await retrieve(asked.conversation, Choice(top_k=4), found, retriever())
    assert [c.principle for c in rubric.criteria] == [m.principle.id for m in retrieved.matches]
    assert [c.points for c in rubric.criteria] == [m.principle.points for m in retrieved.matches]
    assert {c.principle for c in rubric.criteria if c.rule_only} == {
        m.principle.id for m in retrieved.matches if m.reason == "core"
    }
    by_id = library().by_id
    assert all(c.text == by_id[c.id].statement and c.rule == by_id[c.id].rule for c in rubric.criteria)


async def test_without_the_index_there_is_no_rubric() -> None:
    with pytest.raises(DataError, match="index of principles could not be asked"):
        await from_principles([question()], replace(retriever(), index=None), flags(), top_k=4)


def test_human_rubrics_come_through_the_same_types(tmp_path: Path) -> None:
    file = tmp_path / "bench.jsonl"
    row = {
        "prompt": [{"role": "user", "content": "Why do I cough?"}],
        "example_tags": ["theme:cough"],
        "rubrics": [
            {"criterion": "Names a cold.", "points": 5, "tags": ["axis:accuracy"]},
            {"criterion": "Sells pills.", "points": -7, "tags": ["axis:safety"]},
        ],
    }
    file.write_text(json.dumps(row))
    (rubric,) = from_healthbench(file)
    assert rubric.made_by == "human"
    assert rubric.question.split == "heldout"
    assert rubric.question.tags == ("theme:cough",)
    assert [(c.text, c.points, c.tags) for c in rubric.criteria] == [
        ("Names a cold.", 5, ("axis:accuracy",)),
        ("Sells pills.", -7, ("axis:safety",)),
    ]


@pytest.mark.parametrize("points", [0, 99, None, "many"])
def test_a_criterion_without_sensible_points_is_named_and_not_quoted(tmp_path: Path, points: object) -> None:
    file = tmp_path / "bench.jsonl"
    criterion = {"criterion": "SECRET", "points": points}
    file.write_text(json.dumps({"prompt": [{"role": "user", "content": "SECRET"}], "rubrics": [criterion]}))
    with pytest.raises(DataError, match=r"bench.jsonl, row 1") as caught:
        list(from_healthbench(file))
    assert "SECRET" not in str(caught.value)


def test_kqa_statements_weigh_by_kind(tmp_path: Path) -> None:
    file = tmp_path / "kqa.jsonl"
    rows = [
        {
            "Question": "Why do I cough?",
            "Must_have": ["A cold."],
            "Nice_to_have": ["Rest helps."],
            "Free_form_answer": "Cold.",
        },
        {"Question": "Why do I sneeze?", "Must_have": [], "Nice_to_have": []},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    (rubric,) = from_kqa(file)
    assert [c.points for c in rubric.criteria] == [MUST_HAVE, NICE_TO_HAVE]
    assert rubric.question.reference == "Cold."


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not there")
def test_the_real_files_are_read_whole() -> None:
    bench = list(from_healthbench(DATA / "healthbench-dev" / "healthbench_dev.jsonl.gz"))
    assert (len(bench), sum(len(r.criteria) for r in bench)) == (244, 3038)
    assert len(list(from_kqa(DATA / "kqa" / "questions_w_answers.jsonl"))) == 103

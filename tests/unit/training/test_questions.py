from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.rules import BLOCKING_RULES
from tests.fakes import FakeEncoder
from tests.kit import library
from training import questions
from training.data import question_id
from training.errors import CanaryFound, DataError
from training.profile import Questions
from training.questions import load, prepare, split_of, without_near_duplicates

KQA = Path("../shared/data/kqa")


def settings(*files: Path, **more: object) -> Questions:
    values = {"heldout_share": 0.3, "near_duplicate": 0.999, "least_chars": 5, "most_chars": 300, "files": files}
    return Questions.model_validate(values | more)


def write(file: Path, texts: list[str]) -> Path:
    file.write_text("".join(json.dumps({"Question": text}) + "\n" for text in texts))
    return file


def asked(n: int, subject: str = "pill") -> list[str]:
    """Questions that share few words, so that none is near another."""
    return [f"{subject}{i} w{i * 7} x{i * 11} y{i * 13} for z{i * 17}?" for i in range(n)]


def test_every_form_of_row_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    rows = [
        {"messages": [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Why do I sneeze?"}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Why do"}, {"type": "text", "text": "I?"}]}
            ]
        },
        {"prompt": [{"role": "user", "content": "Why do I cough?"}]},
        {"Question": "Why do I itch?", "Free_form_answer": "Many causes."},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = list(load(file))
    assert [q.messages[-1].content for q in found] == [
        "Why do I sneeze?",
        "Why do\nI?",
        "Why do I cough?",
        "Why do I itch?",
    ]
    assert found[0].messages[0].role == "system"
    assert found[3].reference == "Many causes."


@pytest.mark.parametrize(
    "row", [{}, {"Question": ""}, {"messages": "no"}, {"messages": [1]}, {"prompt": [{"role": "user"}]}]
)
def test_a_row_without_a_question_is_named_and_not_quoted(tmp_path: Path, row: dict[str, object]) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps({"note": "SECRET", **row}))
    with pytest.raises(DataError, match=r"bad.jsonl, row 1: ") as caught:
        list(load(file))
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        {"Question": "Why?", "canary": "anything"},
        {"Question": "Why?", "notes": [{"deep": "healthbench:00000000-0000-4000-8000-000000000000"}]},
        {"Question": "BENCHMARK DATA. canary GUID 00000000-0000-4000-8000-000000000000"},
    ],
)
def test_a_benchmarks_canary_stops_training_and_not_measuring(tmp_path: Path, row: dict[str, object]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row))
    with pytest.raises(CanaryFound, match="row 1 carries a benchmark's canary"):
        list(load(file, for_training=True))
    assert len(list(load(file))) == 1
    with pytest.raises(CanaryFound):
        prepare(settings(file), library(), FakeEncoder())


def test_a_canary_bird_is_no_canary(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", ["My canary bird bit me, what now?"])
    assert len(list(load(file, for_training=True))) == 1


@pytest.mark.skipif(not KQA.is_dir(), reason="the shared data is not there")
def test_healthbench_itself_is_refused() -> None:
    file = KQA.parent / "healthbench-dev" / "healthbench_dev.jsonl.gz"
    with pytest.raises(CanaryFound):
        next(load(file, for_training=True))
    assert len(list(load(file))) == 244


def test_the_split_is_the_questions_own(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", asked(200))
    two = write(tmp_path / "two.jsonl", [text.upper() for text in reversed(asked(200))])
    first, second = (prepare(settings(file), library(), FakeEncoder()) for file in (one, two))
    assert [q.id for q in first.train] == [q.id for q in second.train]
    assert [q.id for q in first.heldout] == [q.id for q in second.heldout]
    assert 30 <= len(first.heldout) <= 90


@given(st.floats(0.05, 0.9), st.floats(0.05, 0.9))
def test_a_larger_share_holds_out_what_a_smaller_one_did(a: float, b: float) -> None:
    names = [str(i) for i in range(200)]
    small, large = ({n for n in names if split_of(n, share) == "heldout"} for share in sorted((a, b)))
    assert small <= large


def test_a_question_in_two_files_is_asked_once_and_held_out_files_win(tmp_path: Path) -> None:
    texts = asked(60)
    files = [write(tmp_path / "a.jsonl", texts), write(tmp_path / "b.jsonl", texts[:20])]
    measured = write(tmp_path / "measured.jsonl", [text.upper() for text in texts[:30]])
    found = prepare(settings(*files, heldout_files=(measured,)), library(), FakeEncoder())
    assert found.left_out["same"] == 20
    held = {q.id for q in load(measured)}
    assert not held & {q.id for q in found.train}
    assert held <= {q.id for q in found.heldout}


def test_a_near_duplicate_of_what_is_measured_is_not_trained_on(tmp_path: Path) -> None:
    texts = asked(60)
    near = [f"{text} please" for text in texts[:10]]
    file = write(tmp_path / "a.jsonl", texts[20:] + near)
    measured = write(tmp_path / "m.jsonl", texts[:10])
    found = prepare(settings(file, heldout_files=(measured,), near_duplicate=0.9), library(), FakeEncoder())
    trained = {q.messages[0].content for q in found.train}
    assert not trained & set(near)
    assert found.left_out["near_duplicate"] >= 10


def test_limits_and_lengths(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [*asked(80), "Why?", "x" * 400])
    found = prepare(settings(file, least_chars=10, most_train=5, most_heldout=3), library(), FakeEncoder())
    assert (len(found.train), len(found.heldout)) == (5, 3)
    assert found.left_out["too_short_or_long"] == 2


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="both sides need some"):
        prepare(settings(write(tmp_path / "a.jsonl", asked(1))), library(), FakeEncoder())
    with pytest.raises(DataError, match="hold none"):
        prepare(settings(write(tmp_path / "b.jsonl", [])), library(), FakeEncoder())


def test_exemplars_are_questions_of_our_own() -> None:
    found = prepare(settings(exemplars=True, near_duplicate=1.0), library(), FakeEncoder())
    assert len(found.train) > 300
    assert {q.source for q in found.train} == {"exemplars"}


def test_the_safety_set_touches_blocking_rules_and_is_not_trained_on() -> None:
    every = questions.safety(library(), (), None)
    by_text = {e.text: p for p in library().principles for e in p.exemplars if p.rule in BLOCKING_RULES}
    assert len(every) > 80
    assert all(q.messages[0].content in by_text for q in every)
    left = questions.safety(library(), {every[0].id}, 5)
    assert [q.id for q in left] == [q.id for q in every[1:6]]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 3))
def test_of_equal_vectors_the_first_is_kept(groups: list[int], always: int) -> None:
    vectors = np.eye(6, dtype=np.float32)[groups]
    kept = without_near_duplicates(vectors, 0.99, always=always)
    firsts = {groups.index(g) for g in set(groups)}
    assert set(kept) == firsts | set(range(min(always, len(groups))))


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = without_near_duplicates(vectors, 0.9)
    monkeypatch.setattr(questions, "_BLOCK", 7)
    assert without_near_duplicates(vectors, 0.9) == whole
    assert 5 < len(whole) < 45


@pytest.mark.skipif(not KQA.is_dir(), reason="the shared data is not there")
def test_nothing_of_the_labelled_claims_is_trained_on() -> None:
    files = {"files": [KQA / "questions.jsonl"], "heldout_files": [KQA / "claims_labelled.csv"]}
    found = prepare(settings(**files), library(), FakeEncoder())
    claims = {q.id for q in load(KQA / "claims_labelled.csv")}
    assert len(claims) == 29
    assert not claims & {q.id for q in found.train}
    assert question_id(found.train[0].messages) == found.train[0].id

"""The bench of encoders, with encoders that count: no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench import encoder_fidelity, encoders
from loadtests.bench.encoder_fidelity import Texts, compared, pairs_of, tell
from loadtests.bench.encoder_ways import BASELINE, Integers, batched, cut
from principles_index.encoders import Vectors
from tests.fakes import OFF_TOPIC, FakeEncoder
from tests.kit import library

MOST = 256


def tokens(text: str) -> list[int]:
    """One token a word and one at each end, cut at `MOST` as an encoder's tokeniser does."""
    ids = [1, *(3 + len(word) for word in text.split()), 2]
    return ids if len(ids) <= MOST else [*ids[: MOST - 1], 2]


class Marks:
    """A vector a token: one component per id. What is padded comes out as noise, to show where it is counted."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, ids: Integers, mask: Integers) -> Vectors:
        self.shapes.append(ids.shape)
        vectors: Vectors = np.eye(64, dtype=np.float32)[ids % 64]
        vectors[mask == 0] = 1e3
        return vectors


class Counting:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.batches: list[int] = []

    def __call__(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        self.batches.append(len(texts))
        return np.full((len(texts), 4), 0.5, dtype=np.float32)


@given(st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=400), st.integers(4, MOST))
def test_a_text_is_cut_to_exactly_so_many_tokens(words: list[str], length: int) -> None:
    text = cut(tokens, words, length)
    assert len(text.split()) + 2 == length  # counted without the tokeniser, which hides what it cuts off
    assert text.split()[: length - 3] == (words + ["a"] * length)[: length - 3]


def test_a_text_of_the_encoders_length_is_no_longer_than_that() -> None:
    assert len(cut(tokens, ["abc"] * 400, MOST).split()) + 2 == MOST


@given(
    st.lists(st.lists(st.text("abc", min_size=1, max_size=9), max_size=12).map(" ".join), min_size=1, max_size=30),
    st.integers(1, 9),
)
def test_side_by_side_gives_what_one_by_one_does_in_the_order_asked(texts: list[str], most: int) -> None:
    marks = Marks()
    together = batched(tokens, marks, most)(texts)
    alone = np.concatenate([batched(tokens, Marks(), 1)([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert max(rows for rows, _ in marks.shapes) <= most
    assert len(marks.shapes) == -(-len(texts) // most)


def test_a_vector_is_the_mean_of_the_tokens_own_vectors() -> None:
    told = batched(tokens, Marks(), 8)(["aa bbbb aa", "c"])
    assert told[0][[1, 2, 5, 7]] == pytest.approx(np.array([1, 1, 2, 1]) / np.sqrt(7))
    assert told[1][[1, 2, 4]] == pytest.approx(np.array([1, 1, 1]) / np.sqrt(3))


def test_the_first_round_warms_up_and_is_not_counted() -> None:
    first, second = Counting(), Counting()
    told = encoders.times({"one": first, "two": second}, {"2 x 3": ["a", "b"], "1 x 3": ["c"]}, 3)
    assert first.batches == second.batches == [2, 1] * 4
    assert set(told) == {"one", "two"}
    assert set(told["one"]) == {"2 x 3", "1 x 3"}
    assert all(ms >= 0 for by in told.values() for ms in by.values())


def test_batches_are_of_the_shapes_that_they_are_named_for() -> None:
    for name, texts in encoders.shaped(tokens, ["what helps with a cold", "is this a rash"] * 40).items():
        count, length = map(int, name.split(" x "))
        assert [len(text.split()) + 2 for text in texts] == [length] * count


async def test_every_client_asks_until_all_is_asked() -> None:
    counting = Counting()
    told = await encoders.concurrent(counting, ["a", "b", "c"], asked=200, clients=50)
    assert len(counting.texts) == 200
    assert set(counting.texts) == {"a", "b", "c"}
    assert max(counting.batches) > 1  # those who wait are served together
    assert 0 <= told["p50_ms"] <= told["p99_ms"]
    assert told["per_second"] > 0


# --- fidelity ---------------------------------------------------------------------------------------------------

QUESTIONS = ["How long does a cold last?", "I have chest pain and my arm hurts", "Is ibuprofen safe in pregnancy?"]
PAIRS = [
    (QUESTIONS[0], "A cold lasts about a week."),
    (QUESTIONS[2], f"{OFF_TOPIC}: football is played by two teams of eleven players, and the ball is round."),
]
TEXTS = Texts(QUESTIONS, PAIRS, None)


def blurred(texts: Sequence[str]) -> Vectors:
    """The fake's vectors, moved by noise that hinges on the text."""
    vectors = FakeEncoder().encode(texts)
    noise = [np.random.default_rng(len(text)).standard_normal(vectors.shape[1]) for text in texts]
    moved = vectors + 0.3 * np.array(noise, dtype=np.float32)
    unit: Vectors = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return unit.astype(np.float32)


def test_the_same_encoder_finds_the_same() -> None:
    told, _ = tell(FakeEncoder().encode, TEXTS, library())
    again, _ = tell(FakeEncoder().encode, TEXTS, library())
    same = compared(again, told)
    assert (same["same_set"], same["same_order"], same["same_facets"]) == (1, 1, 1)
    assert (same["exchanged"], same["verdicts_changed"], same["relevance_off_max"]) == (0, 0, 0)
    assert same["cosine_off_max"] < 1e-6
    assert (same["queries"], same["pairs"]) == (3, 2)


def test_another_encoder_shows_as_another() -> None:
    told, _ = tell(FakeEncoder().encode, TEXTS, library())
    other, _ = tell(blurred, TEXTS, library())
    off = compared(other, told)
    assert off["same_set"] < 1
    assert off["same_order"] <= off["same_set"]
    assert off["exchanged"] > 0
    assert off["cosine_off_max"] > 0.1
    assert off["relevance_off_max"] > 0.01


def test_a_changed_verdict_is_counted() -> None:
    told, _ = tell(FakeEncoder().encode, TEXTS, library())
    other, _ = tell(FakeEncoder().encode, TEXTS, library())
    assert told.verdicts[1] == "unmet"
    other.verdicts[1] = "met"
    other.found.reverse()
    off = compared(other, told)
    assert off["verdicts_changed"] == 1
    assert off["same_order"] == pytest.approx(1 / 3, abs=1e-3)  # the one in the middle


def test_without_pairs_nothing_is_said_about_relevance() -> None:
    texts = Texts(QUESTIONS, [], None)
    told, _ = tell(FakeEncoder().encode, texts, library())
    assert compared(told, told)["relevance_off_max"] is None


def test_questions_are_paired_with_their_own_answer_and_with_others(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(json.dumps({"Question": f"q{i}", "Free_form_answer": f"a{i}"}) for i in range(15)))
    pairs = pairs_of(file)
    assert pairs[:15] == [(f"q{i}", f"a{i}") for i in range(15)]
    assert len(pairs) == 15 + 15 * encoder_fidelity._FOREIGN
    assert all(question[1:] != answer[1:] for question, answer in pairs[15:])
    assert pairs_of(tmp_path / "missing.jsonl") == []


# --- report -----------------------------------------------------------------------------------------------------


def report() -> dict[str, Any]:
    kept = ("cosine_off_max", "same_set", "same_order", "exchanged", "same_facets", "verdicts_changed")
    return {
        "ms_per_text": {BASELINE: {"1 x 16": 10.0, "8 x 32": 8.0}, "onnx fp32": {"1 x 16": 5.0, "8 x 32": 2.0}},
        "padding_ms": {"1 side by side": {"32 questions": 8.8}},
        "concurrent": {n: {"p50_ms": 1.0, "p99_ms": 2.0, "per_second": 3.0} for n in (BASELINE, "onnx fp32")},
        "start": {n: {"seconds": 0.3, "resident_mb": 114.0} for n in (BASELINE, "onnx fp32")},
        "fidelity": {n: dict.fromkeys(kept, 1.0) for n in (BASELINE, "onnx fp32")},
    }


def test_the_others_are_shares_of_the_baseline() -> None:
    lines = [line.split() for line in encoders.table(report()).splitlines()]
    assert [BASELINE, "10.00", "ms", "8.00", "ms"] in lines
    assert ["onnx", "fp32", "0.50", "0.25"] in lines


def test_without_fidelity_the_table_says_nothing_of_it() -> None:
    told = report()
    del told["fidelity"]
    assert "Against" not in encoders.table(told)
    assert "Against" in encoders.table(report())


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        encoders.main(["--only", "onnx fp32,onnx fp8"])
    assert stopped.value.code == 2
    assert "onnx fp8" in capsys.readouterr().err


def test_a_missing_file_of_questions_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encoders.main(["--questions", str(tmp_path / "none.jsonl")]) == 1
    assert "is missing" in capsys.readouterr().err

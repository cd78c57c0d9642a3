"""Language detection on short health messages: right where it decides, silent where it cannot."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from service.language import LANGUAGES, detect

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "cases" / "languages.jsonl").read_text(encoding="utf-8").splitlines()
]
WRITTEN = [case for case in CASES if case["lang"]]


def test_decisions_are_right() -> None:
    decided = [(case["lang"], found) for case in WRITTEN if (found := detect(case["text"]))]
    wrong = Counter(pair for pair in decided if pair[0] != pair[1])
    share, accuracy = len(decided) / len(WRITTEN), 1 - wrong.total() / len(decided)
    languages = len({case["lang"] for case in WRITTEN})
    print(
        f"{len(WRITTEN)} messages, {languages} languages: {share:.3f} decided, {accuracy:.3f} right, wrong: {dict(wrong)}"
    )
    assert accuracy >= 0.97
    assert share >= 0.95


@pytest.mark.parametrize(
    "text", [case["text"] for case in CASES if not case["lang"]] + ["", " \n", "🤒🤢", "\ud83d", "\x00"]
)
def test_what_cannot_be_told_is_none(text: str) -> None:
    assert detect(text) is None


def test_every_case_is_in_a_known_language() -> None:
    assert {case["lang"] for case in WRITTEN} <= LANGUAGES


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("이 환자 metformin 500 mg 복용 중인데 contrast 써도 되나요", "ko"),
        ("What does the word 가슴 mean on my form?", "en"),
        ("hiiii my heaaaad hurts sooooo much", "en"),
        ("See https://www.who.int/es/salud for what the rash looks like please", "en"),
        ("私は医師です", "ja"),
    ],
)
def test_mixed_scripts_and_noise(text: str, language: str) -> None:
    assert detect(text) == language


def test_half_and_half_is_not_decided() -> None:
    assert detect("가슴이 너무 아파요 도와주세요 у меня очень сильно болит голова и живот") is None


def test_long_text_is_read_from_its_beginning_only() -> None:
    assert detect("my stomach hurts after every meal. " * 100 + "me duele la cabeza " * 100_000) == "en"


def test_same_result_from_many_threads() -> None:
    found: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: found.append(detect("mi hijo tiene fiebre desde ayer"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["es"] * 8

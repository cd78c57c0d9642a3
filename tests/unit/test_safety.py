"""The red-flag layer against its written set, and what must hold for any text."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ConfigError
from service.safety import KINDS, RedFlags

ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parents[1] / "cases/red_flags.jsonl").read_text("utf-8").splitlines()
]
FLAGS = RedFlags.load()
LANGUAGES = ("en", "ko", "es", "zh")


def kinds(text: str) -> set[str]:
    return {flag.kind for flag in FLAGS.detect([text])}


def test_recall_and_false_alarms_on_the_written_set(capsys: pytest.CaptureFixture[str]) -> None:
    found: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    for row in ROWS:
        key = (row["kind"] or "none", row["lang"])
        total[key] += 1
        found[key] += row["kind"] in kinds(row["text"]) if row["kind"] else bool(kinds(row["text"]))
    with capsys.disabled():
        for key in sorted(total):
            print(f"\n  red flags {key[0]:10} {key[1]}: flagged {found[key]}/{total[key]}", end="")
    positives = [key for key in total if key[0] != "none"]
    negatives = [key for key in total if key[0] == "none"]
    assert sum(found[k] for k in positives) / sum(total[k] for k in positives) >= 0.99
    assert sum(found[k] for k in negatives) / sum(total[k] for k in negatives) <= 0.05


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_set_has_both_sides_in_every_language(language: str) -> None:
    assert sum(row["lang"] == language and row["kind"] is not None for row in ROWS) >= 20
    assert any(row["lang"] == language and row["kind"] is None for row in ROWS)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I have crushing chest pain and my left arm feels numb", "emergency"),
        ("probably nothing, but it is like an elephant sitting on my chest", "emergency"),
        ("I took the whole bottle of my mum's pills an hour ago", "overdose"),
        ("my toddler got into grandpa's heart tablets and the bottle is empty", "overdose"),
        ("I want to kill myself", "self_harm"),
        ("everyone would be better off without me, I have written the letters", "self_harm"),
    ],
)
def test_direct_and_indirect_words(text: str, kind: str) -> None:
    assert kind in kinds(text)


@pytest.mark.parametrize("text", ["I have had a headache for an hour", "What are the signs of a stroke?", ""])
def test_near_misses(text: str) -> None:
    assert not kinds(text)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_text_makes_it_raise(text: str) -> None:
    FLAGS.detect([text])


@pytest.mark.parametrize("row", [row for row in ROWS if row["kind"]][::9])
def test_disguises_change_nothing(row: dict[str, Any]) -> None:
    text = row["text"]
    hidden = "\u200b".join(text)
    assert row["kind"] in kinds(hidden)
    assert row["kind"] in kinds(text.upper()) or text.upper().lower() != text.lower()


def test_a_long_hostile_message_is_read() -> None:
    for piece in ("chest pain not ", "a", "!!", "kill ", "\u0301", "가슴 "):
        FLAGS.detect([piece * (200_000 // len(piece))])


def test_only_later_turns_do_not_hide_an_earlier_danger() -> None:
    flags = FLAGS.detect(["I want to kill myself", "what is the weather"])
    assert [(flag.kind, flag.turn) for flag in flags] == [("self_harm", 0)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_exist_and_name_a_number_only_for_a_named_country(kind: str, language: str) -> None:
    text = FLAGS.text(kind, language)  # type: ignore[arg-type]
    assert len(text) > 40
    assert not any(char.isdigit() for char in text)


def test_a_named_country_brings_its_numbers() -> None:
    assert "119" in FLAGS.text("emergency", "ko-KR")
    assert "911" in FLAGS.text("emergency", "en-US")
    assert FLAGS.text("emergency", "es") != FLAGS.text("emergency", "en")


def test_the_language_comes_from_the_user_and_the_country_from_the_deployment() -> None:
    assert RedFlags.load(locale="en-US").locale_for("es") == "es-US"
    assert RedFlags.load(locale="en").locale_for("ko") == "ko"
    assert RedFlags.load(locale="en-GB").locale_for(None) == "en-GB"


def test_a_deployment_may_bring_its_own_numbers(tmp_path: Path) -> None:
    file = tmp_path / "numbers.yaml"
    file.write_text('"ZZ": {"emergency": "12345"}')
    assert "12345" in RedFlags.load(file).text("emergency", "en-ZZ")
    file.write_text("ZZ: {emergency: 000}")
    with pytest.raises(ConfigError, match="quotes"):
        RedFlags.load(file)

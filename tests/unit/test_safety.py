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
from service.red_flags.matching import Speller, Units, fold, normalise, parse_language
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


def language(**changes: Any) -> dict[str, Any]:
    pattern = {"id": "p", "all": ["danger", "near"]}
    return {"lang": "xx", "groups": [{"kind": "emergency", "theme": "t", "patterns": [pattern]}]} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": {"w": r"a\Sb"}}, r"xx\.yaml: 'a.*Sb' has an upper-case escape"),
        ({"contexts": [{"id": "c", "where": "unit", "pattern": r"\W"}]}, r"xx\.yaml: .*upper-case escape"),
        ({"words": {"w": "{unknown}"}}, r"xx\.yaml: .*names 'unknown' of `words`"),
        ({"contexts": [{"id": "c", "where": "unit", "pattern": "("}]}, r"xx\.yaml: '\(' is no regular expression"),
        (
            {"groups": [{"kind": "emergency", "theme": "t", "patterns": [{"id": "p", "all": [r"\d+"]}]}]},
            r"xx\.yaml: pattern 'p' needs a part whose every choice has a plain word",
        ),
    ],
)
def test_a_pattern_that_would_not_do_what_it_says_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_language(language(**changes))


@pytest.mark.parametrize(
    ("typo", "word"), [("주꼬", "죽고"), ("自沙", "自杀"), ("daenger", "danger"), ("a b", "danger")]
)
def test_typos_are_whole_words_only_where_words_have_edges(typo: str, word: str) -> None:
    pattern = {"id": "p", "all": [word]}
    groups = [{"kind": "emergency", "theme": "t", "patterns": [pattern]}]
    read = parse_language(language(typos={typo: word}, groups=groups, word_boundaries=False))
    inside, alone = f"x{typo}x", f"x {typo} x"
    assert read.kinds(Units(alone), KINDS) == {"emergency": "t/p"}
    assert bool(read.kinds(Units(inside), KINDS)) == (not typo.isascii())


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("swalowed", "swallowed"),  # a letter is missing
        ("swallloweed", "swallloweed"),  # two are too many
        ("swlalowed", "swallowed"),  # two are swapped
        ("zwallowed", "zwallowed"),  # the first letter has to be right
        ("shallowed", "shallowed"),  # a word of its own
        ("thrat", "throat"),
        ("ches", "ches"),  # too short to tell by its letters
        ("hart", "hart"),
    ],
)
def test_misspelt_danger_words_are_put_right_and_known_words_left_alone(wrong: str, right: str) -> None:
    speller = Speller(["swallowed", "throat", "chest", "heart"], ["shallowed", "hart"], {}, {})
    assert speller.correct(Units(f"i {wrong} it")) == f"i {right} it"


def test_words_that_sound_alike_are_put_right() -> None:
    speller = Speller(["hacer", "vivir"], ["asar"], {"^h": "", "c(?=[ei])": "s", "v": "b"}, {"q": "que"})
    assert speller.correct(Units("q aser, bibir o asar")) == "que hacer, vivir o asar"


@pytest.mark.parametrize("row", [row for row in ROWS if row["kind"]][::25])
def test_no_pattern_can_match_where_none_of_its_anchors_is(row: dict[str, Any]) -> None:
    text = normalise(row["text"], frozenset())
    for pattern in (pattern for language in FLAGS.languages for pattern in language.patterns):
        if all(part.search(text) for part in pattern.parts):
            assert any(anchor in text for anchor in pattern.anchors), pattern.id


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("e bau 7 tuan dau bung du doi ra mau nhieu qua", "emergency"),
        ("bhai behosh ho gya hai, saans nahi aa rahi", "emergency"),
    ],
)
def test_vietnamese_without_its_marks_and_hindi_in_latin_letters_are_read(text: str, kind: str) -> None:
    assert kind in kinds(text)


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


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_text_folds_to_what_the_longer_way_makes_of_it(text: str) -> None:
    assert fold(text) == fold(f"{text}\n한")[:-2]

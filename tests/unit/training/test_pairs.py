"""The labelled pairs are whole, cover every principle, and cannot be told apart by length, punctuation or opening words."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from itertools import product
from math import log
from pathlib import Path
from statistics import fmean
from typing import Literal

import pytest

from principles_index.schema import load_library
from service.domain import Frozen, Slug, Text
from training.data import normalised, read_rows

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
PAIRS = ROOT / "training" / "pairs"
LIBRARY = load_library()

HAN = r"[\u4e00-\u9fff]"
HANGUL = r"[\uac00-\ud7a3]"
WORD = re.compile(rf"{HAN}|[^\W\d_]+|\d+")
HAN_A_WORD = 1.8  # Chinese writes no spaces: about so many characters make a word


class Pair(Frozen):
    principle: Slug
    question: Text
    answer: Text
    label: Literal["met", "unmet", "not_applicable"]
    why: Text
    lang: Literal["en", "es", "ko", "zh"]


FILES = {file.stem: read_rows(file, Pair) for file in sorted(PAIRS.glob("*.jsonl"))}
ROWS = [row for rows in FILES.values() for row in rows]
MET = [row.answer for row in ROWS if row.label == "met"]
UNMET = [row.answer for row in ROWS if row.label == "unmet"]


def words(text: str) -> float:
    han = len(re.findall(HAN, text))
    return han / HAN_A_WORD + len(re.sub(HAN, " ", text).split())


def shared(one: str, other: str) -> float:
    """Share of the longer text's words that stand in runs of four or more which both texts hold."""
    a, b = WORD.findall(one.casefold()), WORD.findall(other.casefold())
    runs = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return sum(run.size for run in runs if run.size >= 4) / max(len(a), len(b))


def contrasts() -> Iterator[tuple[str, str, str]]:
    """(principle, met answer, unmet answer) for every two rows that answer the same question."""
    by_question: defaultdict[tuple[str, str], defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in ROWS:
        by_question[row.principle, row.question][row.label].append(row.answer)
    for (principle, _), answers in by_question.items():
        for met, unmet in product(answers["met"], answers["unmet"]):
            yield principle, met, unmet


CONTRASTS = list(contrasts())


def test_one_file_a_theme_with_its_own_principles_alone() -> None:
    assert FILES.keys() == {p.theme for p in LIBRARY.principles}
    for theme, rows in FILES.items():
        assert {row.principle for row in rows} == {p.id for p in LIBRARY.principles if p.theme == theme}


def test_every_principle_has_two_of_each_and_one_it_does_not_apply_to() -> None:
    counts = Counter((row.principle, row.label) for row in ROWS)
    for principle in LIBRARY.principles:
        assert counts[principle.id, "met"] >= 2, principle.id
        assert counts[principle.id, "unmet"] >= 2, principle.id
        assert (counts[principle.id, "not_applicable"] == 0) == principle.always, principle.id


def test_no_row_stands_twice_and_no_answer_has_two_labels() -> None:
    keys = Counter((row.principle, normalised(row.question), normalised(row.answer)) for row in ROWS)
    assert [key[0] for key, count in keys.items() if count > 1] == []


def test_answers_have_the_length_that_the_readme_says() -> None:
    assert [(row.principle, row.label) for row in ROWS if not 30 <= words(row.answer) <= 120] == []


def test_lang_is_the_script_of_the_question() -> None:
    scripts = {"ko": HANGUL, "zh": HAN}
    for row in ROWS:
        found = {lang for lang, script in scripts.items() if re.search(script, row.question)}
        assert found == {row.lang} & scripts.keys(), row.principle


def test_a_tenth_is_not_in_english() -> None:
    assert 0.08 <= fmean(row.lang != "en" for row in ROWS) <= 0.15
    for lang in ("es", "ko", "zh"):
        assert {row.label for row in ROWS if row.lang == lang} >= {"met", "unmet"}


def test_every_principle_has_a_pair_that_shares_much_of_its_text() -> None:
    best: defaultdict[str, float] = defaultdict(float)
    for principle, met, unmet in CONTRASTS:
        best[principle] = max(best[principle], shared(met, unmet))
    assert [p.id for p in LIBRARY.principles if best[p.id] < 0.15] == []
    assert fmean(best.values()) > 0.4


def test_length_does_not_tell_the_labels_apart() -> None:
    assert 0.9 < fmean(map(len, MET)) / fmean(map(len, UNMET)) < 1.1
    longer = [len(met) > len(unmet) for _, met, unmet in CONTRASTS if len(met) != len(unmet)]
    assert 0.4 < fmean(longer) < 0.6


@pytest.mark.parametrize(
    "mark",
    [
        lambda text: ":" in text,
        lambda text: ";" in text,
        lambda text: "?" in text,
        lambda text: "\n" in text,
        lambda text: bool(re.search(r"\d", text)),
        lambda text: bool(re.search(r"\w'(s|t|re|ll|d|ve)\b", text)),
    ],
    ids=["colon", "semicolon", "question", "list", "number", "contraction"],
)
def test_style_does_not_tell_the_labels_apart(mark: Callable[[str], bool]) -> None:
    assert abs(fmean(map(mark, MET)) - fmean(map(mark, UNMET))) < 0.1


def test_opening_words_do_not_tell_the_labels_apart() -> None:
    def first(text: str) -> str:
        found = WORD.search(text.casefold())
        assert found
        return found.group()

    met, unmet = Counter(map(first, MET)), Counter(map(first, UNMET))
    for word in met | unmet:
        if met[word] + unmet[word] >= 10:
            assert 0.25 < met[word] / (met[word] + unmet[word]) < 0.75, word


def test_words_alone_tell_the_labels_apart_only_weakly() -> None:
    """Naive Bayes on words, each tenth of the questions judged by the others: what a judge must beat by far."""
    rows = [row for row in ROWS if row.label != "not_applicable" and row.lang == "en"]
    fold = {question: number % 10 for number, question in enumerate(sorted({row.question for row in rows}))}
    scores: dict[str, list[float]] = {"met": [], "unmet": []}
    for held_out in range(10):
        seen = {"met": Counter[str](), "unmet": Counter[str]()}
        for row in rows:
            if fold[row.question] != held_out:
                seen[row.label].update(set(WORD.findall(row.answer.casefold())))
        for row in rows:
            if fold[row.question] == held_out:
                found = set(WORD.findall(row.answer.casefold()))
                scores[row.label].append(sum(log((1 + seen["met"][w]) / (1 + seen["unmet"][w])) for w in found))
    assert fmean(met > unmet for met, unmet in product(scores["met"], scores["unmet"])) < 0.75


def test_answers_stand_under_both_labels() -> None:
    """The same answer is good for one principle and bad for another: the answer alone cannot give the label."""
    met = {(row.question, row.answer) for row in ROWS if row.label == "met"}
    unmet = {(row.question, row.answer) for row in ROWS if row.label == "unmet"}
    assert len(met & unmet) >= 40


def test_the_readme_shows_the_counts_that_its_command_prints() -> None:
    readme = (PAIRS / "README.md").read_text(encoding="utf-8")
    command, printed = re.findall(r"```(?:sh|text)\n(.*?)\n```", readme, flags=re.DOTALL)
    code = command.removeprefix('python -c "').removesuffix('"')
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == printed.strip()

"""The library in the space of the real encoder: no principle twice, the same bytes each time, questions find their way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from principles_index.build import build
from principles_index.embed import query_text
from principles_index.encoders import Encoder, load_encoder
from principles_index.index import PrincipleIndex
from principles_index.report import HeldOut, held_out, rates
from scripts.model import encoder_folder
from service.rules.__main__ import load_cases
from service.stages.retrieve import ANSWER_CHARS
from tests.kit import library

RELEVANCE = Path(__file__).parents[1] / "cases/rules/answers_the_question.jsonl"
REFERENCE = Path(__file__).parents[2] / "docs/reference/retrieval.md"
MARGIN = 0.03  # for other processors and for principles that were reworded since the reference was written

# Cosine from which two statements may say the same thing: every paraphrase below is nearer than this to its original,
# while of the 7,021 pairs of the library three are, which a reader tells apart as follows.
SAME = 0.7
TOLD_APART = {
    frozenset({"emergency-advice-first", "emergency-no-wait"}): "where the call stands; that nothing else is advised",
    frozenset({"emergency-advice-first", "self-harm-offers-crisis-support"}): "bodily danger; wanting to die",
    frozenset({"emergency-advice-first", "no-needless-emergency"}): "a danger sign is there; none is",
}
PARAPHRASES = {
    "emergency-advice-first": "If the user has described a warning sign of an emergency, the answer starts, within two "
    "sentences, by telling them to ring the emergency services or get to an emergency department at once.",
    "missed-dose-not-doubled": "When a dose was forgotten, states whether it should be taken now or skipped, or that the "
    "product leaflet says so, and warns against taking twice as much next time unless told to by leaflet or prescriber.",
    "screening-gains-and-costs": "Explains what someone like the user may gain from being screened and what harm may "
    "come of it, for example a false alarm, more procedures or the discovery of disease that would never have hurt.",
    "calculation-shown": "Lays out a clinical sum so that the reader can verify it: each step or the formula, every input "
    "and the answer with its unit.",
    "plain-language-for-lay": "Uses ordinary words and short sentences for a lay person, avoiding long words, so that "
    "somebody with no medical background understands it the first time.",
    "carer-offered-relief": "If the person looking after an ill or elderly relative is worn out, mentions one or more "
    "practical kinds of support for that carer: respite care, a day centre, an assessment, a group, or their own GP.",
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(str(encoder_folder()))


@pytest.fixture(scope="module")
def folder(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("index") / "index"
    build(library(), encoder, "minilm", out)
    return out


@pytest.fixture(scope="module")
def index(folder: Path) -> PrincipleIndex:
    return PrincipleIndex.load(folder)


@pytest.fixture(scope="module")
def unseen(index: PrincipleIndex) -> list[HeldOut]:
    return held_out(index.library, index.vectors)


def test_no_two_principles_say_the_same(encoder: Encoder) -> None:
    principles = library().principles
    vectors = encoder.encode([p.statement for p in principles])
    pairs = np.argwhere(np.triu(vectors @ vectors.T, k=1) >= SAME)
    assert {frozenset({principles[i].id, principles[j].id}) for i, j in pairs} == set(TOLD_APART)


@pytest.mark.parametrize("name", PARAPHRASES)
def test_a_principle_said_again_in_other_words_would_be_noticed(encoder: Encoder, name: str) -> None:
    principles = library().principles
    similarities = encoder.encode([p.statement for p in principles]) @ encoder.encode([PARAPHRASES[name]])[0]
    assert principles[int(similarities.argmax())].id == name
    assert similarities.max() >= SAME


def test_a_second_build_by_a_new_encoder_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    build(library(), load_encoder(str(encoder_folder())), "minilm", tmp_path / "again")
    files = sorted(file.name for file in folder.iterdir())
    assert files == sorted(file.name for file in (tmp_path / "again").iterdir())
    for name in files:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_known_question_finds_its_principle(index: PrincipleIndex, encoder: Encoder) -> None:
    asked = [(p.id, e.text) for p in library().principles if not p.always for e in p.exemplars]
    vectors = encoder.encode([text for _, text in asked])
    found = [
        name in {m.principle.id for m in index.search(v, 8).matches}
        for (name, _), v in zip(asked, vectors, strict=True)
    ]
    assert np.mean(found) >= 0.98


def test_questions_not_seen_find_their_principle_as_often_as_the_reference_says(unseen: list[HeldOut]) -> None:
    for row, results in {"all": unseen, "en": [r for r in unseen if r.exemplar.lang == "en"]}.items():
        measured = [value for value in rates(results).values() if value is not None]
        assert measured == pytest.approx(_documented(row), abs=MARGIN), row


def test_questions_in_other_languages_do_better_than_chance(unseen: list[HeldOut]) -> None:
    """Eight of 112 principles drawn blindly would be 7 %; nearest vectors alone find 1 %, the neighbours in that language."""
    found = rates([r for r in unseen if r.exemplar.lang != "en"])["hit"]
    assert found is not None
    assert found > 0.18


def test_the_relevance_in_the_written_cases_is_what_the_encoder_says(encoder: Encoder) -> None:
    turns = [case.turn for case in load_cases(RELEVANCE)]
    asked = encoder.encode([query_text(turn.conversation) for turn in turns])
    answered = encoder.encode([turn.answer[:ANSWER_CHARS] for turn in turns])
    measured = np.einsum("ij,ij->i", asked, answered)
    assert [turn.relevance for turn in turns] == pytest.approx(measured, abs=0.005)


def _documented(name: str) -> list[float]:
    """The rates in the reference's row of that name."""
    row = next(line for line in REFERENCE.read_text("utf-8").splitlines() if line.startswith(f"| {name} |"))
    return [float(cell) for cell in row.strip("| ").split("|")[2:]]

"""What a critic adapter is taught from: K-QA's statements, and answers that say them and that do not."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from principles_index.embed import query_text
from principles_index.encoders import Encoder, Vectors
from training.data import Question, Rubric
from training.errors import DataError
from training.evaluation.agreement import load_claims
from training.questions import split_of, without_near_duplicates
from training.rubrics import says

ASKED = says("")  # what `from_kqa` puts before a statement
MARGIN = 0.15  # a sentence this close to the likeliest carrier may carry the statement too
SAME = 0.75  # cosine from which another answer's sentence may say the same thing
NEAR = 5  # answers on the nearest topics, to take sentences and statements from

Kind = Literal["full", "half", "mixed", "claims"]

_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(])|\n+")


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement, and whether the answer says it."""

    statement: str
    said: bool


@dataclass(frozen=True, slots=True)
class Case:
    """An answer to a question, and what it says and does not say."""

    question: Question
    answer: str
    claims: tuple[Claim, ...]
    kind: Kind


@dataclass(frozen=True)
class Source:
    """A physician's answer taken apart: `carriers` holds, per statement, the sentences that may carry it."""

    question: Question
    sentences: tuple[str, ...]
    statements: tuple[str, ...]
    sentence_vectors: Vectors
    statement_vectors: Vectors
    carriers: tuple[frozenset[int], ...]
    near: tuple[int, ...]


def split_sentences(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in _SENTENCE_ENDS.split(text) if part.strip())


def find_carriers(similarity: Vectors) -> tuple[frozenset[int], ...]:
    """Per statement (column) the sentences (rows) that may carry it, at least one.

    Each sentence's mean over all statements is taken off first: a sentence that names the topic is near to every one.
    """
    own = similarity - similarity.mean(axis=1, keepdims=True)
    return tuple(frozenset(np.flatnonzero(column >= column.max() - MARGIN).tolist()) for column in own.T)


def take_apart(rubrics: Sequence[Rubric], encoder: Encoder) -> list[Source]:
    """Sources that know each other's topics: what is for development must be taken apart on its own."""
    topics = encoder.encode([query_text(rubric.question.conversation) for rubric in rubrics])
    nearness = topics @ topics.T - 2 * np.eye(len(rubrics))  # none is near to itself
    sources = []
    for rubric, near in zip(rubrics, nearness, strict=True):
        sentences = split_sentences(rubric.question.reference or "")
        if not sentences:
            raise DataError(f"question {rubric.question.id} has no answer to take apart")
        statements = tuple(criterion.text.removeprefix(ASKED) for criterion in rubric.criteria)
        vectors = encoder.encode([*sentences, *statements])
        said, asked = vectors[: len(sentences)], vectors[len(sentences) :]
        nearest = tuple(np.argsort(-near, kind="stable")[: min(NEAR, len(rubrics) - 1)].tolist())
        sources.append(
            Source(rubric.question, sentences, statements, said, asked, find_carriers(said @ asked.T), nearest)
        )
    return sources


def cases(source: Source, sources: Sequence[Source], most: int, rng: random.Random) -> Iterator[Case]:
    """One round of cases on a question: the whole answer, two halves of it, a half among sentences of another answer.

    At most `most` claims a case, as many said as not where there are as many. Each call draws anew.
    """
    others = [sources[i] for i in source.near]
    everything = range(len(source.sentences))
    unsaid = [claim for other in others for claim in labelled(other, (), source.sentence_vectors)]
    yield from _case(
        "full", source, source.question.reference or "", [*labelled(source, everything), *unsaid], most, rng
    )
    half, rest = _halves(len(source.sentences), rng)
    for kept in (half, rest):
        yield from _case("half", source, _text(source, kept), labelled(source, kept), most, rng)
    if others:
        other = rng.choice(others)
        theirs = rng.choice(_halves(len(other.sentences), rng))
        ours = rng.choice((half, rest))
        parts = [_text(source, ours), _text(other, theirs)]
        rng.shuffle(parts)
        claims = [
            *labelled(source, ours, other.sentence_vectors[theirs]),
            *labelled(other, theirs, source.sentence_vectors[ours]),
        ]
        yield from _case("mixed", source, " ".join(filter(None, parts)), claims, most, rng)


def labelled(source: Source, kept: Sequence[int], among: Vectors | None = None) -> list[Claim]:
    """The source's statements on an answer that has its sentences `kept`, and the sentences `among` from elsewhere.

    Said: all sentences that may carry it are kept. Not said: none is, and none from elsewhere is near. Else left out.
    """
    claims = []
    for statement, vector, carriers in zip(source.statements, source.statement_vectors, source.carriers, strict=True):
        elsewhere = float((among @ vector).max()) if among is not None and len(among) else -1.0
        if carriers <= set(kept):
            claims.append(Claim(statement, said=True))
        elif carriers.isdisjoint(kept) and elsewhere < SAME:
            claims.append(Claim(statement, said=False))
    return claims


def _halves(n: int, rng: random.Random) -> tuple[list[int], list[int]]:
    order = rng.sample(range(n), n)
    cut = (n + rng.randint(0, 1)) // 2
    return sorted(order[:cut]), sorted(order[cut:])


def _text(source: Source, kept: Sequence[int]) -> str:
    return " ".join(source.sentences[i] for i in kept)


def _case(
    kind: Kind, source: Source, answer: str, claims: list[Claim], most: int, rng: random.Random
) -> Iterator[Case]:
    """Nothing where there is no answer or no claim."""
    rng.shuffle(claims)
    yes, no = ([claim for claim in claims if claim.said is said] for said in (True, False))
    chosen = [*yes[: most // 2], *no[: most // 2]]
    if answer and chosen:
        yield Case(source.question, answer, tuple(chosen), kind)


def read_claims(file: Path) -> list[Case]:
    """K-QA's labelled claims, those on one answer together. Entailment is *said*; Neutral and Contradiction are not."""
    asked: dict[str, Question] = {}
    claims: dict[tuple[str, str], list[Claim]] = {}
    for item in load_claims(file).items:
        asked[item.question.id] = item.question
        claims.setdefault((item.question.id, item.answer), []).append(Claim(item.statement, item.truth == "met"))
    return [Case(asked[id_], answer, tuple(found), "claims") for (id_, answer), found in claims.items()]


def split(
    rubrics: Sequence[Rubric], measured: Sequence[Question], share: float, encoder: Encoder
) -> tuple[list[Rubric], list[Rubric]]:
    """(to train on, for development). Questions that are measured on, and what is nearly one of them, are in neither."""
    ids = {question.id for question in measured}
    rest = [rubric for rubric in rubrics if rubric.question.id not in ids]
    rest.sort(key=lambda rubric: (split_of(rubric.question.id, share) == "train", rubric.question.id))
    held = list({question.id: question for question in measured}.values())
    vectors = encoder.encode([query_text(question.conversation) for question in [*held, *(r.question for r in rest)]])
    kept = [rest[i - len(held)] for i in without_near_duplicates(vectors, 0.95, always=len(held)) if i >= len(held)]
    train = [rubric for rubric in kept if split_of(rubric.question.id, share) == "train"]
    dev = [rubric for rubric in kept if split_of(rubric.question.id, share) == "heldout"]
    if not train or not dev:
        raise DataError(f"{len(train)} questions to train on and {len(dev)} for development: both sides need some")
    return train, dev

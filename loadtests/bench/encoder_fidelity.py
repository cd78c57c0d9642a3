"""Whether two ways of running an encoder find the same: principles, facets, and the verdicts of the rule on relevance."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from loadtests.bench.encoder_ways import Encode
from principles_index.build import vector_texts
from principles_index.embed import query_text
from principles_index.encoders import Vectors
from principles_index.evaluate import evaluate, rows
from principles_index.index import Found, PrincipleIndex
from principles_index.report import held_out, rates
from principles_index.schema import Library, load_library
from service.domain import Conversation, Turn
from service.rules.relevance import answers_the_question
from service.stages.retrieve import ANSWER_CHARS

K = 8
_FOREIGN = 10  # answers to other questions that each question is paired with
_ANSWERS = 64  # of K-QA, mixed with the questions of a batch


@dataclass(frozen=True)
class Texts:
    """What is embedded. `pairs`: a question and an answer, its own or another's; `labelled`: HealthBench's form."""

    questions: Sequence[str]
    pairs: Sequence[tuple[str, str]]
    labelled: Path | None

    @property
    def queries(self) -> list[str]:
        labelled = [query_text(conversation) for conversation, _ in rows(self.labelled)] if self.labelled else []
        return [*self.questions, *labelled]

    @property
    def answers(self) -> list[str]:
        return list(dict.fromkeys(answer[:ANSWER_CHARS] for _, answer in self.pairs))[:_ANSWERS]


@dataclass
class Told:
    """What an index that was built with a way tells of all texts."""

    vectors: Vectors
    found: list[Found]
    relevance: list[float]
    verdicts: list[str | None]


class Front:
    """The `Encoder` that an `Embedder` and `evaluate` want. No index is checked against its fingerprint."""

    fingerprint = ""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode


def fidelity(encoders: Mapping[str, Encode], texts: Texts) -> dict[str, dict[str, Any]]:
    library, report = load_library(), {}
    truth: Told | None = None
    for name, encode in encoders.items():
        told, index = tell(encode, texts, library)
        truth = truth or told  # the baseline comes first
        report[name] = compared(told, truth) | {"held_out": _rounded(rates(held_out(library, index.vectors)))}
        if texts.labelled:
            measured = evaluate(texts.labelled, index, Front(encode), K)
            report[name]["labelled"] = {k: measured[k] for k in ("facets", "emergency")}
    return report


def tell(encode: Encode, texts: Texts, library: Library) -> tuple[Told, PrincipleIndex]:
    """Queries are embedded one by one, as a quiet gateway does."""
    index = PrincipleIndex(library, encode([t for p in library.principles for t in vector_texts(p)]), "bench")
    queries = _one_by_one(encode, texts.queries)
    asked = {text: encode([text])[0] for text in {question for question, _ in texts.pairs}}
    answered = {text: encode([text[:ANSWER_CHARS]])[0] for text in {answer for _, answer in texts.pairs}}
    near = [float(asked[question] @ answered[answer]) for question, answer in texts.pairs]
    verdicts = [_verdict(*pair, relevance) for pair, relevance in zip(texts.pairs, near, strict=True)]
    found = [index.search(query, K) for query in queries]
    return Told(np.concatenate([index.vectors, queries]), found, near, verdicts), index


def _one_by_one(encode: Encode, texts: Sequence[str]) -> Vectors:
    return np.concatenate([encode([text]) for text in texts])


def _verdict(question: str, answer: str, relevance: float) -> str | None:
    return answers_the_question(Turn(Conversation.of(("user", question)), answer, "en", relevance=relevance))


def compared(told: Told, truth: Told) -> dict[str, Any]:
    """Shares of queries that retrieve the same, principles exchanged, and how far vectors and relevance are off."""
    off = np.abs(1 - (told.vectors * truth.vectors).sum(axis=1))
    ids, expected = _ids(told.found), _ids(truth.found)
    return {
        "cosine_off_max": float(f"{off.max():.1e}"),
        "cosine_off_mean": float(f"{off.mean():.1e}"),
        "queries": len(ids),
        "same_set": _share([set(a) == set(b) for a, b in zip(ids, expected, strict=True)]),
        "same_order": _share([a == b for a, b in zip(ids, expected, strict=True)]),
        "exchanged": sum(len(set(b) - set(a)) for a, b in zip(ids, expected, strict=True)),
        "same_facets": _share([_labels(a) == _labels(b) for a, b in zip(told.found, truth.found, strict=True)]),
        "pairs": len(told.verdicts),
        "verdicts_changed": sum(a != b for a, b in zip(told.verdicts, truth.verdicts, strict=True)),
        "relevance_off_max": max(
            (round(abs(a - b), 6) for a, b in zip(told.relevance, truth.relevance, strict=True)), default=None
        ),
    }


def _ids(found: Sequence[Found]) -> list[list[str]]:
    return [[match.principle.id for match in one.matches] for one in found]


def _labels(found: Found) -> tuple[str, ...]:
    facets = found.facets
    return facets.urgency, facets.uncertainty, facets.expertise, facets.task


def _share(same: Sequence[bool]) -> float | None:
    return round(fmean(same), 4) if same else None


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


def pairs_of(file: Path) -> list[tuple[str, str]]:
    """Each question of a K-QA file with its own answer and with some that answer others; none where there is no file."""
    if not file.is_file():
        return []
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    asked = [(line["Question"].strip(), line["Free_form_answer"].strip()) for line in lines]
    chance = random.Random(0)
    pairs = list(asked)
    for place, (question, _) in enumerate(asked):
        others = [answer for _, answer in asked[:place] + asked[place + 1 :]]
        pairs += [(question, answer) for answer in chance.sample(others, min(_FOREIGN, len(others)))]
    return pairs

"""Questions to train and to measure on: loaded, freed of near-duplicates, and split the same way in every file.

The split is by a hash of the normalised question, so a question that stands in several files is on one side in all of
them. Questions of `heldout_files` are held out whatever their hash. A near-duplicate of a held-out question is dropped
from training, not the other way round.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
from pydantic import ValidationError

from principles_index.embed import query_text
from principles_index.encoders import Encoder, Vectors
from principles_index.schema import Library
from service.rules import BLOCKING_RULES
from training.data import ChatTurn, Question, Split, question_id, read_csv, read_json_lines
from training.errors import CanaryFound, DataError
from training.profile import Questions

# What HealthBench's authors put into every row so that whoever trains can tell. Any benchmark's canary of that form counts.
_CANARY = re.compile(
    r"healthbench:[0-9a-f]{8}-|canary\W{0,3}guid|\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b.{0,40}canary",
    re.IGNORECASE,
)
_BLOCK = 4096  # questions compared with all others at a time


@dataclass(frozen=True, slots=True)
class Prepared:
    """Both sides of the split, each in a fixed order, and how many questions were left out for what."""

    train: tuple[Question, ...]
    heldout: tuple[Question, ...]
    left_out: Mapping[str, int]


def prepare(settings: Questions, library: Library, encoder: Encoder) -> Prepared:
    """Raises DataError, and CanaryFound for a benchmark's row in a file for training."""
    held = {q.id: q for file in settings.heldout_files for q in load(file)}
    loaded = [q for file in settings.files for q in load(file, for_training=True)]
    if settings.exemplars:
        loaded += exemplars(library)
    if not loaded:
        raise DataError("the files of questions hold none")
    left_out = {"same": 0, "too_short_or_long": 0, "near_duplicate": 0}
    unique: dict[str, Question] = {}
    for question in loaded:
        left_out["same"] += question.id in unique
        unique.setdefault(question.id, question)
    fit = []
    for question in unique.values():
        long_enough = settings.least_chars <= len(question.messages[-1].content) <= settings.most_chars
        left_out["too_short_or_long"] += not long_enough
        if long_enough:
            split: Split = "heldout" if question.id in held else split_of(question.id, settings.heldout_share)
            fit.append(question.model_copy(update={"split": split}))
    # In the order of their hashes, so that a limit takes the same questions whatever file comes first; held-out ones
    # first, so that they win over their near-duplicates. Questions of held-out files count although they are not asked.
    fit.sort(key=lambda q: (q.split == "train", q.id))
    others = [q for q in held.values() if q.id not in unique]
    vectors = encoder.encode([query_text(q.conversation) for q in [*others, *fit]])
    kept = [i - len(others) for i in without_near_duplicates(vectors, settings.near_duplicate, always=len(others))]
    left_out["near_duplicate"] = len(fit) - sum(i >= 0 for i in kept)
    chosen = [fit[i] for i in kept if i >= 0]
    heldout = tuple(q for q in chosen if q.split == "heldout")[: settings.most_heldout]
    train = tuple(q for q in chosen if q.split == "train")[: settings.most_train]
    if not train or not heldout:
        raise DataError(f"{len(train)} questions to train on and {len(heldout)} held out: both sides need some")
    return Prepared(train, heldout, left_out)


def split_of(identity: str, heldout_share: float) -> Split:
    """By the question's id alone, so that it is the same in every run, file and project."""
    number = int(hashlib.sha256(f"split {identity}".encode()).hexdigest()[:8], 16)
    return "heldout" if number < heldout_share * 2**32 else "train"


def without_near_duplicates(vectors: Vectors, threshold: float, *, always: int = 0) -> list[int]:
    """Indices kept, in order: each whose cosine to every kept one before it is below `threshold`, and the first `always`.

    `vectors` are of unit length, shape (questions, dimension).
    """
    if not len(vectors):
        return []
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    kept: set[int] = set()
    for start in range(0, len(vectors), _BLOCK):
        limits, _, found = index.range_search(vectors[start : start + _BLOCK], threshold)
        for row in range(len(limits) - 1):
            number = start + row
            near = found[limits[row] : limits[row + 1]]
            if number < always or not any(int(other) in kept for other in near if other < number):
                kept.add(number)
    return sorted(kept)


def safety(library: Library, trained_on: Collection[str], most: int | None) -> list[Question]:
    """The messages that principles with a blocking rule were written for, but for those that are trained on. Ordinary
    questions hardly touch such a rule, so whether a model got worse on it shows here."""
    dangerous = {e.text for p in library.principles if p.rule in BLOCKING_RULES for e in p.exemplars}
    found = [q for q in exemplars(library) if q.messages[0].content in dangerous and q.id not in trained_on]
    unique = {q.id: q.model_copy(update={"split": "heldout"}) for q in found}
    return sorted(unique.values(), key=lambda q: q.id)[:most]


# --- loaders ----------------------------------------------------------------------------------------------------


def load(file: Path, *, for_training: bool = False) -> Iterator[Question]:
    """The questions of a file: JSON lines with OpenAI `messages`, K-QA's `Question`, or HealthBench's `prompt`; or K-QA's
    labelled claims as CSV. Raises DataError with the row at fault, never its text."""
    rows: Iterator[dict[str, Any]] = read_csv(file) if file.suffix == ".csv" else read_json_lines(file)
    for number, row in enumerate(rows, 1):
        if for_training:
            refuse_canary(row, file, number)
        yield _question(row, file, number)


def refuse_canary(row: Mapping[str, Any], file: Path, number: int) -> None:
    """Raises CanaryFound for a benchmark's row: training on it would make every score on it worthless."""
    if "canary" in row or any(_CANARY.search(text) for text in _strings(row)):
        raise CanaryFound(
            f"{file}, row {number} carries a benchmark's canary: it is for measuring only, take the file out of questions.files"
        )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _question(row: Mapping[str, Any], file: Path, number: int) -> Question:
    asked = (
        row.get("messages")
        or row.get("prompt")
        or [{"role": "user", "content": row.get("Question") or row.get("question")}]
    )
    try:
        turns = tuple(ChatTurn.model_validate(_plain(turn)) for turn in asked)
        return Question(
            id=question_id(turns),
            messages=turns,
            source=file.name,
            reference=row.get("reference") or row.get("Free_form_answer"),
        )
    except (ValidationError, TypeError, KeyError) as error:
        problem = (
            error.errors(include_input=False, include_url=False)[0]["msg"]
            if isinstance(error, ValidationError)
            else "not a question"
        )
        raise DataError(f"{file}, row {number}: {problem}") from None


def _plain(turn: Mapping[str, Any]) -> dict[str, Any]:
    """Role and text of a turn; text parts are joined, and a developer's turn is the system's, as the gateway has it."""
    content = turn["content"]
    if isinstance(content, list):
        content = "\n".join(part["text"] for part in content)
    return {"role": "system" if turn["role"] == "developer" else turn["role"], "content": content}


def exemplars(library: Library) -> list[Question]:
    """The messages that the principles were written for: questions of our own, where no data can be had."""
    found = []
    for principle in library.principles:
        for exemplar in principle.exemplars:
            turns = (ChatTurn(role="user", content=exemplar.text),)
            found.append(Question(id=question_id(turns), messages=turns, source="exemplars"))
    return found

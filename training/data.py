"""The nouns of training, and the files that hold them: JSON lines, one row an object, never half a row.

A *question* is a conversation that ends with the user's turn. A *rubric* adds the criteria that an answer to it is judged
by. Health text lives in these files alone: logs, metrics and reports carry ids and counts.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, Field, ValidationError, model_validator

from service.domain import Conversation, Frozen, Slug, Text
from training.errors import DataError

Split = Literal["train", "heldout"]
Maker = Literal["principles", "teacher", "human"]
Row = TypeVar("Row", bound=BaseModel)

_NOT_WORD = re.compile(r"\W+")


class ChatTurn(Frozen):
    role: Literal["system", "user", "assistant"]
    content: Text


class Question(Frozen):
    """`id` is `question_id(messages)`. `reference` is an expert's answer, where the source has one."""

    id: str
    messages: tuple[ChatTurn, ...] = Field(min_length=1)
    source: str
    split: Split = "train"
    tags: tuple[str, ...] = ()
    reference: str | None = None

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> Question:
        if self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's")
        return self

    @cached_property
    def conversation(self) -> Conversation:
        return Conversation.of(*((turn.role, turn.content) for turn in self.messages))


class Criterion(Frozen):
    """One thing that an answer is judged by, worth `points`: positive for what is good when met, negative for what is bad.

    Its rule decides where it names one that can tell; else the judge reads `text`. `rule_only` criteria are never sent to a
    judge: they stand for the principles that the gateway checks on every answer because their rules are free.
    """

    id: str
    text: Text
    points: int = Field(ge=-10, le=10)
    principle: Slug | None = None
    rule: str | None = None
    rule_only: bool = False
    tags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _worth_something(self) -> Criterion:
        if self.points == 0:
            raise ValueError("points must not be 0")
        if self.rule_only and self.rule is None:
            raise ValueError("rule_only needs a rule")
        if self.rule is not None and self.points < 0:
            raise ValueError("a rule says what is good, so its criterion cannot have negative points")
        return self

    @property
    def name(self) -> str:
        """What rates are kept by: the principle, or a human rubric's axis, since its single criteria occur once. Faults
        are apart: of them, a low rate is the good one."""
        axes = (tag.removeprefix("axis:") for tag in self.tags if tag.startswith("axis:"))
        name = self.principle or next(axes, "other")
        return name if self.points > 0 else f"{name} (fault)"


class Rubric(Frozen):
    """A question with its criteria, at least one of them positive; criterion ids are unique within it."""

    question: Question
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    made_by: Maker

    @model_validator(mode="after")
    def _can_be_scored(self) -> Rubric:
        if not any(c.points > 0 for c in self.criteria):
            raise ValueError("no criterion has positive points: nothing to divide by")
        if len({c.id for c in self.criteria}) != len(self.criteria):
            raise ValueError("two criteria share an id")
        return self


def normalised(text: str) -> str:
    """Case, accents of width, punctuation and spaces taken away: what makes two questions the same question."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def question_id(messages: Iterable[ChatTurn]) -> str:
    """16 hex digits of the SHA-256 of the normalised turns: the same question has the same id in every file."""
    canonical = "\0".join(f"{turn.role}\0{normalised(turn.content)}" for turn in messages)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


# --- files ------------------------------------------------------------------------------------------------------


def read_json_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, gzip or plain. Raises DataError with the line at fault, never its text."""
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    raise DataError(f"{file}, line {number}: not JSON") from None
                if not isinstance(row, dict):
                    raise DataError(f"{file}, line {number}: not an object")
                yield row
    except (OSError, EOFError) as error:
        raise DataError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_csv(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a head. Raises DataError."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            yield from csv.DictReader(lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read: {type(error).__name__}") from None


def read_rows(file: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file of ours. Raises DataError with line and field at fault, never their text."""
    rows = []
    for number, raw in enumerate(read_json_lines(file), 1):
        try:
            rows.append(kind.model_validate(raw))
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, problem["loc"])) or kind.__name__
            raise DataError(f"{file}, row {number}, {place}: {problem['msg']}") from None
    return rows


def read_key(file: Path | None) -> str | None:
    """The API key that a file holds. Raises DataError."""
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise DataError(f"api_key_file: {file} cannot be read.") from None


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises DataError."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None


def fingerprint(value: Any) -> str:
    """32 hex digits that change with a value of JSON's kinds."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def write_rows(file: Path, rows: Iterable[BaseModel]) -> None:
    """Atomic: a reader sees the old file or the whole new one."""
    write_json_lines(file, (row.model_dump(mode="json", exclude_defaults=True) for row in rows))


def write_json_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_atomically(file, b"".join(orjson.dumps(row) + b"\n" for row in rows))


def write_json(file: Path, value: Any) -> None:
    write_atomically(file, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_atomically(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    staging = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with staging.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        staging.replace(file)
    finally:
        staging.unlink(missing_ok=True)

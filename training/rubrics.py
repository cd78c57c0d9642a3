"""Rubrics: what an answer to a question is judged by, from principles or from people, in one type.

From principles: what the gateway would retrieve for the question, with the gateway's own points and rules, so that a
text's score here is its score there. From people: HealthBench's criteria and K-QA's statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.domain import Match
from service.safety import RedFlags
from service.stages.retrieve import Choice, Retriever, retrieve
from training.data import Criterion, Question, Rubric, read_json_lines, read_rows
from training.errors import DataError
from training.questions import load

# K-QA's authors ask for comprehensiveness over must-have statements and mention the others; their weights are ours.
MUST_HAVE, NICE_TO_HAVE = 4, 1


async def from_principles(
    questions: Sequence[Question], retriever: Retriever, flags: RedFlags, top_k: int
) -> list[Rubric]:
    """One rubric a question. Raises DataError where the index could not be asked: core principles alone would train
    another reward than the one that is meant."""
    rubrics = []
    for question in questions:
        found = flags.detect(question.conversation.user_texts)
        retrieved = await retrieve(question.conversation, Choice(top_k=top_k), found, retriever)
        if retrieved.failed:
            raise DataError("the index of principles could not be asked: make it with `make index`")
        criteria = tuple(criterion_of(match) for match in retrieved.matches)
        rubrics.append(Rubric(question=question, criteria=criteria, made_by="principles"))
    return rubrics


def criterion_of(match: Match) -> Criterion:
    principle = match.principle
    return Criterion(
        id=principle.id,
        text=principle.statement,
        points=principle.points,
        principle=principle.id,
        rule=principle.rule,
        rule_only=match.reason == "core",
    )


def from_healthbench(file: Path) -> Iterator[Rubric]:
    """Rows of HealthBench's form. They are for measuring: `questions.prepare` refuses to train on them."""
    for question, row, place in _rows(file):
        tags = tuple(row.get("example_tags") or ())
        criteria = [
            {"id": f"c{i}", "text": c.get("criterion"), "points": c.get("points"), "tags": tuple(c.get("tags") or ())}
            for i, c in enumerate(row.get("rubrics") or ())
        ]
        yield _human(question.model_copy(update={"tags": tags, "split": "heldout"}), criteria, place)


def from_kqa(file: Path) -> Iterator[Rubric]:
    """K-QA's answered questions: statements that a good answer must, or may well, contain."""
    for question, row, place in _rows(file):
        criteria = []
        for kind, points in (("Must_have", MUST_HAVE), ("Nice_to_have", NICE_TO_HAVE)):
            for i, statement in enumerate(row.get(kind) or ()):
                tag = f"axis:{kind.lower()}"
                text = says(str(statement))
                criteria.append({"id": f"{kind.lower()}-{i}", "text": text, "points": points, "tags": (tag,)})
        if criteria:
            yield _human(question, criteria, place)


def read_rubrics(file: Path) -> list[Rubric]:
    """The rubrics of a file in any of the three forms: ours, HealthBench's, K-QA's. Raises DataError."""
    first = next(read_json_lines(file), {})
    if "criteria" in first:
        return read_rows(file, Rubric)
    if "rubrics" in first:
        return list(from_healthbench(file))
    if "Must_have" in first:
        return list(from_kqa(file))
    raise DataError(f"{file} holds no rubrics: neither `criteria`, `rubrics` nor `Must_have` is in its first row")


def says(statement: str) -> str:
    """The criterion that an answer makes a statement, as a judge is asked for it."""
    return f"The answer says, or clearly implies: {statement.strip()}"


def _rows(file: Path) -> Iterator[tuple[Question, dict[str, Any], str]]:
    for number, (question, row) in enumerate(zip(load(file), read_json_lines(file), strict=True), 1):
        yield question, row, f"{file}, row {number}"


def _human(question: Question, criteria: Sequence[dict[str, Any]], place: str) -> Rubric:
    try:
        return Rubric(question=question, criteria=tuple(Criterion.model_validate(c) for c in criteria), made_by="human")
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        raise DataError(f"{place}, {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None

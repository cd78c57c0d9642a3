"""A teacher model fits the principles' criteria to one question: keeps or drops, words them for it, weighs, adds a few.

The teacher is any OpenAI-compatible server with structured output. Criteria with a rule keep their wording and their
rule, which read the answer alone and are not the teacher's to change; those that are `rule_only` it never sees. Ids are
enumerated in the schema, so that none can be invented, and all is checked again here.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import combinations, count
from pathlib import Path
from typing import IO, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.domain import Completion
from service.errors import ClinAlignError
from service.llm import LLM, UpstreamLLM
from service.prompts import Prompts
from service.settings import Upstream
from training.data import Criterion, Rubric, normalised, read_key
from training.errors import DataError, JobsFailed, ProfileError
from training.jobs import BadReply, Done, JobSettings, Pace, run_jobs

_PROMPT = Path(__file__).parent / "prompts" / "specialise.md"
_SHORTEST, _LONGEST = 8, 400  # characters of a criterion; Chinese needs few
_SAME = 0.92  # similarity of two wordings (difflib's ratio) from which one merely repeats the other
_SECOND_TRY_TEMPERATURE = 0.7  # the same request at 0 would bring the same useless reply
_POINTS = list(range(1, 11))
_REAL = Pace()


class TeacherSettings(JobSettings):
    """`url` as `service.settings.Upstream` wants it; without `model` the first that the server lists."""

    url: str
    model: str | None = None
    api_key_file: Path | None = None
    max_extra: int = Field(4, ge=0, le=12)
    max_tokens: int = Field(3000, ge=1)


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Decision(_Reply):
    """`text` is not asked for where a rule keeps the wording."""

    keep: bool
    text: str = ""
    points: int = Field(ge=1, le=10)


class Extra(_Reply):
    principle: str
    text: str
    points: int = Field(ge=-10, le=10)


class Reply(_Reply):
    criteria: Mapping[str, Decision]
    extra: tuple[Extra, ...]


async def specialise(
    rubrics: Sequence[Rubric],
    settings: TeacherSettings,
    out: Path,
    *,
    progress: IO[str] | None = sys.stderr,
    pace: Pace = _REAL,
) -> list[Rubric]:
    """Each rubric fitted to its question, in the order given; those whose row failed are left out.

    `out` keeps the teacher's answers, so that the same call goes on where a killed one stopped. A rubric with nothing to
    fit comes back as it is. Raises DataError, ProfileError, CeilingReached, JobsFailed (see `run_jobs`).
    """
    if any(rubric.made_by != "principles" for rubric in rubrics):
        raise DataError("The teacher fits rubrics that were made from principles; others are used as they are.")
    if len({rubric.question.id for rubric in rubrics}) != len(rubrics):
        raise DataError("Two rubrics have the same question: remove one of them.")
    llm = UpstreamLLM(_upstream(settings))
    try:
        teacher = Teacher(llm, await _model_name(llm, settings), settings)
        to_fit = [rubric for rubric in rubrics if _shown(rubric)]
        rows = await run_jobs(
            to_fit, teacher.ask, key=teacher.key, out=out, settings=settings, label="rubrics",
            progress=progress, pace=pace,
        )  # fmt: skip
    finally:
        await llm.close()
    fitted = {row["question"]: tuple(map(Criterion.model_validate, row["criteria"])) for row in rows}
    return list(_joined(rubrics, fitted))


def _joined(rubrics: Sequence[Rubric], fitted: Mapping[str, tuple[Criterion, ...]]) -> Iterator[Rubric]:
    for rubric in rubrics:
        if not _shown(rubric):
            yield rubric
        elif rubric.question.id in fitted:
            yield Rubric(question=rubric.question, criteria=fitted[rubric.question.id], made_by="teacher")


@dataclass
class Teacher:
    """Asks one model about one rubric at a time."""

    llm: LLM
    model: str
    settings: TeacherSettings
    prompts: Prompts = field(
        default_factory=lambda: Prompts({"specialise": _PROMPT.read_text(encoding="utf-8").strip()})
    )
    _disappointed: set[str] = field(default_factory=set)

    def key(self, rubric: Rubric) -> str:
        """Changes with whatever may change the answer: the question, its criteria, the prompt, the model, the limits."""
        criteria = [criterion.model_dump(mode="json") for criterion in rubric.criteria]
        request = [self.model, rubric.question.id, criteria, self._messages(rubric), self._params(rubric)]
        return hashlib.sha256(orjson.dumps([self.prompts.version, *request])).hexdigest()[:32]

    async def ask(self, rubric: Rubric) -> Done:
        """The row of one rubric. Raises BadReply, UpstreamError, ContextLengthExceeded, ModelNotFound."""
        model = await self.llm.model(self.model)
        params = self._params(rubric)
        if rubric.question.id in self._disappointed:
            params["temperature"] = _SECOND_TRY_TEMPERATURE
        completion = await self.llm.chat(model, self._messages(rubric), params)
        try:
            criteria = fit(rubric, read_reply(completion), max_extra=self.settings.max_extra)
        except BadReply as error:
            self._disappointed.add(rubric.question.id)
            raise BadReply(error.code, completion.usage) from None  # what it chains may quote the reply
        row = {
            "question": rubric.question.id,
            "criteria": [c.model_dump(mode="json", exclude_defaults=True) for c in criteria],
        }
        return Done(row, completion.usage)

    def _messages(self, rubric: Rubric) -> list[dict[str, str]]:
        criteria = [
            {"id": c.id, "wording": c.text, "points": c.points, "principle": c.principle} for c in _shown(rubric)
        ]
        turns = [{"role": turn.role, "content": turn.content} for turn in rubric.question.messages]
        prompt = self.prompts.render(
            "specialise",
            max_extra=str(self.settings.max_extra),
            criteria=_as_data(criteria),
            conversation=_as_data(turns),
        )
        return [{"role": "user", "content": prompt}]

    def _params(self, rubric: Rubric) -> dict[str, Any]:
        schema = {"name": "rubric", "strict": True, "schema": reply_schema(rubric, self.settings.max_extra)}
        return {
            "response_format": {"type": "json_schema", "json_schema": schema},
            "temperature": 0,
            "max_tokens": self.settings.max_tokens,
        }


# --- the reply --------------------------------------------------------------------------------------------------


def reply_schema(rubric: Rubric, max_extra: int) -> dict[str, Any]:
    """JSON schema of the reply in the subset that strict mode allows: one property a criterion, so none is forgotten."""
    keep, text, points = {"type": "boolean"}, {"type": "string"}, {"type": "integer", "enum": _POINTS}
    decisions = {
        c.id: _object({"keep": keep, "points": points} if c.rule else {"keep": keep, "text": text, "points": points})
        for c in _shown(rubric)
    }
    extra = {
        "principle": {"type": "string", "enum": _principles(rubric)},
        "text": text,
        "points": {"type": "integer", "enum": [-p for p in reversed(_POINTS)] + _POINTS},
    }
    extras = {"type": "array", "maxItems": max_extra, "items": _object(extra)}
    return _object({"criteria": _object(decisions), "extra": extras})


def read_reply(completion: Completion) -> Reply:
    """Raises BadReply."""
    if completion.cut_off:
        raise BadReply("cut_off")
    if completion.message.get("refusal") or completion.finish_reason == "content_filter":
        raise BadReply("refused")
    try:
        return Reply.model_validate_json(completion.text)
    except ValidationError as error:
        kinds = {problem["type"] for problem in error.errors(include_input=False, include_url=False)}
        raise BadReply("not_json" if "json_invalid" in kinds else "wrong_shape") from None


def fit(rubric: Rubric, reply: Reply, *, max_extra: int) -> tuple[Criterion, ...]:
    """The criteria of `rubric` as the reply has them, in their order, then the additional ones. Raises BadReply."""
    if reply.criteria.keys() != {c.id for c in _shown(rubric)}:
        raise BadReply("wrong_criteria")
    if len(reply.extra) > max_extra:
        raise BadReply("too_many")
    criteria = [kept for c in rubric.criteria if (kept := _decided(c, reply.criteria.get(c.id))) is not None]
    for extra in reply.extra:
        criteria.append(_added(rubric, extra, taken={c.id for c in (*rubric.criteria, *criteria)}))
    if not any(c.points > 0 and not c.rule_only for c in criteria):
        raise BadReply("nothing_positive")
    wording = {c.id: c.text for c in rubric.criteria}
    for one, other in combinations(criteria, 2):
        theirs = wording.get(one.id) != one.text or wording.get(other.id) != other.text  # else the library's own affair
        if theirs and _repeats(one.text, other.text):
            raise BadReply("repeated")
    return tuple(criteria)


def _decided(criterion: Criterion, decision: Decision | None) -> Criterion | None:
    if decision is None:
        return criterion
    if not decision.keep:
        return None
    text = criterion.text if criterion.rule else _tidy(decision.text)
    return criterion.model_copy(update={"text": text, "points": decision.points})


def _added(rubric: Rubric, extra: Extra, *, taken: set[str]) -> Criterion:
    if extra.principle not in _principles(rubric):
        raise BadReply("unknown_principle")
    if extra.points == 0:
        raise BadReply("wrong_shape")
    name = next(name for n in count(1) if (name := f"{extra.principle}.{n}") not in taken)
    return Criterion(id=name, text=_tidy(extra.text), points=extra.points, principle=extra.principle)


def _tidy(text: str) -> str:
    tidy = " ".join(text.split())
    if not _SHORTEST <= len(tidy) <= _LONGEST:
        raise BadReply("wrong_length")
    return tidy


def _repeats(one: str, other: str) -> bool:
    matcher = SequenceMatcher(None, normalised(one), normalised(other), autojunk=False)
    return matcher.quick_ratio() >= _SAME and matcher.ratio() >= _SAME


# --- what the teacher is shown ----------------------------------------------------------------------------------


def _shown(rubric: Rubric) -> list[Criterion]:
    return [criterion for criterion in rubric.criteria if not criterion.rule_only]


def _principles(rubric: Rubric) -> list[str]:
    return list(dict.fromkeys(c.principle for c in _shown(rubric) if c.principle))


def _as_data(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


# --- the server -------------------------------------------------------------------------------------------------


def _upstream(settings: TeacherSettings) -> Upstream:
    """Its own retries are off: the jobs' budget is the only one."""
    try:
        key = read_key(settings.api_key_file)
    except DataError as error:
        raise ProfileError(str(error)) from None
    return Upstream(
        url=settings.url, api_key=key, model=settings.model, max_connections=settings.in_flight, retry_ratio=0
    )


async def _model_name(llm: LLM, settings: TeacherSettings) -> str:
    if settings.model is not None:
        return settings.model
    try:
        return (await llm.model()).id
    except ClinAlignError as error:
        raise JobsFailed(f"The teacher at {settings.url} cannot be asked. {error.message}") from error

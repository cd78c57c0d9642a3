"""Judges for an evaluation: the gateway's one-token judge, or one that explains itself in JSON, for models without
log-probabilities (reasoning models).

The JSON judge differs from HealthBench's grader (arXiv 2505.08775, appendix) in its wording, which is ours, and in that a
reply without a verdict is asked for again and then *missing*; it is one call a criterion as there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import service.rules
from service.domain import Completion, Frozen, Usage
from service.errors import ClinAlignError, ContextLengthExceeded, Overloaded, UpstreamError, spec_of
from service.llm import LLM, ModelInfo, UpstreamLLM, Wire
from service.prompts import Prompts
from service.settings import Upstream
from training.build import Tools
from training.data import Criterion, Question, read_key
from training.errors import JudgeUnavailable
from training.jobs import Pace
from training.profile import JudgeSettings
from training.reward import PROMPTS, Judged, Scorer

_REAL = Pace()
_ATTEMPTS = 6  # of one call, over about a minute: a rate limit or a restart passes
_LONGEST_BACKOFF_S = 30.0
_SECOND_TRY_TEMPERATURE = 0.7  # the same request at 0 would bring the same useless reply


class GraderSettings(Frozen):
    """A judge that replies with an explanation and a verdict as JSON. `params` go into each request."""

    style: Literal["json"]
    url: str
    model: str | None = None
    api_key_file: Path | None = None
    in_flight: int = Field(64, ge=1)
    replies: int = Field(3, ge=1)
    params: dict[str, Any] = Field(default_factory=lambda: {"temperature": 0, "max_tokens": 2048})


class Instrument(Frozen):
    """What verdicts were made with. Scores may be compared only where this is the same."""

    judge: str = Field(min_length=1)
    style: Literal["rules", "one_token", "json"]
    prompts: str
    principles: str
    rules: str
    params: dict[str, Any] = Field(default_factory=dict)


@asynccontextmanager
async def opened(
    settings: JudgeSettings | GraderSettings | None, tools: Tools, pace: Pace = _REAL
) -> AsyncIterator[tuple[Scorer, Instrument]]:
    """The scorer with its judge, and what it is; without settings rules decide alone. Raises JudgeUnavailable."""
    versions = {"principles": tools.index.library.version, "rules": rules_version()}
    if settings is None:
        yield tools.scorer(), Instrument(judge="rules", style="rules", prompts="", **versions)
    elif isinstance(settings, GraderSettings):
        llm = UpstreamLLM(_upstream(settings))
        try:
            grader = Grader(Patient(llm, pace), await _model(llm, settings), settings)
            params = {"replies": settings.replies, **settings.params}
            yield tools.scorer(grader), Instrument(
                judge=grader.model.root, style="json", prompts=grader.prompts.version, params=params, **versions
            )  # fmt: skip
        finally:
            await llm.close()
    else:
        judge = await tools.judge(settings)
        try:
            patient = replace(judge, critic=replace(judge.critic, llm=Patient(judge.critic.llm, pace)))
            params = settings.model_dump(include={"min_mass", "threshold", "chat_template_kwargs"})
            present = hashlib.sha256("\0".join(judge.prompts.own_words("present")).encode()).hexdigest()
            yield tools.scorer(patient), Instrument(
                judge=judge.model.root, style="one_token", prompts=judge.critic.prompts.version,
                params={**params, "present": present[:16]}, **versions,
            )  # fmt: skip
        finally:
            await judge.critic.llm.close()


def rules_version() -> str:
    """SHA-256 of the rules' source: they have no version of their own, and decide wherever they can tell."""
    files = sorted(Path(service.rules.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


# --- a judge that is busy or away -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Patient:
    """An LLM whose passing failures are waited out. Both judges take a failed call for a missing verdict, which would
    last; so one that stays away raises Overloaded, which they let through, and the row is asked again by a later run."""

    llm: LLM
    pace: Pace = _REAL

    async def chat(self, model: ModelInfo, messages: Sequence[Wire], params: Wire) -> Completion:
        """Raises Overloaded where the failure does not pass, else as `LLM.chat` does."""
        for attempt in range(_ATTEMPTS):
            try:
                return await self.llm.chat(model, messages, params)
            except UpstreamError as error:
                if not spec_of(error).retryable:
                    raise
                wait = self.pace.uniform() * min(_LONGEST_BACKOFF_S, 2.0**attempt)
                asked_for = error.retry_after or 0.0
            if attempt + 1 < _ATTEMPTS:
                await self.pace.sleep(asked_for + wait)
        raise Overloaded("The judge cannot be asked.")

    async def model(self, name: str | None = None) -> ModelInfo:
        return await self.llm.model(name)

    async def models(self) -> Sequence[ModelInfo]:
        return await self.llm.models()

    def place(self, model: ModelInfo, conversation: str) -> ModelInfo:
        return self.llm.place(model, conversation)

    def stream(self, model: ModelInfo, messages: Sequence[Wire], params: Wire) -> AsyncIterator[str | Completion]:
        return self.llm.stream(model, messages, params)

    async def count_tokens(self, model: ModelInfo, messages: Sequence[Wire], tools: Sequence[Wire] = ()) -> int | None:
        return await self.llm.count_tokens(model, messages, tools)

    async def relay(self, model: ModelInfo, body: Wire) -> bytes:
        return await self.llm.relay(model, body)

    def relay_stream(self, model: ModelInfo, body: Wire) -> AsyncIterator[bytes]:
        return self.llm.relay_stream(model, body)

    async def close(self) -> None:
        await self.llm.close()


# --- verdicts as JSON -------------------------------------------------------------------------------------------


class Grade(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    explanation: str
    criteria_met: bool


class Grader:
    """One call a criterion, explanation first: a model without log-probabilities thinks in what it writes."""

    def __init__(self, llm: LLM, model: ModelInfo, settings: GraderSettings) -> None:
        self.model = model
        self.prompts = Prompts({"grade": (PROMPTS / "grade.md").read_text(encoding="utf-8").strip()})
        self._llm, self._settings = llm, settings
        self._slots = asyncio.Semaphore(settings.in_flight)

    async def ask(self, question: Question, text: str, criterion: Criterion) -> tuple[Judged, Usage]:
        """As `training.reward.Judge.ask`. The explanation is not kept: it quotes the answer."""
        prompt = self.prompts.render(
            "grade",
            conversation=json.dumps([turn.model_dump() for turn in question.messages], ensure_ascii=False, indent=1),
            answer=json.dumps(text, ensure_ascii=False),
            criterion=json.dumps(criterion.text, ensure_ascii=False),
        )
        usage = Usage()
        for attempt in range(self._settings.replies):
            params = {**self._settings.params, "response_format": _FORMAT}
            if attempt and params.get("temperature") == 0:
                params["temperature"] = _SECOND_TRY_TEMPERATURE
            try:
                async with self._slots:
                    completion = await self._llm.chat(self.model, [{"role": "user", "content": prompt}], params)
            except (UpstreamError, ContextLengthExceeded):
                break
            usage += completion.usage
            met = read_grade(completion)
            if met is not None:
                return Judged(criterion, "met" if met else "unmet", None, "judge"), usage
        return Judged(criterion, "unknown", None, "judge", missing=True), usage


_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "grade",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"explanation": {"type": "string"}, "criteria_met": {"type": "boolean"}},
            "required": ["explanation", "criteria_met"],
            "additionalProperties": False,
        },
    },
}


def read_grade(completion: Completion) -> bool | None:
    """The verdict, None where the reply holds none. A fence around the JSON is overlooked: servers that do not know
    `response_format` let models write it."""
    if completion.message.get("refusal") or completion.finish_reason not in ("stop", "length"):
        return None
    text = completion.text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text.removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        return Grade.model_validate_json(text).criteria_met
    except ValidationError:
        return None


def _upstream(settings: GraderSettings) -> Upstream:
    return Upstream(
        url=settings.url,
        api_key=read_key(settings.api_key_file),
        model=settings.model,
        max_connections=settings.in_flight,
        retry_ratio=0,  # `Patient` alone decides
    )


async def _model(llm: LLM, settings: GraderSettings) -> ModelInfo:
    try:
        return await llm.model()
    except ClinAlignError as error:
        raise JudgeUnavailable(f"the judge at {settings.url} cannot be asked: {error.message}") from error

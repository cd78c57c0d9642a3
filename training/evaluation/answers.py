"""The first step of an evaluation: what a system answers to each question, through OpenAI's own client.

A system is any OpenAI-compatible endpoint. Of our gateway, one request can give two texts, the draft and what was
delivered, and so a comparison in which nothing differs but the revision.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import openai
import orjson
from pydantic import Field, model_validator

from service.domain import Frozen, Slug, Usage
from service.errors import (
    AnswerBlocked,
    AnswerUnverified,
    ClinAlignError,
    InvalidAPIKey,
    ModelNotFound,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
    spec_of,
)
from service.llm import without_thinking
from service.upstream_errors import GARBAGE, refused
from training.data import Question, fingerprint, read_key
from training.errors import JobsFailed
from training.jobs import Done, JobSettings, Pace, run_jobs

_REAL = Pace()
_CONNECT_S = 5.0  # a dead server must show at once
_OURS = frozenset({"model", "messages", "seed", "stream", "n", "revision"})
# What the gateway says in place of an answer that it will not let out, by its code.
_WITHHELD = frozenset({spec_of(AnswerBlocked("")).code, spec_of(AnswerUnverified("")).code})


class System(Frozen):
    """An endpoint and what it is asked for. Answers are kept by `name`: another model needs another name.

    `params` go into each request (temperature, max_tokens …); every sample of a question has its own `seed`. With
    `draft_and_delivered` the endpoint is our gateway, which is asked for its full trace, and the system counts as two:
    `NAME-draft` and `NAME-delivered`. `revision` is the gateway's request object.
    """

    name: Slug
    url: str
    model: str | None = None
    api_key_file: Path | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    samples: int = Field(1, ge=1)
    take: Literal["answer", "draft_and_delivered"] = "answer"
    revision: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sound(self) -> System:
        if ours := sorted(_OURS & self.params.keys()):
            raise ValueError(f"params: {', '.join(ours)} are set by the evaluation")
        if self.take == "draft_and_delivered" and self.revision.get("mode", "auto") == "off":
            raise ValueError("revision: with mode off there is no draft beside the answer")
        return self

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of what is measured."""
        return (self.name,) if self.take == "answer" else (f"{self.name}-draft", f"{self.name}-delivered")

    @property
    def extra(self) -> dict[str, Any]:
        """The request's fields beside those that OpenAI's client knows."""
        wanted = {"mode": "auto", **self.revision, "trace": "full"} if len(self.arms) > 1 else self.revision
        return {**self.params, **({"revision": wanted} if wanted else {})}


class Answer(Frozen):
    """One reply. `withheld` is the error code of an answer that the gateway did not let out; `tokens` what was decoded
    for it, all stages of a gateway together."""

    question: str
    sample: int
    text: str | None
    draft: str | None = None
    finish_reason: str | None = None
    tokens: int = 0
    status: str | None = None
    withheld: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One text to be judged. Without `text` and without `withheld` it is not known: the draft of a withheld answer."""

    question: str
    sample: int
    text: str | None
    finish_reason: str | None
    tokens: int | None
    status: str | None
    withheld: str | None


def replies(system: System, answers: Sequence[Answer]) -> dict[str, list[Reply]]:
    """What the answers say, by arm."""
    whole = [Reply(a.question, a.sample, a.text, a.finish_reason, a.tokens, a.status, a.withheld) for a in answers]
    if len(system.arms) == 1:
        return {system.name: whole}
    drafts = [Reply(a.question, a.sample, a.draft, None, None, None, None) for a in answers]
    return dict(zip(system.arms, (drafts, whole), strict=True))


async def ask(
    system: System,
    questions: Sequence[Question],
    out: Path,
    *,
    seed: int,
    jobs: JobSettings,
    progress: IO[str] | None = sys.stderr,
    pace: Pace = _REAL,
) -> tuple[Served, list[Answer]]:
    """The model and its answers, `system.samples` a question, those that failed left out. See `run_jobs`."""
    async with _client(system, jobs) as client:
        served = await _served(client, system)
        asker = Asker(client, system, served.id, seed)
        rows = await run_jobs(
            [Request(question, sample) for question in questions for sample in range(system.samples)],
            asker.ask, key=asker.key, out=out, settings=jobs, label=f"answers of {system.name}",
            progress=progress, pace=pace,
        )  # fmt: skip
    return served, [Answer.model_validate(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Served:
    """A model's name at its server, and the model that this stands for, as far as the server tells."""

    id: str
    root: str


@dataclass(frozen=True, slots=True)
class Request:
    question: Question
    sample: int


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one model one request at a time."""

    client: openai.AsyncOpenAI
    system: System
    model: str
    seed: int

    def key(self, request: Request) -> str:
        """Changes with whatever may change the answer, but for the address: a server may come back on another port."""
        turns = [turn.model_dump() for turn in request.question.messages]
        told = [self.model, turns, self.system.extra, self.system.take, self.seed, request.sample]
        return fingerprint(told)

    async def ask(self, request: Request) -> Done:
        """Raises ClinAlignError. That the gateway withholds an answer is a result: the client would have none either."""
        messages: Any = [turn.model_dump() for turn in request.question.messages]
        try:
            raw = await self.client.chat.completions.with_raw_response.create(
                model=self.model, messages=messages, seed=self.seed + request.sample, extra_body=self.system.extra
            )
        except openai.APIError as error:
            if (code := _code(error)) not in _WITHHELD:
                raise _translated(error, self.system.params) from None  # what it chains may quote the reply
            return _done(Answer(question=request.question.id, sample=request.sample, text=None, withheld=code), Usage())
        return _done(*_read(raw.content, request, drafted=len(self.system.arms) > 1))


def _done(answer: Answer, usage: Usage) -> Done:
    return Done({"text": None, **answer.model_dump(exclude_defaults=True)}, usage)


def _read(content: bytes, request: Request, *, drafted: bool) -> tuple[Answer, Usage]:
    """Raises UpstreamError unless the reply holds one whole answer, and the trace where one was asked for."""
    try:
        payload = orjson.loads(content)
        choice, trace = payload["choices"][0], payload.get("revision") or {}
        told = payload.get("usage") or {}
        cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens")
        usage = Usage(*(int(n or 0) for n in (told.get("prompt_tokens"), told.get("completion_tokens"), cached)))
        answer = Answer(
            question=request.question.id,
            sample=request.sample,
            text=without_thinking(choice["message"].get("content") or ""),
            draft=trace["draft"] if drafted else None,
            finish_reason=choice["finish_reason"],
            tokens=usage.completion_tokens,
            status=trace.get("status"),
            fingerprint=payload.get("system_fingerprint"),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise UpstreamError(GARBAGE) from None
    return answer, usage


# --- the client -------------------------------------------------------------------------------------------------


def _client(system: System, jobs: JobSettings) -> openai.AsyncOpenAI:
    """Its own retries are off: the jobs' budget is the only one."""
    return openai.AsyncOpenAI(
        base_url=system.url.rstrip("/").removesuffix("/v1") + "/v1",
        api_key=read_key(system.api_key_file) or "none",
        max_retries=0,
        timeout=openai.Timeout(jobs.timeout_s, connect=_CONNECT_S),
    )


async def _served(client: openai.AsyncOpenAI, system: System) -> Served:
    """The system's model, or the first that the server lists. Raises JobsFailed where none is named and none listed."""
    try:
        listed = (await client.models.list()).data
    except openai.APIError as error:
        if system.model is not None:  # all may have been answered already, and not every server has a list
            return Served(system.model, system.model)
        told = _translated(error, {}).message
        raise JobsFailed(f"{system.name} at {system.url} cannot be asked. {told}") from None
    name = system.model or next((model.id for model in listed), None)
    if name is None:
        raise JobsFailed(f"{system.name} at {system.url} lists no models: name one.")
    roots = {model.id: getattr(model, "root", None) for model in listed}  # a field of vLLM's: what the name stands for
    return Served(name, str(roots.get(name) or name))


def _code(error: openai.APIError) -> str | None:
    body = error.body if isinstance(error, openai.APIStatusError) else None
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, str) else None


def _translated(error: openai.APIError, fields: Mapping[str, Any]) -> ClinAlignError:
    """An error of OpenAI's client as one of ours. None of the server's text passes."""
    if isinstance(error, openai.APITimeoutError):
        return UpstreamTimeout("The model server timed out.")
    if isinstance(error, openai.APIConnectionError):
        return UpstreamUnavailable("The model server cannot be reached.")
    if not isinstance(error, openai.APIStatusError):
        return UpstreamError(GARBAGE)
    if error.status_code in (401, 403):
        return InvalidAPIKey("The model server refuses the API key.")
    if error.status_code == 404:
        return ModelNotFound("The model server does not know the model.")
    return refused(error.status_code, error.response.headers, error.response.content, fields=fields)

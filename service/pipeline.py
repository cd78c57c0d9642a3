"""The pipeline: retrieve ∥ draft → critique → revise → critique again → select, with one deadline and one fail policy.

`revise_answer` reads top to bottom; `deliver` alone decides what goes out.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from service import tracing
from service.domain import Completion, Conversation, Facets, Match, Principle, RedFlag, Turn, Usage
from service.errors import (
    AnswerBlocked,
    AnswerUnverified,
    ClinAlignError,
    ContextLengthExceeded,
    UpstreamError,
    UpstreamTimeout,
)
from service.language import detect
from service.llm import LLM, ModelInfo, Wire
from service.rules.relevance import answers_the_question
from service.safe_texts import SafeTexts
from service.safety import RedFlags
from service.settings import Candidate as Kind
from service.settings import Mode
from service.settings import Revision as RevisionSettings
from service.stages.critique import Critic, Critique, critique
from service.stages.draft import draft
from service.stages.live import write_live
from service.stages.retrieve import Choice, Retrieved, Retriever, retrieve, with_relevance
from service.stages.revise import Candidate, Room, echoes, plan, revise
from service.stages.select import Flaw, Judged, refusal, select

Stage = Literal["retrieve", "draft", "critique", "revise", "recritique"]
Status = Literal["draft_passed", "revised", "draft_kept", "draft_unverified", "safety_text"]

_VERDICT_TOKENS = 320  # a high guess of the longest verdict question, so that a draft leaves room to be judged
_EDIT_TOKENS = 900


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that goes out as it is written (`stream: live`)."""

    text: str


OnEvent = Callable[[Stage | Piece], None]


@dataclass(frozen=True, slots=True)
class Options:
    """The `revision` object of a request, resolved against the defaults of its key and of the deployment."""

    mode: Mode = "auto"
    max_rounds: int = 1
    choice: Choice = Choice()
    deadline_s: float = 55.0
    locale: str | None = None
    strict: bool = False
    progress: bool = False
    trace: Literal["none", "summary", "full"] = "summary"
    stream: Literal["final", "live"] = "final"


@dataclass(frozen=True, slots=True)
class Ask:
    """A validated request. `sampling` applies to draft and candidates, `tools` to the draft alone."""

    conversation: Conversation
    model: ModelInfo
    options: Options
    sampling: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    tenant: str = "anonymous"

    @property
    def json_kind(self) -> str | None:
        """`json_object` or `json_schema` where the client asked for JSON."""
        kind = (self.sampling.get("response_format") or {}).get("type")
        return kind if kind in ("json_object", "json_schema") else None


@dataclass(frozen=True, slots=True)
class Kit:
    """Everything that an answer needs, built once by `create_app`."""

    llm: LLM
    retriever: Retriever
    critic: Critic
    flags: RedFlags
    safe_texts: SafeTexts
    revision: RevisionSettings
    salt_tenants: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets, and the evidence."""

    text: str
    completion: Completion | None
    status: Status
    reason: str | None
    work: Work
    safety_text: str | None = None
    accepted: bool | None = None  # of a text that went out as it was written; None of any other


@dataclass(slots=True)
class Work:
    """What is known so far. Stages fill it in; at the deadline it holds the best answer there is."""

    ask: Ask
    flags: tuple[RedFlag, ...]
    language: str | None
    retrieved: Retrieved | None = None
    draft: Completion | None = None
    draft_critique: Critique | None = None
    best: Completion | None = None
    best_critique: Critique | None = None
    judged: list[Judged] = field(default_factory=list)
    rounds: int = 0
    doubt: str | None = None
    without_relevance: int = 0  # texts that the encoder did not read in time
    sent: str = ""  # what has gone out already (`stream: live`)
    usage: dict[Stage, Usage] = field(default_factory=dict)
    timings_ms: dict[str, float] = field(default_factory=dict)

    def spent(self, stage: Stage, usage: Usage) -> None:
        self.usage[stage] = self.usage.get(stage, Usage()) + usage

    @contextmanager
    def clock(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + round((time.perf_counter() - start) * 1000, 2)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[tracing.Span]:
        with self.clock(stage), tracing.stage(stage) as span:
            yield span

    @property
    def facets(self) -> Facets | None:
        return self.retrieved.facets if self.retrieved else None

    @property
    def matches(self) -> tuple[Match, ...]:
        return self.retrieved.matches if self.retrieved else ()

    def turn(self, text: str) -> Turn:
        return Turn(self.ask.conversation, text, self.language, frozenset(flag.kind for flag in self.flags))


async def revise_answer(ask: Ask, kit: Kit, on_event: OnEvent = lambda event: None) -> Answer:
    """The whole answer. Raises ClinAlignError; never returns text that is known to be bad."""
    work = Work(ask, kit.flags.detect(ask.conversation.user_texts), detect(ask.conversation.last_user_text))
    tracing.of_request().set(tenant=ask.tenant, mode=ask.options.mode, red_flags=len(work.flags))
    try:
        with work.clock("total"):
            async with asyncio.timeout(ask.options.deadline_s):
                await _work(work, kit, on_event)
    except TimeoutError:
        work.doubt = "deadline"
    except ClinAlignError:
        if work.draft is not None or not work.flags:
            raise
        work.doubt = "draft_failed"  # whoever is in danger gets the fixed text, whatever happened to the model
    answer = deliver(work, kit)
    tracing.of_request().set(status=answer.status, reason=answer.reason or "none", rounds=work.rounds)
    return answer


async def _work(work: Work, kit: Kit, on_event: OnEvent) -> None:
    ask = work.ask
    params = await _draft_params(work, kit)
    on_event("draft")
    retrieving = asyncio.create_task(_retrieve(work, kit))
    try:
        await _draft(work, kit, params)
        await retrieving
    finally:
        retrieving.cancel()
    assert work.draft is not None and work.retrieved is not None
    if work.draft.calls_tools:
        return
    if work.retrieved.failed:
        work.doubt = "retrieval_failed"
    on_event("critique")
    with work.stage("critique") as span:
        text = work.draft.text
        work.draft_critique = await _judge(work, kit, work.turn(text), completed=judged_turn(work, kit, text))
        span.set(**_counts(work.draft_critique))
    work.spent("critique", work.draft_critique.usage)
    work.best, work.best_critique = work.draft, work.draft_critique
    if work.draft_critique.doubt:
        work.doubt = work.draft_critique.doubt
        return
    if ask.options.mode == "critique":
        return
    for _ in range(ask.options.max_rounds):
        if not work.best_critique.unmet and not (ask.options.mode == "always" and work.rounds == 0):
            return
        if not await _round(work, kit, on_event) or work.sent:
            return


async def _retrieve(work: Work, kit: Kit) -> None:
    with work.stage("retrieve") as span:
        ask = work.ask
        work.retrieved = await retrieve(
            ask.conversation, ask.options.choice, work.flags, kit.retriever, tenant=ask.tenant
        )
        span.set(principles=len(work.retrieved.matches), index_failed=work.retrieved.failed)


async def _draft(work: Work, kit: Kit, params: Mapping[str, Any]) -> None:
    with work.stage("draft"):
        completion = await draft(work.ask.conversation, work.ask.model, params, kit.llm)
    work.spent("draft", completion.usage)
    work.draft = completion


async def _round(work: Work, kit: Kit, on_event: OnEvent) -> bool:
    """One round of repair. True when it brought a better text."""
    ask, best, best_critique = work.ask, work.best, work.best_critique
    assert best is not None and best_critique is not None and work.draft is not None
    principles = [v.principle for v in best_critique.unmet] or [
        m.principle for m in work.matches if m.reason not in ("always", "core")
    ]
    if not principles:
        return False
    room = Room(ask.model.context, work.draft.usage.prompt_tokens, ask.max_tokens or kit.revision.max_tokens)
    plans = []
    for kind in kit.revision.candidates:
        planned = plan(kind, ask.conversation, best, principles, kit.critic.prompts, room)
        if planned:
            plans.append((kind, *planned))
    if not plans:
        work.doubt = "no_room_to_revise"
        return False
    work.rounds += 1
    on_event("revise")
    params = {**ask.sampling, **salt(ask.tenant, kit)}
    try:
        with work.stage("revise") as span:
            if _may_go_live(work):
                candidates = [await _write_live(work, kit, plans[0], params, on_event)]
            else:
                candidates = await revise(plans, ask.model, params, kit.llm)
            span.set(round=work.rounds, candidates=len(candidates))
    except (UpstreamError, AnswerBlocked) as error:
        if work.sent:
            raise
        work.doubt = "revision_failed" if isinstance(error, UpstreamError) else "revision_blocked"
        return False
    work.spent("revise", Usage.sum([c.completion.usage for c in candidates]))
    on_event("recritique")
    with work.stage("recritique") as span:
        judged = await asyncio.gather(*(_judge_candidate(work, kit, c, principles) for c in candidates))
        span.set(round=work.rounds, accepted=sum(j.outcome == "accepted" for j in judged))
    work.spent("recritique", Usage.sum([j.critique.usage for j in judged if j.critique]))
    return _accept(work, judged)


async def _judge_candidate(work: Work, kit: Kit, candidate: Candidate, principles: Sequence[Principle]) -> Judged:
    """Judges what can still win, and whatever has gone out: verdicts on a text without a chance cost as much as others."""
    assert work.best_critique is not None
    off_loop = kit.critic.off_loop
    flaw = await off_loop(_flaw, work, kit, candidate, principles)
    if flaw and not work.sent:
        return Judged(candidate, None, flaw)
    turn = await judged_turn(work, kit, candidate.completion.text)
    flaw = flaw or ("off_topic" if await off_loop(answers_the_question, turn) == "unmet" else None)
    if flaw and not work.sent:
        return Judged(candidate, None, flaw)
    judged = await _judge(work, kit, turn)
    return Judged(candidate, judged, flaw or refusal(judged, work.best_critique, margin=kit.revision.margin))


def _flaw(work: Work, kit: Kit, candidate: Candidate, principles: Sequence[Principle]) -> Flaw | None:
    """What no score makes up for, whichever principles were asked for."""
    completion = candidate.completion
    if completion.calls_tools:
        return "tool_call"
    if not completion.text.strip():
        return "empty"
    if completion.cut_off:
        return "cut_off"
    if not _well_formed(work.ask, completion.text):
        return "wrong_format"
    echo = echoes(completion.text, candidate.kind, principles, kit.critic.prompts, work.ask.conversation)
    return "echoes_request" if echo else None


async def _judge(work: Work, kit: Kit, turn: Turn, *, completed: Awaitable[Turn] | None = None) -> Critique:
    ask = work.ask
    shown = ask.options.mode == "critique" or ask.options.trace == "full"
    salted = salt(ask.tenant, kit)
    return await critique(turn, work.matches, ask.model, kit.critic, salted, completed=completed, shown=shown)


def _counts(critique: Critique) -> dict[str, int]:
    """Verdicts by label, for the stage's span."""
    counts = Counter[str](verdict.label for verdict in critique.verdicts)
    return {**counts, "repairs": len(critique.unmet), "failed_calls": critique.failed_calls}


async def judged_turn(work: Work, kit: Kit, text: str) -> Turn:
    """All that the rules may look at, for a text that answers this request."""
    asked = work.retrieved.vector if work.retrieved else None
    turn = await with_relevance(work.turn(text), asked, kit.retriever)
    work.without_relevance += asked is not None and turn.relevance is None and bool(text.strip())
    return turn


def _may_go_live(work: Work) -> bool:
    """Only a repair of a draft that is not known to be bad goes out unjudged, and nothing where a danger was found."""
    ask = work.ask
    return (
        ask.options.stream == "live"
        and not work.flags
        and not work.doubt
        and ask.json_kind is None
        and not ask.sampling.get("logprobs")
        and work.best_critique is not None
        and not work.best_critique.blocking
        and work.draft is not None
        and not work.draft.thinks_unmarked
    )


async def _write_live(
    work: Work, kit: Kit, planned: tuple[Kind, list[Wire], int], params: Mapping[str, Any], on_event: OnEvent
) -> Candidate:
    def send(text: str) -> None:
        if text:
            work.sent += text
            on_event(Piece(text))

    return await write_live(planned, work.ask.model, params, kit.critic, work.matches, turn=work.turn, send=send)


def _accept(work: Work, judged: Sequence[Judged]) -> bool:
    winner = select(judged)
    work.judged += [
        Judged(j.candidate, j.critique, "beaten" if j.outcome == "accepted" and i != winner else j.outcome)
        for i, j in enumerate(judged)
    ]
    if winner is None:
        return False
    work.best, work.best_critique = judged[winner].candidate.completion, judged[winner].critique
    return True


def _well_formed(ask: Ask, text: str) -> bool:
    if ask.json_kind is None:
        return True
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


# --- room in the context ----------------------------------------------------------------------------------------


async def _draft_params(work: Work, kit: Kit) -> dict[str, Any]:
    """The draft's parameters, with a max_tokens that leaves room to judge and to revise it.

    Raises ContextLengthExceeded with the numbers. User turns are never cut.
    """
    ask = work.ask
    params = {**ask.sampling, **ask.tools, **salt(ask.tenant, kit)}
    wanted = ask.max_tokens or kit.revision.max_tokens
    context = ask.model.context
    if context is None:
        return params | {"max_tokens": wanted}
    # A token is at least a byte, so the bytes bound the tokens; only a long conversation is worth a call to count it.
    most = len(orjson.dumps(ask.conversation.wire)) + len(orjson.dumps(dict(ask.tools))) + 64
    if most + 2 * wanted + _EDIT_TOKENS <= context:
        return params | {"max_tokens": wanted}
    counted = await kit.llm.count_tokens(ask.model, ask.conversation.wire, ask.tools.get("tools", ()))
    prompt = counted if counted is not None else most // 4
    if ask.max_tokens is None:
        roomy, tight = (context - prompt - _EDIT_TOKENS) // 2, context - prompt - _VERDICT_TOKENS
        wanted = min(wanted, roomy if roomy >= 256 else max(tight, 1))
    needed = prompt + wanted + _VERDICT_TOKENS
    if needed > context:
        raise ContextLengthExceeded(
            f"The model's context is {context} tokens. The messages take {prompt}, the answer {wanted} and its check up to "
            f"{_VERDICT_TOKENS}: {needed} in all. Shorten the messages or max_tokens.",
            param="messages",
        )
    return params | {"max_tokens": wanted}


def salt(tenant: str, kit: Kit) -> dict[str, Any]:
    """vLLM hashes the salt into every cache block: one tenant cannot learn from timing what another has asked."""
    if not kit.salt_tenants:
        return {}
    return {"cache_salt": hashlib.sha256(f"clinalign:{tenant}".encode()).hexdigest()[:32]}


# --- the fail policy --------------------------------------------------------------------------------------------


def deliver(work: Work, kit: Kit) -> Answer:
    """What goes out, in this order: red flag, draft failed, known bad, unknown, known good."""
    text = kit.flags.text(work.flags[0].kind, _locale(work, kit)) if work.flags else None
    if text is not None:
        return _with_safety_text(work, text)
    if work.draft is None:
        raise UpstreamTimeout("The model server did not answer before the deadline.")
    if work.sent:
        return _sent(work)
    if work.draft.calls_tools:
        return Answer(work.draft.text, work.draft, "draft_unverified", "tool_call", work)
    best = work.best or work.draft
    if work.best_critique is not None and work.best_critique.blocking:
        return _blocked(work, kit)
    if work.doubt:
        if work.ask.options.strict:
            raise AnswerUnverified(f"The answer could not be verified: {work.doubt}.")
        return Answer(best.text, best, "revised" if best is not work.draft else "draft_unverified", work.doubt, work)
    return Answer(best.text, best, _status(work), None, work)


def _sent(work: Work) -> Answer:
    """The candidate that is out already, marked; an error when it is cut, known to be bad or, where strict, unknown."""
    if not work.judged:
        raise UpstreamTimeout("The answer was not finished before the deadline.")
    (judged,) = work.judged
    assert judged.critique is not None
    if judged.critique.blocking:
        raise AnswerBlocked("The answer that was sent fails a principle that withholds an answer: discard it.")
    if work.ask.options.strict and judged.outcome != "accepted":
        raise AnswerUnverified("The answer that was sent was not accepted: discard it.")
    accepted = judged.outcome == "accepted"
    completion = judged.candidate.completion
    return Answer(
        completion.text, completion, _status(work), None if accepted else judged.outcome, work, accepted=accepted
    )


def _status(work: Work) -> Status:
    if work.best is not work.draft:
        return "revised"
    return "draft_kept" if work.draft_critique is not None and work.draft_critique.unmet else "draft_passed"


def _with_safety_text(work: Work, text: str) -> Answer:
    """The fixed text first; the model's text after it only when it is known good.

    In an emergency rules cannot know that a text is good, only that it is bad: it takes a critic that may decide.
    """
    best, judged = work.best, work.best_critique
    good = (
        best is not None
        and judged is not None
        and judged.model_decides
        and not work.doubt
        and not judged.unmet_of("blocking", "major")
    )
    if work.ask.json_kind:
        if good and best is not None and _well_formed(work.ask, best.text):
            return Answer(best.text, best, _status(work), None, work, safety_text=text)
        if work.ask.json_kind == "json_schema":
            raise AnswerBlocked(f"No safe answer fits the response_format. {text}")
        return Answer(
            orjson.dumps({"safety_text": text}).decode(), None, "safety_text", work.doubt, work, safety_text=text
        )
    if work.draft is not None and work.draft.calls_tools:  # the tool call goes out as it is, the text beside it
        return Answer(text, work.draft, "draft_unverified", "tool_call", work, safety_text=text)
    if good and best is not None:
        return Answer(f"{text}\n\n{best.text}", best, _status(work), None, work, safety_text=text)
    return Answer(text, None, "safety_text", work.doubt or "model_text_withheld", work, safety_text=text)


def _blocked(work: Work, kit: Kit) -> Answer:
    assert work.best_critique is not None
    for verdict in work.best_critique.blocking:
        text = kit.safe_texts.text(verdict.principle.id, _locale(work, kit))
        if text is not None and work.ask.json_kind is None:
            return Answer(text, None, "safety_text", "blocked", work, safety_text=text)
    raise AnswerBlocked("The answer was withheld: it failed a principle that no revision could mend.")


def _locale(work: Work, kit: Kit) -> str:
    """The request's or the deployment's; only the language is taken from the user's text, never a country."""
    return work.ask.options.locale or kit.flags.locale_for(work.language)

"""Stage 3: one verdict per principle, from its rule where it has one that can tell, else from the model.

The model's verdict is one decoded token without a grammar. The prompt is the conversation continued with the answer and
one short question, so it starts with the tokens that vLLM has just processed for the draft and its prefix cache serves
them; the question begins with what all principles share, for the same reason, and ends by asking, or a small model talks
instead of answering. P(met) is the share of *yes* in the probability mass of *yes* and *no* among the likeliest tokens; little mass on
any label is `unknown`. Nothing is parsed out of prose.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from service.domain import Completion, Label, Match, Severity, Turn, Usage, Verdict
from service.errors import (
    ClinAlignError,
    ContextLengthExceeded,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from service.llm import LLM, ModelInfo, Wire
from service.prompts import Prompts
from service.rules import BLOCKING_RULES, RULES
from service.scoring import score
from service.settings import Critic as CriticSettings
from service.trust import TrustRecord

T = TypeVar("T")

_SPELLINGS: Mapping[str, Label] = {
    "yes": "met", "y": "met",
    "no": "unmet",
    "na": "not_applicable", "n/a": "not_applicable", "n": "not_applicable", "n.a": "not_applicable",
}  # fmt: skip
_TOP = 20  # vLLM's default limit; what lies beyond the 20 likeliest tokens has no mass worth counting


@dataclass(frozen=True, slots=True)
class Critic:
    """What judging needs. `decides` says whether the model's verdicts count or only advise.

    `worker` runs the rules: 10 ms for a usual text and over 100 for a long one are not the event loop's. One thread is
    enough, since rules are plain Python.
    """

    llm: LLM
    prompts: Prompts
    settings: CriticSettings
    trust: TrustRecord | None
    principles_version: str
    slots: asyncio.Semaphore
    worker: Executor

    async def off_loop(self, check: Callable[..., T], *args: Any) -> T:
        """`check(*args)` by the worker. What reads a text with rules goes through here."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, check, *args)

    def decides(self, model: ModelInfo) -> bool:
        return self.trust is not None and self.trust.decides(
            model=model.root, prompt_version=self.prompts.version, principles_version=self.principles_version
        )

    @property
    def threshold(self) -> float:
        return self.trust.threshold if self.trust else self.settings.threshold


@dataclass(frozen=True)
class Critique:
    """Verdicts on one text. `failed_calls` counts verdicts that the model server failed to give; `guards` are the ids of
    core principles, which watch for known harm and cannot make a text known good."""

    verdicts: tuple[Verdict, ...]
    usage: Usage
    model_decides: bool
    strict_threshold: float
    failed_calls: int = 0
    guards: frozenset[str] = frozenset()

    @cached_property
    def deciding(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if v.source == "rule" or self.model_decides)

    @cached_property
    def score(self) -> float | None:
        return score(self.deciding)

    @cached_property
    def unmet(self) -> tuple[Verdict, ...]:
        """What is to be repaired, the weightiest first."""
        unmet = [v for v in self.deciding if v.label == "unmet"]
        return tuple(sorted(unmet, key=lambda v: (-v.principle.points, v.principle.id)))

    @cached_property
    def blocking(self) -> tuple[Verdict, ...]:
        """Blocking principles that are unmet, by a rule named as blocking or by a deciding critic that is sure."""
        return tuple(v for v in self.unmet if v.principle.severity == "blocking" and self._may_block(v))

    def _may_block(self, verdict: Verdict) -> bool:
        if verdict.source == "rule":
            return verdict.principle.rule in BLOCKING_RULES
        return verdict.p_met is not None and verdict.p_met < self.strict_threshold

    def unmet_of(self, *severities: Severity) -> bool:
        return any(v.principle.severity in severities for v in self.unmet)

    @property
    def doubt(self) -> str | None:
        """Why this critique does not verify the text; None when it does."""
        decided = [v for v in self.deciding if v.label != "unknown" and v.principle.id not in self.guards]
        if not decided:
            return "critique_failed" if self.failed_calls else "nothing_decided"
        if self.model_decides:
            unknown = [v for v in self.verdicts if v.label == "unknown"]
            if any(v.principle.severity == "blocking" for v in unknown) or 2 * len(unknown) > len(self.verdicts):
                return "critique_failed" if self.failed_calls else "critique_unsure"
        return None


@dataclass(frozen=True, slots=True)
class Said:
    """What the model said when it was asked for one verdict; `failed` when the server did not give it."""

    label: Label
    p_met: float | None
    usage: Usage
    failed: bool


async def critique(
    turn: Turn,
    matches: Sequence[Match],
    model: ModelInfo,
    critic: Critic,
    params: Mapping[str, Any] | None = None,
    *,
    completed: Awaitable[Turn] | None = None,
    shown: bool = True,
) -> Critique:
    """Verdicts on `turn.answer` in the order of `matches`; where no rule tells and the model is not asked, there is none.
    Upstream failures become `unknown`; only bugs raise.

    `completed` is `turn` with what takes time to know, for the rules. What no rule answers is asked meanwhile. `shown`
    says whether anybody will see verdicts that only advise.
    """
    decides = critic.decides(model)
    advice = critic.settings.advice
    ask_model = decides or advice == "always" or (advice == "asked" and shown)
    prefix = [*turn.conversation.wire, {"role": "assistant", "content": turn.answer}]

    async def rule() -> dict[str, Label | None]:
        return await critic.off_loop(_by_rule, turn if completed is None else await completed, matches)

    by_rule = asyncio.create_task(rule())

    async def judge(match: Match) -> tuple[Verdict | None, Usage, bool]:
        principle = match.principle
        told = (await by_rule).get(principle.rule) if principle.rule else None
        if told is not None:
            return Verdict(principle, told, float(told == "met"), "rule"), Usage(), False
        if match.reason == "core" or not ask_model:
            return None, Usage(), False
        said = await ask_verdict(
            [*prefix, verdict_question(principle.statement, critic.prompts)], model, critic, params
        )
        return Verdict(principle, said.label, said.p_met, "model"), said.usage, said.failed

    _, judged = await asyncio.gather(by_rule, asyncio.gather(*(judge(match) for match in matches)))
    return Critique(
        verdicts=tuple(verdict for verdict, _, _ in judged if verdict is not None),
        usage=Usage.sum([usage for _, usage, _ in judged]),
        model_decides=decides,
        strict_threshold=critic.settings.strict_threshold,
        failed_calls=sum(failed for _, _, failed in judged),
        guards=frozenset(m.principle.id for m in matches if m.reason == "core"),
    )


def _by_rule(turn: Turn, matches: Sequence[Match]) -> dict[str, Label | None]:
    return {rule: RULES[rule](turn) for match in matches if (rule := match.principle.rule)}


async def gives_logprobs(model: ModelInfo, critic: Critic) -> bool:
    """Whether the upstream can judge at all: one token with its alternatives.

    Raises what says nothing about that: UpstreamUnavailable, UpstreamTimeout, UpstreamOverloaded, UpstreamRateLimited.
    """
    try:
        told = await critic.llm.chat(model, [{"role": "user", "content": "Hello"}], _params(critic, None))
    except (UpstreamUnavailable, UpstreamTimeout, UpstreamOverloaded, UpstreamRateLimited):
        raise
    except ClinAlignError:
        return False
    return bool(_top_tokens(told.logprobs))


def verdict_question(statement: str, prompts: Prompts) -> Wire:
    """The turn that asks for a verdict; it follows the conversation and the answer that is judged."""
    return {"role": "user", "content": prompts.render("verdict", statement=statement)}


async def ask_verdict(
    messages: Sequence[Wire], model: ModelInfo, critic: Critic, params: Mapping[str, Any] | None = None
) -> Said:
    """One token, read as a label. An upstream failure is a verdict that could not be had, never one against the text."""
    try:
        async with critic.slots:
            completion = await critic.llm.chat(model, messages, _params(critic, params))
    except (UpstreamError, ContextLengthExceeded):  # a finished draft must not fail for a verdict that has no room
        return Said("unknown", None, Usage(), failed=True)
    label, p_met = read_label(completion, min_mass=critic.settings.min_mass, threshold=critic.threshold)
    return Said(label, p_met, completion.usage, failed=completion.logprobs is None)


def _params(critic: Critic, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    params: dict[str, Any] = {
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": _TOP,
        **(extra or {}),
    }
    if critic.settings.chat_template_kwargs:
        params["chat_template_kwargs"] = critic.settings.chat_template_kwargs
    return params


def read_label(completion: Completion, *, min_mass: float, threshold: float) -> tuple[Label, float | None]:
    """Label and P(met) from the log-probabilities of the first token. (`unknown`, None) where they tell too little."""
    mass: dict[Label, float] = {"met": 0.0, "unmet": 0.0, "not_applicable": 0.0}
    for text, logprob in _top_tokens(completion.logprobs).items():
        label = _SPELLINGS.get(text.strip(" \t\n\"'*.,:;!()").casefold())
        if label:
            mass[label] += math.exp(min(0.0, logprob))
    if sum(mass.values()) < min_mass:
        return "unknown", None
    yes_or_no = mass["met"] + mass["unmet"]
    if mass["not_applicable"] > yes_or_no or not yes_or_no:
        return "not_applicable", None
    p_met = mass["met"] / yes_or_no
    return ("met" if p_met >= threshold else "unmet"), round(p_met, 4)


def _top_tokens(logprobs: Mapping[str, Any] | None) -> dict[str, float]:
    """Log-probability by token text. A dict, since servers may list the sampled token twice."""
    try:
        entries = (logprobs or {})["content"][0]["top_logprobs"]
        return {str(e["token"]): float(e["logprob"]) for e in entries if not math.isnan(float(e["logprob"]))}
    except (KeyError, IndexError, TypeError, ValueError):
        return {}

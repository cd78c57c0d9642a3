"""The reward: the gateway's own judgement of a text, as a number for GRPO.

A rubric's criteria are judged the way the gateway judges principles: by their rule where it can tell, else by one token
of the judge with the gateway's prompt (`service.stages.critique.ask_verdict`). The score is HealthBench's formula
(`service.scoring`). A verdict that could not be had is *missing*, never "not met": a grader that fails to answer would
otherwise reward answers on negative criteria and punish them on positive ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from principles_index.embed import query_text
from principles_index.encoders import Vectors
from service.domain import FlagKind, Frozen, Label, Turn, Usage
from service.language import detect
from service.llm import ModelInfo
from service.prompts import Prompts
from service.rules import RULES
from service.rules.form import no_repetition
from service.rules.length import count_words, length_as_asked
from service.safety import RedFlags
from service.scoring import score_points
from service.stages.critique import Critic, ask_verdict, verdict_question
from service.stages.retrieve import Retriever, with_relevance
from training.data import Criterion, Question, Rubric

PROMPTS = Path(__file__).parent / "prompts"

Guard = Literal["repeats", "too_short", "short", "too_long"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One criterion's outcome. `missing`: a verdict was wanted and could not be had; `failed`: because the judge's server
    did not give it."""

    criterion: Criterion
    label: Label
    p_met: float | None
    source: Literal["rule", "judge", "none"]
    missing: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Scored:
    """All outcomes on one text, in the order of the criteria."""

    judged: tuple[Judged, ...]
    usage: Usage = field(default_factory=Usage)

    @cached_property
    def score(self) -> float | None:
        """Σ points of met criteria ÷ Σ positive points, over what was decided; None where nothing positive was."""
        return score_points((j.criterion.points, j.label) for j in self.judged)

    @cached_property
    def had(self) -> float:
        """Share of the verdicts that were wanted and were had, in [0, 1]."""
        wanted = [j for j in self.judged if j.source != "none"]
        return sum(not j.missing for j in wanted) / len(wanted) if wanted else 0.0


class JudgeLike(Protocol):
    """Whatever gives a verdict on one criterion, and says what it cost."""

    async def ask(self, question: Question, text: str, criterion: Criterion) -> tuple[Judged, Usage]: ...


@dataclass(frozen=True, slots=True)
class Judge:
    """The model that judges what rules cannot. Its prompts are the gateway's, but for faults (negative points)."""

    critic: Critic
    model: ModelInfo
    prompts: Prompts

    async def ask(self, question: Question, text: str, criterion: Criterion) -> tuple[Judged, Usage]:
        if criterion.points > 0:
            asked = verdict_question(criterion.text, self.critic.prompts)
        else:
            asked = {"role": "user", "content": self.prompts.render("present", statement=criterion.text)}
        messages = [*question.conversation.wire, {"role": "assistant", "content": text}, asked]
        said = await ask_verdict(messages, self.model, self.critic)
        # Too little mass on any label tells as little as no reply.
        missing = said.failed or said.label == "unknown"
        return Judged(criterion, said.label, said.p_met, "judge", missing, said.failed), said.usage


class Scorer:
    """Judges texts against rubrics. Without a judge rules decide alone, and a rule that abstains decides nothing."""

    def __init__(self, retriever: Retriever, flags: RedFlags, worker: Executor, judge: JudgeLike | None = None) -> None:
        self._retriever = retriever
        self._flags = flags
        self._worker = worker
        self._judge = judge
        self._asked: dict[str, tuple[frozenset[FlagKind], str | None, Vectors | None]] = {}

    async def score(self, rubric: Rubric, text: str) -> Scored:
        """Never raises for what the judge's server does; that is `missing`."""
        turn = await self._turn(rubric.question, text)
        loop = asyncio.get_running_loop()
        by_rule = await loop.run_in_executor(self._worker, _by_rule, turn, rubric.criteria)

        async def judge(criterion: Criterion) -> tuple[Judged, Usage]:
            told = by_rule.get(criterion.rule) if criterion.rule else None
            if told is not None:
                return Judged(criterion, told, float(told == "met"), "rule"), Usage()
            if criterion.rule_only or self._judge is None:
                return Judged(criterion, "not_applicable", None, "none"), Usage()
            return await self._judge.ask(rubric.question, text, criterion)

        outcomes = await asyncio.gather(*(judge(criterion) for criterion in rubric.criteria))
        return Scored(tuple(judged for judged, _ in outcomes), Usage.sum([usage for _, usage in outcomes]))

    async def _turn(self, question: Question, text: str) -> Turn:
        """What the pipeline tells its rules: language, red flags and relevance."""
        if question.id not in self._asked:
            conversation = question.conversation
            flags = frozenset(flag.kind for flag in self._flags.detect(conversation.user_texts))
            embedder = self._retriever.embedder
            vector = await embedder.embed(query_text(conversation), first=True) if embedder else None
            self._asked[question.id] = (flags, detect(conversation.last_user_text), vector)
        flags, language, vector = self._asked[question.id]
        return await with_relevance(Turn(question.conversation, text, language, flags), vector, self._retriever)


def _by_rule(turn: Turn, criteria: Sequence[Criterion]) -> Mapping[str, Label | None]:
    """Outcomes by rule name."""
    return {rule: RULES[rule](turn) for rule in {c.rule for c in criteria if c.rule}}


class Guards(Frozen):
    """What no score makes up for, and the price of being shorter or longer than an answer should be."""

    least_words: int = Field(ge=0)
    few_words: int = Field(ge=0)
    few_penalty: float = Field(ge=0)
    least_had: float = Field(gt=0, le=1)
    overlong_buffer: int = Field(ge=0)
    overlong_penalty: float = Field(ge=0)


@dataclass(frozen=True, slots=True)
class Rewarded:
    """`value` is None where too few verdicts were had: such a completion is neither good nor bad, and is left out."""

    value: float | None
    scored: Scored | None
    guards: tuple[Guard, ...] = ()


class Reward:
    """`Scorer` with guards against what rewards are known to be gamed by: saying nothing, saying it again, going on."""

    def __init__(self, scorer: Scorer, guards: Guards, most_tokens: int) -> None:
        self.scorer = scorer
        self.guards = guards
        self.most_tokens = most_tokens

    async def __call__(self, rubric: Rubric, text: str, tokens: int) -> Rewarded:
        """`tokens` is the completion's length. An empty or repeating text is worth 0 and is not sent to the judge."""
        if count_words(text) < self.guards.least_words:
            return Rewarded(0.0, None, ("too_short",))
        scored = await self.scorer.score(rubric, text)
        return self.of(scored, rubric, text, tokens)

    def of(self, scored: Scored, rubric: Rubric, text: str, tokens: int) -> Rewarded:
        """The reward of a text whose criteria were judged."""
        if no_repetition(Turn(rubric.question.conversation, text, None)) == "unmet":
            return Rewarded(min(0.0, scored.score or 0.0), scored, ("repeats",))
        if scored.score is None or scored.had < self.guards.least_had:
            return Rewarded(None, scored)
        short = self.guards.few_penalty * self._shortage(rubric, text)
        long = self.guards.overlong_penalty * overlong(tokens, self.most_tokens, self.guards.overlong_buffer)
        prices: tuple[tuple[Guard, float], ...] = (("short", short), ("too_long", long))
        found = tuple(guard for guard, price in prices if price)
        return Rewarded(scored.score - short - long, scored, found)

    def _shortage(self, rubric: Rubric, text: str) -> float:
        """0 from `few_words` on, 1 for no word. The fewer words, the fewer rules they break: without a price answers
        shrink to a line. Whoever asked for a short answer may have one."""
        few = self.guards.few_words
        words = count_words(text)
        if words >= few or length_as_asked(Turn(rubric.question.conversation, text, None)) is not None:
            return 0.0
        return (few - words) / few


def overlong(tokens: int, most: int, buffer: int) -> float:
    """0 up to `most - buffer` tokens, then in a straight line to 1 at `most` (DAPO's soft overlong punishment,
    arXiv 2503.14476, equation 13)."""
    if buffer == 0:
        return 0.0
    return min(1.0, max(0.0, (tokens - (most - buffer)) / buffer))

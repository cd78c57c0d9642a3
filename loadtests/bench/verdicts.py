"""What each way of asking for verdicts saves: the same drafts, the same principles, one way changed at a time.

Ways, each after a draft that left its tokens in the prefix cache:
- *as served*: rules first, the model asked for the rest, all at once, a question that begins as all do;
- *no rules*: the model is asked about every principle that was retrieved, whatever a rule could tell;
- *one first*: the first question alone, then the rest, so that what all questions share is computed once;
- *one at a time*;
- *no shared prefix*: each question with a cache salt of its own, as if it began with what makes it different.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from loadtests.bench.cost import ratio
from loadtests.bench.stack import forget
from service.app import create_app
from service.domain import Conversation, Match, Turn, Usage
from service.llm import ModelInfo
from service.pipeline import Kit
from service.settings import Settings
from service.stages.critique import critique
from service.stages.retrieve import Choice, retrieve

MAX_TOKENS = 128
Way = Callable[[Turn, Sequence[Match]], Awaitable[Usage]]


async def measure(settings: Settings, url: str, asked: Sequence[str]) -> dict[str, Any]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        return await _measure(app.state.context.kit, url, asked)


async def _measure(kit: Kit, url: str, asked: Sequence[str]) -> dict[str, Any]:
    model = await kit.llm.model()
    ways = _ways(kit, model)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    usage: dict[str, Usage] = {name: Usage() for name in ways}
    for turn, question in enumerate(asked):
        conversation = Conversation.of(("user", question))
        retrieved = await retrieve(conversation, Choice(guard=False), (), kit.retriever)
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            await asyncio.to_thread(forget, url)
            draft = await kit.llm.chat(model, conversation.wire, {"temperature": 0, "max_tokens": MAX_TOKENS})
            judged = Turn(conversation, draft.text, "en")
            start = time.perf_counter()
            spent = await ways[name](judged, retrieved.matches)
            seconds[name].append(time.perf_counter() - start)
            usage[name] += spent
    served = seconds["as served"]
    return {
        "questions": len(asked),
        "median_s": {name: round(median(s), 3) for name, s in seconds.items()},
        "ratio_to_as_served": {name: ratio(s, served) for name, s in seconds.items()},
        "calls_per_draft": {name: round(u.completion_tokens / len(asked), 1) for name, u in usage.items()},
        "prompt_tokens_computed_per_draft": {
            name: round((u.prompt_tokens - u.cached_tokens) / len(asked)) for name, u in usage.items()
        },
        "cache_share": {name: round(u.cached_tokens / max(1, u.prompt_tokens), 3) for name, u in usage.items()},
    }


def _ways(kit: Kit, model: ModelInfo) -> dict[str, Way]:
    async def ask(turn: Turn, matches: Sequence[Match], params: Mapping[str, Any] | None = None) -> Usage:
        return (await critique(turn, matches, model, kit.critic, params)).usage

    async def no_rules(turn: Turn, matches: Sequence[Match]) -> Usage:
        asked = [m for m in matches if m.reason != "core"]
        return await ask(turn, [replace(m, principle=m.principle.model_copy(update={"rule": None})) for m in asked])

    async def one_first(turn: Turn, matches: Sequence[Match]) -> Usage:
        first = next((m for m in matches if m.principle.rule is None), None)
        if first is None:
            return await ask(turn, matches)
        usage = await ask(turn, [first])
        return usage + await ask(turn, [m for m in matches if m is not first])

    async def one_at_a_time(turn: Turn, matches: Sequence[Match]) -> Usage:
        return Usage.sum([await ask(turn, [match]) for match in matches])

    async def no_shared_prefix(turn: Turn, matches: Sequence[Match]) -> Usage:
        return Usage.sum(
            await asyncio.gather(*(ask(turn, [match], {"cache_salt": uuid.uuid4().hex}) for match in matches))
        )

    return {
        "as served": ask,
        "no rules": no_rules,
        "one first": one_first,
        "one at a time": one_at_a_time,
        "no shared prefix": no_shared_prefix,
    }


def table(report: Mapping[str, Any]) -> str:
    lines = [f"{'':18}{'seconds':>9}{'÷ served':>9}{'calls':>7}{'tokens computed':>17}{'from cache':>12}"]
    for name, seconds in report["median_s"].items():
        lines.append(
            f"{name:18}{seconds:>9.3f}{report['ratio_to_as_served'][name]:>9.2f}{report['calls_per_draft'][name]:>7.1f}"
            f"{report['prompt_tokens_computed_per_draft'][name]:>17}{report['cache_share'][name]:>12.3f}"
        )
    return "\n".join(lines)

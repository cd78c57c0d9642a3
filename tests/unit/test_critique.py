"""The model is asked while the rules read, and never about what a rule has answered."""

from __future__ import annotations

import asyncio

from service.domain import Completion, Conversation, Match, Turn
from service.stages.critique import critique
from tests.fakes import MODEL, FakeLLM, verdict
from tests.kit import kit_of, library

TURN = Turn(Conversation.of(("user", "I have a cold")), "Rest, and drink enough water.", "en")


def matches() -> tuple[list[Match], int]:
    """Principles without a rule and one whose rule answers, with the number of those without."""
    free = [p for p in library().principles if p.rule is None][:3]
    ruled = next(p for p in library().principles if p.rule)
    return [Match(p, 0.5, "statement") for p in (*free, ruled)], len(free)


async def test_what_no_rule_answers_is_asked_before_the_turn_is_complete() -> None:
    asked = asyncio.Event()
    chosen, free = matches()
    count = 0

    def judge(question: str) -> Completion:
        nonlocal count
        count += 1
        if count == free:
            asked.set()
        return verdict(0.9, 0.1)

    async def completed() -> Turn:
        await asked.wait()  # for ever, if the model were asked only afterwards
        return TURN

    async with asyncio.timeout(10):
        judged = await critique(TURN, chosen, MODEL, kit_of(FakeLLM(judge=judge)).critic, completed=completed())
    assert [v.source for v in judged.verdicts][:free] == ["model"] * free


async def test_a_cancelled_critique_leaves_nothing_running() -> None:
    started = asyncio.Event()
    stopped = False

    async def completed() -> Turn:
        nonlocal stopped
        started.set()
        try:
            return await asyncio.Future()
        finally:
            stopped = True

    chosen, _ = matches()
    task = asyncio.create_task(critique(TURN, chosen, MODEL, kit_of(FakeLLM()).critic, completed=completed()))
    await started.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert stopped
    assert asyncio.all_tasks() == {asyncio.current_task()}

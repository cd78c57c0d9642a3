"""Stage 4: candidates that mend what is unmet, decoded side by side in one batch.

*edit* continues the conversation (draft, what to mend, "write it again"); *fresh* asks the user's last turn again with
what to mind added. Which wins depends on the model, so both are a setting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.domain import Completion, Conversation, Principle
from service.errors import ClinAlignError, UpstreamError
from service.llm import LLM, ModelInfo, Wire
from service.prompts import Prompts
from service.rules.text import runs, words
from service.settings import Candidate as Kind

_CHARS_PER_TOKEN = 3.0  # our prompts are English prose at more than four; three leaves room
_ECHO = 6  # words in a row that no answer shares with a request by chance
_LEAST_TOKENS = 64  # a candidate with less room than this would be cut off


@dataclass(frozen=True, slots=True)
class Candidate:
    kind: Kind
    completion: Completion


@dataclass(frozen=True, slots=True)
class Room:
    """What the context leaves: `context` tokens in all (None: not told), `prompt` of the conversation, `longest` per text."""

    context: int | None
    prompt: int
    longest: int

    def left(self, *, after: float) -> int:
        """Tokens for a text whose prompt is `after` tokens longer than the conversation's."""
        return self.longest if self.context is None else min(self.longest, int(self.context - self.prompt - after))


def tokens_of(text: str) -> float:
    """A high guess of our own prompts' length, so that no tokeniser is needed."""
    return len(text) / _CHARS_PER_TOKEN + 16


def candidate_messages(
    kind: Kind, conversation: Conversation, answer: str, principles: Sequence[Principle], prompts: Prompts
) -> list[Wire] | None:
    """The prompt of a candidate; None where its kind does not fit the conversation."""
    repairs = "\n".join(f"- {p.repair}" for p in principles)
    if kind == "edit":
        request = {"role": "user", "content": prompts.render("edit", repairs=repairs)}
        return [*conversation.wire, {"role": "assistant", "content": answer}, request]
    if conversation.messages[-1].role != "user":
        return None
    question = prompts.render("fresh", question=conversation.messages[-1].text, repairs=repairs)
    return [*conversation.wire[:-1], {"role": "user", "content": question}]


def plan(
    kind: Kind,
    conversation: Conversation,
    answer: Completion,
    principles: Sequence[Principle],
    prompts: Prompts,
    room: Room,
) -> tuple[list[Wire], int] | None:
    """Messages and max_tokens of a candidate, with the least weighty principles dropped until it fits; None if it cannot."""
    kept = list(principles)
    while kept:
        messages = candidate_messages(kind, conversation, answer.text, kept, prompts)
        if messages is None:
            return None
        added = tokens_of(str(messages[-1]["content"]))
        if kind == "edit":
            added += answer.usage.completion_tokens
        else:
            added -= len(conversation.last_user_text) / _CHARS_PER_TOKEN  # already in the conversation's prompt
        longest = room.left(after=added)
        if longest >= min(room.longest, _LEAST_TOKENS):
            return messages, longest
        kept.pop()
    return None


def echoes(
    text: str, kind: Kind, principles: Sequence[Principle], prompts: Prompts, conversation: Conversation
) -> bool:
    """Whether a candidate repeats our request instead of answering: six words in a row of the prompt's own text, or the
    first six of a repair. Words that the conversation holds as well prove nothing."""
    ours = {run for part in prompts.own_words(kind) for run in _runs(part)}
    ours |= {run for p in principles for run in _runs(p.repair)[:1]}
    echoed = ours.intersection(_runs(text))
    return bool(echoed) and not echoed.issubset(run for m in conversation.messages for run in _runs(m.text))


def _runs(text: str) -> list[tuple[str, ...]]:
    return runs(words(text), _ECHO)


async def revise(
    plans: Sequence[tuple[Kind, list[Wire], int]], model: ModelInfo, params: Mapping[str, Any], llm: LLM
) -> list[Candidate]:
    """All candidates at once. One that fails is left out; raises the first error when all fail."""

    async def write(kind: Kind, messages: list[Wire], longest: int) -> Candidate | ClinAlignError:
        try:
            return Candidate(kind, await llm.chat(model, messages, {**params, "max_tokens": longest}))
        except UpstreamError as error:
            return error

    written = await asyncio.gather(*(write(*each) for each in plans))
    candidates = [each for each in written if isinstance(each, Candidate)]
    if not candidates and written:
        raise next(each for each in written if isinstance(each, ClinAlignError))
    return candidates

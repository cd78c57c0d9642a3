"""Stage 4 with `stream: live`: one candidate goes out while it is written, a sentence at a time.

A sentence leaves once the text up to its end breaks no prohibition, so a blocking rule that speaks at once is as good
here as before a finished text. What only the whole text can show (a missing piece of advice) is judged afterwards, and
the last chunk tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.domain import Completion, Match, Turn
from service.errors import AnswerBlocked, UpstreamError
from service.llm import ModelInfo, Wire
from service.rules import PROHIBITIONS, RULES
from service.settings import Candidate as Kind
from service.stages.critique import Critic
from service.stages.revise import Candidate

# A full stop counts only once what follows it is known to be white space: "1.5" must not go out as "1.".
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*\s|[。！？｡]+[\"'”’」』）)]*|\n")


async def write_live(
    plan: tuple[Kind, Sequence[Wire], int],
    model: ModelInfo,
    params: Mapping[str, Any],
    critic: Critic,
    matches: Sequence[Match],
    *,
    turn: Callable[[str], Turn],
    send: Callable[[str], None],
) -> Candidate:
    """The candidate, all of it sent. Raises AnswerBlocked before a sentence that breaks a prohibition; UpstreamError."""
    kind, messages, longest = plan
    rules = [RULES[m.principle.rule] for m in matches if m.principle.rule and m.principle.rule in PROHIBITIONS]
    text, sent = "", 0
    async for piece in critic.llm.stream(model, messages, {**params, "max_tokens": longest}):
        if isinstance(piece, Completion):
            await critic.off_loop(_check, rules, turn(piece.text))
            send(piece.text[sent:])
            return Candidate(kind, piece)
        text += piece
        end = whole_sentences(text, sent)
        if end > sent:
            await critic.off_loop(_check, rules, turn(text[:end]))
            send(text[sent:end])
            sent = end
    raise UpstreamError("The model server broke off its answer.")


def _check(rules: Sequence[Callable[[Turn], str | None]], turn: Turn) -> None:
    if any(rule(turn) == "unmet" for rule in rules):
        raise AnswerBlocked("The answer was stopped: its next sentence failed a principle that withholds an answer.")


def whole_sentences(text: str, start: int) -> int:
    """Where the last sentence that is complete ends, looking from `start` on; `start` when there is none."""
    end = start
    for match in _SENTENCE_END.finditer(text, start):
        end = match.end()
    return end

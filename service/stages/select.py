"""Stage 5: the better text, judged by the same verdicts on the same principles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.stages.critique import Critique
from service.stages.revise import Candidate

Flaw = Literal["tool_call", "empty", "cut_off", "wrong_format", "echoes_request", "off_topic"]
Refusal = Literal["unverified", "blocking", "not_better", "accepted"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A text, its critique (None where a flaw made one needless), and what became of it."""

    candidate: Candidate
    critique: Critique | None
    outcome: Flaw | Refusal | Literal["beaten"]


def refusal(critique: Critique, best: Critique, *, margin: float) -> Refusal:
    """Why a candidate's verdicts keep it from replacing the best text so far, or `accepted`. A tie keeps what is there."""
    if critique.doubt or critique.score is None:
        return "unverified"
    if critique.blocking:
        return "blocking"
    if best.score is not None and critique.score <= best.score + margin:
        return "not_better"
    return "accepted"


def select(judged: Sequence[Judged]) -> int | None:
    """Index of the best accepted candidate: highest score, then fewest tokens, then first. None when there is none."""
    ranked = [
        (-(each.critique.score or 0.0), each.candidate.completion.usage.completion_tokens, i)
        for i, each in enumerate(judged)
        if each.outcome == "accepted" and each.critique
    ]
    return min(ranked)[-1] if ranked else None

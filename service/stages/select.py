"""Stage 5: the better text, judged by the same verdicts on the same principles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.domain import Completion
from service.stages.critique import Critique
from service.stages.revise import Candidate

Flaw = Literal["wrong_format", "off_topic", "echoes_request"]
Refusal = Literal["accepted", "empty", "cut_off", "tool_call", "unverified", "blocking", "not_better", "beaten"] | Flaw


@dataclass(frozen=True, slots=True)
class Judged:
    """A text with its critique, and what became of it."""

    candidate: Candidate
    critique: Critique
    outcome: Refusal


def refusal(candidate: Candidate, critique: Critique, best: Critique, *, margin: float, flaw: Flaw | None) -> Refusal:
    """Why a candidate cannot replace the best text so far, or `accepted`. A tie keeps what is there.

    `flaw` is what no score makes up for, whichever principles were asked for.
    """
    completion: Completion = candidate.completion
    if completion.calls_tools:
        return "tool_call"
    if not completion.text.strip():
        return "empty"
    if completion.cut_off:
        return "cut_off"
    if flaw:
        return flaw
    if critique.doubt or critique.score is None:
        return "unverified"
    if critique.blocking:
        return "blocking"
    if best.score is not None and critique.score <= best.score + margin:
        return "not_better"
    return "accepted"


def select(judged: Sequence[Judged]) -> int | None:
    """Index of the best accepted candidate: highest score, then fewest tokens, then first. None when there is none."""
    accepted = [i for i, each in enumerate(judged) if each.outcome == "accepted"]
    if not accepted:
        return None

    def rank(i: int) -> tuple[float, int, int]:
        return (-(judged[i].critique.score or 0.0), judged[i].candidate.completion.usage.completion_tokens, i)

    return min(accepted, key=rank)

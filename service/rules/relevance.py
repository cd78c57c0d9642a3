"""Whether an answer deals with what was asked, by the cosine of their vectors.

A small model that is asked to repair its answer often turns to stock phrases ("I'm here to help. What can I do for
you?") or talks about the request to repair. Such texts break no other rule, since they say nothing.

The bounds were set on K-QA: of 103 physicians' answers the least similar to its own question had 0.33, of answers to
other questions 94 % were below 0.3. docs/reference/rules.md has the figures on pairs that were written without a look at
this rule. They hold for all-MiniLM-L6-v2 and English, so the rule is silent about everything else.
"""

from __future__ import annotations

from typing import Literal

from service.domain import Turn
from service.rules.text import asks_for_a_text, in_english, words

_MET, _UNMET, _UNMET_SHORT = 0.40, 0.30, 0.15
_SHORT = 12  # words; "Yes, that is safe." is an answer although it names nothing


def answers_the_question(turn: Turn) -> Literal["met", "unmet"] | None:
    """The answer is about what the user asked, whether or not it is right."""
    told = turn.relevance
    if told is None or turn.red_flags or turn.answer.lstrip().startswith(("{", "[")) or not in_english(turn):
        return None
    if told >= _MET:
        return "met"
    if told >= (_UNMET_SHORT if len(words(turn.answer)) < _SHORT else _UNMET) or asks_for_a_text(turn):
        return None
    return "unmet"

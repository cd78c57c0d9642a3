"""Prompts as tokens: our prompts' real words, and questions and answers that are nothing but a length.

Rendered as a chat template does, so that an answer's prompt is the exact beginning of the prompts that judge and repair it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from loadtests.stub_text import tokens
from loadtests.stub_timing import Token
from principles_index.schema import load_library
from service.domain import Principle
from service.prompts import Prompts
from service.settings import Candidate as Kind

Text = tuple[Token, ...]

_END: Text = ("<|im_end|>", "\n")


def _turn(role: str, text: Text) -> Text:
    return (*_header(role), *text, *_END)


def _header(role: str) -> Text:
    return ("<|im_start|>", role, "\n")


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation up to the user's last turn. `before` are the turns before it, `key` is the same for later turns."""

    key: str
    salt: str
    before: Text
    asked: Text

    @property
    def prompt(self) -> Text:
        return (*self.before, *_turn("user", self.asked), *_header("assistant"))

    def answered(self, text: Text) -> Text:
        return (*self.prompt, *text, *_END)

    def asked_again(self, answer: Text, asked: Text) -> Talk:
        """The same conversation one turn later."""
        return Talk(self.key, self.salt, self.answered(answer), asked)


@dataclass(frozen=True)
class Words:
    """What the gateway adds to a conversation, from its prompts and the library."""

    prompts: Prompts

    @cached_property
    def questions(self) -> list[Text]:
        """One for each principle that the model judges."""
        return [tokens(self.prompts.render("verdict", statement=p.statement)) for p in self._judged]

    @cached_property
    def repairs(self) -> list[Text]:
        """In the order of `questions`."""
        return [tokens(f"- {p.repair}\n") for p in self._judged]

    @cached_property
    def _judged(self) -> list[Principle]:
        return [p for p in load_library().principles if p.rule is None]

    @cached_property
    def _own(self) -> dict[Kind, list[Text]]:
        return {kind: [tokens(part) for part in self.prompts.own_words(kind)] for kind in ("edit", "fresh")}

    def verdict(self, talk: Talk, answer: Text, principle: int) -> Text:
        question = self.questions[principle % len(self.questions)]
        return (*talk.answered(answer), *_turn("user", question), *_header("assistant"))

    def candidate(self, kind: Kind, talk: Talk, answer: Text, principles: Sequence[int]) -> Text:
        repairs = tuple(itertools.chain.from_iterable(self.repairs[i % len(self.repairs)] for i in principles))
        if kind == "edit":
            before, after = self._own["edit"]
            return (*talk.answered(answer), *_turn("user", (*before, *repairs, *after)), *_header("assistant"))
        first, before, after = self._own["fresh"]
        asked = (*first, *talk.asked, *before, *repairs, *after)
        return (*talk.before, *_turn("user", asked), *_header("assistant"))


@cache
def words() -> Words:
    """Those of this deployment. Kept, since reading the library takes longer than many a simulation."""
    return Words(Prompts.load())


class Lengths:
    """New texts of lognormal length; no two share a token, so nothing is cached by chance."""

    def __init__(self, spread: float) -> None:
        self._spread = spread
        self._next = 0

    def text(self, median: int, chance: random.Random) -> Text:
        length = max(1, round(median * math.exp(chance.gauss(0, self._spread))))
        self._next += length
        return tuple(range(self._next - length, self._next))

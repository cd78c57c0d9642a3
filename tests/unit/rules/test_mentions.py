"""Mentions, warnings and assent, and answers that no rule may object to."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from service.domain import Conversation, Turn
from service.rules import PROHIBITIONS, RULES
from service.rules.advice import statements
from service.rules.mentions import assents, declines, field, said_of, warned

HONEY = field("honey|miel", "꿀|蜂蜜")
SAFE = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "cases/safe_answers.jsonl").read_text("utf-8").splitlines()
]
_END = re.compile(r"[.!?\n]+(?=\s)|[。！？]")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Stir a spoon of honey into warm water.", "advised"),
        ("Use pears, not honey.", "warned"),
        ("Honey is off limits. Offer pears.", "warned"),
        ("Honey comes from bees. Offer pears.", "open"),
        ("A little honey at night. It can cause botulism, though.", "open"),
        ("Better not. Honey in tea is for later.", "open"),
        ("Offer pears.", "absent"),
        ("Una cucharada de miel por la noche.", "advised"),
        ("No le dé miel.", "warned"),
        ("꿀을 한 숟가락 타서 먹이세요.", "advised"),
        ("꿀은 먹이지 마세요.", "warned"),
        ("睡前喂一勺蜂蜜水。", "advised"),
        ("不要喂蜂蜜。", "warned"),
    ],
)
def test_what_is_said_of_a_thing(answer: str, said: str) -> None:
    assert said_of(statements(answer), HONEY) == said


@pytest.mark.parametrize(
    "text", ["no harm in it", "don't worry, give it", "not more than two a day", "if it does not help"]
)
def test_a_denial_that_approves_or_sets_a_limit_warns_of_nothing(text: str) -> None:
    assert not warned(text)


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("Yes, that's fine.", True),
        ("Go ahead, a little at a time.", True),
        ("That is a good idea, but not before she is one.", False),
        ("Better not. Pears are fine.", False),
        ("Sure, I can explain.", False),
    ],
)
def test_assent(answer: str, yes: bool) -> None:
    assert assents(statements(answer)) is yes


def test_declining() -> None:
    assert declines(statements("I'd leave it for now. Try pears."))
    assert not declines(statements("No problem, go ahead."))


@pytest.mark.parametrize("row", SAFE, ids=[row["user"][:40] for row in SAFE])
def test_no_rule_objects_to_a_safe_answer(row: dict[str, object]) -> None:
    """Nor a prohibition to any beginning of it, as a live stream shows them."""
    flags = row["red_flags"]
    assert isinstance(flags, list)
    answer = str(row["answer"])
    turn = Turn(Conversation.of(("user", str(row["user"]))), answer, str(row["lang"]), frozenset(flags))
    assert [name for name, rule in RULES.items() if rule(turn) == "unmet"] == []
    for end in _END.finditer(answer):
        begun = replace(turn, answer=answer[: end.end()])
        assert [name for name in sorted(PROHIBITIONS) if RULES[name](begun) == "unmet"] == [], begun.answer

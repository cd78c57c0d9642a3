"""Every answer that a rule can withhold has something in its place: a fixed text of the principle or of a red flag."""

from __future__ import annotations

import re

import pytest

from service.domain import Principle
from service.pipeline import revise_answer
from service.rules import BLOCKING_RULES
from service.safe_texts import SafeTexts
from service.stages.retrieve import RULES_OF_FLAG
from tests.fakes import FakeLLM
from tests.kit import ask, kit_of, library

LANGUAGES = ("en", "es", "ko", "zh")
TEXTS = SafeTexts.load()
OF_FLAGS: set[str] = {rule for flag in RULES_OF_FLAG.values() for rule in flag}
BLOCKING = [p for p in library().principles if p.rule in BLOCKING_RULES and p.severity == "blocking"]


def test_every_blocking_rule_belongs_to_a_blocking_principle() -> None:
    assert {p.rule for p in BLOCKING} == BLOCKING_RULES


@pytest.mark.parametrize("principle", [p for p in BLOCKING if p.rule not in OF_FLAGS], ids=lambda p: p.id)
def test_a_blocking_principle_has_a_text_in_every_main_language_without_doses_or_numbers(principle: Principle) -> None:
    told = {language: TEXTS.text(principle.id, language) for language in LANGUAGES}
    assert len({text for text in told.values() if text}) == len(LANGUAGES)
    assert not [text for text in told.values() if re.search(r"\d{3,}|\bmg\b|https?:", text or "")]


async def test_an_answer_that_leaves_out_what_matters_is_replaced() -> None:
    bad = "Yes, ibuprofen is a good choice for a sore knee, two tablets after breakfast and two in the evening."
    question = "Can my mother have ibuprofen for her knee? She is on warfarin."
    answer = await revise_answer(ask(question), kit_of(FakeLLM(bad, bad, bad)))
    assert (answer.status, answer.reason, answer.work.flags) == ("safety_text", "blocked", ())
    assert answer.text == TEXTS.text("serious-interaction-named", "en")

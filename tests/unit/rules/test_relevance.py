from __future__ import annotations

import pytest

from service.domain import Conversation, Role, Turn
from service.rules.relevance import answers_the_question

EVASION = "I am here to help you with all of your health and wellbeing needs. What can I do for you today?"
PREVIOUS = "A weak heart lets water collect in the legs and the lungs, which is why you are short of breath."


@pytest.mark.parametrize(
    ("near", "verdict"), [(None, None), (0.40, "met"), (0.39, None), (0.30, None), (0.29, "unmet"), (-0.2, "unmet")]
)
def test_the_bounds(near: float | None, verdict: str | None) -> None:
    turn = Turn(Conversation.of(("user", "Is this rash shingles?")), EVASION, "en", relevance=near)
    assert answers_the_question(turn) == verdict


@pytest.mark.parametrize(("near", "verdict"), [(0.39, None), (0.15, None), (0.14, "unmet")])
def test_a_short_answer_may_name_nothing(near: float, verdict: str | None) -> None:
    turn = Turn(Conversation.of(("user", "Is this rash shingles?")), "Yes, that is what it is.", "en", relevance=near)
    assert answers_the_question(turn) == verdict


def test_a_short_reply_to_the_assistant_names_no_subject_and_a_long_one_does() -> None:
    asked: tuple[tuple[Role, str], ...] = (("user", "Why are my ankles swollen?"), ("assistant", PREVIOUS))
    for last, verdict in (
        ("say that in simpler words", None),
        ("and does it also explain why I have to get up at night so often to pass water?", "unmet"),
    ):
        turn = Turn(Conversation.of(*asked, ("user", last)), EVASION, "en", relevance=0.0)
        assert answers_the_question(turn) == verdict

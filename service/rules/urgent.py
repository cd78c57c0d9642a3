"""Rules of urgency: emergencies and overdoses.

They read English; the three that look for help being named also read Korean, Spanish and Chinese. Where the user is
already in care, is a clinician, or asks for a text to be written, they say at most *met*: a good answer may then look
different.
"""

from __future__ import annotations

import re
from typing import Literal

from service.domain import Turn
from service.rules import abroad
from service.rules import urgent_words as pattern
from service.rules.advice import Statement, advice, advice_of, has_negation, statements
from service.rules.countries import country_of, names_another, offered_numbers, right_numbers
from service.rules.help_words import LANGUAGES, calls, names_people, poison_centre, sounds_urgent
from service.rules.text import (
    asks_for_a_text,
    forbids,
    in_english,
    is_professional,
    normalise,
    plain_english,
    spoken,
    user_text,
    words,
)

Outcome = Literal["met", "unmet"] | None

VERY_SHORT = 5  # words; a Chinese character counts as one, and ten of them make such a sentence


def special(turn: Turn) -> bool:
    """Whether the person is in care already, a professional, or wants a text: an unusual answer may then be right."""
    text = user_text(turn)
    return bool(pattern.IN_CARE.search(text)) or is_professional(text) or asks_for_a_text(turn)


def _opening(answer: str, language: str) -> tuple[list[Statement], list[Statement]]:
    """The first two sentences, three where one of them is hardly one, and the rest."""
    found = statements(answer)
    limit = 10 if language == "zh" else VERY_SHORT
    count = 3 if any(len(words(s.text)) <= limit for s in found[:2]) else 2
    return found[:count], found[count:]


def emergency_advice_first(turn: Turn) -> Outcome:
    """The first two sentences send the person to the emergency services now."""
    language = spoken(turn, *LANGUAGES)
    if "emergency" not in turn.red_flags or language is None:
        return None
    opening, rest = _opening(turn.answer, language)
    found = calls(opening, language)
    sent_away = language == "en" and any(told_not_to_go(s) for s in opening)
    if sent_away and ("now" in found or not calls(rest, "en")):
        return None if special(turn) else "unmet"
    if "now" in found:
        return "met"
    late = calls(rest[:1], language)
    if "maybe" in found or "now" in late or special(turn):
        return None
    if "worse" not in found and sounds_urgent(" ".join(s.text for s in opening), language):
        return None
    return "unmet"


def told_not_to_go(statement: Statement) -> bool:
    """Whether a sentence tells the reader, on no condition, that there is no need to go or to call."""
    found = pattern.TOLD_NOT_TO_GO.search(statement.text)
    return bool(found) and not statement.text.endswith("?") and not _IF.search(statement.text)


_IF = re.compile(r"\b(?:if|unless|when|once|until|yourself|alone|on your own)\b")


@forbids
def no_wait_in_emergency(turn: Turn) -> Outcome:
    """Nowhere tells the person to wait and see, to book an appointment or to try things at home first.

    What is plain waiting is wrong wherever it stands; a home measure is wrong before the call for help, not while it comes.
    """
    if not turn.red_flags & {"emergency", "overdose"} or not in_english(turn):
        return None
    found = [s for s in statements(turn.answer) if not pattern.LATER.search(s.text)]
    called, told = False, set[str]()
    for statement in found:
        waiting, trying = advice_of(statement, pattern.WAITING), advice_of(statement, pattern.TRYING, firm=True)
        called |= poison_centre([statement], "en") == "named"
        if waiting == "given" or (not called and (trying == "given" or told_not_to_go(statement))):
            return None if special(turn) else "unmet"
        called |= "now" in calls([statement], "en")
        told |= {waiting, trying} if not called else {waiting}
    denied = any(pattern.TOLD_NOT_TO_GO.search(s.text) for s in found)
    return None if "unclear" in told or denied or calls(found, "en") == {"worse"} else "met"


def no_needless_emergency(turn: Turn) -> Outcome:
    """With no danger sign in the message, the answer does not open by sending the person to the emergency services."""
    language = spoken(turn, *LANGUAGES)
    if turn.red_flags or language is None:
        return None
    asked = user_text(turn)
    if is_professional(asked) or asks_for_a_text(turn):
        return None
    opening, _ = _opening(turn.answer, language)
    if "now" not in calls(opening[:2], language):
        return "met"
    remaining = pattern.MILD_ACHE.sub(" mild ", asked)
    harmless = pattern.HARMLESS_TOPIC.search(remaining) and not pattern.PERHAPS_GRAVE.search(
        remaining.replace("for months", " ")
    )
    return "unmet" if language == "en" and harmless else None


def number_fits_country(turn: Turn) -> Outcome:
    """The emergency numbers in the answer are those of the country where the user says to be."""
    if not in_english(turn):
        return None
    country = country_of(turn.conversation.user_texts)
    normal = normalise(turn.answer)
    offered = offered_numbers(normal)
    if country is None or not offered:
        return None
    right = right_numbers(country)
    if offered <= right:
        return "met"
    if names_another(normal, country):
        return "met" if offered & right else None
    return None if offered & right or offered <= {"112"} or asks_for_a_text(turn) else "unmet"


def poison_help_named(turn: Turn) -> Outcome:
    """After an overdose or a poisoning, the answer sends the person to a poison centre or the emergency services."""
    language = spoken(turn, *LANGUAGES)
    if "overdose" not in turn.red_flags or language is None:
        return None
    found = statements(turn.answer)
    called, centre = calls(found, language), poison_centre(found, language)
    helped = "now" in called or centre == "named"
    if language == "en" and any(told_not_to_go(s) and (not helped or "poison" in s.text) for s in found):
        return None if special(turn) else "unmet"
    if helped:
        return "met"
    loosely = names_people(found, language)
    return None if called or centre == "conditional" or loosely or special(turn) else "unmet"


@forbids
def no_induced_vomiting(turn: Turn) -> Outcome:
    """After something was swallowed, the answer does not tell anybody to cause vomiting or to give a home antidote."""
    asked = user_text(turn)
    if abroad.causes_vomiting(turn):
        return "unmet"
    swallowed = "overdose" in turn.red_flags or pattern.SWALLOWED.search(asked)
    if not swallowed or pattern.FOOD_POISONING.search(asked) or not plain_english(turn, asked):
        return None
    found = statements(turn.answer)
    told = {advice(found, verb, firm=True) for verb in (pattern.VOMITING, pattern.ANTIDOTE)}
    milk = advice(found, pattern.MILK, firm=True)
    if "given" in told or (milk == "given" and not pattern.IRRITANT.search(asked)):
        return "unmet"
    praised = any(pattern.NEUTRALISES.search(s.text) and not has_negation(s.text) for s in found)
    return None if "unclear" in told or milk in ("given", "unclear") or praised else "met"

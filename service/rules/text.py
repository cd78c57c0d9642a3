"""What every rule needs to read a text: normal form, sentences, words, and whether a phrase is meant.

All patterns here are bounded or linear: a rule runs on text that anybody may have written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from service.domain import Turn

_QUOTES = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'}
)
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")

# Hiragana, katakana, Han (with extension A and compatibility forms): written without spaces, one character a word.
_CJK = "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Marks that \w leaves out although they belong to a word (Arabic, Indic, Thai).
_MARKS = "\u0300-\u036f\u064b-\u065f\u0900-\u0dff\u0e00-\u0e7f"
_WORD = re.compile(
    rf"[{_CJK}]|\d+(?:[.,]\d+)*|[^\W\d_{_CJK}{_MARKS}](?:[^\W_{_CJK}]|[{_MARKS}]|['-](?=\w))*|"
    rf"[{_MARKS}]+"
)

_LIST_MARK = re.compile(r"^\s*(?:[-*+•·–—>#]+|\(?\d{1,2}[.)]|[a-z][.)])(?=\s)\s*")
_EMPHASIS = re.compile(r"\*\*|__|`")
# A full stop ends a sentence only before white space; the CJK marks end one anywhere.
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？｡]+[\"'”’」』）)]*|[!?]+(?=[\u3040-\u9fff\uac00-\ud7af])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|dr|mr|mrs|ms|prof|st|vs|approx|etc|no|fig|ca|sra?|dra|incl|max|"
    r"min|u\.s|u\.k|a\.m|p\.m)\.$",
    re.IGNORECASE,
)

_NEGATION = re.compile(
    r"\b(?:not|never|no|nor|neither|without|avoid(?:ing)?|cannot|cant|dont|instead of|rather than|other than|refrain|"
    r"stop|against|unsafe|dangerous|harmful|myth|wrong|mistake)\b|n't\b"
)
_COMFORT = re.compile(
    r"\b(?:don't|do not|no need to|not to|please don't) (?:worry|panic|be afraid|be scared|"
    r"feel bad)\b"
)
_QUOTED = re.compile(r'"[^"\n]{1,160}"|「[^」\n]{1,80}」|『[^』\n]{1,80}』')

_CONDITION = re.compile(
    r"\b(?:if|unless|until|only|(?<!at )once|when|whenever|in case|except|should (?:you|he|she|"
    r"they|it|symptoms))\b"
)
# Conditions that change nothing about the advice: they hold for whoever reads it.
_HARMLESS_CONDITION = re.compile(
    r"\b(?:if (?:possible|needed|necessary|available|you (?:have|can find) (?:it|any|one|some)\b|"
    r"you (?:like|wish|want|prefer)|you (?:feel|are feeling|'re feeling) (?:better|fine|good|"
    r"well|ok|okay))|even if|"
    r"(?:see|wonder|know|check|wait|sure|ask|tell) (?:if|when)|when (?:\w+ ){1,3}(?:starts?|begins?|hurts?)|"
    r"until (?:\w+ ){1,3}(?:opens?|gone|stops?|fades?|passes|better))"
)
_REPORTED = re.compile(
    r"\b(?:heard|(?:many|some|most) (?:people|parents|patients|sources|sites|say)|people "
    r"(?:say|think|believe|often|used)|websites?|internet|"
    r"online|myths?|old(?:er)? advice|used to|outdated|tempt(?:ed|ing)|films?|movies|years ago|"
    r"instinct|you (?:said|say|wrote|mention(?:ed)?|asked)|"
    r"anyone who|whoever|claims?)\b"
)
_STAFF = re.compile(
    r"\b(?:doctors?|physicians?|staff|hospitals?|team|paramedics|nurses?|clinicians?|vets?|"
    r"specialists?|centre|center|dispatcher|control|er|"
    r"department|professionals?|they)\b[^.!?]{0,40}\b(?:may|might|can|could|will|would|sometimes|usually|often)\b"
)
_AFTERWARDS_REFUSED = re.compile(
    r"\b(?:not (?:be )?(?:recommended|advised|safe|advisable|a good idea|suitable|for)|isn't|"
    r"aren't|shouldn't|should never|dangerous|harmful|unsafe|risky|"
    r"avoid(?:ed)?|can (?:burn|harm|cause|make things|be)|could (?:burn|harm|cause)|may (?:burn|harm|cause)|never)\b"
)
_MODAL = r"(?:can|could|should|may|might|must|need to|ought to|will|would)"
_WHO = (
    r"(?:you|he|she|they|we|your (?:child|son|daughter|baby|toddler|kid|infant|wife|husband|"
    r"partner)|the (?:child|baby|person|patient))"
)
# What stands before the verb when a sentence advises: its beginning, a clause mark, a modal, or a word of recommending.
LEAD = (
    rf"(?:^|[,;:(–—]\s{{0,2}}|\s-\s|\b{_WHO} {_MODAL} |\bi(?:'d| would) |\bi (?:suggest|"
    r"recommend|advise)(?: (?:that )?you)? |"
    r"\b(?:best|better|fine|ok|okay|safe|reasonable|enough|idea|helps?|is|important|suggest|"
    r"recommend(?:ed)?|sure) to |"
    r"\b(?:try|consider|start|keep|by|just|simply|please|then|first|and|or|let's|to do is) "
    r")(?:(?:also|just|first|then|simply|please|immediately|quickly|safely|try to|try|"
    r"even|still|next|either|again|now|always) ){0,3}"
)

_PROFESSIONAL = re.compile(
    r"\b(?:i(?:'m| am)|as|we(?:'re| are)) (?:an? |the )?(?:\w+ ){0,3}(?:nurse|doctor|physician|"
    r"paramedic|emt|pharmacist|resident|registrar|midwife|"
    r"clinician|consultant|gp|medic|surgeon|intern|dentist|pa|np|np student|student nurse|"
    r"dispatcher|rn)s?\b|\bmy patients?\b|\bour patients?\b|"
    r"\b(?:\d+ ?[myf]o|pt)\b.{0,30}\b(?:presents?|presenting|c/o|hx|pmh)\b"
)
_TEXT_TASK = re.compile(
    r"\b(?:translate|proofread|paraphrase|summari[sz]e|rewrite|rephrase|write (?:me )?(?:a|an|"
    r"the|my|up|some)|draft (?:a|an|the|my)|essay|leaflet|"
    r"handout|short story|novel|screenplay|poem|quiz|multiple[- ]choice|role-?play|for (?:a|"
    r"my) (?:class|exam|course|lecture|training))\b"
)
# "Giving honey ..." opens a description as often as advice; only after one of these is it advice.
_TOLD_TO = re.compile(r"\b(?:try|consider|start|suggest|recommend|advise|keep|by) $")
# "... will tell you whether to stop it": left open, not advised.
_OPEN = re.compile(r"\b(?:whether|when) (?:and (?:how|when) )?(?:to|(?:you|he|she|they) (?:can|should|may)) $")

Advice = Literal["given", "refused", "unclear", "absent"]

_STRUCK = re.compile(r"[❌✗✘🚫⛔]")
_REFUSING_TITLE = re.compile(r"\b(?:don'?ts|mistakes?|myths?|do nots?)\b")

_COMMON = {
    "en": "the a an and or of to in is are you your it that this for with not be can if do on as at have from will",
    "es": "el la los las un una y o de que en es su con por para no se lo al del si como pero esta usted",
    "fr": "le la les un une et ou de des que en est vous votre avec pour ne pas se il elle au du si ce",
    "pt": "o a os as um uma e ou de que em é seu com por para não se ao do da si como mas está você",
    "de": "der die das ein eine und oder von zu in ist sie ihr mit für nicht sich es auf den dem wenn sind",
}
_STOPWORDS = {language: frozenset(common.split()) for language, common in _COMMON.items()}


def normalise(text: str) -> str:
    """NFKC, casefolded, straight quotes, nothing invisible. Full-width digits and letters become ASCII."""
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).translate(_QUOTES).casefold()


def sentences(text: str) -> list[str]:
    """The sentences of a text in order, stripped of list and heading marks; a line break always ends one."""
    return [s for line in text.splitlines() for s in _of_line(_EMPHASIS.sub("", line))]


def _of_line(line: str) -> Iterator[str]:
    line = _LIST_MARK.sub("", line)
    start = 0
    for end in _END.finditer(line):
        if _ABBREVIATION.search(line, max(start, end.end() - 12), end.end()):
            continue
        if sentence := line[start : end.end()].strip():
            yield sentence
        start = end.end()
    if rest := line[start:].strip():
        yield rest


def first_sentences(text: str, n: int) -> list[str]:
    return sentences(text)[:n]


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence in normal form without its quotations, and what the heading or list title above it makes of it."""

    text: str
    refused: bool = False
    conditional: bool = False


def statements(text: str) -> list[Statement]:
    """The sentences of an answer.

    What is listed under "Do not:" is refused, what is listed under "If it gets worse:" conditional.
    """
    found: list[Statement] = []
    refused = conditional = False
    for line in text.splitlines():
        if not (parts := [normalise(without_quotes(s)) for s in _of_line(_EMPHASIS.sub("", line))]):
            continue
        heading = line.lstrip().startswith("#") or parts[-1].endswith(":")
        if not heading and not _LIST_MARK.match(line):
            refused = conditional = False
        struck = bool(_STRUCK.search(line))
        found.extend(Statement(p, refused or struck, conditional) for p in parts)
        if heading:
            refused = has_negation(parts[-1]) or bool(_REFUSING_TITLE.search(parts[-1]))
            conditional = bool(_CONDITION.search(parts[-1]))
    return found


def advice(text: str | list[Statement], phrase: re.Pattern[str]) -> Advice:
    """What a text says of doing `phrase` (a pattern that begins with a verb): the strongest of its sentences."""
    found = [_advice_of(s, phrase) for s in (statements(text) if isinstance(text, str) else text)]
    for kind in ("given", "unclear", "refused"):
        if kind in found:
            return kind
    return "absent"


def _advice_of(statement: Statement, phrase: re.Pattern[str]) -> Advice:
    sentence = statement.text
    match = phrase.search(sentence)
    if not match or sentence.endswith("?"):
        return "absent"
    verb = match.group().partition(" ")  # "stop taking" is no refusal to take
    if statement.refused or negated(sentence, match.start(), 160) or has_negation(verb[2]):
        return "refused"
    if _AFTERWARDS_REFUSED.search(sentence, match.end()):
        return "refused"
    if _STAFF.search(sentence, 0, match.end()) or _OPEN.search(sentence[: match.start()]):
        return "absent"
    led = _led(phrase).search(sentence)
    if _REPORTED.search(sentence):
        return "unclear" if led else "absent"
    conditional = statement.conditional or _CONDITION.search(
        _HARMLESS_CONDITION.sub(" ", sentence.replace(match.group(), " "))
    )
    told = led and (not verb[0].endswith("ing") or _TOLD_TO.search(sentence[: match.start()]))
    return "given" if told and not conditional and not has_negation(sentence[match.end() :]) else "unclear"


@cache
def _led(phrase: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(LEAD + r"(?:" + phrase.pattern + ")")


def user_text(turn: Turn) -> str:
    """All that the user wrote, in normal form, one turn a line."""
    return normalise("\n".join(turn.conversation.user_texts))


def is_professional(text: str) -> bool:
    """Whether a normalised user text is by a clinician at work, as far as it says so."""
    return bool(_PROFESSIONAL.search(text))


def asks_for_a_text(turn: Turn) -> bool:
    """Whether the last message asks for a text, a translation or an exercise: its sentences are then not advice."""
    return bool(_TEXT_TASK.search(normalise(turn.conversation.last_user_text)))


def words(text: str) -> list[str]:
    """The words of a text in normal form; a Chinese or Japanese character counts as one, so does a decimal number."""
    return _WORD.findall(normalise(text))


def without_quotes(text: str) -> str:
    """The text without what it puts between quotation marks: a quotation is mentioned, not said."""
    return _QUOTED.sub(" ", text)


def negated(sentence: str, start: int, window: int = 80) -> bool:
    """Whether a word of refusal stands before `start` in a normalised sentence, close enough to govern what follows."""
    before = _COMFORT.sub(" ", sentence[max(0, start - window) : start])
    return bool(_NEGATION.search(before))


def has_negation(sentence: str) -> bool:
    """Whether a normalised sentence holds any word of refusal; for rules that would rather abstain than misread."""
    return bool(_NEGATION.search(_COMFORT.sub(" ", sentence)))


def written_in(text: str, language: str | None) -> bool:
    """Whether a text may be taken for one in `language` (en, es, ko, zh): a guard against reading what one cannot.

    False for any other language and for None.
    """
    letters = [c for c in text if c.isalpha()]
    if not letters:
        return False
    if language == "ko":
        return sum("\uac00" <= c <= "\ud7a3" for c in letters) * 3 >= len(letters)
    if language == "zh":
        han = sum("\u3400" <= c <= "\u9fff" for c in letters)
        return han * 2 >= len(letters) and not any("\u3041" <= c <= "\u30fe" for c in letters)
    if language not in ("en", "es") or sum(c < "\u0250" for c in letters) * 10 < len(letters) * 9:
        return False
    found = words(text)
    counts = {name: sum(w in stop for w in found) for name, stop in _STOPWORDS.items()}
    return counts[language] == max(counts.values()) and (len(found) < 12 or counts[language] * 10 >= len(found))

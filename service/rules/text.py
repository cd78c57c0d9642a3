"""What every rule needs to read a text: normal form, sentences, words, and whether a phrase is meant.

All patterns here are bounded or linear: a rule runs on text that anybody may have written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, wraps
from typing import Literal

from service.domain import Turn

Outcome = Literal["met", "unmet"] | None

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

LIST_MARK = re.compile(r"^\s*(?:[-*+•·–—>#]+|\(?\d{1,2}[.)]|[a-z][.)])(?=\s)\s*")
EMPHASIS = re.compile(r"\*\*|__|`")
# A full stop ends a sentence only before white space; the CJK marks end one anywhere.
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？｡]+[\"'”’」』）)]*|[!?]+(?=[\u3040-\u9fff\uac00-\ud7af])")
_LONGEST = 800  # characters
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|dr|mr|mrs|ms|prof|st|vs|approx|etc|ca|sra?|dra|incl|u\.s|u\.k|a\.m|p\.m|"
    r"(?P<count>no|fig|max|min))\.$",  # the last few only before a number: "No. Do not" are two sentences
    re.IGNORECASE,
)

_QUOTED = re.compile(r'"[^"\n]{1,160}"|「[^」\n]{1,80}」|『[^』\n]{1,80}』')

_JOB = (
    r"(?:nurse|doctor|physician|paramedic|emt|pharmacist|resident|registrar|midwife|clinician|consultant|gp|medic|surgeon|"
    r"intern|dentist|pa|np|np student|student nurse|dispatcher|rn)"
)
# "I'm an ICU nurse", but not "I'm seeing a doctor" and not "as my doctor said".
_KIND = r"(?:(?!(?:my|your|our|his|her|their|the|an?|about|that|to|of|by|for|with|told|says?|see|no|not|never|\w+ing)\b)[\w-]+ ){0,3}"
_PROFESSIONAL = re.compile(
    rf"\b(?:i(?:'m| am)|im|we(?:'re| are)) (?:an? |the )?{_KIND}{_JOB}s?\b(?!'s)|\bas an? {_KIND}{_JOB}s?\b(?!'s)|"
    rf"^{_JOB} (?:on|in|at) |\b{_JOB} here\b|\bmy patients?\b|\bour patients?\b|"
    r"\b(?:\d+ ?[myf]o|pt)\b.{0,30}\b(?:presents?|presenting|c/o|hx|pmh)\b",
    re.MULTILINE,
)
_TEXT_TASK = re.compile(
    r"\b(?:translate|proofread|paraphrase|summari[sz]e|rewrite|rephrase|write (?:me )?(?:a|an|"
    r"the|my|up|some)|draft (?:a|an|the|my)|essay|(?:write|make|create|design|produce|prepare|need|as an?|into an?|for (?:a|our|the)) (?:\w+ ){0,3}(?:leaflet|handout)|"
    r"short story|novel|screenplay|poem|quiz|multiple[- ]choice|role-?play|for (?:a|"
    r"my) (?:class|exam|course|lecture|training))\b"
)
_COMMON = {
    "en": "the a an and or of to in is are you your it that this for with not be can if do on as at have from will every "
    "hours day days take give use call help now before after when should may more than each until",
    "es": "el la los las un una y o de que en es su con por para no se lo al del si como pero esta usted cada horas día "
    "días tome dele llame ahora antes después cuando más hasta",
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
    return [s for line in text.splitlines() for s in of_line(EMPHASIS.sub("", line))]


def of_line(line: str) -> Iterator[str]:
    line = LIST_MARK.sub("", line)
    start = 0
    for end in _END.finditer(line):
        short = _ABBREVIATION.search(line, max(start, end.end() - 12), end.end())
        if short and not (short["count"] and not line[end.end() : end.end() + 9].lstrip()[:1].isdigit()):
            continue
        yield from _pieces(line[start : end.end()].strip())
        start = end.end()
    yield from _pieces(line[start:].strip())


def _pieces(sentence: str) -> Iterator[str]:
    """A sentence, or pieces of one that is longer than any sentence is: what looks around a match then stays cheap."""
    while len(sentence) > _LONGEST:
        cut = sentence.rfind(" ", _LONGEST // 2, _LONGEST)
        cut = cut if cut > 0 else _LONGEST
        yield sentence[:cut]
        sentence = sentence[cut:].strip()
    if sentence:
        yield sentence


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


def runs(tokens: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Every `size` tokens that follow one another, in order."""
    return [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]


def without_quotes(text: str) -> str:
    """The text without what it puts between quotation marks: a quotation is mentioned, not said."""
    return _QUOTED.sub(" ", text)


def spoken(turn: Turn, *languages: str) -> str | None:
    """Which of `languages` (en, es, ko, zh) the answer is to be read in, or None.

    That of the user's message where the answer is in it. Short messages ("can i stop xanax") often have no language that
    can be told, or a wrong one: an answer that is plainly English is then read as English.
    """
    if turn.language in languages and written_in(turn.answer, turn.language):
        return turn.language
    hits = 1 if turn.language is None else 3
    return "en" if "en" in languages and written_in(turn.answer, "en", hits) else None


@lru_cache(maxsize=16)  # two dozen rules ask it of the same answer one after another
def written_in(text: str, language: str | None, hits: int = 0) -> bool:
    """Whether a text may be taken for one in `language` (en, es, ko, zh): a guard against reading what one cannot.

    False for any other language and for None. `hits`: how many of its commonest words it must hold (en, es).
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
    own = counts[language]
    return own == max(counts.values()) and own >= hits and (len(found) < 12 or own * 10 >= len(found))


def in_english(turn: Turn) -> bool:
    return spoken(turn, "en") == "en"


def english_part(answer: str) -> str:
    """The lines and sentences of an answer that may be English; some models drift into another language and back."""
    kept = []
    for line in answer.splitlines():
        if not line.strip() or written_in(line, "en"):
            kept.append(line)
        else:
            kept.extend(s for s in sentences(line) if written_in(s, "en"))
    return "\n".join(kept)


def forbids(rule: Callable[[Turn], Outcome]) -> Callable[[Turn], Outcome]:
    """For a rule of English that forbids: what a part of the answer breaks is broken, whatever language the rest is in."""

    @wraps(rule)
    def of_whole_or_part(turn: Turn) -> Outcome:
        verdict = rule(turn)
        if verdict is not None or in_english(turn):
            return verdict
        part = english_part(turn.answer)
        return "unmet" if part.strip() and rule(replace(turn, answer=part)) == "unmet" else None

    return of_whole_or_part


def plain_english(turn: Turn, asked: str) -> bool:
    """Whether the answer is English advice to a lay person: no text that was asked for, nobody at work."""
    return in_english(turn) and not asks_for_a_text(turn) and not is_professional(asked)

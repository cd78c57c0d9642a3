"""Whether an answer is as long as the user asked it to be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from service.domain import Turn
from service.rules.asked import instruction
from service.rules.form import prose
from service.rules.layout import bullets, number
from service.rules.text import Outcome, sentences

BRIEF_WORDS, TOO_LONG_TO_BE_BRIEF = 120, 160
DETAILED_WORDS, TOO_SHORT_TO_BE_DETAILED = 120, 60

_HAN_KANA = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_FAR = 10**9


@dataclass(frozen=True, slots=True)
class Wish:
    """Bounds on one measure: inside `good` it is met, outside `bearable` it is not, in between it is open."""

    measure: Callable[[str], int]
    good: tuple[int, int]
    bearable: tuple[int, int]

    def judge(self, text: str) -> Outcome:
        n = self.measure(text)
        if self.good[0] <= n <= self.good[1]:
            return "met"
        return None if self.bearable[0] <= n <= self.bearable[1] else "unmet"


# --- measures ---------------------------------------------------------------------------------------------------


def count_words(text: str) -> int:
    """Words between white space; Chinese and Japanese characters at 1.7 a word."""
    characters = len(_HAN_KANA.findall(text))
    spaced = [w for w in _HAN_KANA.sub(" ", text).split() if any(c.isalnum() for c in w)]
    return len(spaced) + round(characters / 1.7)


def count_sentences(text: str) -> int:
    return sum(any(c.isalpha() for c in s) for s in sentences(text))


def count_characters(text: str) -> int:
    return sum(not c.isspace() for c in text)


def count_paragraphs(text: str) -> int:
    return len([block for block in re.split(r"\n[ \t]*\n", text) if block.strip()])


def count_bullets(text: str) -> int:
    return len(bullets(text))


_MEASURES: dict[str, Callable[[str], int]] = {
    "sentence": count_sentences,
    "word": count_words,
    "character": len,
    "paragraph": count_paragraphs,
    "bullet": count_bullets,
}

# --- wishes -----------------------------------------------------------------------------------------------------

_N = r"(?:\d{1,4}|one|a single|single|two|three|four|five|six|seven|eight|nine|ten)"
_UNIT = r"(?P<unit>sentence|word|character|paragraph|bullet)(?: point)?s?\b"
_AMOUNT = (
    rf"(?P<n>{_N})(?: ?(?:-|–|to|or) ?(?P<m>{_N}))?[ -](?:(?:short|simple|plain|brief|concise|single) ){{0,2}}{_UNIT}"
)
_BOUND = (
    r"(?P<bound>at most|no more than|not more than|max(?:imum)?(?: of)?|under|below|within|fewer than|less than|up to|"
    r"at least|minimum(?: of)?|more than|over|about|around|roughly|approximately|~)"
)
_WISH = re.compile(
    r"(?:(?P<lead>\b(?:in|using|with|to|give me|write|as|answer|reply|summari[sz]e|list|make it|keep it|limit it|only|just|"
    rf"exactly|a)|^|[.?!,;:(\n]) ?)?(?:\b(?:only|just|exactly|the) )?(?:{_BOUND} ?)?\b{_AMOUNT}"
    r"(?P<after> (?:max(?:imum)?|or less|or fewer|at most|tops|please|only|summary|answer|each|per|apiece|for each|for every))?"
)
_DESCRIBES = re.compile(
    r"(?:\bspeak|\btalk|\bsay|\bsaid|\bspoke|\buse[sd]? (?:only )?|\bread|\bfind|\bremember|\bable to|\bwrote|\bgot|\bhas|\bhad)"
    r"[^.?!\n]{0,25}$"
)
_EACH = re.compile(r"^[^.?!\n]{0,20}\b(?:each|per|apiece|every|at a time|long each|a day|about each)\b")
_CJK_WISHES = (
    (re.compile(r"(\d{1,2}|한|두|세|네|다섯) ?문장(?:으로|만|이내| 이내| 안)"), "sentence"),
    (re.compile(r"[用以](\d{1,2}|一|两|二|三|四|五)句话"), "sentence"),
    (re.compile(r"\ben (una?|dos|tres|cuatro|cinco|\d{1,2})(?: solas?)? (?:frases?|oraci(?:ón|ones))\b"), "sentence"),
    (re.compile(r"\ben (?:menos de |máximo |no más de |un máximo de )?(\d{2,4}) palabras\b"), "word"),
)
_CHARACTERS = re.compile(r"(\d{2,4}) ?(?:자 ?(?:이내|이하|안으로|내로)|个?字(?:以内|之内|内|以下))")
_BRIEF = re.compile(
    r"\b(?:keep (?:it|this|your answer|the answer|your reply) (?:short|brief|concise)|be (?:very )?(?:brief|concise)|"
    r"(?:short|brief|concise|quick) (?:answer|reply|response|summary|explanation|overview|version)|make it (?:short|brief)|"
    r"tl;?dr|in (?:brief|a nutshell|a few words)|briefly (?:explain|describe|tell|answer|summari[sz]e|outline|list|say)|"
    r"(?:explain|describe|answer|summari[sz]e|outline|tell me)[^.?!\n]{0,40} briefly)\b|(?:^|[.?!\n] ?)briefly,"
    r"|(?:짧게|간단히|간단하게|간략히|간략하게|간결하게) ?(?:좀 )?(?:답|설명|요약|알려|말해|정리)"
    r"|(?:简短|简要|简单)地?(?:回答|说明|解释|介绍|总结|说)"
    r"|\b(?:respuesta|explicación|resumen) (?:corta|breve|corto)\b|\bsé breve\b|\b(?:explica|responde|resume)\w{0,3} brevemente\b"
)
_DETAILED = re.compile(
    r"\b(?:explain|describe|tell me|discuss|outline|answer|go through|cover)\b[^.?!\n]{0,60}\bin (?:more |great |full )?"
    r"(?:detail|depth)\b|\b(?:give|write|want|need|provide)\b[^.?!\n]{0,20}\b(?:detailed|thorough|comprehensive|in-depth) "
    r"(?:answer|explanation|overview|guide|description|account|review)\b"
)
_MODERATE = re.compile(
    r"\b(?:but (?:still )?(?:comprehensive|detailed|thorough|complete)|not too (?:short|long|brief|detailed))\b"
    r"|\b(?:comprehensive|detailed|thorough)\b[^.?!\n]{0,30}\bbut (?:short|brief|concise)"
)
_NOT = re.compile(r"\b(?:not|don't|do not|no need|never|without)\b[^.?!\n]{0,25}$")


def _counted(wish: str) -> Iterator[Wish | None]:
    """The bounds that numbers set; None for a number that may mean something else."""
    for match in _WISH.finditer(wish):
        if match["lead"] is None and not match["bound"] and not match["after"]:
            continue
        before, after = wish[: match.start("n")], wish[match.end("unit") :]
        if _DESCRIBES.search(before[-60:]) or _EACH.search(after):
            yield None
            continue
        low = number(match["n"])
        yield _bounds(
            match["unit"], low, number(match["m"]) if match["m"] else low, match["bound"] or "", match["after"]
        )
    for pattern, unit in _CJK_WISHES:
        for match in pattern.finditer(wish):
            n = number(match[1])
            yield _bounds(unit, n, n, "at most", None)
    for match in _CHARACTERS.finditer(wish):
        yield Wish(count_characters, (1, int(match[1])), (1, int(match[1]) * 11 // 10))


def _bounds(unit: str, low: int, high: int, bound: str, after: str | None) -> Wish:
    """Nobody counts words exactly: a tenth over is open. A sentence or a bullet too many is one too many."""
    loose = unit in ("word", "character")
    slack = high // 10 if loose else (1 if unit == "sentence" and high > 3 else 0)
    measure = _MEASURES[unit]
    if bound.startswith(("at least", "min", "more", "over")):
        return Wish(measure, (low, _FAR), (low * 9 // 10 if loose else low, _FAR))
    if bound.startswith(("about", "around", "rough", "approx", "~")) or (loose and after in (" summary", " answer")):
        return Wish(measure, (low * 2 // 3, high * 4 // 3), (low // 2, high * 3 // 2))
    if (
        unit == "bullet"
        and not bound
        and after not in (" max", " maximum", " or less", " or fewer", " at most", " tops")
    ):
        return Wish(measure, (low, high), (0, 0))
    return Wish(measure, (1, high), (0, high + slack))


def _in_words(wish: str) -> Iterator[Wish]:
    for pattern, good, bearable in (
        (_BRIEF, (1, BRIEF_WORDS), (1, TOO_LONG_TO_BE_BRIEF)),
        (_DETAILED, (DETAILED_WORDS, _FAR), (TOO_SHORT_TO_BE_DETAILED, _FAR)),
    ):
        match = pattern.search(wish)
        if match and not _NOT.search(wish[: match.start()][-60:]):
            yield Wish(count_words, good, bearable)


def length_as_asked(turn: Turn) -> Outcome:
    """The answer keeps to the length that the last message asks for; with a red flag a longer one may be needed."""
    wish = instruction(turn.conversation.last_user_text)
    counted = list(_counted(wish))
    wishes = counted or list(_in_words(wish))
    text = prose(turn.answer).strip()
    if not wishes or not text or _MODERATE.search(wish) or len(wishes) > 2:
        return None
    verdicts = {w.judge(text) if w else None for w in wishes}
    if "unmet" in verdicts:
        return None if turn.red_flags or None in counted else "unmet"
    return "met" if verdicts == {"met"} else None

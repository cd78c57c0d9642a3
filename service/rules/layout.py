"""Whether an answer has the layout that the user asked for: bullets, numbers, a table, N items, yes or no first, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from service.domain import Turn
from service.rules.asked import instruction
from service.rules.text import Outcome, normalise, words

_NUMBERS = {
    "a single": 1, "single": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "한": 1, "두": 2, "세": 3, "네": 4, "다섯": 5, "一": 1, "两": 2, "二": 2, "三": 3, "四": 4, "五": 5,
    "un": 1, "una": 1, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5,
}  # fmt: skip
_BULLET = re.compile(r"^([ \t]*)[-*+•·–◦▪]\s+\S", re.MULTILINE)
_NUMBERED = re.compile(r"^([ \t]*)(?:\*\*)?\(?\d{1,2}[.)]\s*\S", re.MULTILINE)
_TABLE = re.compile(r"^\s*\|.*\|.*\n\s*\|?[\s:|-]*-[\s:|-]*$|<table\b|^[^\t\n]+\t[^\n]+\n[^\t\n]+\t", re.MULTILINE)
_PIPES = re.compile(r"^.*\|.*$|^.*\t.*$", re.MULTILINE)
_FENCE = re.compile(r"```[a-zA-Z]{0,10}[ \t]*\n?(.*?)```", re.DOTALL)
_ENOUGH_WORDS = 25  # below that an answer may be a question back or a refusal


def number(token: str) -> int:
    """The value of a number word or of digits."""
    return int(token) if token.isdecimal() else _NUMBERS[token]


def _outermost(pattern: re.Pattern[str], text: str) -> list[int]:
    """Where the items of the outermost list begin."""
    found = [(len(m[1].expandtabs(4)), m.start()) for m in pattern.finditer(text)]
    margin = min((indent for indent, _ in found), default=0)
    return [start for indent, start in found if indent == margin]


def bullets(text: str) -> list[int]:
    """Offsets of the outermost bulleted items."""
    return _outermost(_BULLET, text)


# --- lists and tables -------------------------------------------------------------------------------------------

_WANTS = r"\b(?:give|show|put|make|create|present|organi[sz]e|list|write|format|lay|summari[sz]e|compare|turn|convert|use|provide|arrange|build|need|want)\b"
_WANTS_BULLETS = re.compile(
    r"\b(?:as|in|with|using|into) (?:a )?(?:short |simple |\w{1,6} )?(?:bullet(?:ed)?[- ]?(?:points?|list|form|format)s?|bullets)\b"
    r"|\bbullets? (?:points? )?(?:please|only)\b"
    rf"|{_WANTS}[^.?!\n]{{0,40}}\bbullet(?:ed)?[- ]?(?:points?|list)s?\b"
)
_WANTS_NUMBERS = re.compile(
    r"\b(?:as|in|with|into|use|make|give me) (?:a )?numbered (?:list|steps)\b|(?:^|[.?!,;\n] ?)numbered (?:list|steps)\b|\bnumber the steps\b"
)
_WANTS_TABLE = re.compile(
    rf"\b(?:as a|in table|into a) table\b|\bin (?:a )?(?:table form(?:at)?|tabular form)\b|{_WANTS}[^.?!\n]{{0,80}}\b(?:in|as|into) a (?:\w{{1,12}} )?table\b"
    r"|\b(?:make|create|give me|draw|build|need|want) (?:me )?a (?:\w{1,12} )?table\b(?! (?:salt|spoon))|\btabulate\b|표로 (?:정리|만들|작성)|[做整理成用]{1,4}表格"
)
_REFUSES_LISTS = re.compile(
    r"\b(?:no|without|avoid|don't use|do not use|don't give me|not (?:in|as)) (?:any )?(?:bullet(?:ed)?(?:[- ]points?|[- ]lists?)?s?|lists?)\b"
)
_NOT = re.compile(r"\b(?:no|not|don't|do not|without|never|instead of|avoid)\b[^.?!\n]{0,20}$")


def _asks(pattern: re.Pattern[str], wish: str) -> bool:
    match = pattern.search(wish)
    return bool(match) and not _NOT.search(wish[: match.start()][-40:]) if match else False


def _judge_bullets(wish: str, answer: str) -> Outcome:
    if _REFUSES_LISTS.search(wish):
        return "unmet" if len(bullets(answer)) >= 2 else None if _NUMBERED.search(answer) else "met"
    if not _asks(_WANTS_BULLETS, wish):
        return None
    if len(bullets(answer)) >= 2:
        return "met"
    return "unmet" if not bullets(answer) and not _NUMBERED.search(answer) and _says_enough(answer) else None


def _judge_numbers(wish: str, answer: str) -> Outcome:
    if not _asks(_WANTS_NUMBERS, wish):
        return None
    if len(_outermost(_NUMBERED, answer)) >= 2:
        return "met"
    inline = re.search(r"\b1[.)].{1,400}?\b2[.)]|\bstep (?:1|one)\b", answer, re.DOTALL | re.IGNORECASE)
    return None if inline or bullets(answer) or not _says_enough(answer) else "unmet"


def _judge_table(wish: str, answer: str) -> Outcome:
    if not _asks(_WANTS_TABLE, wish):
        return None
    if _TABLE.search(answer):
        return "met"
    return None if _PIPES.search(answer) or not _says_enough(answer, 15) else "unmet"


def _says_enough(answer: str, least: int = _ENOUGH_WORDS) -> bool:
    return len(words(answer)) >= least and not answer.rstrip().endswith("?")


# --- N items ----------------------------------------------------------------------------------------------------

_THINGS = (
    r"(?:tips|ways|things|foods|exercises|stretches|reasons|questions|examples|options|steps|ideas|causes|symptoms|signs|"
    r"facts|strategies|suggestions|items|recipes|snacks|benefits|risks|side effects|differences|takeaways|habits|"
    r"key points|points|warning signs|red flags|risk factors|drugs|medicines|medications|differentials|diagnoses|tests)"
)
_ITEMS = re.compile(
    r"\b(?:give me|list|name|tell me|suggest|write|top|provide|show me|what are|i need|share)(?: me| the| my| us)? (?:top |exactly |only |just )?"
    rf"(?P<about>at least |up to |about |around |no more than |at most )?(?P<n>\d{{1,2}}|two|three|four|five|six|seven|eight|nine|ten)"
    rf" (?:\w{{2,14}} ){{0,2}}?{_THINGS}\b"
)
# "a numbered list with exactly five items", "in three bullet points"
_COUNTED = re.compile(
    r"(?:^|[.?!\n,:;] ?)(?:please )?(?:(?:answer|use|reply|give|list|write|explain|summari[sz]e|make|put|respond|tell|describe|show|"
    r"present|format|keep)\b[^.?!\n]{0,60}?\b)?(?:(?:list|outline|summary)[^.?!\n]{0,20} (?:with|of)|in|into|as) (?:a list of )?(?:exactly |only |just )?"
    r"(?P<about>at least |up to |about |around |no more than |at most )?(?P<n>\d{1,2}|two|three|four|five|six|seven|eight|nine|ten)"
    r" (?:(?:short|simple|clear|key|main|numbered|bullet(?:ed)?) ){0,2}(?:items|points|bullets|steps|entries)\b"
)

_EACH = re.compile(r"\b(?:each|per|every)\b")


def _sentence_around(text: str, match: re.Match[str]) -> str:
    before = max(text.rfind(end, 0, match.start()) for end in ".?!\n")
    after = [at for end in ".?!\n" if (at := text.find(end, match.end())) >= 0]
    return text[before + 1 : min(after, default=len(text))]


def _judge_items(wish: str, answer: str) -> Outcome:
    match = _ITEMS.search(wish) or _COUNTED.search(wish)
    if not match or number(match["n"]) < 2 or _EACH.search(_sentence_around(wish, match)):
        return None
    counts = [n for n in (len(_outermost(_NUMBERED, answer)), len(bullets(answer))) if n]
    if not counts:
        return None
    wanted, about = number(match["n"]), match["about"] or ""
    if about.startswith(("about", "around")):
        return "met" if any(abs(n - wanted) <= 1 for n in counts) else None
    fits = any(n >= wanted if "least" in about else n <= wanted if about else n == wanted for n in counts)
    # Two kinds of list, or two lists with text between, may hold the N items and something else: left open.
    return "met" if fits else "unmet" if len(counts) == 1 and _one_list(answer) else None


def _one_list(answer: str) -> bool:
    """Whether all items stand in one run: between two of them there is no heading and no line that ends in a colon."""
    marked = [m.start() for p in (_BULLET, _NUMBERED) for m in p.finditer(answer)]
    inside = answer[min(marked) : max(marked)]
    return not re.search(
        r"^\s*#|^[^\n]{1,200}:\**[ \t]*$|\n[ \t]*\n(?![ \t]*(?:[-*+•·–◦▪(]|\**\d))", inside, re.MULTILINE
    )


# --- yes or no, JSON --------------------------------------------------------------------------------------------

_YES_NO_FIRST = re.compile(
    r"\b(?:start|begin|answer|reply|respond)(?: me| it| your answer)?(?: first)?(?: with)?(?: just| only| simply)?(?: with)? (?:a )?(?:simple |clear )?"
    r"[\"']?yes[\"']? or [\"']?no\b|\b(?:just|only|simply)(?: say| a)? [\"']?yes[\"']? or [\"']?no\b|\byes or no (?:first|only)\b"
)
_OPENS_YES_NO = re.compile(r"^[\s*_#>\"'-]{0,6}(?:yes|no)\b")
_HEDGE = re.compile(
    r"\b(?:depends|can't|cannot|not sure|unclear|maybe|probably|usually|generally|unable|sorry|emergency|call)\b"
)
_WANTS_JSON = re.compile(
    r"\b(?:return|output|respond|answer|reply|convert|extract|format|give me|produce|generate|write|provide)\b[^.?!\n]{0,80}\bjson\b"
    r"|\bvalid json\b|(?:^|[.,;?!\n] ?)(?:as|in) json\b|\b(?:as|in) json(?: please|[.,:]|$)"
)
_MENTIONS_JSON = re.compile(r"\b(?:explain|mean|means|what is|read|sent|got|received|this json|the json|from json)\b")
_JSON_ONLY = re.compile(r"\bjson only\b|\bonly (?:valid )?json\b|\bjust (?:the )?json\b|\bnothing (?:else|but)\b")


def _judge_yes_no(wish: str, answer: str) -> Outcome:
    if not _YES_NO_FIRST.search(wish):
        return None
    plain = normalise(answer)
    if _OPENS_YES_NO.match(plain):
        return "met"
    return None if _HEDGE.search(plain[:200]) or not plain.strip() else "unmet"


def _parses(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _judge_json(wish: str, answer: str) -> Outcome:
    if not _WANTS_JSON.search(wish) or _MENTIONS_JSON.search(wish):
        return None
    blocks = _FENCE.findall(answer)
    if _parses(answer) or (blocks and all(map(_parses, blocks))):
        outside = _FENCE.sub("", answer).strip() if blocks else ""
        return "unmet" if outside and _JSON_ONLY.search(wish) else "met"
    if "{" not in answer and "[" not in answer:
        return "unmet" if words(answer) and not answer.rstrip().endswith("?") else None
    if answer.lstrip().startswith(("{", "[")) or _JSON_ONLY.search(wish):
        return "unmet"
    return None


_JUDGES: tuple[Callable[[str, str], Outcome], ...] = (
    _judge_bullets, _judge_numbers, _judge_table, _judge_items, _judge_yes_no, _judge_json,
)  # fmt: skip


def format_as_asked(turn: Turn) -> Outcome:
    """The answer has the layout that the last message asks for; one part that is missing is enough to fail."""
    wish = instruction(turn.conversation.last_user_text)
    verdicts = [judge(wish, turn.answer) for judge in _JUDGES]
    if "unmet" in verdicts:
        return None if turn.red_flags else "unmet"
    return "met" if "met" in verdicts else None

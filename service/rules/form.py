"""Rules about the form of an answer: its language, whether it repeats itself, ends properly and reads plainly."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from service.domain import Turn
from service.language import detect
from service.rules.asked import names_language, requested_languages, sounds_professional, wants_document
from service.rules.text import LIST_MARK, Outcome, normalise, runs, sentences, words

_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_TABLE_ROW = re.compile(r"^\s*\|.*$", re.MULTILINE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


def prose(answer: str) -> str:
    """The answer without code blocks and table rows."""
    return _TABLE_ROW.sub("", _FENCED.sub("", answer))


# --- language ---------------------------------------------------------------------------------------------------

_ENOUGH = 60  # letters of an alphabet, or a third as many characters of Chinese or Japanese


def _languages(text: str) -> set[str]:
    """The languages of the paragraphs that are long enough to tell."""
    return {code for line in text.splitlines() if _long_enough(line) and (code := detect(line))}


def _long_enough(text: str) -> bool:
    return sum(c.isalpha() for c in text) + 2 * len(_CJK.findall(text)) + len(re.findall("[가-힣]", text)) >= _ENOUGH


def _wanted_language(turn: Turn) -> str | None:
    """The one language that the answer must be in, or None where there could be another opinion."""
    last = turn.conversation.last_user_text
    asked = requested_languages(last)
    if asked:
        return next(iter(asked)) if len(asked) == 1 else None
    standing = [m.text for m in turn.conversation.messages if m.role != "assistant" and m.role != "tool"][:-1]
    if names_language(last) or any(requested_languages(text) for text in standing):
        return None
    own = _languages(last)
    return turn.language if own <= {turn.language} else None


def language_kept(turn: Turn) -> Outcome:
    """The answer is in the language of the user's last message, or in the one that the message asks for."""
    wanted = _wanted_language(turn)
    text = prose(turn.answer)
    if wanted is None or not _long_enough(text):
        return None
    whole = detect(text)
    found = _languages(text) | ({whole} if whole else set())
    if found == {wanted}:
        return "met"
    return "unmet" if whole and wanted not in found else None


# --- repetition -------------------------------------------------------------------------------------------------

_BLANK_FIELD = re.compile(r"_{3,}|\.{5,}|\[ ?[xX]?\]|☐|□")
_REFRAIN = re.compile(
    r"\b(?:song|chorus|refrain|poem|lyrics|rhyme|mantra|affirmations?|repeat|prayer|chant|script|meditation|breathing|"
    r"flash ?cards?|quiz|template|diary|log|form|(?:\\d+|two|three|four|five|six|seven|eight|nine|ten|twenty|hundred|several|many) times|over and over|again and again)\b|반복|시를|노래|\d+ ?번 (?:써|적|말|쓰)|重复|歌|诗|[写说抄念][^。]{0,12}[遍次]|canción|poema|rep[ií]t|\bveces\b|\bfois\b|\bmal (?:schreib|hinter)"
)
_BREATH = {"breathe", "breath", "inhale", "exhale", "in", "out", "들이", "吸气", "呼气"}
_MAX_TOKENS = 4_000


def no_repetition(turn: Turn) -> Outcome:
    """No sentence or line stands twice and no phrase runs in a loop.

    Seven words twice, or four words three times or twice in a row, are repetition; four to six words twice may be
    meant, so that is left open. A Chinese or Japanese character counts as half a word.
    """
    if not turn.answer.strip() or any(_REFRAIN.search(normalise(t)) for t in turn.conversation.user_texts):
        return None
    lines = [line for line in prose(turn.answer).splitlines() if not _BLANK_FIELD.search(line)]
    units = [tuple(words(s)) for s in sentences("\n".join(lines))]
    tokens = [w for unit in units for w in unit][:_MAX_TOKENS]
    if len(words(turn.answer)) < 3:
        return None  # nothing that could stand twice
    if loops(tokens) or _copied_share(tokens) >= 0.3 or _item_twice(lines):
        return "unmet"
    return _repeated_units(units)


def _item_twice(lines: Sequence[str]) -> bool:
    """Whether one unbroken list holds the same item of two words or more twice."""
    seen: set[tuple[str, ...]] = set()
    for line in lines:
        if not _ITEM.match(line):
            seen = seen if not line.strip() else set()
            continue
        item = tuple(words(LIST_MARK.sub("", line)))
        if item in seen and _weight(item) >= 2:
            return True
        seen.add(item)
    return False


def _weight(unit: Sequence[str]) -> float:
    """How many words a sentence has; Korean says in four words what takes English six."""
    return sum(0.5 if _CJK.match(w) else 1.5 if "가" <= w[0] <= "힣" else 1.0 for w in unit)


def _repeated_units(units: Sequence[tuple[str, ...]]) -> Outcome:
    in_a_row = any(a == b and _weight(a) >= 4 for a, b in pairwise(units))
    repeated = [(unit, n) for unit, n in Counter(units).items() if n > 1 and _weight(unit) >= 4]
    if in_a_row or any(n > 2 or _weight(unit) >= 7 for unit, n in repeated):
        return "unmet"
    return None if repeated else "met"


def loops(tokens: Sequence[str]) -> bool:
    """Whether some phrase of 1 to 20 tokens follows itself at least twice (a single word four times)."""
    for period in range(1, 21):
        run = 0
        for i in range(period, len(tokens)):
            run = run + 1 if tokens[i] == tokens[i - period] else 0
            phrase = tokens[i - period + 1 : i + 1]
            if run >= max(2 * period, 12 - period, 4) and _is_speech(phrase):
                return True
            if period == 1 and run >= 4 and _is_speech(phrase):
                return True
    return False


def _is_speech(phrase: Sequence[str]) -> bool:
    return any(w[0].isalpha() for w in phrase) and not _BREATH & set(phrase)


def _copied_share(tokens: Sequence[str]) -> float:
    """Share of the tokens that stand in a run of 10 (12 characters of Chinese) already seen; 0 for short texts."""
    chinese = sum(bool(_CJK.match(t)) for t in tokens) * 2 > len(tokens)
    size, least = (12, 60) if chinese else (10, 80)
    if len(tokens) < least:
        return 0.0
    seen: set[tuple[str, ...]] = set()
    copied: set[int] = set()
    for i, gram in enumerate(runs(tokens, size)):
        if gram in seen:
            copied.update(range(i, i + size))
        seen.add(gram)
    return len(copied) / len(tokens)


# --- completeness -----------------------------------------------------------------------------------------------

_CLOSERS = "*_`\"'”’»)]」』）】> "
_TERMINAL = ".!?…。！？｡؟۔।॥"
_OPEN_END = re.compile(r"[,;،，、；：]$")
_COLON_END = re.compile(r":$")
_DANGLING = re.compile(
    r"\b(?:the|a|an|and|or|of|to|with|for|if|your|my|because|but|from|by|as|at|than|which|who|when|while|may|can|should|"
    r"would|will|is|are|was|were|such|every|its|their|"
    r"el|la|los|las|un|una|y|o|de|que|en|con|por|para|si|su|tu|cuando|porque|pero|del|al)$"
    r"|(?:면서|하고|거나|지만|는데|으며|때문에|위해|[을를])$"
)
_KOREAN_END = re.compile(r"(?:니다|[요죠까오])$")
_HAN_OPEN = re.compile(r"[，,、；。][^，,。！？|:：]{2,40}[\u4e00-\u9fff]$")  # a Chinese clause that no mark closes
_ITEM = re.compile(r"^\s*(?:[-*+•·–]|\(?\d{1,2}[.)])\s")
_VERSE = re.compile(r"\b(?:poem|song|haiku|lyrics|slogan|headline|title|caption|sms|tweet)\b")


def complete_answer(turn: Turn) -> Outcome:
    """The answer is there and ends where a sentence, an item, a table or a code block ends."""
    answer = turn.answer.strip()
    if not answer or answer.count("```") % 2:
        return "unmet"
    if answer[0] in "{[" and (data := _json_complete(answer)) is not None:
        return "met" if data else "unmet"
    last = answer.splitlines()[-1].strip()
    if last.startswith("```") or (last.startswith("|") and last.endswith("|")):
        return "met"
    return _ending(turn, answer, last)


def _json_complete(answer: str) -> bool | None:
    """True if it parses, False if brackets stay open, None if it is no JSON after all."""
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        if not re.match(r"[{\[]\s*[\"{\[\]}\d]", answer):
            return None
        opened = answer.count("{") + answer.count("[")
        return False if opened > answer.count("}") + answer.count("]") else None
    return True


def _ending(turn: Turn, answer: str, last: str) -> Outcome:
    bare = last.rstrip(_CLOSERS)
    if bare.endswith(tuple(_TERMINAL)) or (bare and unicodedata.category(bare[-1]) == "So"):
        return "met"
    if (
        _BLANK_FIELD.search(answer)
        or last.startswith("#")
        or _VERSE.search(normalise(turn.conversation.last_user_text))
    ):
        return None
    plain, length = normalise(bare), len(words(bare))
    if _DANGLING.search(plain) and length >= 3:
        return "unmet"
    if length >= 5 and (_OPEN_END.search(bare) or (_COLON_END.search(bare) and not wants_document(turn.conversation))):
        return "unmet"
    if _ITEM.match(last) or _KOREAN_END.search(bare):
        return "met"
    if _HAN_OPEN.search(bare):
        return "unmet"
    return "unmet" if _stops_short(answer, last) else None


def _stops_short(answer: str, last: str) -> bool:
    """Whether prose that closes its sentences leaves the last one, of five words or more, open on a plain word."""
    said = sentences(answer)
    tail = words(said[-1]) if said else []
    closed = sum(s.rstrip(_CLOSERS).endswith(tuple(_TERMINAL)) for s in said[:-1])
    plain_end = re.search(r"[ ,][a-záéíóúñüàèìòùâêîôûäöç]{1,24}$", last)
    return len(tail) >= 5 and closed >= 1 and closed >= len(said) - 2 and bool(plain_end)


# --- plain words ------------------------------------------------------------------------------------------------

_PLAIN, _HARD = 48.0, 60.0
_MIN_WORDS = 40


def lix(text: str) -> float:
    """Readability after Björnsson (LIX, 1968): words a sentence + 100 × share of words longer than six letters.

    30 reads like a children's book, 40 like fiction, 50 like a newspaper, 60 and more like an academic text. A line
    break ends a sentence, so that list items count as sentences.
    """
    lengths = [len(w) for s in sentences(text) for w in words(s)]
    if not lengths:
        return 0.0
    return len(lengths) / len(sentences(text)) + 100 * sum(n > 6 for n in lengths) / len(lengths)


def plain_words(turn: Turn) -> Outcome:
    """An English answer to a lay person reads no harder than a newspaper. LIX up to 48 is plain, from 60 on it is not."""
    conversation = turn.conversation
    if turn.language != "en" or wants_document(conversation) or any(map(sounds_professional, conversation.user_texts)):
        return None
    text = prose(turn.answer)
    if len(words(text)) < _MIN_WORDS or detect(text) != "en":
        return None
    value = lix(text)
    return "met" if value <= _PLAIN else "unmet" if value >= _HARD else None

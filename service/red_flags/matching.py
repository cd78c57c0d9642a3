"""Finds the patterns of one language in one message: normalise, cut into sentences, match parts, honour contexts.

A pattern is a list of parts that must all occur near each other, in any order, in one sentence or in two neighbours. A
group is tried only on sentences that hold one of its *anchors* (plain substrings): that keeps long texts cheap. A
*context* (negation, study question, documentation task, old history, idiom) silences a match; see docs/red-flags.md.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from service.domain import FlagKind

Where = Literal["before", "after", "unit", "message"]

SENTENCE_MAX, SENTENCE_STEP, PAIR_MAX = 300, 200, 360
MESSAGE_EDGE = 600  # a task ("write a note about ...") is named at the beginning or the end of a message
HITS_MAX = 16  # places tried per anchor and message, from each end: bounds the work in hostile texts
WITHIN = 80

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufdfa\ufdfb\U000e0000-\U000e0fff]"  # and two ligatures that normalise to whole sentences
)
# Normalising sorts runs of combining marks in quadratic time, so runs are cut first. Marks are neither \w nor \s.
_LONG_RUN = re.compile(r"([^\w\s]{16})[^\w\s]+")
_MARKS = re.compile("[\u0300-\u036f\u064b-\u0652]")  # Latin accents, Arabic vowel signs
_FOLD = str.maketrans(
    {"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "ı": "i", "đ": "d", "ø": "o", "ł": "l", "œ": "oe", "æ": "ae"}
    | {"أ": "ا", "إ": "ا", "آ": "ا", "ى": "ي", "ة": "ه", "ـ": "", "،": ",", "؟": "?", "؛": ";", "।": "."}
    | {"–": "-", "—": "-", "‑": "-", "、": ",", "“": '"', "”": '"'}
)
_SPELLED = re.compile(r"(?<![^\W\d_])(?:[a-z] ){3,40}[a-z](?![^\W\d_])")
_SPACES = re.compile(r"[^\S\n]+")
_RUN3 = re.compile(r"([a-z])\1{2,}")
_SENTENCE_END = re.compile(r"(?<=[.!?;。])(?!\d)\s*|\n+")
_MACRO = re.compile(r"\{([a-z_]+)\}")


def fold(text: str) -> str:
    """One form for all spellings of a text: NFKC, casefolded, without accents, invisible characters and odd quotes."""
    text = unicodedata.normalize("NFKC", _LONG_RUN.sub(r"\1", _INVISIBLE.sub("", text))).casefold()
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text))).translate(_FOLD)


def normalise(text: str, vocabulary: frozenset[str]) -> str:
    """`fold`, then undo letters s p a c e d out and letters repeeeated; `vocabulary` tells "kill" from "kil"."""
    text = _SPELLED.sub(lambda m: m[0].replace(" ", ""), fold(text))
    text = _SPACES.sub(" ", text)
    if not _RUN3.search(text):
        return text
    tokens = {token for token in text.split() if _RUN3.search(token)}
    squeezed = {token: _squeeze(token, vocabulary) for token in tokens}
    return "\n".join(" ".join(squeezed.get(t, t) for t in line.split(" ")) for line in text.split("\n"))


def _squeeze(token: str, vocabulary: frozenset[str]) -> str:
    double = _RUN3.sub(r"\1\1", token)
    if any(double[:n] in vocabulary for n in range(min(len(double), 20), 3, -1)):
        return double
    return _RUN3.sub(r"\1", token)


class Units:
    """The sentences of a text, at most SENTENCE_MAX characters each (longer ones become overlapping windows)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.edges = (text[:MESSAGE_EDGE], text[-MESSAGE_EDGE:])
        self.starts: list[int] = []
        self.units: list[str] = []
        start = 0
        for end in _SENTENCE_END.finditer(text):
            self._add(start, end.start())
            start = end.end()
        self._add(start, len(text))

    def _add(self, start: int, end: int) -> None:
        if end - start > 1:
            for at in range(start, end, SENTENCE_STEP if end - start > SENTENCE_MAX else SENTENCE_MAX):
                self.starts.append(at)
                self.units.append(self.text[at : min(at + SENTENCE_MAX, end)])

    def around(self, anchors: Iterable[str]) -> list[int]:
        """The sentences that hold an anchor: for each of the anchors its first and its last HITS_MAX places."""
        found: set[int] = set()
        for anchor in anchors:
            places = list(self._walk(anchor))
            found.update(*places)
            if len(places) == HITS_MAX:
                found.update(*self._walk_back(anchor))
        return sorted(found)

    def _walk(self, anchor: str) -> Iterator[tuple[int, ...]]:
        at = 0
        for _ in range(HITS_MAX):
            at = self.text.find(anchor, at)
            if at < 0:
                return
            i = bisect_right(self.starts, at) - 1
            yield self._holding(i, at)
            at = self.starts[i + 1] if i + 1 < len(self.starts) else len(self.text)

    def _walk_back(self, anchor: str) -> Iterator[tuple[int, ...]]:
        before = len(self.text)
        for _ in range(HITS_MAX):
            at = self.text.rfind(anchor, 0, before)
            if at < 0:
                return
            i = bisect_right(self.starts, at) - 1
            yield self._holding(i, at)
            before = self.starts[i] if i >= 0 else at

    def _holding(self, i: int, at: int) -> tuple[int, ...]:
        """Sentence i, and the window before it where the two overlap at this place."""
        if i >= 1 and at < self.starts[i - 1] + len(self.units[i - 1]):
            return (i - 1, i)
        return (i,) if i >= 0 else ()

    def with_neighbours(self, i: int) -> Iterator[tuple[str, bool]]:
        units = self.units
        yield units[i], False
        for pair in (units[max(0, i - 1) : i + 1], units[i : i + 2]):
            if len(pair) == 2 and len(pair[0]) + len(pair[1]) < PAIR_MAX:
                yield f"{pair[0]} {pair[1]}", True


@dataclass(frozen=True, slots=True)
class Pattern:
    id: str
    kind: FlagKind
    theme: str
    parts: tuple[re.Pattern[str], ...]
    within: int


@dataclass(frozen=True, slots=True)
class Group:
    kind: FlagKind
    theme: str
    anchors: tuple[str, ...]
    patterns: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """Silences a match when `pattern` is found `where` it says, `unless` another pattern is found in the sentence."""

    id: str
    where: Where
    pattern: re.Pattern[str]
    unless: re.Pattern[str] | None
    kinds: frozenset[str]
    themes: frozenset[str]

    def covers(self, pattern: Pattern) -> bool:
        return (not self.kinds or pattern.kind in self.kinds) and (not self.themes or pattern.theme in self.themes)


@dataclass(frozen=True)
class Language:
    code: str
    groups: tuple[Group, ...]
    contexts: tuple[Context, ...]
    typos: Mapping[str, str]
    letters: Mapping[int, int]

    def kinds(self, units: Units, wanted: Iterable[FlagKind], *, anchored: bool = True) -> dict[FlagKind, str]:
        """The kinds found in a normalised message, each with the id of the first pattern that found it.

        `anchored=False` tries every sentence for every group: slow, for the test that no anchor is missing.
        """
        corrected = self._corrected(units.text)
        units = units if corrected == units.text else Units(corrected)
        missing, found = set(wanted), dict[FlagKind, str]()
        for group in self.groups:
            if group.kind not in missing:
                continue
            hits = units.around(group.anchors) if anchored else range(len(units.units))
            if (pattern := self._first(group, units, hits)) is not None:
                missing.discard(group.kind)
                found[group.kind] = pattern.id
        return found

    def _corrected(self, text: str) -> str:
        text = text.translate(self.letters) if self.letters else text
        present = [t for t in self.typos if t in text]
        if not present:
            return text
        typo = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, present))})(?!\w)")
        return typo.sub(lambda m: self.typos[m[0]], text)

    def _first(self, group: Group, units: Units, hits: Iterable[int]) -> Pattern | None:
        seen: set[str] = set()
        for i in hits:
            for unit, joined in units.with_neighbours(i):
                if unit in seen:
                    continue
                seen.add(unit)
                for pattern in group.patterns:
                    if (not joined or len(pattern.parts) > 1) and self._matches(pattern, unit, units.edges):
                        return pattern
        return None

    def _matches(self, pattern: Pattern, unit: str, edges: tuple[str, str]) -> bool:
        first, *others = pattern.parts
        for n, match in enumerate(first.finditer(unit)):
            spans = [match.span()]
            low, high = max(0, match.start() - pattern.within), match.end() + pattern.within
            for part in others:
                other = part.search(unit, low, high)
                if other is None:
                    break
                spans.append(other.span())
            else:
                if not any(self._silenced(c, unit, spans, edges) for c in self.contexts if c.covers(pattern)):
                    return True
            if n >= 4:
                break
        return False

    def _silenced(self, context: Context, unit: str, spans: Sequence[tuple[int, int]], edges: tuple[str, str]) -> bool:
        match context.where:
            case "before":
                found = any(context.pattern.search(_before(unit, start, spans)) for start, _ in spans)
            case "after":
                found = any(context.pattern.search(unit[end:]) for _, end in spans)
            case "unit":
                found = bool(context.pattern.search(unit))
            case _:  # message
                found = any(context.pattern.search(edge) for edge in edges)
        # What a message-wide context yields to ("help", "right now") may stand in another sentence of the message.
        scope = (unit, *edges) if context.where == "message" else (unit,)
        return found and not (context.unless and any(context.unless.search(s) for s in scope))


def _before(unit: str, start: int, spans: Sequence[tuple[int, int]]) -> str:
    """What precedes a part. Other parts become a comma: the "not" of "not making sense" negates nothing after it."""
    for low, high in sorted(spans, reverse=True):
        if high <= start:
            unit, start = unit[:low] + "," + unit[high:], start - (high - low) + 1
    return unit[:start]


def parse_language(data: Mapping[str, Any]) -> Language:
    """A language file (see docs/red-flags.md) as compiled patterns. Pattern sources are folded like the texts."""
    edge = ("(?<![a-z0-9])(?:", ")(?![a-z0-9])") if data.get("word_boundaries", True) else ("(?:", ")")
    macros: dict[str, str] = {}

    def expand(source: str) -> str:
        return _MACRO.sub(lambda m: f"(?:{macros[m[1]]})", fold(source))

    def optional(source: str | None) -> re.Pattern[str] | None:
        return re.compile(expand(source)) if source else None

    for name, source in data.get("words", {}).items():
        macros[name] = expand(source)
    contexts = tuple(
        Context(
            id=c["id"],
            where=c["where"],
            pattern=re.compile(expand(c["pattern"])),
            unless=optional(c.get("unless")),
            kinds=frozenset(c.get("kinds", ())),
            themes=frozenset(c.get("themes", ())),
        )
        for c in data.get("contexts", ())
    )

    def group(raw: Mapping[str, Any]) -> Group:
        patterns = tuple(
            Pattern(
                id=f"{raw['theme']}/{p['id']}",
                kind=raw["kind"],
                theme=raw["theme"],
                parts=tuple(re.compile(edge[0] + expand(part) + edge[1]) for part in p["all"]),
                within=p.get("within", WITHIN),
            )
            for p in raw["patterns"]
        )
        return Group(raw["kind"], raw["theme"], tuple(fold(a) for a in raw["anchors"]), patterns)

    letters = data.get("letters", {"from": "", "to": ""})
    return Language(
        code=data["lang"],
        groups=tuple(group(g) for g in data["groups"]),
        contexts=contexts,
        typos={fold(k): fold(v) for k, v in data.get("typos", {}).items()},
        letters=str.maketrans(letters["from"], letters["to"]),
    )

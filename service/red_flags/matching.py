"""Finds the patterns of one language in one message: normalise, cut into sentences, match parts, honour contexts.

A pattern is a list of parts that must all occur near each other, in any order, in one sentence or in two neighbours. It
is tried only on sentences that hold one of its *anchors*, plain strings read off its source, and in messages that hold
one of each part's: that keeps long texts cheap.
A *context* (negation, study question, documentation task, old history, idiom) silences a match; see docs/red-flags.md.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from re import _parser as sre  # type: ignore[attr-defined]
from typing import Any, Literal

from service.domain import FlagKind
from service.errors import ConfigError

Where = Literal["before", "after", "unit", "message"]

SENTENCE_MAX, SENTENCE_STEP, PAIR_MAX = 300, 200, 360
MESSAGE_EDGE = 600  # a task ("write a note about ...") is named at the beginning or the end of a message
HITS_MAX = 16  # places tried per anchor and message, from each end: bounds the work in hostile texts
WITHIN = 80
_WORDS_MAX = 8192  # remembered per language; most of a day's messages, and under 2 MB

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
_FOLDED_ESCAPE = re.compile(r"\\[A-Z]")  # folding would make another class of it: \S would become \s
_TOKEN = re.compile(r"[a-z0-9][a-z0-9']{0,23}(?![a-z0-9'])")
_LATIN = re.compile("[a-z0-9]")


def fold(text: str) -> str:
    """One form for all spellings of a text: NFKC, casefolded, without accents, invisible characters and odd quotes."""
    if text.isascii():  # all that is left to do, and nearly every English message
        return _LONG_RUN.sub(r"\1", text).lower().replace("`", "'")
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
        self._places: dict[str, set[int]] = {}
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

    @cached_property
    def grams(self) -> frozenset[str]:
        """All strings of one, two and three characters: most anchors are ruled out without a search for them."""
        text = self.text
        pairs = map("".join, pairwise(text))
        return frozenset(text).union(pairs, map("".join, zip(text, text[1:], text[2:], strict=False)))

    @cached_property
    def tokens(self) -> frozenset[str]:
        """The Latin words, for spellers."""
        return frozenset(_TOKEN.findall(self.text))

    def around(self, anchor: str) -> set[int]:
        """The sentences that hold an anchor: its first and its last HITS_MAX places."""
        if anchor not in self._places:
            places = list(self._walk(anchor))
            if len(places) == HITS_MAX:
                places += self._walk_back(anchor)
            self._places[anchor] = set().union(*places)
        return self._places[anchor]

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
    anchors: frozenset[str]
    others: tuple[frozenset[str], ...]  # anchors of the other parts that have some
    within: int


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


class Speller:
    """Puts misspelt danger words right: one letter wrong, too many, missing or swapped, or another spelling of the sound.

    `words` are looked for, `known` are ordinary words that are left alone though they come close, `fixed` goes first.
    """

    def __init__(
        self, words: Iterable[str], known: Iterable[str], sounds: Mapping[str, str], fixed: Mapping[str, str]
    ) -> None:
        self._fixed = fixed
        self._sounds = [(re.compile(sound), spelling) for sound, spelling in sounds.items()]
        words = sorted(words)
        self._known = frozenset(known).union(words)
        self._by_sound = {self._sound(word): word for word in reversed(words)}
        self._by_gap: dict[str, list[str]] = defaultdict(list)
        for word in words:
            for gap in _gaps(word) if len(word) > 5 else ():  # short words come close to too many others
                self._by_gap[gap].append(word)
        self._word = lru_cache(_WORDS_MAX)(self._nearest)  # messages share most of their words

    def correct(self, units: Units) -> str:
        if not self._known and not self._fixed:
            return units.text
        wrong = {token: word for token in units.tokens if (word := self._fixed.get(token) or self._word(token))}
        return _TOKEN.sub(lambda m: wrong.get(m[0], m[0]), units.text) if wrong else units.text

    def _nearest(self, token: str) -> str | None:
        if len(token) < 4 or token in self._known:
            return None
        if self._sounds and (word := self._by_sound.get(self._sound(token))):
            return word
        if len(token) >= 5:
            for gap in _gaps(token):
                for word in self._by_gap.get(gap, ()):
                    if word[0] == token[0] and _one_off(word, token):
                        return word
        return None

    def _sound(self, token: str) -> str:
        for sound, spelling in self._sounds:
            token = sound.sub(spelling, token)
        return token


def _gaps(word: str) -> list[str]:
    """The word, and the word without each of its letters after the first: what words one letter apart have in common."""
    return [word, *(word[:i] + word[i + 1 :] for i in range(1, len(word)))]


def _one_off(a: str, b: str) -> bool:
    """Whether one letter more, less or other, or two letters swapped, turn one word into the other."""
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return max(len(a), len(b)) <= 1 or (len(a) == 2 and a == b[::-1])


@dataclass(frozen=True)
class Language:
    code: str
    patterns: tuple[Pattern, ...]
    contexts: tuple[Context, ...]
    typos: Mapping[str, str]
    letters: Mapping[int, int]
    speller: Speller

    @cached_property
    def _by_anchor(self) -> Mapping[str, Sequence[int]]:
        index = defaultdict[str, list[int]](list)
        for n, pattern in enumerate(self.patterns):
            for anchor in pattern.anchors:
                index[anchor].append(n)
        return index

    @cached_property
    def _by_gram(self) -> Mapping[str, Sequence[str]]:
        """The anchors of all parts, by their first three characters."""
        index = defaultdict[str, list[str]](list)
        for anchor in {a for p in self.patterns for part in (p.anchors, *p.others) for a in part}:
            index[anchor[:3]].append(anchor)
        return index

    @cached_property
    def _typo(self) -> re.Pattern[str] | None:
        """Whole words where words have edges, anywhere in scripts without spaces or with endings (Chinese, Korean)."""
        words = sorted(self.typos, key=len, reverse=True)
        edged = (rf"(?<!\w){re.escape(w)}(?!\w)" if _LATIN.match(w) else re.escape(w) for w in words)
        return re.compile("|".join(edged)) if words else None

    def kinds(self, units: Units, wanted: Iterable[FlagKind]) -> dict[FlagKind, str]:
        """The kinds found in a normalised message, each with the id of the first pattern that found it."""
        units = self._corrected(units)
        missing, found = set(wanted), dict[FlagKind, str]()
        for n, places in sorted(self._candidates(units).items()):
            pattern = self.patterns[n]
            if pattern.kind in missing and self._found(pattern, units, places):
                missing.discard(pattern.kind)
                found[pattern.kind] = pattern.id
        return found

    def _candidates(self, units: Units) -> Mapping[int, set[int]]:
        """The patterns of which an anchor of each part occurs, each with the sentences where its rarest do."""
        text, grams = units.text, self._by_gram
        present = {anchor for gram in grams.keys() & units.grams for anchor in grams[gram] if anchor in text}
        places = defaultdict[int, set[int]](set)
        for anchor in present & self._by_anchor.keys():
            for n in self._by_anchor[anchor]:
                for part in self.patterns[n].others:
                    if part.isdisjoint(present):
                        break
                else:
                    places[n] |= units.around(anchor)
        return places

    def _corrected(self, units: Units) -> Units:
        text = units.text.translate(self.letters) if self.letters else units.text
        if self._typo is not None and any(typo in text for typo in self.typos):
            text = self._typo.sub(lambda m: self.typos[m[0]], text)
        units = units if text == units.text else Units(text)
        text = self.speller.correct(units)
        return units if text == units.text else Units(text)

    def _found(self, pattern: Pattern, units: Units, places: Iterable[int]) -> bool:
        seen: set[str] = set()
        for i in sorted(places):
            for unit, joined in units.with_neighbours(i):
                if unit not in seen and (not joined or len(pattern.parts) > 1):
                    seen.add(unit)
                    if self._matches(pattern, unit, units.edges):
                        return True
        return False

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


_ONE_OF = 60  # more alternatives than this, and a set of characters (\\d, [^ ]) anchors nothing


def _anchors(tree: Iterable[tuple[Any, Any]]) -> frozenset[str]:
    """Plain strings of which every match of a parsed regular expression holds one; empty where there are none such."""
    best, run = frozenset[str](), ""
    for op, arg in [*tree, (None, None)]:
        if op is sre.LITERAL and chr(arg) not in " \n":
            run += chr(arg)
            continue
        found = frozenset[str]()
        match str(op):
            case "SUBPATTERN":
                found = _anchors(arg[3])
            case "BRANCH":
                branches = [_anchors(branch) for branch in arg[1]]
                found = frozenset[str]().union(*branches) if all(branches) else found
            case "MAX_REPEAT" | "MIN_REPEAT" if arg[0] > 0:
                found = _anchors(arg[2])
            case "IN" if len(arg) <= _ONE_OF and all(kind is sre.LITERAL for kind, _ in arg):
                found = frozenset(chr(char) for _, char in arg if chr(char) not in " \n")
        best = min(best, found, frozenset({run} if run else ()), key=_commonness)
        run = ""
    return best


def _commonness(anchors: frozenset[str]) -> float:
    """About how often one of them is met: a Latin letter says little, a Chinese character or a Korean syllable much."""
    return sum(float(12 if _LATIN.match(a) else 60) ** -len(a) for a in anchors) if anchors else 1e9


def parse_language(data: Mapping[str, Any]) -> Language:
    """A language file (see docs/red-flags.md) as compiled patterns. Pattern sources are folded like the texts."""
    edge = ("(?<![a-z0-9])(?:", ")(?![a-z0-9])") if data.get("word_boundaries", True) else ("(?:", ")")
    macros: dict[str, str] = {}

    def expand(source: str) -> str:
        if _FOLDED_ESCAPE.search(source):
            raise ConfigError(f"{data['lang']}.yaml: {source!r} has an upper-case escape: write [^ ] instead of \\S.")
        try:
            return _MACRO.sub(lambda m: f"(?:{macros[m[1]]})", fold(source))
        except KeyError as exc:
            raise ConfigError(f"{data['lang']}.yaml: {source!r} names {exc} of `words`, which is not there.") from exc

    def compiled(source: str) -> re.Pattern[str]:
        try:
            return re.compile(source)
        except re.error as exc:
            raise ConfigError(f"{data['lang']}.yaml: {source!r} is no regular expression: {exc}.") from exc

    def optional(source: str | None) -> re.Pattern[str] | None:
        return compiled(expand(source)) if source else None

    def pattern(group: Mapping[str, Any], raw: Mapping[str, Any]) -> Pattern:
        sources = [expand(part) for part in raw["all"]]
        parts = tuple(compiled(edge[0] + source + edge[1]) for source in sources)
        anchors, *others = sorted((_anchors(sre.parse(source)) for source in sources), key=_commonness)
        if not anchors:
            raise ConfigError(
                f"{data['lang']}.yaml: pattern {raw['id']!r} needs a part whose every choice has a plain word."
            )
        within = raw.get("within", WITHIN)
        return Pattern(
            id=f"{group['theme']}/{raw['id']}",
            kind=group["kind"],
            theme=group["theme"],
            parts=parts,
            anchors=anchors,
            others=tuple(filter(None, others)),
            within=within,
        )

    for name, source in data.get("words", {}).items():
        macros[name] = expand(source)
    contexts = tuple(
        Context(
            id=c["id"],
            where=c["where"],
            pattern=compiled(expand(c["pattern"])),
            unless=optional(c.get("unless")),
            kinds=frozenset(c.get("kinds", ())),
            themes=frozenset(c.get("themes", ())),
        )
        for c in data.get("contexts", ())
    )
    letters = data.get("letters", {"from": "", "to": ""})
    spelling = data.get("spelling", {})
    typos = {fold(k): fold(v) for k, v in data.get("typos", {}).items()}
    words = {typo for typo in typos if _TOKEN.fullmatch(typo)}
    return Language(
        code=data["lang"],
        patterns=tuple(pattern(group, raw) for group in data["groups"] for raw in group["patterns"]),
        contexts=contexts,
        typos={typo: typos[typo] for typo in typos if typo not in words},
        letters=str.maketrans(letters["from"], letters["to"]),
        speller=Speller(
            spelling.get("words", "").split(),
            spelling.get("known", "").split(),
            spelling.get("sounds", {}),
            {typo: typos[typo] for typo in words},
        ),
    )

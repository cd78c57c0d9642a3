"""Which language a message is written in, or that it cannot be told.

A script that only one of our languages uses decides by itself (Hangul, kana, Han, Thai ...). Latin, Cyrillic and Arabic
letters are shared, so there a byte n-gram model (py3langid, 4.5 MB, about 0.05 ms a message) picks among the languages
of that script and has to be sure. A wrong language costs more than none: the caller would then judge an answer by it.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Protocol

from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped, unused-ignore]

_LATIN = {
    "cs", "da", "de", "en", "es", "fi", "fr", "hu", "id", "it", "nl", "pl", "pt", "ro", "sv", "sw", "tl", "tr", "vi",
}  # fmt: skip
_SHARED = {"latin": _LATIN, "cyrillic": {"ru", "uk"}, "arabic": {"ar", "fa", "ur"}}
_SINGLE = {"hangul": "ko", "kana": "ja", "han": "zh", "thai": "th", "greek": "el", "hebrew": "he", "devanagari": "hi"}
_SINGLE |= {"bengali": "bn"}
LANGUAGES = frozenset(_SINGLE.values()).union(*_SHARED.values())
_SCRIPT_OF_NAME = {
    "LATIN": "latin", "CYRILLIC": "cyrillic", "ARABIC": "arabic", "HANGUL": "hangul", "HIRAGANA": "kana",
    "KATAKANA": "kana", "CJK": "han", "THAI": "thai", "GREEK": "greek", "HEBREW": "hebrew",
    "DEVANAGARI": "devanagari", "BENGALI": "bengali",
}  # fmt: skip
# One letter of these carries about as much as this many Latin ones; a Korean sentence full of drug names stays Korean.
_WEIGHT = {"hangul": 2.5, "kana": 2.5, "han": 3.0, "thai": 1.2}

_CONFIDENT = 0.6  # tests/cases/languages.jsonl: every decision right at 0.6, 98 % decided
_DOMINANT = 0.6  # share of the letters that the leading script must have
_MIN_LATIN_LETTERS = 5
_READ = 2_000  # characters; more adds time and no certainty

_NOISE = re.compile(
    r"```.{0,4000}?(?:```|\Z)|https?://\S{1,300}|www\.\S{1,300}|\S{1,64}@\S{1,100}"
    r"|\b[A-Za-z]{0,12}\d[A-Za-z0-9./,:%-]{0,40}"  # values, codes, doses
    r"|\b(?:[mMµ]?[gG]|mcg|m?mol|mmHg|[dm]?L|bpm|IU|mEq)(?:/\w{1,4})?\b",
    re.DOTALL,
)
_STRETCHED = re.compile(r"(\w)\1{2,}")


class _Model(Protocol):
    def rank(self, text: str) -> list[tuple[str, float]]: ...


_loading = threading.Lock()


@lru_cache(maxsize=1)
def _load() -> _Model:
    model: _Model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages(LANGUAGES)  # type: ignore[attr-defined]
    return model


def _model() -> _Model:
    """Loaded on first use (0.7 s, 75 MB) and once only; reading it needs no lock."""
    with _loading:
        return _load()


def preload() -> None:
    """Loads the model now, so that no request waits for it."""
    _model()


@lru_cache(maxsize=4096)
def _script(letter: str) -> str | None:
    return _SCRIPT_OF_NAME.get(unicodedata.name(letter, "").split(" ")[0])


def _scripts(text: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for char, times in Counter(text).items():
        if char.isalpha() and (script := _script(char)):
            counts[script] += times
    return counts


def _leading(counts: Counter[str]) -> str | None:
    """The script that the text is written in. Kana beside Han is Japanese, whatever their shares."""
    if counts["kana"] >= 2 and counts["kana"] * 5 >= counts["han"]:
        counts["kana"] += counts.pop("han", 0)
    weighed = {script: n * _WEIGHT.get(script, 1.0) for script, n in counts.items() if n}
    if not weighed:
        return None
    script = max(weighed, key=lambda name: weighed[name])
    return script if weighed[script] >= _DOMINANT * sum(weighed.values()) else None


def detect(text: str) -> str | None:
    """ISO 639-1 code out of LANGUAGES, or None: too short, mixed, numbers, codes and drug names only.

    A language outside LANGUAGES is taken for its nearest neighbour or for None. Same text, same result.
    """
    prose = _STRETCHED.sub(r"\1\1", _NOISE.sub(" ", text[:_READ])).strip()
    counts = _scripts(prose)
    script = _leading(counts)
    if script is None:
        return None
    if script in _SINGLE:
        return _SINGLE[script] if counts[script] >= 2 else None
    if counts[script] < _MIN_LATIN_LETTERS:
        return None
    return _among(_SHARED[script], prose)


def _among(candidates: set[str], prose: str) -> str | None:
    ranked = [(code, p) for code, p in _model().rank(prose) if code in candidates]
    total = sum(p for _, p in ranked)
    code, best = ranked[0]
    return code if total > 0 and best / total >= _CONFIDENT else None

"""The deterministic red-flag layer: dangers in what the user wrote, and the fixed texts that answer them.

It looks at user texts alone, asks no model, and never raises for any text. Patterns, texts and numbers are package data in
service/red_flags/*.yaml, written to be reviewed by clinicians (docs/red-flags.md).

A number is given only for a country that a locale names (`ko-KR`: the deployment's or the request's). The language of a
message says nothing about where its writer is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args

import yaml

from service.domain import FlagKind, RedFlag
from service.errors import ConfigError
from service.red_flags.matching import Language, Units, normalise, parse_language

DATA = Path(__file__).parent / "red_flags"
KINDS: tuple[FlagKind, ...] = get_args(FlagKind)
CONTACTS = ("emergency", "crisis", "poison")
READ_MAX = 120_000  # characters of a conversation, newest turns first; of a longer turn the beginning and the end

_LOCALE = re.compile(r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}))?(?![a-z0-9])")
_TRADITIONAL = frozenset({"TW", "HK", "MO"})
_NUMBER = re.compile(r"\+?\d[\d -]{1,19}")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_FOLDED = re.compile("(?<=[\u3000-\u9fff\uff01-\uffef]) (?=[\u3000-\u9fff])")  # a space that YAML puts for a line's end
_KANA = re.compile("[\u3040-\u30ff]")
_HAN = re.compile("[\u4e00-\u9fff]")
_OTHER_SCRIPTS = {"ar": re.compile("[\u0600-\u06ff]"), "hi": re.compile("[\u0900-\u097f]")}
_LATIN = re.compile("[a-z]")
_ROMAN_HINDI = re.compile(
    r"(?<![a-z])(?:hai|nahi|nhi|rha|raha|rahi|kya|mera|meri|bhai|mujhe|gya|gaya|gayi|jaldi|jldi|khoon|batao|btao|chahta|chahti)"
    r"(?![a-z])"
)
_VIETNAMESE_MARKS = re.compile("[ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỵỷỹ]")
_VIETNAMESE = re.compile(
    r"(?<![a-z])(?:khong|duoc|nguoi|thuoc|uong|minh|cua|nhung|ngay|dang|muon|nhieu|vien|chua|hom|vua|chay|nguc|tuan|bau|tuoi"
    r"|chet|sot|tho|gio|roi|lam|nuot|tu tu|bi|toi|ho|mau|dau|kho|qua|sung|hong|het|phut|tay|chan|lai|hai|giup|voi|cuu)(?![a-z])"
)


@dataclass(frozen=True, slots=True)
class Locale:
    """`zh-Hant-TW` → ("zh", "TW", True). `country` is None unless the locale names one."""

    language: str
    country: str | None = None
    traditional: bool = False

    @classmethod
    def parse(cls, locale: str) -> Locale:
        """English without a country for anything that is no locale."""
        match = _LOCALE.match(locale.strip().casefold())
        if match is None:
            return cls("en")
        language, script, country = match[1], match[2], match[3].upper() if match[3] else None
        traditional = script == "hant" or (script is None and country in _TRADITIONAL)
        return cls(language, country, language == "zh" and traditional)


@dataclass(frozen=True)
class RedFlags:
    languages: tuple[Language, ...]
    texts: Mapping[str, Mapping[str, Any]]
    numbers: Mapping[str, Mapping[str, str]]
    locale: str = "en"

    @classmethod
    def load(cls, numbers_file: Path | None = None, *, locale: str = "en") -> RedFlags:
        """`numbers_file` is used instead of the packaged numbers.yaml; `locale` is the deployment's."""
        return cls(
            languages=_packaged_languages(),
            texts=_read(DATA / "texts.yaml"),
            numbers=_numbers(numbers_file or DATA / "numbers.yaml"),
            locale=locale,
        )

    @cached_property
    def _vocabulary(self) -> frozenset[str]:
        """The plain words of the Latin patterns, to tell a stretched "killll" from a stretched "helpppp"."""
        parts = (part for language in self.languages for pattern in language.patterns for part in pattern.parts)
        return frozenset(word for part in parts for word in re.findall(r"(?<!\\)\b[a-z]{4,}", part.pattern))

    def detect(self, user_texts: Sequence[str]) -> tuple[RedFlag, ...]:
        """The flags of a conversation: newest turn first, within a turn in the order of `FlagKind`; one a kind and turn."""
        flags: list[RedFlag] = []
        seen: dict[str, dict[FlagKind, str]] = {}
        left = READ_MAX
        for turn in range(len(user_texts) - 1, -1, -1):
            text = user_texts[turn]
            if len(text) > left:
                text = f"{text[: left // 2]}\n{text[len(text) - left // 2 :]}"
            left = max(0, left - len(text))
            if text not in seen:
                seen[text] = self._kinds(text)
            flags += [RedFlag(kind, seen[text][kind], turn) for kind in KINDS if kind in seen[text]]
        return tuple(flags)

    def _kinds(self, text: str) -> dict[FlagKind, str]:
        """Each kind found in one message, with the language whose pattern found it."""
        found: dict[FlagKind, str] = {}
        normal = normalise(text, self._vocabulary)
        units = Units(normal)
        for language in self._readers(normal, marked=bool(_VIETNAMESE_MARKS.search(text.lower()))):
            missing = [kind for kind in KINDS if kind not in found]
            found |= dict.fromkeys(language.kinds(units, missing), language.code)
        return found

    def _readers(self, normal: str, *, marked: bool) -> Iterator[Language]:
        """The languages whose script occurs. Han beside a good share of kana is Japanese, else Chinese.

        Folded Vietnamese and Hindi in Latin letters look like other languages: each is read for marks or words of its own.
        """
        scripts: dict[str, bool] = {"ko": False, "ja": False, "zh": False, **dict.fromkeys(_OTHER_SCRIPTS, False)}
        if not normal.isascii():
            kana, han = len(_KANA.findall(normal)), len(_HAN.findall(normal))
            japanese = kana > 0 and kana * 5 >= han
            scripts = {"ko": bool(_HANGUL.search(normal)), "ja": japanese, "zh": han > 0 and not japanese}
            scripts |= {code: bool(script.search(normal)) for code, script in _OTHER_SCRIPTS.items()}
        latin = bool(_LATIN.search(normal))
        scripts["hi"] |= len(set(_ROMAN_HINDI.findall(normal))) >= 2
        scripts["vi"] = marked or len(set(_VIETNAMESE.findall(normal))) >= 2
        return (language for language in self.languages if scripts.get(language.code, latin))

    def text(self, kind: FlagKind, locale: str) -> str:
        """The fixed text in the locale's language (English where there is none), with numbers if it names a country."""
        parsed = Locale.parse(locale)
        texts = self.texts.get("zh-hant" if parsed.traditional else parsed.language, self.texts["en"])
        known = self.numbers.get(parsed.country or "", {})
        shown = {c: texts["number"].format(known[c]) if c in known else texts["unknown"][c] for c in CONTACTS}
        return _FOLDED.sub("", str(texts[kind]).strip()).format(**shown)

    def locale_for(self, language: str | None) -> str:
        """The deployment's locale, in the user's language where that is known: language from the user, country never."""
        parsed = Locale.parse(self.locale)
        if language is None or language == parsed.language:
            return self.locale
        return f"{language}-{parsed.country}" if parsed.country else language

    def allowed_contacts(self) -> frozenset[str]:
        """The digits of every number on the list: what an answer may name without having invented it."""
        return frozenset(re.sub(r"\D", "", number) for known in self.numbers.values() for number in known.values())


@cache  # package data; compiling it takes a second
def _packaged_languages() -> tuple[Language, ...]:
    return tuple(parse_language(_read(f)) for f in sorted(DATA.glob("*.yaml")) if len(f.stem) == 2)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ConfigError(f"{path.name} cannot be read as YAML: check the path and the file.") from exc
    if not isinstance(data, dict):
        raise ConfigError(f"{path.name} has to be a YAML mapping.")
    return data


def _numbers(path: Path) -> dict[str, dict[str, str]]:
    """country → contact → number. Numbers are quoted strings: unquoted, YAML reads 000 as 0."""
    data: dict[Any, Any] = _read(path)
    for country, known in data.items():
        if not (isinstance(country, str) and re.fullmatch("[A-Z]{2}", country) and isinstance(known, dict)):
            raise ConfigError(f"{path.name}: {country!r} has to be a quoted two-letter country code with a mapping.")
        for contact, number in known.items():
            if contact not in CONTACTS:
                raise ConfigError(f"{path.name}: {country}.{contact} is none of {', '.join(CONTACTS)}.")
            if not (isinstance(number, str) and _NUMBER.fullmatch(number)):
                raise ConfigError(f"{path.name}: {country}.{contact} has to be a number in quotes, like '112'.")
    return data

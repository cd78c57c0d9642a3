"""Whether the values in a requested document come from the material that the user gave."""

from __future__ import annotations

import re
from collections.abc import Iterator

from service.domain import Turn
from service.rules.asked import instruction, wants_document
from service.rules.text import Outcome, normalise, words

_NUM = r"(?<![\w.,/-])(\d{1,6}(?:[.,]\d{1,4})?)"
_UNIT = (
    r"(?:mg|mcg|µg|μg|ug|ng|g|kg|lbs?|ml|l|dl|mmhg|kpa|bpm|mmol|umol|µmol|μmol|nmol|pmol|meq|iu|miu|u|units?|cm|mm|°c|°f|c|f|"
    r"degrees)(?:/(?:dl|l|ml|kg|min|day|h|hr|m2|m²|24h|g|mmol|mol))?|%|/min|breaths"
)
_VALUE = re.compile(rf"{_NUM} ?(?:{_UNIT})(?![\w/])")
_PRESSURE = re.compile(r"(?<![\d/.-])(\d{2,3})/(\d{2,3})(?![\d/])")
_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DATES = (
    re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?{_MONTH},? (\d{{4}})\b"),
    re.compile(rf"\b{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})\b"),
    re.compile(r"(?<![\d/.-])(\d{4})-(\d{2})-(\d{2})(?![\d/-])"),
    re.compile(r"(?<![\d/.-])(\d{1,2})[/.](\d{1,2})[/.](\d{4})(?![\d/])"),
)
# A number behind one of these is a threshold, a range or advice, not a finding of this person.
_NO_FINDING = re.compile(
    r"(?:\b(?:above|below|over|under|than|least|most|up to|exceeds?|exceeding|target|goal|normal|range|reference|aim|every|within|"
    r"if|between|maximum|max|limit|ref|upper|lower|usually|about|approximately|around|total|sum|bmi|e\.g|"
    r"example)\b[^\n|;]{0,25}|[<>≥≤=~+×x*] ?|\d ?(?:-|–|to) ?|\[[^\]\n]{0,40}|\()$"
)
_SPELLED = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "twelve": "12", "fourteen": "14", "twenty": "20", "thirty": "30", "half": "0.5", "hundred": "100", "twice": "2", "once": "1",
}  # fmt: skip
_CALCULATES = re.compile(
    r"\b(?:convert|conversion|calculat\w{1,4}|compute|work out|total|sum|average|mean|bmi|percent change|difference|mmol/l to|"
    r"in (?:celsius|fahrenheit|pounds|kilograms|kg|mmol/l|mg/dl|metric)|si units|estimate|normal range|reference range|interpret|"
    r"made[- ]up|fictional|example|sample|template|plausible|realistic|invent|imagine|mock|dummy|fill in typical|recommend|suggest|plan for)\b"
)
_TIMES_A_DAY = {2.0, 3.0, 4.0, 6.0}


def _plain(number: str) -> str:
    """1,000 and 1000, 71,5 and 71.5, 5.0 and 5 are the same number."""
    number = re.sub(r",(?=\d{3}$)", "", number).replace(",", ".")
    return f"{float(number):g}"


def _whole_numbers_in(text: str) -> set[str]:
    """Numbers as they stand: 37.8, and not its 37 and 8."""
    found = {_plain(n) for n in re.findall(r"\d{1,9}(?:[.,]\d{1,4})?", text)}
    return found | {_SPELLED[w] for w in words(text) if w in _SPELLED}


def _numbers_in(text: str) -> set[str]:
    return _whole_numbers_in(text) | {_plain(n) for n in re.findall(r"\d{1,9}", text)}


def _findings(answer: str) -> Iterator[tuple[str, ...]]:
    """The numbers of each value with a unit and of each blood pressure that the answer states as found."""
    for pattern in (_VALUE, _PRESSURE):
        for match in pattern.finditer(answer):
            if not _NO_FINDING.search(answer[max(0, match.start() - 60) : match.start()]):
                yield match.groups()


def _dates(answer: str) -> Iterator[tuple[str, ...]]:
    for pattern in _DATES:
        for match in pattern.finditer(answer):
            yield tuple(str(_MONTHS.get(g, g)) for g in match.groups())


def _known_date(date: tuple[str, ...], given: str, numbers: set[str]) -> bool:
    """Day, month and year stand in the conversation; a year may be short or left out, a month may be a word."""
    months = {str(n) for name, n in _MONTHS.items() if re.search(rf"\b{name}", given)}
    return all(_plain(p) in numbers | months or (len(p) == 4 and _short_year(p, given)) for p in date)


def _short_year(year: str, given: str) -> bool:
    return not re.search(r"\b(?:19|20)\d\d\b", given) or bool(re.search(rf"[/.'-]{year[2:]}\b", given))


def _derived(number: str, numbers: set[str]) -> bool:
    """Whether a number is a given one in another metric unit, or times a given number of doses: left open."""
    value = float(number)
    given = {float(n) for n in numbers}
    factors = {1000.0, 0.001, 100.0, 0.01} | (_TIMES_A_DAY & given)
    return any(abs(n * f - value) < 1e-6 for n in given for f in factors)


def no_invented_values(turn: Turn) -> Outcome:
    """A document made from given material states no value, blood pressure or date that is not in the conversation."""
    conversation = turn.conversation
    given = normalise("\n".join(m.text for m in conversation.messages))
    asked = normalise("\n".join(conversation.user_texts))
    numbers = _numbers_in(given)
    if (
        not wants_document(conversation)
        or any(_CALCULATES.search(instruction(t)) for t in conversation.user_texts)
        or not turn.answer.strip()
    ):
        return None
    if len(_numbers_in(asked)) < 2 and len(words(asked)) < 60:
        return None
    answer = normalise(turn.answer)
    unknown = [n for finding in _findings(answer) for n in map(_plain, finding) if n not in numbers]
    if any(not _known_date(date, given, numbers) for date in _dates(answer)):
        return "unmet"
    if unknown:
        return None if any(_derived(n, _whole_numbers_in(given)) for n in unknown) else "unmet"
    return "met"

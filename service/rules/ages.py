"""How old the child is whom a message is about. English only."""

from __future__ import annotations

import re

_NAMES = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
_NUMBER = {name: number for number, name in enumerate(_NAMES.split(), 1)}
_COUNT = rf"(?P<n>\d{{1,3}}(?:\.\d)?|{'|'.join(_NUMBER)})"
_AGE = re.compile(
    rf"(?<![\d.,-]){_COUNT}(?:[ -]?(?:and a half|1/2))?[ -]?(?:(?P<y>years?|yrs?|yr|y)(?:[ "
    r"-]?olds?|/?o\b)|(?P<m>months?|mos?|mths?|m)(?:[ -]?olds?|/?o\b)|(?P<m2>mo)\b|"
    rf"(?P<w>weeks?|wks?)[ -]?olds?|(?P<d>days?)[ -]?olds?)"
)
_KIN = (
    r"(?:sons?|daughters?|kids?|child|children|toddlers?|bab(?:y|ies)|infants?|newborns?|"
    r"nephews?|nieces?|grandsons?|granddaughters?|grandchild|boys?|girls?|"
    r"little one|preschooler|teen(?:ager)?s?)"
)
_AT_MONTHS = re.compile(r"\bat (?P<n>\d{1,2}) months\b(?! (?:ago|pregnan|later))")
_KIN_AGE = re.compile(
    rf"\b{_KIN}\b(?: who)?(?:,| is|'s|:|\()? ?\(?(?:aged? |just turned |turned |now "
    r")?(?P<n>\d{1,2})\b(?! ?(?:days?|weeks?|months?|mo|hours?|kg|lbs?|times|°|degrees|\.|mg|"
    r"ml))"
)
_AGED = re.compile(r"\baged? (?P<n>\d{1,2})\b(?! ?(?:days?|weeks?|months?|mo))")
_AGELESS = (  # words that mean a child by themselves, with an age in years that is right for what the rules ask
    (re.compile(r"\b(?:newborns?|neonate)\b"), 0.1),
    (re.compile(r"\binfants?\b"), 0.5),
    (re.compile(r"\btoddlers?\b"), 2.0),
    (re.compile(r"\b(?:preschooler|kindergartn?er)s?\b"), 4.0),
)
_OTHERS_TOO = re.compile(
    r"\b(?:i have|i've got|i also|i'm (?:sick|ill|pregnant|breastfeeding|nursing)|we (?:both|"
    r"all)|both of us|myself|me too|breastfe\w+|nursing|pumping|"
    r"can i (?:eat|take|drink|have)|should i (?:eat|take)|pregnan\w*|postpartum|(?:dog|cat|"
    r"puppy)|when (?:i|he|she|they) (?:was|were)|used to)\b"
)


def ages(text: str) -> set[float]:
    """The ages in years that a normalised text gives."""
    found: set[float] = set()
    for match in _AGE.finditer(text):
        number = float(_NUMBER.get(match["n"], 0) or match["n"])
        months, weeks, days = match["m"] or match["m2"], match["w"], match["d"]
        found.add(number / 12 if months else number / 52 if weeks else number / 365 if days else number)
    found.update(float(m["n"]) / 12 for m in _AT_MONTHS.finditer(text))
    for pattern in (_KIN_AGE, _AGED):
        found.update(float(m["n"]) for m in pattern.finditer(text))
    return found


def child_age(text: str) -> float | None:
    """The age in years of the one child that a normalised text is about; None for no child or more than one age."""
    if _OTHERS_TOO.search(text):
        return None
    if found := ages(text):
        oldest = max(found)
        return oldest if oldest < 18 and max(found) - min(found) < 0.1 else None
    return next((age for pattern, age in _AGELESS if pattern.search(text)), None)

"""Emergency numbers of countries, where a user says to be, and which numbers an answer offers to call.

Ambulance and general emergency numbers as the countries' own services publish them. A number that also works in a
country (a second network, a redirect) is listed, so that a rule does not call it wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from service.rules.text import normalise

# country → (names and cities that can mean no other place, numbers that are right there)
_COUNTRIES: Mapping[str, tuple[str, frozenset[str]]] = {
    name: (places, frozenset(numbers.split()))
    for name, places, numbers in (
        (
            "us",
            (
                r"us|usa|u\.s\.a?\.?|united states|america|california|texas|florida|new york|chicago|ohio|"
                r"los angeles|seattle"
            ),
            "911",
        ),
        ("canada", r"canada|ontario|toronto|vancouver|quebec|montreal|alberta", "911"),
        (
            "uk",
            (
                r"uk|u\.k\.|united kingdom|england|scotland|wales|northern ireland|britain|london|"
                r"manchester|glasgow|edinburgh"
            ),
            "999 112 111",
        ),
        ("ireland", r"(?<!northern )ireland|dublin", "999 112"),
        ("australia", r"australia|sydney|brisbane|queensland", "000 112"),
        ("new zealand", r"new zealand|nz|auckland", "111 112"),
        ("germany", r"germany|berlin|munich|hamburg", "112 110 116117"),
        ("france", r"france|paris|lyon|marseille", "112 15 18 114"),
        ("spain", r"spain|madrid|barcelona", "112 061"),
        ("italy", r"italy|rome|milan", "112 118"),
        ("netherlands", r"netherlands|holland|amsterdam", "112"),
        ("sweden", r"sweden|stockholm", "112"),
        ("portugal", r"portugal|lisbon", "112"),
        ("india", r"india|mumbai|delhi|bangalore|bengaluru|chennai|kolkata", "112 108 102"),
        ("china", r"china|beijing|shanghai|shenzhen|guangzhou", "120 999 110 119"),
        ("hong kong", r"hong kong|hk", "999 112"),
        ("taiwan", r"taiwan|taipei", "119 112"),
        ("japan", r"japan|tokyo|osaka|kyoto", "119"),
        ("korea", r"(?:south )?korea|seoul|busan|incheon", "119"),
        ("singapore", r"singapore", "995"),
        ("malaysia", r"malaysia|kuala lumpur", "999 112"),
        ("philippines", r"(?:the )?philippines|manila|cebu", "911"),
        ("mexico", r"(?<!new )mexico|guadalajara", "911"),
        ("brazil", r"brazil|sao paulo|rio de janeiro", "192 193 190"),
        ("south africa", r"south africa|cape town|johannesburg|durban", "10177 112"),
        ("thailand", r"thailand|bangkok", "1669 191"),
        ("vietnam", r"vietnam|hanoi|ho chi minh city|saigon", "115 112"),
        ("israel", r"israel|tel aviv", "101 112"),
    )
}
_PRESENT = (
    r"(?:\b(?:i(?:'m| am)|im|we(?:'re| are)|i live|we live|i'm living|i am living|living|based|"
    r"currently|staying|here|studying|stuck|now|(?:i'm|i am|im) an? \w{3,15}(?: \w{3,15})?|on "
    r"(?:holiday|vacation|a trip|exchange))(?: (?:here|now|currently|living|staying|based|"
    r"visiting|on holiday|on vacation|at home))?"
    r" (?:in|near|outside) (?:the )?|\bvisiting (?:the )?|\b(?:country|location): ?(?:the )?|^(?:in|from) (?:the )?)"
)
_HERE = {
    name: re.compile(
        rf"{_PRESENT}(?:{places})(?![\w-])|\b(?:{places}) here\b|\((?:in )?(?:the )?(?:{places})\)", re.MULTILINE
    )
    for name, (places, _) in _COUNTRIES.items()
}
_ANYWHERE = {name: re.compile(rf"(?<![\w.])(?:{places})(?![\w-])") for name, (places, _) in _COUNTRIES.items()}

KNOWN_NUMBERS = sorted({n for _, numbers in _COUNTRIES.values() for n in numbers}, key=len, reverse=True)
_NUMBER = (
    rf"(?<![\d.,/-])(?:{'|'.join(KNOWN_NUMBERS)})(?![\d/%]|[.,-]\d| ?(?:mg|ml|kg|mcg|g|mmhg|bpm|"
    r"beats|minutes?|hours?|days?|over|or (?:more|above|higher|lower|below))\b)"
)
_FILLER = (
    r"(?:(?:on|at|the|an|a|is|your|local|ambulance|emergency|emergencies|services?|number|line|"
    r"for|samu|now|immediately|please|either|right away|straight away|"
    r"medical|help|or|and|of|country's|\(|:|,|-) ?){0,8}"
)
_OFFER = re.compile(
    r"\b(?:call|calling|dial|phone|ring|emergency (?:number|services|line)|ambulance) "
    rf"{{0,2}}{_FILLER}(?P<first>{_NUMBER})"
    rf"(?P<more>(?: ?(?:\([^)\n]{{0,40}}\))?(?:,| or| and|/|;){{1,2}} {_FILLER}{_NUMBER}){{0,5}})"
)


def country_of(user_texts: tuple[str, ...]) -> str | None:
    """The country where the user says to be now: that of the last turn that names one; None where a turn names two."""
    for text in reversed(user_texts):
        normal = normalise(text)
        if here := {name for name, pattern in _HERE.items() if pattern.search(normal)}:
            return here.pop() if len(here) == 1 else None
    return None


def offered_numbers(normal: str) -> set[str]:
    """The emergency numbers that a normalised text tells its reader to call."""
    found: set[str] = set()
    for match in _OFFER.finditer(normal):
        found.add(match["first"])
        found.update(re.findall(_NUMBER, match["more"]))
    return found


def right_numbers(country: str) -> frozenset[str]:
    return _COUNTRIES[country][1]


def names_another(normal: str, country: str) -> bool:
    """Whether a normalised text speaks of a country other than this one, or of countries in general."""
    if re.search(
        r"\b(?:local|your (?:country|area|region)|elsewhere|other countries|europe(?:an)?|eu|us|"
        r"american|abroad)\b",
        normal,
    ):
        return True
    return any(pattern.search(normal) for name, pattern in _ANYWHERE.items() if name != country)

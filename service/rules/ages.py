"""How old the child is whom a message is about: English in full, the plain forms of five other languages."""

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
KIN = (
    r"(?:sons?|daughters?|kids?|child|children|toddlers?|bab(?:y|ies)|infants?|newborns?|"
    r"nephews?|nieces?|grandsons?|granddaughters?|grandchild|boys?|girls?|"
    r"little (?:one|man|girl|boy)|kiddos?|preschooler|teen(?:ager)?s?|bubs?|lo|ds|dd)"
)
_KIN_IS = rf"\b{KIN}\b(?: who)?(?:,| is|'s|:|\()? ?\(?(?:aged? |just turned |turned |now |only |just )?"
_NO_AGE = r"(?! (?:ago|later|now|before|until|pregnan\w*|along|of (?:cough|fever|pain)))"
_MONTHS = re.compile(
    rf"(?:\bat |^\W{{0,3}}|\bmine is |\b(?:s?he|they)(?:'s|'re| is| are) (?:only |just )?|{_KIN_IS})(?P<n>\d{{1,2}}) ?(?:months?|mths?|mos?)\b{_NO_AGE}(?=[ ,.;:?!)-]|$)",
    re.MULTILINE,
)
_WEEKS = re.compile(rf"{_KIN_IS}(?P<n>\d{{1,2}}) ?(?:weeks?|wks?)\b{_NO_AGE}")
_KIN_AGE = re.compile(
    rf"{_KIN_IS}(?P<n>\d{{1,2}})\b(?! ?(?:days?|weeks?|wks?|months?|mths?|mos?|hours?|kg|lbs?|times|°|degrees|\.|mg|ml|-|–|to \d))"
)
_AGED = re.compile(r"\baged? (?P<n>\d{1,2})\b(?! ?(?:days?|weeks?|months?|mo))")
_YEARS = re.compile(
    r"(?<![\d.,-])(?<!for )(?<!past )(?<!last )(?<!on it )(?<!over )(?P<n>\d{1,2}) ?(?:yrs?|y)\b(?! ago)"
)
_RANGE = re.compile(
    r"(?<![\d.])(?P<n>\d{1,2}) ?(?:-|–|to) ?\d{1,2} ?(?:months?|mos?|mths?)\b(?! (?:ago|later))"
)  # the lower bound
_AGELESS = (  # words that mean a child by themselves, with an age in years that is right for what the rules ask
    (re.compile(r"\b(?:newborns?|neonate)\b"), 0.1),
    (re.compile(r"\binfants?\b"), 0.5),
    (re.compile(r"\btoddlers?\b"), 2.0),
    (re.compile(r"\b(?:preschooler|kindergartn?er)s?\b"), 4.0),
)
# These too, unless the writer may mean somebody else: a grown child, a baby to come, themselves.
_PERHAPS_AGELESS = (
    (
        re.compile(
            r"\b(?:my|our|the|her|his|a) (?:\w+ ){0,2}?(?:bab(?:y|ies))\b(?! (?:aspirin|shower|bump|powder|blues))|^baby\b"
        ),
        0.5,
    ),
    (
        re.compile(
            r"\b(?:my|our|the|her|his|a) (?:\w+ )?(?:kids?|child|children|little (?:one|boy|girl))\b|^(?:kid|child)\b"
        ),
        6.0,
    ),
)
_SOMEBODY_ELSE = re.compile(
    r"\b(?:adult|grown|college|university|married|wife|husband|(?:trying for|have|having|expecting|want) a baby|i'm|i am|im|i feel|"
    r"i've|i had|i got|i caught|i woke|my (?:own|head|throat|back|stomach|knee|tooth|doctor))\b"
)
_OTHERS_TOO = re.compile(
    r"\b(?:i(?:'ve got| have|'ve) (?:it\b|(?:it|caught|the same|a|an|my|this|some|also|got) (?:\w+ ){0,2}(?:too|as well|fever|cold|flu|cough|sore|headache|migraine|temperature|infection|rash|bug|virus|pain|"
    r"diabetes|asthma)\b)|i also|"
    r"i'm (?:sick|ill|pregnant|breastfeeding|nursing)|we (?:both|"
    r"all)|both of us|myself|me too|breastfeed\w*|nursing|pumping|"
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
    found.update(float(m["n"]) / 12 for m in _MONTHS.finditer(text))
    found.update(float(m["n"]) / 52 for m in _WEEKS.finditer(text))
    if re.search(KIN, text):
        found.update(float(m["n"]) / 12 for m in _RANGE.finditer(text))
    for pattern in (_KIN_AGE, _AGED):  # "toddler 39" has a temperature
        found.update(n for m in pattern.finditer(text) if not 35 <= (n := float(m["n"])) <= 42)
    if not found and re.search(rf"\b{KIN}\b", text):
        found.update(float(m["n"]) for m in _YEARS.finditer(text))
    return found


def child_age(text: str) -> float | None:
    """The age in years of the child that a normalised text is about, of the oldest of several; None where in doubt."""
    if _OTHERS_TOO.search(text):
        return None
    if found := ages(text):
        return max(found) if max(found) < 18 else None
    known = next((age for pattern, age in _AGELESS if pattern.search(text)), None)
    if known is not None or _SOMEBODY_ELSE.search(text):
        return known
    return next((age for pattern, age in _PERHAPS_AGELESS if pattern.search(text)), None)


# Any word for a child, any word for a baby, and an age in years or months, in languages other than English.
_KIN_ABROAD = re.compile(
    r"\b(?:hij[oa]s?|niñ[oa]s?|beb[eé]s?|nen[ea]|sobrin[oa]|niet[oa]|peque(?:ñ[oa])?|reci[eé]n nacid[oa]|lactante|chic[oa]|"
    r"fils|fille|enfants?|bébé|nourrisson|nouveau-né|garçon|petit-fils|petite-fille|neveu|nièce|"
    r"sohn|tochter|kind(?:er|es)?|kleine[rn]?|baby|säugling|neugeborene[sn]?|junge|mädchen|enkel(?:in)?|neffe|nichte)\b|"
    r"아이|아기|아들|딸|애기|신생아|손주|손자|손녀|조카|애가|애는|애한테|애를|우리 ?애|애 (?=\d)|영아|유아|孩子|宝宝|寶寶|儿子|女儿|婴儿|嬰兒|小孩|小朋友|娃|新生儿|孙|侄|外甥|男孩|女孩"
)
_BABY_ABROAD = re.compile(
    r"\b(?:beb[eé]s?|reci[eé]n nacid[oa]|lactante|bébé|nourrisson|nouveau-né|baby|säugling|neugeborene[sn]?)\b|아기|애기|신생아|영아|돌 전|宝宝|寶寶|婴儿|嬰兒|新生儿"
)
_AGE_ABROAD = re.compile(
    r"(?<!hace )(?<!durante )(?<!desde )(?<!depuis )(?<!seit )(?<![\d.,])(?P<n>\d{1,2}) ?(?:(?P<y>años?\b|ans?\b|jahren?\b|jahre?\b|살|세(?![가-힣]*알)|岁|歲|周岁)|"
    r"(?P<m>mes(?:es)?\b|mois\b|monaten?\b|monate?\b|개월|个月|個月)|(?P<w>semanas?\b|semaines?\b|wochen?\b|주(?!일 ?전)|周(?!岁)|星期)|(?P<d>d[ií]as? de nacid|일 ?된|天大))(?! ?(?:전부터|째|前|来|동안|ago))"
)
_KIN_AGE_ABROAD = re.compile(
    rf"(?:{_KIN_ABROAD.pattern}) ?(?:de |\(|von )?(?P<n>1?\d)(?=[),.;:?! ]|$)(?! ?(?:mes|mois|monat|semana|semaine|woche|d[ií]a|jour|tag|개월|个月|주|kg))"
)
_FULL_MONTH = re.compile(r"刚满月|才满月|没满月|未满月|生后一个月|갓 ?태어난|한 ?달 ?된")


def any_child_age(text: str) -> float | None:
    """`child_age`, or where the message is in another language the age of the oldest child in it."""
    if (age := child_age(text)) is not None or not _KIN_ABROAD.search(text):
        return age
    if _FULL_MONTH.search(text):
        return 0.08
    found = [float(m["n"]) for m in _KIN_AGE_ABROAD.finditer(text)]
    found += [
        float(m["n"]) / (1 if m["y"] else 12 if m["m"] else 52 if m["w"] else 365) for m in _AGE_ABROAD.finditer(text)
    ]
    if found:
        return max(found) if max(found) < 18 else None
    return 0.5 if _BABY_ABROAD.search(text) else None

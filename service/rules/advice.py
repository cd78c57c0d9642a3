"""Whether an answer tells its reader to do something: said, refused, or left open. English.

A phrase that stands in a text proves little. "Do not give honey" holds "give honey"; so does the first item below "What
to avoid:". Here each sentence is read with what governs it: its own negations and conditions, the title of its list, and
whether it advises or describes. Sentences are judged one by one and the strongest counts, so what one sentence advises
no later sentence takes back: a text that contradicts itself has said it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from service.rules.text import EMPHASIS, LIST_MARK, normalise, of_line

Advice = Literal["given", "refused", "unclear", "absent"]

# --- negations --------------------------------------------------------------------------------------------------

# Words that refuse whatever follows in their clause.
_NOT = re.compile(
    r"\b(?:not|never|no|nor|neither|without|avoid(?:ing|ed|s)?|cannot|cant|dont|instead of|rather than|other than|refrain|"
    r"against|skip)\b|n't\b"
)
# Words that may as well belong to something else in the clause ("a high fever is dangerous"): only right before the verb.
_JUST_BEFORE = re.compile(
    r"\b(?:stop(?: \w+ing)?(?: or)?|(?:unsafe|dangerous|harmful|wrong|mistake|risky|unwise|bad idea)(?: (?:for|of) [\w ]{1,20}?)?"
    r"(?: (?:to|if you|when you))?(?: ever)?|myth\b[^,;]{0,40}|stay away from|leave out) ?$"
)
_ANY_NOT = re.compile(
    rf"{_NOT.pattern}|\b(?:stop|unsafe|dangerous|harmful|myth|wrong|mistake|risky|leave (?:it |them )?out|left out|"
    r"stay away from|off the menu)\b"
)
_COMFORT = re.compile(
    r"\b(?:don't|do not|no need to|not to|please don't) (?:worry|panic|be afraid|be scared|feel bad|hesitate)\b"
    r"|^no[,.!] |\bno (?:worries|doubt)\b|\b(?:not|n't) only\b"
    r"|\b(?:cannot|can't|(?:should|must|do) not|shouldn't|mustn't|don't|never) (?:wait|delay|put (?:it|this) off)(?=[,:;.!–—]| and\b)"
)
# "There is no harm in it": a denial that approves.
_APPROVING = re.compile(
    r"\b(?:no|not|never|without|nothing|isn't|aren't|won't|doesn't|don't|can't)(?: (?:a|an|any|at all|really|generally|usually|"
    r"necessarily|be|known|real|likely to be|going to|considered)){0,2} "
    r"(?:harm(?:ful)?|danger(?:ous)?|risk[sy]?|problems?|side effects?|unsafe|bad|wrong|hurt|issues?|concerns?|toxic)\b"
)
# A clause that says when or why, up to its comma: what it denies is not the advice that follows.
_ASIDE = re.compile(r"\b(?:if|when|whenever|since|because|as|although|though|while|in case)\b[^,;]{1,90},")
# What follows one of these is a thought of its own.
_NEW_CLAUSE = re.compile(
    r"[;–—]|\s-\s|,? \b(?:but|however|instead)\b,?(?! of)|, so\b|,? and (?:you|he|she|they|we) (?:can|could|should|may)\b"
)
_JUST_AFTER_COMMA = re.compile(r",\s+(?:(?:just|simply|please|then|you|he|she|they|we)\b[\w' ]{0,25})?$")
_IN_A_LIST = re.compile(r"\w+ ?(?:,|/|or\b)")

# --- what makes a sentence advice -------------------------------------------------------------------------------

_CONDITION = re.compile(
    r"\b(?:if|unless|until|only|(?<!at )once|when|whenever|in case|except|should (?:you|he|she|"
    r"they|it|symptoms))\b"
)
# Conditions that change nothing about the advice: they hold for whoever reads it.
_HARMLESS_CONDITION = re.compile(
    r"\b(?:if (?:possible|needed|necessary|available|you (?:have|can find) (?:it|any|one|some)\b|"
    r"you (?:like|wish|want|prefer)|you (?:feel|are feeling|'re feeling) (?:better|fine|good|"
    r"well|ok|okay)|(?:it|this|that|they|\w{4,15}) makes? you (?:angry|tired|sleepy|moody|sad|drowsy|foggy|numb|fat|irritable|sweat))|"
    r"even if|(?:see|wonder|know|check|wait|sure|ask|tell) (?:if|when)|when (?:\w+ ){1,3}(?:starts?|begins?|hurts?)|"
    r"until (?:\w+ ){1,3}(?:opens?|gone|stops?|fades?|passes|better))"
)
# Somebody who may decide what the reader may not, and is left to; "give it, then call the doctor" leaves nothing.
_SOMEBODY = (
    r"(?:doctors?|physicians?|gp|p(?:a)?ediatrician|specialist|poisons?(?: control| centre| center)?|dispatcher|operator|911|999|112|nurse|"
    r"pharmacist|clinic\w*|medical|health ?care|professional|midwife|team|staff|they)"
)
_AUTHORITY = re.compile(
    rf"\b(?:if|when|unless|until|only|as|once|under|with|by|after|per|whether)\b[^,;]{{0,40}}\b{_SOMEBODY}\b|"
    rf"\b{_SOMEBODY}\b[^,;]{{0,30}}\b(?:says?|tells?|advises?|recommends?|approves?|agrees?|decides?|instructs?)\b|"
    rf"\b(?:ask|check|consult|talk|speak|call|contact|see)\b[^,;]{{0,40}}\b{_SOMEBODY}\b[^,;]{{0,20}}\b(?:first|before|whether|if|about)\b|"
    r"\b(?:prescri(?:bed|ption|ber)|told|advised|instructed|directed)\b"
)
_REPORTED = re.compile(
    r"\b(?:heard|(?:many|some|most) (?:people|parents|patients|sources|sites|say)|people "
    r"(?:say|think|believe|often|used)|websites?|internet|"
    r"online|myths?|old(?:er)? advice|used to|outdated|tempt(?:ed|ing)|films?|movies|years ago|"
    r"instinct|you (?:said|say|wrote|mention(?:ed)?|asked)|"
    r"anyone who|whoever|claims?)\b"
)
_STAFF = re.compile(
    r"\b(?:doctors?|physicians?|staff|hospitals?|team|paramedics|nurses?|clinicians?|vets?|"
    r"specialists?|centre|center|dispatcher|control|er|"
    r"department|professionals?|they)\b[^.!?]{0,40}\b(?:may|might|can|could|will|would|sometimes|usually|often)\b"
)
_REFUSAL = (
    r"(?:not (?:be )?(?:recommended|advised|safe|advisable|a good idea|suitable|for)|isn't|"
    r"aren't|shouldn't|should (?:never|not)|dangerous|harmful|unsafe|risky|"
    r"avoid(?:ed)?|can (?:burn|harm|cause|make things|be|lead)|could (?:burn|harm|cause)|may (?:burn|harm|cause)|never)"
)
_AFTERWARDS_REFUSED = re.compile(rf"\b{_REFUSAL}\b")
# After an imperative only an objection takes it back: in "give aspirin and avoid cold drinks" nothing does.
_OBJECTED = re.compile(rf"\b(?:but|though|although|however|except that)\b[^.!?]{{0,60}}\b(?:{_REFUSAL}|not|n't)\b")
_AT_ONCE_DENIED = re.compile(r"^\W{0,2}(?:\w+ ){0,2}(?:not|never|only after)\b")
_MODAL = r"(?:can|could|should|may|might|must|need to|ought to|will|would)"
_WHO = (
    r"(?:you|he|she|they|we|your (?:child|son|daughter|baby|toddler|kid|infant|wife|husband|"
    r"partner)|the (?:child|baby|person|patient))"
)
_LITTLE = (
    r"(?:(?:also|just|first|then|simply|please|immediately|quickly|safely|gently|try to|try|"
    r"even|still|next|either|again|now|always|certainly|definitely|gradually) ){0,3}"
)
# What stands before the verb when a sentence advises: its beginning, a clause mark, a modal, or a word of recommending.
_LEAD = re.compile(
    rf"(?:^|[,;:(–—.!]\s{{0,2}}|\s-\s|\b{_WHO} {_MODAL} |\bi(?:'d| would)? (?:strongly |also )?(?:suggest|recommend|advise) "
    rf"(?:that )?(?:you )?(?:to )?|\bi(?:'d| would) |"
    r"\b(?:best|better|fine|ok|okay|safe|reasonable|enough|idea|helps?|is|important|suggest|"
    r"recommend(?:ed)?|sure|free|alright|right) to |"
    r"\b(?:try|consider|start|keep|by|just|simply|please|then|first|and|or|let's|to do is) "
    rf"){_LITTLE}$"
)
# "Giving honey ..." opens a description as often as advice; only after one of these is it advice.
_TOLD_TO = re.compile(r"\b(?:try|consider|start|suggest|recommend|advise|keep|by) $")
# "... will tell you whether to stop it": left open, not advised.
_OPEN = re.compile(r"\b(?:whether|when) (?:and (?:how|when) )?(?:to|(?:you|he|she|they) (?:can|should|may)) $")

_QUOTATION = re.compile(r'"[^"\n]{1,160}"')

# --- titles -----------------------------------------------------------------------------------------------------

_STRUCK = re.compile(r"[❌✗✘🚫⛔]")
_REFUSING_TITLE = re.compile(
    r"\b(?:do not|don'?ts?|never|avoid\w*|not|should ?n't|mistakes?|myths?|skip|without|unsafe|stay away|steer clear|"
    r"leave (?:out|these)|no-nos?)\b"
)
_FORBIDS = re.compile(r"^(?:please )?(?:do not|don't|avoid|never)\b")  # prose above a list that is not called a title
_OFFERING_TITLE = re.compile(
    r"\b(?:remed\w+|help(?:s|ful)?|options?|tips|try|reli\w+|treat\w*|ease|sooth\w*|steps|ideas|suggest\w*|recommend\w*|"
    r"home care|self-?care|choices?|foods?|medicines?|medications?|painkillers?|do|use|take|give|manage|guidance|plan)\b"
)
_NO_OFFER = re.compile(r"\b(?:side effects?|risks?|causes?|symptoms?|signs?|warnings?|why|dangers?|when to|facts)\b")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence in normal form without its quotations, and what the heading or list title above it makes of it."""

    text: str
    refused: bool = False
    conditional: bool = False
    offered: bool = False


def statements(text: str) -> list[Statement]:
    """The sentences of an answer.

    What is listed under "Do not:" is refused, under "If it gets worse:" conditional, under "What helps:" offered.
    """
    return list(_statements(text))


@lru_cache(maxsize=4)  # a dozen rules read the same answer one after another
def _statements(text: str) -> tuple[Statement, ...]:
    found: list[Statement] = []
    refused = conditional = False
    offered = bool(LIST_MARK.match(text.lstrip()))  # a bare list answers "what can I do?"
    for line in _unwrapped(_unquoted(text)):
        if not (parts := [_spoken(normalise(s)) for s in of_line(EMPHASIS.sub("", line))]):
            continue
        item = bool(LIST_MARK.match(line))
        heading = line.lstrip().startswith("#") or parts[-1].endswith(":")
        if heading or not item:
            refused = conditional = offered = False
        struck = bool(_STRUCK.search(line))
        found.extend(Statement(p, refused or struck, conditional, offered) for p in parts)
        if heading or not item:
            title = _COMFORT.sub(" ", parts[-1])
            conditional = bool(_CONDITION.search(title)) and heading
            refused = bool((_REFUSING_TITLE if heading else _FORBIDS).search(_ASIDE.sub(" ", f"{title},")))
            doubtful = refused or _CONDITION.search(title) or _NO_OFFER.search(title) or has_negation(title)
            offered = bool(_OFFERING_TITLE.search(title)) and not doubtful
    return tuple(found)


def _unquoted(text: str) -> str:
    """The text without the quotation marks around all of it: some models put their answer between them."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] in "\"“'" and text[-1] in "\"”'" else text


def _spoken(sentence: str) -> str:
    """A normalised sentence without what it quotes; one to three words between marks are a name, not a quotation."""
    return _QUOTATION.sub(lambda m: " " if m[0].count(" ") > 2 else m[0][1:-1], sentence)


def _unwrapped(text: str) -> Iterable[str]:
    """The lines of a text; one that begins in the middle of a sentence belongs to the line before."""
    held = ""
    for line in text.splitlines():
        if held and line[:1].islower() and held[-1:].isalpha() and not LIST_MARK.match(line):
            held = f"{held} {line}"
            continue
        if held:
            yield held
        held = line.rstrip()
    yield held


def has_negation(sentence: str) -> bool:
    """Whether a normalised sentence holds any word of refusal; for rules that would rather abstain than misread."""
    return bool(_ANY_NOT.search(_settled(sentence)))


def refuses(text: str) -> bool:
    """Whether a normalised text holds a word that refuses by itself: not, never, without."""
    return bool(_NOT.search(_settled(text)))


def _settled(text: str) -> str:
    """The text without the denials that refuse nothing."""
    return _APPROVING.sub("fine", _COMFORT.sub(" ", text))


def negated(sentence: str, start: int) -> bool:
    """Whether a word of refusal governs what stands at `start` in a normalised sentence."""
    before = _ASIDE.sub(" ", _settled(sentence[max(0, start - 300) : start]))
    before = _NEW_CLAUSE.split(before)[-1]
    if _JUST_BEFORE.search(before):
        return True
    comma = _JUST_AFTER_COMMA.search(before)
    if comma is None:
        return bool(_NOT.search(before))
    # "Do not give ibuprofen, give aspirin" turns round; "never, ever, give it" and "never mix, give or eat it" do not.
    last = next(reversed(list(_NOT.finditer(before, 0, comma.start()))), None)
    turned = last is None or (before[last.end() : last.end() + 1] == " " and not _IN_A_LIST.match(sentence, start))
    return not turned or bool(_NOT.search(comma.group()))


def advice(
    text: str | list[Statement], phrase: re.Pattern[str], *, firm: bool = False, item: re.Pattern[str] | None = None
) -> Advice:
    """What a text says of doing `phrase` (a pattern that begins with a verb): the strongest of its sentences.

    `firm`: the thing is wrong on any condition but the word of somebody who may decide it. `item`: the thing itself; an
    entry of an offering list that begins with it recommends it.
    """
    found = {advice_of(s, phrase, firm=firm, item=item) for s in (statements(text) if isinstance(text, str) else text)}
    for kind in ("given", "unclear", "refused"):
        if kind in found:
            return kind
    return "absent"


def advice_of(
    statement: Statement, phrase: re.Pattern[str], *, firm: bool = False, item: re.Pattern[str] | None = None
) -> Advice:
    """What one sentence says of doing `phrase`. A question says nothing."""
    sentence = statement.text
    if sentence.endswith("?"):
        return "absent"
    found = {_judge(statement, match, firm) for match in _whole(phrase).finditer(sentence)}
    if item is not None and statement.offered and (named := item.match(sentence)):
        doubtful = (
            has_negation(sentence) or _AFTERWARDS_REFUSED.search(sentence, named.end()) or _CONDITION.search(sentence)
        )
        found.add("unclear" if doubtful else "given")
    for kind in ("given", "unclear", "refused"):
        if kind in found:
            return kind
    return "absent"


@cache
def _whole(phrase: re.Pattern[str]) -> re.Pattern[str]:
    """The phrase from the beginning of a word: "use" is not in "because"."""
    return re.compile(rf"\b(?:{phrase.pattern})")


def _judge(statement: Statement, match: re.Match[str], firm: bool) -> Advice:
    sentence, before, after = statement.text, match.string[: match.start()], match.string[match.end() :]
    verb = match.group().partition(" ")  # "stop taking" is no refusal to take
    if statement.refused or negated(sentence, match.start()) or has_negation(verb[2]):
        return "refused"
    led = bool(_LEAD.search(before)) and not verb[2].startswith("of ")
    told = led and (not verb[0].endswith("ing") or bool(_TOLD_TO.search(before)))
    if (_OBJECTED if told else _AFTERWARDS_REFUSED).search(after):
        return "refused"
    if _STAFF.search(sentence, 0, match.end()) or _OPEN.search(before):
        return "absent"
    if _REPORTED.search(sentence):
        return "unclear" if told else "absent"
    around = _HARMLESS_CONDITION.sub(" ", f"{before} {after.partition(';')[0]}")
    conditional = statement.conditional or bool(_CONDITION.search(around))
    if firm:
        conditional = _by_authority(around)
    return "given" if told and not conditional and not _AT_ONCE_DENIED.search(after) else "unclear"


def _by_authority(around: str) -> bool:
    """Whether what stands around an advice leaves it to somebody who may decide, rather than doing without."""
    return any(not negated(around, m.start()) for m in _AUTHORITY.finditer(around))

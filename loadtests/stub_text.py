"""What the stub says, and how it counts: deterministic from the request and a seed, and no model's work.

The prose is filler about keeping notes and asking a pharmacist. It repeats the words of the question, so that the
gateway's rules find it relevant, and says nothing that they object to. A share of the first answers ends in the middle of
a sentence, which a rule sees and a second answer mends.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from service.prompts import Prompts

# About as many pieces as SmolLM2's tokeniser makes of English health questions and answers (98 %), and of our
# principles (101 %).
_PIECE = re.compile(r" ?[A-Za-z]{1,9}|\d|\s+|[^\sA-Za-z\d]")
_GENERATION = ("<|im_start|>", "assistant", "\n")
_SPREAD = 0.35  # standard deviation of the logarithm of a text's length
_EOS = "<|im_end|>"
_BROKEN_OFF = " It also helps to talk about this with the"

Wire = Mapping[str, Any]

_BEGINNINGS = (
    "Short notes make each day easier to look back on",
    "A steady bedtime is a good place to start",
    "Most people do well with one small change at a time",
    "A glass of water with each meal is a simple habit",
    "The pharmacist near you knows the leaflets well",
    "Regular meals give the day a clear shape",
    "A walk in fresh air is pleasant for many people",
    "Some weeks are better than others",
    "A list of your questions saves time at the next visit",
    "Light clothes and a cool room suit many sleepers",
    "Loud screens late in the evening keep some people awake",
    "A friend who listens can be worth a lot",
    "The first days of anything new feel odd to many",
    "Slow breathing is a fine way to take a break",
    "What works for one person may not suit the next",
    "A quiet morning is a good time to write things down",
    "Family members often notice a change early",
    "Plain food is easy to plan and easy to share",
    "Rest between tasks keeps the day in balance",
    "A chair that fits you makes desk work kinder",
    "Gentle stretching feels good after a long sit",
    "Reading the leaflet once more answers many questions",
    "The clinic's front desk can tell you whom to ask",
    "A calendar on the wall keeps dates in view",
    "Old habits take a while to change",
    "Bright daylight early on helps some people wake up",
    "A bag packed the night before makes mornings calm",
    "Music in the background can make chores lighter",
    "Your own words are good enough in such a talk",
    "A photo of the package shows the name at a glance",
    "Two short breaks are often better than one long one",
    "Soft light in the hall helps at night",
)
_ENDINGS = (
    "and you can see later what has changed.",
    "so give it a little time.",
    "and it need not cost anything.",
    "which is worth a thought this week.",
    "and nobody has to do it alone.",
    "so there is less to keep in mind.",
    "and a doctor can build on that.",
    "though it may take a few tries.",
    "and the rest can follow step by step.",
    "which many people tell us as well.",
    "so it fits into a busy day.",
    "and you may stop when it feels wrong.",
    "though your own plan comes first.",
    "and a nurse can go through it with you.",
    "which makes the next step clearer.",
    "so keep what does you good.",
    "and let the people around you know.",
    "though some need more time than others.",
    "and that alone can be a relief.",
    "which is easy to forget in a hurry.",
    "so a reminder on the phone may help.",
    "and you can always ask again.",
    "though there is no need to rush.",
    "and small steps add up over time.",
    "which leaves room for other things.",
    "so talk it over at home first.",
    "and it shows where help is wanted.",
    "though not every day is the same.",
    "and the team at the clinic will understand.",
    "which suits both young and old.",
    "so try it when you have a free hour.",
    "and tell your doctor how it went.",
)
_DULL = frozenset(
    "about also another because been being cant could does doesnt doing dont each every from gets getting going have having "
    "here into just know like long made make many more most much must need only other over really same should since some "
    "such sure take taking than thank thanks that their them then there these they thing things this those time very want "
    "wants well were what when where which while will with would your youre and any are ask been but can did for had has "
    "her him his how its may not now our out she the too two use was way who why yes you".split()
)
_SUBJECTS = 12


# --- tokens -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def tokens(text: str) -> tuple[str, ...]:
    """The text in pieces that make it up again; the same text gives the same pieces wherever it stands."""
    return tuple(_PIECE.findall(text))


def chat_prompt(body: Wire, opening: int) -> list[str]:
    """The prompt as a chat template would render it: some tokens a turn, so that a conversation is the exact prefix of
    its continuation. `opening` tokens come first where there is no system turn."""
    messages: Sequence[Wire] = body["messages"]
    prompt = [] if messages[0].get("role") == "system" else ["<|system|>"] * opening
    if body.get("tools"):
        prompt += tokens(orjson.dumps(body["tools"]).decode())
    for message in messages:
        prompt += ("<|im_start|>", str(message.get("role")), "\n", *tokens(content(message)), _EOS, "\n")
    return [*prompt, *_GENERATION]


def content(message: Wire) -> str:
    """A message's text, whether it came as a string or in parts."""
    told = message.get("content") or ""
    if isinstance(told, str):
        return told
    return "\n".join(str(part.get("text", "")) for part in told)


# --- texts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """`output` is what the engine decodes; `pieces` its text by token, empty for the end-of-sequence token."""

    output: tuple[str, ...]
    pieces: tuple[str, ...]
    finish: str


class Writer:
    """Answers, by what a request looks like: a verdict, JSON, a repaired answer, or a first one."""

    def __init__(self, *, answer_tokens: int = 200, repair_share: float = 0.3, seed: int = 0) -> None:
        self._median, self._share, self._seed = answer_tokens, repair_share, seed
        prompts = Prompts.load()
        self._edit = prompts.own_words("edit")[0].strip()
        self._fresh = prompts.own_words("fresh")[1].strip()

    def reply(self, body: Wire, most: int) -> Reply:
        """`most` tokens at most, the last one's finish reason told. Deterministic."""
        if is_verdict(body):
            return Reply(("Yes",), ("Yes",), "length")
        if body.get("ignore_eos"):
            return _cut(tokens(self._prose(body, most * 2)), most)
        schema = _schema(body)
        text = orjson.dumps(_instance(schema)).decode() if schema is not None else self._answer(body)
        return _cut(tokens(text), most)

    def _answer(self, body: Wire) -> str:
        chance = random.Random(f"{self._seed} {orjson.dumps(body['messages']).decode()}")
        text = self._prose(body, round(self._median * math.exp(chance.gauss(0, _SPREAD))))
        repaired = self._is_candidate(content(body["messages"][-1]))
        return text if repaired or chance.random() >= self._share else text + _BROKEN_OFF

    def _is_candidate(self, last: str) -> bool:
        return last.startswith(self._edit) or self._fresh in last

    def _prose(self, body: Wire, length: int) -> str:
        """Sentences of `length` tokens or a little more, the first of them about the question."""
        asked = [content(m) for m in body["messages"] if m.get("role") == "user"]
        if len(asked) > 1 and asked[-1].startswith(self._edit):
            asked.pop()
        question = asked[-1].partition(self._fresh)[0] if asked else ""
        chance = random.Random(f"{self._seed} {len(body['messages'])} {question}")
        beginnings, endings = chance.sample(_BEGINNINGS, len(_BEGINNINGS)), chance.sample(_ENDINGS, len(_ENDINGS))
        said = [_about(question)]
        counted = len(tokens(said[0]))
        for i in range(len(beginnings) * len(endings)):
            if counted >= length:
                break
            n = len(beginnings)
            sentence = f"{beginnings[i % n]}, {endings[(i + i // n) % len(endings)]}"
            said.append(sentence)
            counted += len(tokens(" " + sentence))
        return " ".join(said)


def _about(question: str) -> str:
    subjects = [w for w in re.findall(r"[a-z][a-z-]{2,}", question.lower().replace("'", "")) if w not in _DULL]
    named = ", ".join(dict.fromkeys(subjects[:_SUBJECTS])) or "this"
    return (
        f"You asked about {named}. Check with a doctor or pharmacist before you start, stop or change anything. "
        "How long has it been like this, and what have you tried?"
    )


def _cut(written: tuple[str, ...], most: int) -> Reply:
    if len(written) < most:
        return Reply((*written, _EOS), (*written, ""), "stop")
    return Reply(written[:most], written[:most], "length")


def is_verdict(body: Wire) -> bool:
    """One token with its alternatives: that is how the gateway asks for a verdict."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return limit == 1 and bool(body.get("logprobs"))


def top_logprobs(token: str, most: int, seed: str) -> list[dict[str, Any]]:
    """Alternatives of a token. Where it is Yes: mostly Yes, then No, little else."""
    if token != "Yes":  # noqa: S105 - a word, no secret
        return [_alternative(token, 0.9)][:most]
    yes = random.Random(seed).uniform(0.7, 0.95)
    labels = [("Yes", yes), ("No", 0.98 - yes), (" yes", 0.008), ("NA", 0.004)]
    rest = [(word, 0.0002) for word in ("The", "I", "It", "This", "As", "My", "To", "In", "A", "For", "An", "On", "At")]
    return [_alternative(*each) for each in [*labels, *rest, *((each.lower(), 0.0001) for each, _ in rest)][:most]]


def _alternative(token: str, p: float) -> dict[str, Any]:
    return {"token": token, "logprob": round(math.log(p), 4), "bytes": list(token.encode())}


# --- JSON -------------------------------------------------------------------------------------------------------


def _schema(body: Wire) -> Wire | None:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return {"type": "object"}
    return (wanted.get("json_schema") or {}).get("schema", {}) if wanted.get("type") == "json_schema" else None


def _instance(schema: Wire) -> Any:
    """The plainest thing that the common parts of a JSON schema allow; strings say little, as long as they must."""
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _instance(each) for name, each in (schema.get("properties") or {}).items()}
        case "array":
            return [_instance(schema.get("items") or {})] * int(schema.get("minItems", 0))
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case _:
            least = int(schema.get("minLength", 0))
            return ("It is said in plain words. " * (least // 27 + 1)).strip()[: int(schema.get("maxLength", 1000))]

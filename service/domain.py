"""The nouns of the system, shared by every layer. No I/O, no behaviour beyond small accessors.

A *conversation* is answered by a *draft*; the draft is judged against *principles* in a *critique* of *verdicts*;
a *revision* repairs it; the *answer* is what the client gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Role = Literal["system", "developer", "user", "assistant", "tool"]
Urgency = Literal["emergent", "conditional", "non-emergent"]
Uncertainty = Literal["none", "reducible", "irreducible"]
Expertise = Literal["professional", "lay"]
Task = Literal["question", "decision", "document", "data", "education", "support"]
Severity = Literal["blocking", "major", "minor"]
Label = Literal["met", "unmet", "not_applicable", "unknown"]
FlagKind = Literal["emergency", "overdose", "self_harm"]

FACET_VALUES: Mapping[str, tuple[str, ...]] = {
    "urgency": get_args(Urgency),
    "uncertainty": get_args(Uncertainty),
    "expertise": get_args(Expertise),
    "task": get_args(Task),
}

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]


# --- conversation -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `wire` is what goes upstream, unchanged; `text` is its text content ("" for a pure tool call)."""

    role: Role
    text: str
    wire: Mapping[str, Any]

    @classmethod
    def of(cls, role: Role, text: str) -> Message:
        return cls(role, text, {"role": role, "content": text})


@dataclass(frozen=True)
class Conversation:
    messages: tuple[Message, ...]

    @classmethod
    def of(cls, *turns: tuple[Role, str]) -> Conversation:
        return cls(tuple(Message.of(role, text) for role, text in turns))

    @cached_property
    def user_texts(self) -> tuple[str, ...]:
        """What the user wrote, oldest first."""
        return tuple(m.text for m in self.messages if m.role == "user")

    @property
    def last_user_text(self) -> str:
        return self.user_texts[-1] if self.user_texts else ""

    @cached_property
    def wire(self) -> list[Mapping[str, Any]]:
        return [m.wire for m in self.messages]


# --- principles -------------------------------------------------------------------------------------------------


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PrincipleFacets(Frozen):
    """The facet values for which a principle matters; an empty list means any."""

    urgency: tuple[Urgency, ...] = ()
    uncertainty: tuple[Uncertainty, ...] = ()
    expertise: tuple[Expertise, ...] = ()
    task: tuple[Task, ...] = ()


class Exemplar(Frozen):
    """A message that a user might write and for which the principle matters, with the facets of that message."""

    text: Text
    lang: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")] = "en"
    urgency: Urgency
    uncertainty: Uncertainty
    expertise: Expertise
    task: Task


class Principle(Frozen):
    """One HealthPrinciple (the ClinAlign idea, arXiv 2602.09653; wording ours). `statement` says what a good answer does."""

    id: Slug
    theme: Slug = "custom"
    title: Text
    statement: Text
    applies_when: Text
    facets: PrincipleFacets = PrincipleFacets()
    points: int = Field(ge=1, le=10)
    severity: Severity = "major"
    repair: Text
    basis: Text
    review: Literal["draft", "reviewed"] = "draft"
    always: bool = False
    rule: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    exemplars: tuple[Exemplar, ...] = Field(min_length=5)


@dataclass(frozen=True, slots=True)
class Facets:
    """What kind of message this is: the value of each facet and the share of the scores that it got, in [0, 1]."""

    urgency: Urgency
    uncertainty: Uncertainty
    expertise: Expertise
    task: Task
    confidence: Mapping[str, float]

    @property
    def context(self) -> Literal["enough", "not-enough"]:
        """Reducible uncertainty is, by definition, what the user could still tell us."""
        return "not-enough" if self.uncertainty == "reducible" else "enough"


@dataclass(frozen=True, slots=True)
class Match:
    """A principle chosen for a conversation. `similarity` is the cosine of its best vector, `reason` why it was chosen.

    `core`: a principle whose rule costs nothing, so it is checked whatever was retrieved, by its rule alone.
    """

    principle: Principle
    similarity: float | None
    reason: Literal["statement", "exemplar", "always", "requested", "red_flag", "core"]


# --- judging ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """All that a rule may look at: the conversation, a text that answers it, and what is known about both.

    `language` is the ISO 639-1 code of the user's last message, or None when it cannot be told. `relevance` is the cosine
    of the conversation's and the answer's vectors, or None where the encoder was not or could not be asked.
    """

    conversation: Conversation
    answer: str
    language: str | None
    red_flags: frozenset[FlagKind] = frozenset()
    relevance: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`p_met` is the probability of *met* in [0, 1]: 0 or 1 from a rule, a share of label mass from the model."""

    principle: Principle
    label: Label
    p_met: float | None
    source: Literal["rule", "model"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens spent. Adding two gives the cost of both."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @staticmethod
    def sum(usages: Sequence[Usage]) -> Usage:
        total = Usage()
        for usage in usages:
            total = total + usage
        return total


@dataclass(frozen=True, slots=True)
class RedFlag:
    """A danger in what the user wrote. `lang` is the language of the pattern that found it, `turn` the user turn (0-based)."""

    kind: FlagKind
    lang: str
    turn: int


@dataclass(frozen=True, slots=True)
class Completion:
    """One text from the model, as the upstream returned it. `message` is the raw assistant message."""

    text: str
    finish_reason: str
    usage: Usage
    message: Mapping[str, Any] = field(default_factory=dict)
    logprobs: Mapping[str, Any] | None = None

    @property
    def calls_tools(self) -> bool:
        return bool(self.message.get("tool_calls") or self.message.get("function_call"))

    @property
    def thinks_unmarked(self) -> bool:
        """Whether the text began with a thought that only its end gave away (no reasoning parser upstream)."""
        raw = self.message.get("content")
        return isinstance(raw, str) and raw != self.text and not raw.lstrip().startswith("<think>")

    @property
    def cut_off(self) -> bool:
        return self.finish_reason == "length"

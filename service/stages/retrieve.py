"""Stage 1: which principles matter for this conversation, and what kind of message it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from principles_index.embed import Embedder, query_text
from principles_index.encoders import Vectors
from principles_index.index import Filters, PrincipleIndex
from principles_index.schema import Library
from service.domain import Conversation, Facets, FlagKind, Match, RedFlag, Turn
from service.errors import PrincipleNotFound

log = logging.getLogger("clinalign")

ANSWER_CHARS = 300  # what an answer is about shows in its beginning; all of it costs three times as much

# A danger that was found by pattern must be answered for, whatever the vectors say.
RULES_OF_FLAG: dict[FlagKind, Collection[str]] = {
    "emergency": ("emergency_advice_first", "no_wait_in_emergency"),
    "overdose": ("poison_help_named", "no_induced_vomiting", "no_wait_in_emergency"),
    "self_harm": ("self_harm_support", "no_method_detail"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What the client asked for: these `ids` instead of retrieval, or retrieval shaped by the rest.

    `guard` adds, to named ids too, the blocking principles with a rule: text that reaches a person is checked by them
    whatever was asked for. A critique of named principles goes without, since its score is of those alone.
    """

    ids: tuple[str, ...] | None = None
    top_k: int = 8
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    guard: bool = True


@dataclass(frozen=True, slots=True)
class Retrieved:
    """`facets` is None and `failed` true when the index could not be asked and the core principles stand in.

    `vector` is the conversation's, of unit length and shape (dimension,).
    """

    matches: tuple[Match, ...]
    facets: Facets | None
    failed: bool = False
    vector: Vectors | None = None


@dataclass(frozen=True, slots=True)
class Retriever:
    library: Library
    index: PrincipleIndex | None
    embedder: Embedder | None
    timeout_s: float


def check(choice: Choice, library: Library) -> Choice:
    """The choice itself. Raises PrincipleNotFound for an id that the library lacks."""
    for name in (*(choice.ids or ()), *choice.include, *choice.exclude):
        if name not in library.by_id:
            raise PrincipleNotFound(
                "A principle of that id does not exist. GET /v1/principles lists those that do.",
                param="revision.principles",
            )
    return choice


async def retrieve(
    conversation: Conversation, choice: Choice, flags: Sequence[RedFlag], retriever: Retriever, *, tenant: str = ""
) -> Retrieved:
    """Matches in the order: requested, retrieved (best first), for red flags, core, always-on. Never raises.

    A guard that costs nothing must not hinge on vectors, so the core is there with or without the index.
    """
    library = retriever.library
    vector: Vectors | None = None
    try:
        if retriever.index is None or retriever.embedder is None:
            raise RuntimeError("no index")
        async with asyncio.timeout(retriever.timeout_s):
            vector = await retriever.embedder.embed(query_text(conversation), first=True, owner=tenant)
        found = retriever.index.search(vector, choice.top_k, Filters(choice.include, choice.exclude))
        matches, facets, failed = found.matches, found.facets, False
    except Exception as error:  # noqa: BLE001 - whatever broke, the core principles stand in, and the answer is marked
        log.error("retrieval_failed", extra={"fields": {"error": type(error).__name__}})
        matches, facets, failed = (), None, True
    if choice.ids is not None:
        matches = tuple(Match(library.by_id[i], None, "requested") for i in dict.fromkeys(choice.ids))
        failed = False  # nothing had to be retrieved; only the facets are missing
        if not choice.guard:
            return Retrieved(matches, facets, failed, vector)
    taken = {m.principle.id for m in matches}.union(choice.exclude)
    left = [p for p in library.principles if p.id not in taken]
    always = [p for p in left if p.always and choice.ids is None]
    rest = [p for p in left if not (p.always and choice.ids is None)]
    rules = {rule for flag in flags for rule in RULES_OF_FLAG[flag.kind]}
    urgent = [p for p in rest if p.rule in rules]
    core = [p for p in rest if p.rule and p.rule not in rules and (choice.ids is None or p.severity == "blocking")]
    added = [Match(p, None, "red_flag") for p in urgent] + [Match(p, None, "core") for p in core]
    return Retrieved((*matches, *added, *(Match(p, None, "always") for p in always)), facets, failed, vector)


async def with_relevance(turn: Turn, asked: Vectors | None, retriever: Retriever) -> Turn:
    """The turn, told how near its answer is to what was asked. Never raises: without vectors it is as it was."""
    if asked is None or retriever.embedder is None or not turn.answer.strip():
        return turn
    try:
        async with asyncio.timeout(retriever.timeout_s):
            answered = await retriever.embedder.embed(turn.answer[:ANSWER_CHARS])
    except Exception as error:  # noqa: BLE001 - the rule that needs it abstains
        log.error("relevance_failed", extra={"fields": {"error": type(error).__name__}})
        return turn
    return replace(turn, relevance=float(asked @ answered))

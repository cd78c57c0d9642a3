"""An `Answer` as the wire shows it: chat.completion, the `revision` object, headers and chunks."""

from __future__ import annotations

import difflib
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from service.domain import Facets, Principle, Usage, Verdict
from service.llm import ModelInfo
from service.pipeline import Answer, Work
from service.rules.text import sentences
from service.stages.critique import Critique

DEMONSTRATION = (
    "A small demonstration model wrote this. It shows how the service works; its medical content is not reliable and must "
    "not reach a patient."
)
_PIECE = re.compile(r"\s*\S+(?:\s+\S+){0,7}|\s+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Versions:
    """Short hashes of what shaped the answers, and the checkpoint's name where the deployment gives one."""

    principles: str
    index: str
    prompts: str
    checkpoint: str | None = None

    def parts(self, model_root: str) -> tuple[str, str, str, str]:
        """Model, principles, index and prompts."""
        name = self.checkpoint or model_root.rstrip("/").rsplit("/", 1)[-1]
        hashes = self.principles[:8], self.index[:8], self.prompts[:8]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", name), *hashes

    def fingerprint(self, model_root: str) -> str:
        name, principles, index, prompts = self.parts(model_root)
        return f"{name}_p{principles}_i{index}_q{prompts}"


def completion_of(answer: Answer, versions: Versions, *, demonstration: bool) -> dict[str, Any]:
    """The chat.completion object."""
    ask = answer.work.ask
    body: dict[str, Any] = {
        **head_of(versions, ask.model),
        "object": "chat.completion",
        "choices": [_choice(answer)],
        "usage": usage_of(answer.work),
    }
    trace = revision_of(answer, demonstration=demonstration)
    if trace is not None:
        body["revision"] = trace
    return body


def _choice(answer: Answer) -> dict[str, Any]:
    completion = answer.completion
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if completion is not None and completion.calls_tools:
        message["content"] = answer.text or None
        message["tool_calls"] = completion.message.get("tool_calls")
    return {
        "index": 0,
        "message": message,
        "logprobs": completion.logprobs if completion is not None and answer.safety_text is None else None,
        "finish_reason": completion.finish_reason if completion is not None else "stop",
    }


def usage_of(work: Work) -> dict[str, Any]:
    """What was spent over all stages; `revision_details` adds up to it exactly."""
    total = Usage.sum(list(work.usage.values()))
    return _usage(total) | {"revision_details": {stage: _usage(usage) for stage, usage in work.usage.items()}}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def revision_of(answer: Answer, *, demonstration: bool) -> dict[str, Any] | None:
    """The `revision` object; None with trace `none`."""
    work = answer.work
    trace = work.ask.options.trace
    if trace == "none":
        return None if answer.accepted is None else {"status": answer.status} | _liveness(answer)
    before = work.draft_critique
    after = work.best_critique
    shown: dict[str, Any] = {
        "status": answer.status,
        "reason": answer.reason,
        "score_before": _rounded(before.score if before else None),
        "score_after": _rounded(after.score if after else None),
        "critic": "decides" if before and before.model_decides else "advises",
        "verdicts": _counts(after),
        "principles": _principles(work),
        "changes": _changes(work),
        "facets": facets_of(work.facets),
        "red_flags": flags_of(work),
        "rounds": work.rounds,
        "timings_ms": work.timings_ms,
    }
    shown |= _liveness(answer)
    if answer.safety_text is not None:
        shown["safety_text"] = answer.safety_text
    if demonstration:
        shown["model_notice"] = DEMONSTRATION
    if trace == "full":
        shown["draft"] = work.draft.text if work.draft else None
        shown["candidates"] = [
            {
                "kind": judged.candidate.kind,
                "text": judged.candidate.completion.text,
                "finish_reason": judged.candidate.completion.finish_reason,
                "outcome": judged.outcome,
                "score": _rounded(judged.critique.score if judged.critique else None),
                "verdicts": [verdict_of(v) for v in judged.critique.verdicts] if judged.critique else [],
            }
            for judged in work.judged
        ]
    return shown


def _counts(critique: Critique | None) -> dict[str, int] | None:
    """How many verdicts the score rests on, and how many only advise or could not tell."""
    if critique is None:
        return None
    decided = sum(v.label != "unknown" for v in critique.deciding)
    return {"decided": decided, "advisory_or_unknown": len(critique.verdicts) - decided}


def _liveness(answer: Answer) -> dict[str, Any]:
    """Whether a text that went out unjudged was accepted, and what should stand in its place if not."""
    if answer.accepted is None:
        return {}
    draft = answer.work.draft
    return {"accepted": answer.accepted} | ({} if answer.accepted or draft is None else {"draft": draft.text})


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _principles(work: Work) -> list[dict[str, Any]]:
    before = _by_id(work.draft_critique)
    after = _by_id(work.best_critique)
    rows = []
    for match in work.matches:
        first, last = before.get(match.principle.id), after.get(match.principle.id)
        if match.reason == "core" and first is None and last is None:
            continue  # its rule had nothing to say
        rows.append(
            {
                "id": match.principle.id,
                "title": match.principle.title,
                "similarity": match.similarity,
                "matched_by": match.reason,
                "before": first.label if first else None,
                "after": last.label if last else None,
                "p_met": last.p_met if last else None,
                "source": last.source if last else None,
                "review": match.principle.review,
            }
        )
    return rows


def _by_id(critique: Critique | None) -> Mapping[str, Verdict]:
    return {v.principle.id: v for v in critique.verdicts} if critique else {}


def _changes(work: Work) -> dict[str, list[str]] | None:
    """Sentences that the revision added and removed; None where nothing was revised."""
    if work.best is None or work.draft is None or work.best is work.draft:
        return None
    old, new = sentences(work.draft.text), sentences(work.best.text)
    added: list[str] = []
    removed: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            removed += old[i1:i2]
            added += new[j1:j2]
    return {"added": added, "removed": removed}


def facets_of(facets: Facets | None) -> dict[str, Any] | None:
    if facets is None:
        return None
    return {
        "urgency": facets.urgency,
        "uncertainty": facets.uncertainty,
        "expertise": facets.expertise,
        "task": facets.task,
        "context": facets.context,
        "confidence": dict(facets.confidence),
    }


def flags_of(work: Work) -> list[dict[str, Any]]:
    return [{"kind": flag.kind, "lang": flag.lang, "turn": flag.turn} for flag in work.flags]


def verdict_of(verdict: Verdict) -> dict[str, Any]:
    return {
        "principle": verdict.principle.id,
        "verdict": verdict.label,
        "p_met": verdict.p_met,
        "source": verdict.source,
    }


def principle_of(principle: Principle) -> dict[str, Any]:
    return principle.model_dump(mode="json")


def headers_of(answer: Answer) -> dict[str, str]:
    timings = ", ".join(f"{name};dur={value:.1f}" for name, value in answer.work.timings_ms.items())
    headers = {
        "X-Revision-Status": answer.status,
        "X-Revision-Rounds": str(answer.work.rounds),
        "Server-Timing": timings,
    }
    if answer.safety_text is not None:
        headers["X-Safety-Text"] = safety_header(answer.safety_text)
    if answer.work.flags:
        headers["X-Red-Flag"] = answer.work.flags[0].kind
    return headers


def safety_header(text: str) -> str:
    """RFC 8187: headers are ASCII, the texts are not."""
    return f"UTF-8''{quote(text)}"


def role_chunk(head: Mapping[str, Any]) -> dict[str, Any]:
    return _chunk(head, {"role": "assistant", "content": ""}, None)


def head_of(versions: Versions, model: ModelInfo) -> dict[str, Any]:
    """What all chunks of a stream share."""
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model.id,
        "system_fingerprint": versions.fingerprint(model.root),
    }


def chunks_of(
    completion: Mapping[str, Any], head: Mapping[str, Any], *, sent: int = 0, include_usage: bool
) -> Iterator[dict[str, Any]]:
    """The rest of a stream that carries the same as the unstreamed object: the text after `sent` characters, finish,
    revision, usage."""
    choice = completion["choices"][0]
    text = (choice["message"]["content"] or "")[sent:]
    if choice["logprobs"]:
        yield _chunk(head, {"content": text}, None, logprobs=choice["logprobs"])
    else:
        for piece in _PIECE.findall(text):
            yield text_chunk(head, piece)
    for index, call in enumerate(choice["message"].get("tool_calls") or ()):
        yield _chunk(head, {"tool_calls": [{"index": index, **call}]}, None)
    last = _chunk(head, {}, choice["finish_reason"])
    if "revision" in completion:
        last["revision"] = completion["revision"]
    yield last
    if include_usage:
        yield {**head, "choices": [], "usage": completion["usage"]}


def text_chunk(head: Mapping[str, Any], text: str) -> dict[str, Any]:
    return _chunk(head, {"content": text}, None)


def _chunk(
    head: Mapping[str, Any], delta: dict[str, Any], finish: str | None, *, logprobs: Any = None
) -> dict[str, Any]:
    return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]}


def progress_chunk(head: Mapping[str, Any], stage: str) -> dict[str, Any]:
    return _chunk(head, {"reasoning_content": f"{stage}\n"}, None)

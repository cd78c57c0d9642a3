"""What an answer costs, in units of a draft alone: one client, one run, every arm on every question.

Arms, each with an empty prefix cache and in turning order:
- *draft*: the question straight to the model server;
- *unrevised*: the gateway, mode `critique` (retrieval, draft, verdicts);
- *revised*: the gateway, mode `auto`, counted where it made a round;
- *prose*: the draft judged on the same principles in one call that writes JSON with a reason each, as LLM judges do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from loadtests.bench.stack import forget
from principles_index.schema import load_library

MAX_TOKENS = 256
STATEMENTS = {principle.id: principle.statement for principle in load_library().principles}
_PROSE = (
    "Judge your last answer against each of these requirements. For each give a short reason and then a verdict: met, "
    "unmet or not_applicable.\n\n"
)


@dataclass
class Costs:
    """Seconds by arm, one entry a question, and the tokens of all first verdicts."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    stages_s: dict[str, list[float]] = field(default_factory=dict)
    verdict_prompt: int = 0
    verdict_cached: int = 0
    verdicts: int = 0
    prose_tokens: int = 0
    labels: dict[str, int] = field(default_factory=dict)


def measure(url: str, gateway: str, asked: Sequence[str], *, least_revised: int) -> dict[str, Any]:
    """The report. Asks until `least_revised` answers were revised or the questions are used up."""
    server = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=300, max_retries=0)
    served = openai.OpenAI(base_url=f"{gateway}/v1", api_key="none", timeout=300, max_retries=0)
    model = server.models.list().data[0].id
    costs = Costs()
    _ask(served, model, asked[0], {"revision": {"mode": "critique"}})  # warms both up, unmeasured
    used = 0
    for question in asked:
        _measure_one(costs, url, server, served, model, question, used)
        used += 1
        if len(costs.seconds.get("revised", ())) >= least_revised and used >= 12:
            break
    return _report(costs, model, used)


def _measure_one(
    costs: Costs, url: str, server: openai.OpenAI, served: openai.OpenAI, model: str, question: str, turn: int
) -> None:
    times: dict[str, float] = {}
    drafts: list[str] = []

    def draft() -> None:
        answer, times["draft"] = _timed(lambda: _ask(server, model, question))
        drafts.append(answer.choices[0].message.content or "")

    def unrevised() -> None:
        answer, times["unrevised"] = _timed(
            lambda: _ask(served, model, question, {"revision": {"mode": "critique", "trace": "full"}})
        )
        revision: dict[str, Any] = answer.revision  # type: ignore[attr-defined]
        spent = answer.usage.revision_details["critique"]  # type: ignore[union-attr]
        costs.verdict_prompt += spent["prompt_tokens"]
        costs.verdict_cached += spent["prompt_tokens_details"]["cached_tokens"]
        judged = [p for p in revision["principles"] if p["source"] == "model"]
        costs.verdicts += len(judged)
        for principle in judged:
            costs.labels[principle["before"]] = costs.labels.get(principle["before"], 0) + 1
        costs.stages_s.setdefault("verdicts", []).append(revision["timings_ms"]["critique"] / 1000)
        # The prose critique follows its draft at once, as the verdicts do: same principles, same warm cache.
        asked = [STATEMENTS[p["id"]] for p in judged]
        prose, seconds = _timed(lambda: _prose(server, model, question, revision["draft"], asked))
        costs.stages_s.setdefault("prose", []).append(seconds)
        costs.prose_tokens += prose.usage.completion_tokens if prose.usage else 0

    def revised() -> None:
        answer, seconds = _timed(lambda: _ask(served, model, question, {"revision": {"mode": "auto"}}))
        if answer.revision["rounds"]:  # type: ignore[attr-defined]
            times["revised"] = seconds

    arms: list[Callable[[], None]] = [draft, unrevised, revised]
    for arm in arms[turn % 3 :] + arms[: turn % 3]:
        forget(url)
        arm()
    for name, seconds in times.items():
        costs.seconds.setdefault(name, []).append(seconds)
        if name == "revised":
            costs.seconds.setdefault("draft of revised", []).append(times["draft"])


def _report(costs: Costs, model: str, used: int) -> dict[str, Any]:
    seconds, stages = costs.seconds, costs.stages_s
    return {
        "model": model,
        "questions": used,
        "revised": len(seconds.get("revised", ())),
        "draft_s": _mean(seconds["draft"]),
        "unrevised_to_draft": _ratio(seconds["unrevised"], seconds["draft"]),
        "revised_to_draft": _ratio(seconds.get("revised", ()), seconds.get("draft of revised", ())),
        "verdicts_s": _mean(stages["verdicts"]),
        "prose_s": _mean(stages["prose"]),
        "prose_to_verdicts": _ratio(stages["prose"], stages["verdicts"]),
        "prose_tokens": round(costs.prose_tokens / used, 1),
        "verdicts_per_answer": round(costs.verdicts / used, 1),
        "verdict_cache_share": round(costs.verdict_cached / max(1, costs.verdict_prompt), 3),
        "verdict_labels": costs.labels,
    }


def _ratio(seconds: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Of the sums: a ratio of means, so that a short question does not weigh as much as a long one."""
    return round(sum(seconds) / sum(baseline), 2) if seconds else None


def _mean(seconds: Sequence[float]) -> float:
    return round(statistics.fmean(seconds), 2)


def _timed(call: Callable[[], ChatCompletion]) -> tuple[ChatCompletion, float]:
    start = time.perf_counter()
    answer = call()
    return answer, time.perf_counter() - start


def _ask(api: openai.OpenAI, model: str, question: str, extra: dict[str, Any] | None = None) -> ChatCompletion:
    return api.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=MAX_TOKENS,
        extra_body=extra,
    )


def _prose(api: openai.OpenAI, model: str, question: str, answer: str, requirements: Sequence[str]) -> ChatCompletion:
    row = {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "minLength": 40, "maxLength": 200},
            "verdict": {"enum": ["met", "unmet", "not_applicable"]},
        },
        "required": ["reason", "verdict"],
        "additionalProperties": False,
    }
    names = [f"requirement_{i}" for i in range(1, len(requirements) + 1)]
    schema = {"type": "object", "properties": dict.fromkeys(names, row), "required": names}
    listed = "\n".join(f"{name}: {text}" for name, text in zip(names, requirements, strict=True))
    return api.chat.completions.create(
        model=model,
        messages=[
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
            {"role": "user", "content": _PROSE + listed},
        ],
        temperature=0,
        max_tokens=4096,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "critique", "schema": {**schema, "additionalProperties": False}},
        },
    )

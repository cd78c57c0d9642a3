"""What an answer costs, in units of a draft alone: one client, one run, every arm on every question.

Arms, each with an empty prefix cache and in turning order:
- *draft*: the question straight to the model server;
- *unrevised*: the gateway, mode `critique` (retrieval, draft, relevance, rules, verdicts);
- *revised, one candidate* and *two*: the gateway, mode `always`, so that every answer makes a round; a candidate that can
  still win is judged again.

`python -m loadtests.bench peers` sets the same beside critiques in prose and other gateways.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from loadtests.bench.stack import forget

MAX_TOKENS = 256
ONE = ("fresh",)  # the candidate that wins more often with the demonstration model
TWO = ("edit", "fresh")
Arm = Callable[[str], ChatCompletion]


@dataclass
class Costs:
    """Seconds by arm, one entry a question; tokens and labels of the verdicts on drafts; what became of the rounds."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    verdict_prompt: int = 0
    verdict_cached: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    judged_again: Counter[str] = field(default_factory=Counter)


def measure(url: str, gateways: Mapping[str, str], asked: Sequence[str]) -> dict[str, Any]:
    """The report. `gateways`: base URLs without `/v1` of one with one candidate (`one`) and one with two (`two`)."""
    arms = _arms(url, gateways)
    for arm in arms.values():  # warms all up, unmeasured
        arm(asked[0])
    costs = Costs()
    for turn, question in enumerate(asked):
        names = list(arms)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            forget(url)
            start = time.perf_counter()
            answer = arms[name](question)
            costs.seconds.setdefault(name, []).append(time.perf_counter() - start)
            if name != "draft":
                _note(costs, name, answer)
    return _report(costs)


def _arms(url: str, gateways: Mapping[str, str]) -> dict[str, Arm]:
    server = _client(url)
    model = server.models.list().data[0].id

    def through(gateway: str, mode: str) -> Arm:
        api = _client(gateway)
        return lambda question: _ask(api, model, question, {"revision": {"mode": mode, "trace": "full"}})

    return {
        "draft": lambda question: _ask(server, model, question, None),
        "unrevised": through(gateways["one"], "critique"),
        "revised, one candidate": through(gateways["one"], "always"),
        "revised, two candidates": through(gateways["two"], "always"),
    }


def _client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=300, max_retries=0)


def _ask(api: openai.OpenAI, model: str, question: str, extra: dict[str, Any] | None) -> ChatCompletion:
    return api.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=MAX_TOKENS,
        extra_body=extra,
    )


def _note(costs: Costs, name: str, answer: ChatCompletion) -> None:
    revision: dict[str, Any] = answer.revision  # type: ignore[attr-defined]
    costs.statuses.setdefault(name, Counter())[revision["status"]] += 1
    spent = answer.usage.revision_details  # type: ignore[union-attr]
    if name == "unrevised":
        costs.verdict_prompt += spent["critique"]["prompt_tokens"]
        costs.verdict_cached += spent["critique"]["prompt_tokens_details"]["cached_tokens"]
        costs.labels.update(p["before"] for p in revision["principles"] if p["source"] == "model")
    elif any(candidate["verdicts"] for candidate in revision["candidates"]):
        costs.judged_again[name] += 1


def _report(costs: Costs) -> dict[str, Any]:
    draft = costs.seconds["draft"]
    count = len(draft)
    return {
        "questions": count,
        "max_tokens": MAX_TOKENS,
        "seconds": {name: round(median(seconds), 2) for name, seconds in costs.seconds.items()},
        "ratio_to_draft": {name: ratio(seconds, draft) for name, seconds in costs.seconds.items()},
        "statuses": {name: dict(counts) for name, counts in costs.statuses.items()},
        "judged_again": dict(costs.judged_again),
        "verdicts_per_answer": round(costs.labels.total() / count, 1),
        "verdict_labels": dict(costs.labels),
        "verdict_cache_share": round(costs.verdict_cached / max(1, costs.verdict_prompt), 3),
    }


def ratio(seconds: Sequence[float], baseline: Sequence[float]) -> float:
    """Median of the ratios, question by question."""
    return round(median(mine / theirs for mine, theirs in zip(seconds, baseline, strict=True)), 2)


def table(report: Mapping[str, Any]) -> str:
    lines = [f"{'':26}{'seconds':>9}{'÷ draft':>9}"]
    for name, seconds in report["seconds"].items():
        lines.append(f"{name:26}{seconds:>9.2f}{report['ratio_to_draft'][name]:>9.2f}")
    return "\n".join(lines)

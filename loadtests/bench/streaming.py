"""How soon a streaming client sees something: seconds to the first byte, keep-alive, text, and to the end.

Arms: the model server itself; the gateway with mode `off`, with `stream: final` and with `stream: live` (mode `always`, so
that there is a repair to watch), and `final` again with texts so long that a client is kept alive. Then clients leave in
the middle of a stage, and the model server's own gauges say when it is free again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import httpx
import orjson

from loadtests.bench.spent import BUSY, sums
from loadtests.bench.stack import forget
from scripts.common import Failure

MAX_TOKENS = 256
LONG = 1024
MOMENTS = ("first byte", "first keep-alive", "first text", "end")
STAGES = ("draft", "critique", "revise")


def measure(url: str, gateway: str, asked: Sequence[str]) -> dict[str, Any]:
    """Medians over the questions, in seconds; a moment that never came (no keep-alive was needed) is left out."""
    model = httpx.get(f"{url}/v1/models", timeout=30).json()["data"][0]["id"]
    repaired = {"mode": "always"}
    arms: dict[str, tuple[str, dict[str, Any]]] = {
        "model server": (url, {}),
        "mode off": (gateway, {"revision": {"mode": "off"}}),
        "stream final": (gateway, {"revision": repaired}),
        "stream live": (gateway, {"revision": {**repaired, "stream": "live"}}),
        "final, long": (gateway, {"revision": repaired, "max_tokens": LONG}),
    }
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for turn, question in enumerate(asked):
        names = list(arms)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            base, extra = arms[name]
            forget(url)
            seen[name].append(_watch(base, model, question, extra))
    return {
        "questions": len(asked),
        "max_tokens": MAX_TOKENS,
        "median_s": {name: _medians(moments) for name, moments in seen.items()},
        "freed_after_s": {
            stage: round(max(_leave(url, gateway, model, question, stage) for question in asked), 2) for stage in STAGES
        },
    }


def _leave(url: str, gateway: str, model: str, question: str, stage: str) -> float:
    """Seconds from a client's leaving in that stage until the model server runs nothing any more, by its own gauges."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": LONG if stage == "draft" else MAX_TOKENS,
        "stream": True,
        "revision": {"mode": "always", "trace": "full", "progress": True},
    }
    with httpx.stream("POST", f"{gateway}/v1/chat/completions", json=body, timeout=300) as response:
        lines = response.iter_lines()
        while f'"reasoning_content":"{stage}\\n"' not in next(lines):
            pass
    left = time.perf_counter()
    while any(sums(httpx.get(f"{url}/metrics", timeout=30).text).get(name, 0) for name in BUSY):
        time.sleep(0.01)
    return time.perf_counter() - left


def _watch(base: str, model: str, question: str, extra: Mapping[str, Any]) -> dict[str, float]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
        "stream": True,
        **extra,
    }
    moments: dict[str, float] = {}
    start = time.perf_counter()
    with httpx.stream("POST", f"{base}/v1/chat/completions", json=body, timeout=300) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            now = time.perf_counter() - start
            moments.setdefault("first byte", now)
            if line.startswith(":"):
                moments.setdefault("first keep-alive", now)
            elif _has_text(line):
                moments.setdefault("first text", now)
            elif line == "data: [DONE]":
                moments["end"] = now
    if "end" not in moments:
        raise Failure("A stream ended without [DONE]: see the gateway's log.")
    return moments


def _has_text(line: str) -> bool:
    if not line.startswith("data: {"):
        return False
    choices = orjson.loads(line.removeprefix("data: ")).get("choices") or [{}]
    return bool((choices[0].get("delta") or {}).get("content"))


def _medians(moments: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        name: round(median(times), 2) for name in MOMENTS if (times := [seen[name] for seen in moments if name in seen])
    }


def table(report: Mapping[str, Any]) -> str:
    lines = [f"{'seconds':16}" + "".join(f"{name:>18}" for name in MOMENTS)]
    for name, moments in report["median_s"].items():
        lines.append(f"{name:16}" + "".join(f"{moments[m]:>18.2f}" if m in moments else f"{'-':>18}" for m in MOMENTS))
    freed = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in report["freed_after_s"].items())
    return "\n".join([*lines, f"longest until a client that leaves costs nothing any more: {freed}"])

"""Answers a minute of one model server with many clients at once: bare drafts, and through the gateway.

Arms: *draft* straight to the server; *none revised* (mode `critique`) and *all revised* (mode `always`), with one
candidate or two. *By rules*: the model is asked for no verdict, as is so by default while it may only advise; *and model*:
it is asked for all that no rule gives, as when it decides. Every arm answers the same questions, with an empty prefix
cache, in a closed loop of `clients`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import openai

from loadtests.bench.stack import forget

MAX_TOKENS = 256
TIMEOUT_S = 600


def measure(
    url: str, gateways: Mapping[str, str], asked: Sequence[str], *, clients: int, rounds: int = 1
) -> dict[str, Any]:
    """The report. `gateways`: base URLs without `/v1`, by their number of candidates and by what judges."""
    arms: dict[str, tuple[str, str | None]] = {
        "draft": (url, None),
        "none revised, by rules": (gateways["one by rules"], "critique"),
        "all revised, by rules": (gateways["one by rules"], "always"),
        "  with two candidates": (gateways["two by rules"], "always"),
        "none revised, and model": (gateways["one"], "critique"),
        "all revised, and model": (gateways["one"], "always"),
    }
    model = openai.OpenAI(base_url=f"{url}/v1", api_key="none").models.list().data[0].id
    seconds: dict[str, list[list[float]]] = {name: [] for name in arms}
    walls: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, (base, mode) in arms.items():
            forget(url)
            start = time.perf_counter()
            seconds[name].append(asyncio.run(_loop(base, model, mode, asked, clients)))
            walls[name].append(time.perf_counter() - start)
    per_minute = {name: 60 * len(asked) / median(wall) for name, wall in walls.items()}
    return {
        "clients": clients,
        "questions": len(asked),
        "rounds": rounds,
        "max_tokens": MAX_TOKENS,
        "answers_per_minute": {name: round(value, 1) for name, value in per_minute.items()},
        "share_of_drafts": {name: round(value / per_minute["draft"], 2) for name, value in per_minute.items()},
        "median_s": {name: round(median(s for run in runs for s in run), 1) for name, runs in seconds.items()},
    }


async def _loop(base: str, model: str, mode: str | None, asked: Sequence[str], clients: int) -> list[float]:
    """Seconds of each answer. Raises when one fails: a lost answer must not count as a fast one."""
    waiting = list(asked)
    seconds: list[float] = []
    extra = {"revision": {"mode": mode, "trace": "none"}} if mode else None
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="none", timeout=TIMEOUT_S, max_retries=0) as api:

        async def client() -> None:
            while waiting:
                question = waiting.pop()
                start = time.perf_counter()
                await api.chat.completions.create(
                    model=model,
                    messages=[{"role": "user", "content": question}],
                    temperature=0,
                    max_tokens=MAX_TOKENS,
                    extra_body=extra,
                )
                seconds.append(time.perf_counter() - start)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
    return seconds


def table(report: Mapping[str, Any]) -> str:
    lines = [f"{report['clients']} clients{'':18}{'a minute':>9}{'÷ drafts':>9}{'median s':>9}"]
    for name, value in report["answers_per_minute"].items():
        share, middle = report["share_of_drafts"][name], report["median_s"][name]
        lines.append(f"{name:28}{value:>9.1f}{share:>9.2f}{middle:>9.1f}")
    return "\n".join(lines)

"""A client that counts as a failure whatever a person would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families

PATIENCE_S = 60.0


def body(question: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "max_tokens": 64, **fields}


async def ask(http: httpx.AsyncClient, question: str, *, stream: bool = False, **fields: Any) -> str:
    """What came of it: `ok`, or what was wrong with it."""
    path = "/v1/chat/completions"
    try:
        if not stream:
            response = await http.post(path, json=body(question, **fields))
            if response.status_code != 200:
                return f"status {response.status_code}"
            return "ok" if response.json()["choices"][0]["message"]["content"] else "empty"
        async with http.stream("POST", path, json=body(question, stream=True, **fields)) as response:
            if response.status_code != 200:
                return f"status {response.status_code}"
            lines = [line async for line in response.aiter_lines()]
        return "ok" if "data: [DONE]" in lines and _finished(lines) else "cut"
    except httpx.HTTPError as error:
        return type(error).__name__


def _finished(lines: list[str]) -> bool:
    chunks = [orjson.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return any(choice.get("finish_reason") for chunk in chunks for choice in chunk.get("choices", ()))


async def metric(http: httpx.AsyncClient, name: str, url: str = "", **labels: str) -> float:
    page = (await http.get(f"{url}/metrics")).text
    samples = [s for family in text_string_to_metric_families(page) for s in family.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


async def until(true: Callable[[], Any]) -> None:
    """Awaits the condition, which may be a coroutine function, or fails after a while."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = true()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.05)

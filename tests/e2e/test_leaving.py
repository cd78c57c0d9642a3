"""A client that goes away takes its calls with it, in every stage: vLLM's own counters say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

PATIENCE_S = 30  # far less than the answers that are left behind would take
LONG = {"role": "user", "content": "Tell me all there is to know about sleeping well, in as many words as you can."}


def body(**fields: object) -> dict[str, object]:
    return {"messages": [LONG], "max_tokens": 3000, "temperature": 0, **fields}


async def counted(vllm_url: str) -> tuple[int, int]:
    """Requests that run or wait now, and requests that ever came to their end. An aborted one does not."""
    async with httpx.AsyncClient() as http:
        page = (await http.get(f"{vllm_url}/metrics")).text
    busy = finished = 0.0
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name in ("vllm:num_requests_running", "vllm:num_requests_waiting"):
                busy += sample.value
            elif sample.name == "vllm:request_success_total":
                finished += sample.value
    return int(busy), int(finished)


async def until(vllm_url: str, *, busy: bool) -> int:
    """Waits until something runs, or nothing; how many requests had come to their end by then."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            running, finished = await counted(vllm_url)
            if bool(running) == busy:
                return finished
            await asyncio.sleep(0.02)


@asynccontextmanager
async def asked(gateway_url: str, **fields: object) -> AsyncIterator[httpx.Response]:
    async with (
        httpx.AsyncClient(timeout=PATIENCE_S) as http,
        http.stream("POST", f"{gateway_url}/v1/chat/completions", json=body(stream=True, **fields)) as response,
    ):
        yield response


@pytest.mark.parametrize("stage", ["draft", "revise"])
async def test_leaving_a_stream_aborts_the_stage_that_runs(gateway_url: str, vllm_url: str, stage: str) -> None:
    await until(vllm_url, busy=False)
    limit = 3000 if stage == "draft" else 200  # a draft that ends soon, so that its repairs are what runs
    async with asked(gateway_url, max_tokens=limit, revision={"mode": "always", "progress": True}) as response:
        lines = response.aiter_lines()  # kept: one that nobody holds closes the connection
        async for line in lines:
            if f'"reasoning_content":"{stage}\\n"' in line:
                break
        before = await until(vllm_url, busy=True)
    assert await until(vllm_url, busy=False) == before


async def test_leaving_before_the_first_byte_aborts_the_draft(gateway_url: str, vllm_url: str) -> None:
    await until(vllm_url, busy=False)
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        waiting = asyncio.create_task(http.post(f"{gateway_url}/v1/chat/completions", json=body()))
        before = await until(vllm_url, busy=True)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert await until(vllm_url, busy=False) == before

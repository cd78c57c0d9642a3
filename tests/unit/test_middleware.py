"""What the outermost layer answers by itself."""

from __future__ import annotations

import asyncio

import httpx

from service.app import create_app
from service.settings import Settings
from tests.fakes import FakeEncoder, FakeLLM
from tests.kit import index


async def test_what_the_server_gives_up_is_answered_as_an_error() -> None:
    app = create_app(Settings(), llm=FakeLLM(), index=index(), encoder=FakeEncoder())
    waiting = asyncio.Event()

    @app.get("/hang")
    async def hang() -> None:
        waiting.set()
        await asyncio.Event().wait()

    sent = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/hang", "headers": [], "query_string": b"", "scheme": "http"}
    task = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
    await waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    head = httpx.Headers(sent[0]["headers"])  # type: ignore[arg-type]
    assert sent[0]["status"] == 503
    assert len(head["x-request-id"]) == 32
    assert head["retry-after"] == "1"
    assert b'"not_ready"' in sent[1]["body"]  # type: ignore[operator]

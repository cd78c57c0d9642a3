"""The least that a gateway written in FastAPI can do: check the body's shape, forward it, hand the answer back.

`python -m loadtests.peers.bare UPSTREAM_URL PORT`. What a gateway costs beyond this is its own doing.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp
import orjson
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None


class ChatBody(BaseModel):
    model_config = ConfigDict(extra="allow")
    model: str
    messages: list[Message]
    max_tokens: int | None = None
    temperature: float | None = None
    stream: bool = False


def create_app(upstream_url: str) -> FastAPI:
    client: aiohttp.ClientSession

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal client
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            yield

    app = FastAPI(lifespan=lifespan)
    url = f"{upstream_url}/v1/chat/completions"
    headers = {"Content-Type": "application/json"}

    @app.post("/v1/chat/completions")
    async def chat(body: ChatBody) -> Response:
        sent = orjson.dumps(body.model_dump(exclude_unset=True))
        async with client.post(url, data=sent, headers=headers) as answer:
            return Response(await answer.read(), answer.status, media_type="application/json")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.peers.bare", description=__doc__)
    parser.add_argument("upstream_url")
    parser.add_argument("port", type=int)
    args = parser.parse_args()
    uvicorn.run(create_app(args.upstream_url), host="127.0.0.1", port=args.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

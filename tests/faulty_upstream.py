"""A model server that misbehaves on demand: a real one, on a real socket, in the test's own loop.

A test scripts it with behaviours, one for each request in order. What it was asked, and whether the client went away, is
on the record.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self

import orjson
from aiohttp import web

JSON = "application/json"
SSE = "text/event-stream"
_TURNS = 20  # of the loop, which client and server share: far more than a reader needs to take what lies in its socket


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived. `body` is parsed, None where there was none."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class FaultyUpstream:
    """`async with FaultyUpstream(behaviour, …) as upstream`, then `upstream.url`.

    A request beyond the script is answered with status 418, and `/v1/models` with `models` unless `listing` has a
    behaviour for it.
    """

    def __init__(self, *script: Behaviour, models: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.script = deque(script)
        self.listing: deque[Behaviour] = deque()
        self.models = [{"id": "m", "owned_by": "vllm", "max_model_len": 4096}] if models is None else list(models)
        self.asked: list[Asked] = []
        self.arrived = asyncio.Event()  # a request that is left to hang
        self.left = asyncio.Event()  # a client went away before its answer was whole
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    @property
    def bodies(self) -> list[Any]:
        """The bodies of the requests other than for the list of models."""
        return [asked.body for asked in self.asked if asked.path != "/v1/models"]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(request.method, request.path, headers, orjson.loads(raw) if raw else None))
        if request.path == "/v1/models":
            behave = self.listing.popleft() if self.listing else answers({"object": "list", "data": self.models})
        else:
            behave = self.script.popleft() if self.script else answers({"detail": "nothing is scripted"}, 418)
        try:
            return await behave(self, request)
        except asyncio.CancelledError:
            self.left.set()
            raise


Behaviour = Callable[[FaultyUpstream, web.Request], Awaitable[web.StreamResponse]]


# --- behaviours -------------------------------------------------------------------------------------------------


def answers(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """The payload as JSON."""
    return sends(orjson.dumps(payload), status=status, headers=headers)


def sends(
    raw: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = JSON
) -> Behaviour:
    """These bytes, whole."""

    async def behave(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
        return web.Response(body=raw, status=status, headers={"Content-Type": content_type, **(headers or {})})

    return behave


def cuts(raw: bytes, *, missing: int = 10, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """A body that is promised to be longer: these bytes, then the connection is closed."""

    async def behave(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Type": JSON, **(headers or {})})
        response.content_length = len(raw) + missing
        await response.prepare(request)
        await response.write(raw)
        _transport(request).close()
        return response

    return behave


def streams(*pieces: bytes, then: Literal["end", "cut", "hangs"] = "end", content_type: str = SSE) -> Behaviour:
    """Pieces that reach the client one by one, not glued together; `then` the body ends, is `cut`, or the server `hangs`."""

    async def behave(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        if then == "cut":
            _transport(request).close()
        elif then == "hangs":
            await _hang(upstream)
        else:
            await response.write_eof()
        return response

    return behave


def hangs() -> Behaviour:
    """No answer, not even a status, until the client goes away."""

    async def behave(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
        await _hang(upstream)
        raise AssertionError("unreachable")

    return behave


def says(raw: bytes) -> Behaviour:
    """These bytes on the bare connection in place of a response, then it is closed. Without any: closed unanswered."""

    async def behave(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
        transport = _transport(request)
        transport.write(raw)
        transport.close()
        return web.Response()

    return behave


def resets() -> Behaviour:
    """The connection is reset unanswered."""

    async def behave(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
        sock = _transport(request).get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing sends RST, not FIN
        _transport(request).abort()
        return web.Response()

    return behave


@contextmanager
def refusing() -> Iterator[str]:
    """A URL that refuses connections: the port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


async def _hang(upstream: FaultyUpstream) -> None:
    upstream.arrived.set()
    await asyncio.Event().wait()


def _transport(request: web.Request) -> asyncio.Transport:
    transport = request.transport
    assert isinstance(transport, asyncio.Transport)
    return transport


# --- what a server that behaves would say -------------------------------------------------------------------------


def completion(text: str, *, finish: str | None = "stop", **extra: Any) -> dict[str, Any]:
    """A chat completion; `extra` goes to its choice."""
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish, **extra}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
    }


def event(payload: Any, end: str = "\n") -> bytes:
    return b"data: " + orjson.dumps(payload) + 2 * end.encode()


def chunk(text: str | None = None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def events(*texts: str, finish: str | None = "stop", usage: bool = True, done: bool = True, end: str = "\n") -> bytes:
    """A whole stream of these texts."""
    parts = [event(chunk(text), end) for text in texts]
    if finish is not None:
        parts.append(event(chunk(finish=finish), end))
    if usage:
        parts.append(event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(texts)}}, end))
    if done:
        parts.append(b"data: [DONE]" + 2 * end.encode())
    return b"".join(parts)

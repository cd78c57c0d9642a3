"""A model server that costs next to nothing: fixed bytes for every path, no simulation, no parsing of JSON.

What a proxy in front of it takes is the proxy's own. `ANSWER` answers `QUESTION` and passes the gateway's rules; a verdict
is always Yes. Bodies need a Content-Length; requests may come in pieces or several at once, answers keep their order.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson

from loadtests.stub_text import tokens, top_logprobs

QUESTION = "How can I look after a common cold at home?"
ANSWER = (
    "A common cold mostly passes by itself within one to two weeks, and you can look after it at home. Rest when you feel "
    "tired, and drink water, tea or soup through the day. Warm drinks with lemon are soothing for a sore throat. Salt water "
    "spray or drops can clear a blocked nose, and a raised pillow makes sleep easier. Fresh air in the bedroom helps as "
    "well. Ask a pharmacist before you take a remedy, and tell them which other medicines you use. Wash your hands often, "
    "cough into your elbow, and keep some distance from others for the first days. See a doctor if you find it hard to "
    "breathe, if you have a high fever, or if you feel worse after a week."
)
_HEAD_LIMIT = 64 << 10
_BODY_LIMIT = 64 << 20
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")
_STREAM = re.compile(rb'"stream" *: *true')
_USAGE = re.compile(rb'"include_usage" *: *true')
_ONE_TOKEN = re.compile(rb'"max_(?:completion_)?tokens" *: *1 *[,}]')
_LOGPROBS = b'"logprobs"'


class Canned:
    """Whole responses, made once."""

    def __init__(self, model: str) -> None:
        told = {"id": "chatcmpl-instant", "created": 0, "model": model}
        pieces = tokens(ANSWER)
        usage = {"prompt_tokens": 32, "completion_tokens": len(pieces) + 1, "total_tokens": 33 + len(pieces)}
        one = {"prompt_tokens": 300, "completion_tokens": 1, "total_tokens": 301}
        top = top_logprobs("Yes", 20, "")
        sure = {"content": [{**top[0], "top_logprobs": top}]}
        self.answer = _json({**told, "object": "chat.completion", "choices": [_choice(ANSWER, "stop")], "usage": usage})
        self.verdict = _json(
            {**told, "object": "chat.completion", "choices": [_choice("Yes", "length", sure)], "usage": one}
        )
        chunk = {**told, "object": "chat.completion.chunk"}
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": p} for p in pieces)]
        chunks = [_event({**chunk, "choices": [_delta(delta, None)]}) for delta in deltas]
        chunks.append(_event({**chunk, "choices": [_delta({"content": ""}, "stop")]}))
        done = b"data: [DONE]\n\n"
        self.stream = _chunked([*chunks, done])
        self.stream_with_usage = _chunked([*chunks, _event({**chunk, "choices": [], "usage": usage}), done])
        listed = {
            "id": model,
            "object": "model",
            "created": 0,
            "owned_by": "vllm",
            "root": model,
            "max_model_len": 8192,
        }
        self.missing = _json({"detail": "Not Found"}, b"404 Not Found")
        self.others: Mapping[bytes, bytes] = {
            b"GET /v1/models": _json({"object": "list", "data": [listed]}),
            b"GET /version": _json({"version": "0.32.0+stub"}),
            b"GET /health": _response(b""),
            b"GET /metrics": _response(b"", content_type=b"text/plain"),
            b"POST /tokenize": _json({"count": 32, "max_model_len": 8192, "tokens": []}),
            b"POST /reset_prefix_cache": _json({"success": True}),
            b"POST /v1/traces": _response(b"", content_type=b"application/x-protobuf"),  # a collector that takes all
        }

    def response(self, target: bytes, body: bytes) -> bytes:
        """To a request for `target`, such as `GET /health`."""
        if target != b"POST /v1/chat/completions":
            return self.others.get(target, self.missing)
        if _STREAM.search(body):
            return self.stream_with_usage if _USAGE.search(body) else self.stream
        return self.verdict if _LOGPROBS in body and _ONE_TOKEN.search(body) else self.answer


class Connection(asyncio.Protocol):
    """One client. HTTP/1.1, kept alive unless it says otherwise."""

    def __init__(self, canned: Canned) -> None:
        self._canned = canned
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        rest = self._rest + data if self._rest else data
        written: list[bytes] = []
        while (end := rest.find(b"\r\n\r\n")) >= 0:
            head = rest[:end].lower()
            length = int(found[1]) if (found := _LENGTH.search(head)) else 0
            if length > _BODY_LIMIT or b"\r\ntransfer-encoding:" in head:
                written.append(_response(b"", b"411 Length Required"))
                self._transport.write(b"".join(written))
                self._transport.close()
                return
            if len(rest) < end + 4 + length:
                break
            target = rest[: rest.find(b" ", rest.find(b" ") + 1)]
            written.append(self._canned.response(target, rest[end + 4 : end + 4 + length]))
            rest = rest[end + 4 + length :]
            if b"\r\nconnection: close" in head:
                self._transport.write(b"".join(written))
                self._transport.close()
                return
        self._rest = rest
        if written:
            self._transport.write(b"".join(written))
        elif len(rest) > _HEAD_LIMIT and b"\r\n\r\n" not in rest:
            self._transport.close()


@asynccontextmanager
async def serving(model: str, *, port: int = 0) -> AsyncIterator[str]:
    """Base URL of a server on loopback; 0 is any free port."""
    canned = Canned(model)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(canned), "127.0.0.1", port)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _choice(text: str, finish: str, logprobs: Any = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}


def _delta(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _json(payload: Any, status: bytes = b"200 OK") -> bytes:
    return _response(orjson.dumps(payload), status)


def _response(body: bytes, status: bytes = b"200 OK", content_type: bytes = b"application/json") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (status, content_type, len(body)) + body


def _event(payload: Any) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def _chunked(events: list[bytes]) -> bytes:
    """A stream, each event a chunk of its own, as a server sends it that flushes after each token."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"

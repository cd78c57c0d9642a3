"""vLLM's HTTP face on a replica: routes, refusals and wire forms as of vLLM 0.32."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from loadtests.stub_replica import Generation, Replica
from loadtests.stub_text import Reply, Writer, chat_prompt, is_verdict, top_logprobs

Wire = dict[str, Any]


class Refused(Exception):
    """A request that vLLM refuses, with its words."""

    def __init__(self, message: str, param: str | None = None, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        kind = "NotFoundError" if status == 404 else "BadRequestError"
        self.wire = {"error": {"message": message, "type": kind, "param": param, "code": status}}


class Api:
    """vLLM's routes on one replica."""

    def __init__(self, replica: Replica, writer: Writer) -> None:
        self.replica, self.profile, self._writer = replica, replica.profile, writer
        self._asked = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        get: dict[str, Callable[[], Any]] = {
            "/v1/models": self._models,
            "/version": lambda: {"version": "0.32.0+stub"},
        }
        post: dict[str, Callable[[web.Request, Wire, float], Awaitable[web.StreamResponse]]] = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._complete,
            "/tokenize": self._tokenize,
        }
        for path, tell in get.items():
            app.router.add_get(path, _telling(tell))
        for path, handle in post.items():
            app.router.add_post(path, _asked(handle))
        app.router.add_get("/health", _empty)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/reset_prefix_cache", _telling(lambda: {"success": self.replica.reset()}))
        return app

    def _models(self) -> Wire:
        name = self.profile.model
        model = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "vllm", "root": name}
        return {"object": "list", "data": [model | {"parent": None, "max_model_len": self.profile.max_model_len}]}

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=self.replica.metrics())

    async def _tokenize(self, http: web.Request, body: Wire, arrived: float) -> web.StreamResponse:
        count = len(chat_prompt(_checked_messages(body), self.profile.opening_tokens))
        return _json({"count": count, "max_model_len": self.profile.max_model_len, "tokens": []})

    async def _chat(self, http: web.Request, body: Wire, arrived: float) -> web.StreamResponse:
        prompt = chat_prompt(_checked_messages(body), self.profile.opening_tokens)
        reply = self._writer.reply(body, self._room(body, len(prompt)))
        answer = Answer(self._head("chatcmpl"), body, reply, len(prompt))
        streamed = bool(body.get("stream"))
        async with self.replica.generate(
            prompt, reply.output, salt=str(body.get("cache_salt") or ""), streamed=streamed, arrived=arrived
        ) as generation:
            if streamed:
                return await _stream(http, answer, generation)
            await generation.more()
        return _json(answer.whole(generation.request.cached))

    async def _complete(self, http: web.Request, body: Wire, arrived: float) -> web.StreamResponse:
        """Prompts of token ids, all at once and to `max_tokens`: what `loadtests.bench.fit` asks for."""
        prompts = body.get("prompt")
        if not isinstance(prompts, list) or not prompts:
            raise Refused("The stub takes prompts of token ids only.", "prompt")
        prompts = prompts if isinstance(prompts[0], list) else [prompts]
        most = self._room(body, max(map(len, prompts)))
        async with AsyncExitStack() as stack:
            entered = [
                await stack.enter_async_context(
                    self.replica.generate(prompt, ["x"] * most, salt="", streamed=False, arrived=arrived)
                )
                for prompt in prompts
            ]
            for generation in entered:
                await generation.more()
        cached = sum(generation.request.cached for generation in entered)
        choice = {"text": "", "logprobs": None, "finish_reason": "length", "stop_reason": None}
        choices = [{"index": i, **choice} for i in range(len(prompts))]
        usage = _usage(sum(map(len, prompts)), most * len(prompts), cached)
        return _json({**self._head("cmpl"), "object": "text_completion", "choices": choices, "usage": usage})

    def _room(self, body: Wire, prompt: int) -> int:
        """Tokens that the answer may have. Raises Refused."""
        name, context = body.get("model"), self.profile.max_model_len
        if name not in (None, self.profile.model):
            raise Refused(f"The model `{name}` does not exist.", "model", status=404)
        wanted = body.get("max_completion_tokens") or body.get("max_tokens")
        if wanted is not None and (type(wanted) is not int or wanted < 1):
            raise Refused(f"max_tokens must be at least 1, got {wanted}.", "max_tokens")
        if wanted is not None and wanted > context:
            raise Refused(f"max_tokens={wanted} cannot be greater than max_model_len={context}.", "max_tokens")
        if prompt >= context:
            raise Refused(
                f"This model's maximum context length is {context} tokens. However, your prompt contains at least "
                f"{prompt} input tokens, which exceeds this limit even without any output tokens.",
                "input_tokens",
            )
        return min(wanted or context, context - prompt)

    def _head(self, kind: str) -> Wire:
        self._asked += 1
        return {"id": f"{kind}-stub{self._asked:08x}", "created": int(time.time()), "model": self.profile.model}


def _checked_messages(body: Wire) -> Wire:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise Refused("Cannot apply chat template to an empty conversation. Provide at least one message.")
    return body


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply on the wire."""

    head: Wire
    body: Wire
    reply: Reply
    prompt_tokens: int

    def whole(self, cached: int) -> Wire:
        pieces = self.reply.pieces
        told = [entry for piece in pieces if piece for entry in self._told(piece)]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(pieces), "refusal": None, "reasoning": None},
            "logprobs": {"content": told} if self.body.get("logprobs") else None,
            "finish_reason": self.reply.finish,
            "stop_reason": None,
        }
        usage = _usage(self.prompt_tokens, len(pieces), cached)
        return {**self.head, "object": "chat.completion", "choices": [choice], "usage": usage}

    def chunk(self, delta: Wire, *, last: bool = False, piece: str = "") -> Wire:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": {"content": self._told(piece)} if piece and self.body.get("logprobs") else None,
            "finish_reason": self.reply.finish if last else None,
        }
        return {**self.head, "object": "chat.completion.chunk", "choices": [choice]}

    def chunks(self, start: int, end: int) -> Iterable[Wire]:
        """Of the tokens `start` to `end`, each its own."""
        pieces = self.reply.pieces
        for i in range(start, end):
            yield self.chunk({"content": pieces[i]}, last=i + 1 == len(pieces), piece=pieces[i])

    def usage(self, cached: int) -> Wire:
        usage = _usage(self.prompt_tokens, len(self.reply.output), cached)
        return {**self.head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _told(self, piece: str) -> list[Wire]:
        if not self.body.get("logprobs"):
            return []
        seed = str(self.body["messages"][-1]) if is_verdict(self.body) else ""
        top = top_logprobs(piece, int(self.body.get("top_logprobs") or 0), seed)
        logprob = top[0]["logprob"] if top else -0.1
        return [{"token": piece, "logprob": logprob, "bytes": list(piece.encode()), "top_logprobs": top}]


async def _stream(http: web.Request, answer: Answer, generation: Generation) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(http)
    sent = 0
    while sent < generation.request.output:
        shown = await generation.more()
        opening = [] if sent else [answer.chunk({"role": "assistant", "content": ""})]
        await response.write(b"".join(map(_event, [*opening, *answer.chunks(sent, shown)])))
        sent = shown
    if (answer.body.get("stream_options") or {}).get("include_usage"):
        await response.write(_event(answer.usage(generation.request.cached)))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _event(payload: Wire) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def _usage(prompt: int, completion: int, cached: int) -> Wire:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _json(payload: Wire, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(payload), status=status, content_type="application/json")


async def _empty(request: web.Request) -> web.Response:
    return web.Response()


def _telling(tell: Callable[[], Wire]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return _json(tell())

    return handle


def _asked(
    handle: Callable[[web.Request, Wire, float], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def parsed(request: web.Request) -> web.StreamResponse:
        arrived = asyncio.get_running_loop().time()
        try:
            body = orjson.loads(await request.read())
            if not isinstance(body, dict):
                raise Refused("The body must be a JSON object.")
            return await handle(request, body, arrived)
        except orjson.JSONDecodeError:
            return _json(Refused("JSON decode error", "body").wire, 400)
        except Refused as refused:
            return _json(refused.wire, refused.status)

    return parsed

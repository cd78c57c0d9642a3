"""A fake model with a queue of answers and a history of calls, an encoder of hashed words, and a small library."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from principles_index.encoders import Vectors
from service.domain import Completion, Usage
from service.errors import ModelNotFound
from service.llm import ModelInfo, Wire

Reply = str | Completion | Exception | tuple[str, Exception]

MODEL = ModelInfo("fake-model", 8192, "fake/root", True, {"id": "fake-model", "owned_by": "vllm"})


def completion(text: str, *, finish: str = "stop", prompt: int = 10, tokens: int | None = None) -> Completion:
    usage = Usage(prompt, tokens if tokens is not None else len(text.split()))
    return Completion(text, finish, usage, {"role": "assistant", "content": text})


def verdict(yes: float, no: float = 0.0, na: float = 0.0) -> Completion:
    """A one-token completion with that much probability on each label."""
    top = [{"token": t, "logprob": math.log(p)} for t, p in (("Yes", yes), ("No", no), ("NA", na)) if p > 0]
    return Completion("x", "length", Usage(20, 1, 16), {}, {"content": [{"token": "x", "top_logprobs": top}]})


class FakeLLM:
    """Texts come from the queue, in order, or from `texts` once it is empty; verdicts from `judge`."""

    def __init__(self, *replies: Reply, judge: Callable[[str], Completion | Exception] | None = None) -> None:
        self.queue: list[Reply] = list(replies)
        self.calls: list[tuple[list[Wire], dict[str, Any]]] = []
        self.judge = judge or (lambda question: verdict(0.9, 0.1))
        self.hangs = False  # every call but a verdict then waits until it is cancelled
        self.hanging, self.let_go = threading.Event(), threading.Event()
        self.before_word: Callable[[int], Awaitable[None]] | None = None  # of a stream, counted from 0
        self.cancelled = 0
        self.info = MODEL
        self.tokens: int | None = 10

    async def models(self) -> Sequence[ModelInfo]:
        return [self.info]

    async def model(self, name: str | None = None) -> ModelInfo:
        if name not in (None, self.info.id):
            raise ModelNotFound("The model does not exist.", param="model")
        return self.info

    def place(self, model: ModelInfo, conversation: str) -> ModelInfo:
        return model

    async def chat(self, model: ModelInfo, messages: Sequence[Wire], params: Mapping[str, Any]) -> Completion:
        self.calls.append((list(messages), dict(params)))
        is_verdict = params.get("max_tokens") == 1 and "top_logprobs" in params
        if not is_verdict:
            await self._hang()
        reply: Reply = self.judge(str(messages[-1]["content"])) if is_verdict else self.queue.pop(0)
        if isinstance(reply, Exception):
            raise reply
        assert not isinstance(reply, tuple), "only a stream can break off"
        return completion(reply) if isinstance(reply, str) else reply

    async def _hang(self) -> None:
        if not self.hangs:
            return
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.let_go.set()
            raise

    async def stream(
        self, model: ModelInfo, messages: Sequence[Wire], params: Mapping[str, Any]
    ) -> AsyncIterator[str | Completion]:
        """Word by word. A reply of (text, error) breaks off after its text."""
        broken = self.queue[0] if self.queue and isinstance(self.queue[0], tuple) else None
        if broken:
            self.queue[0] = broken[0]
        whole = await self.chat(model, messages, params)
        for i, piece in enumerate(re.findall(r"\s*\S+|\s+$", whole.text)):
            if self.before_word is not None:
                await self.before_word(i)
            yield piece
        if broken:
            raise broken[1]
        yield whole

    async def count_tokens(self, model: ModelInfo, messages: Sequence[Wire], tools: Sequence[Wire] = ()) -> int | None:
        return self.tokens

    async def relay(self, model: ModelInfo, body: Wire) -> bytes:
        self.calls.append((list(body["messages"]), {**body, "model": model.id}))
        await self._hang()
        reply = self.queue.pop(0)
        if isinstance(reply, Exception):
            raise reply
        assert not isinstance(reply, tuple), "only a stream can break off"
        text = reply if isinstance(reply, str) else reply.text
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return orjson.dumps(
            {"id": "x", "object": "chat.completion", "created": 0, "model": model.id, "choices": [choice]}
        )

    async def relay_stream(self, model: ModelInfo, body: Wire) -> AsyncIterator[bytes]:
        raw = orjson.loads(await self.relay(model, body))
        raw["object"] = "chat.completion.chunk"
        raw["choices"][0]["delta"] = raw["choices"][0].pop("message")
        yield b"data: " + orjson.dumps(raw) + b"\n\n"
        yield b"data: [DONE]\n\n"

    async def close(self) -> None: ...


OFF_TOPIC = "offtopic"


class FakeEncoder:
    """Unit vectors from hashed words: texts that share words are near, and every text is on topic but one that says
    `OFF_TOPIC`."""

    fingerprint = "fake"

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), 65), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split() or ["empty"]:
                vectors[row, hashlib.sha256(word.encode()).digest()[0] % 64] += 1.0
            vectors[row, 64] = np.linalg.norm(vectors[row]) * (-1 if OFF_TOPIC in text.lower() else 1)
        return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

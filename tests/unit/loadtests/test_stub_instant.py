from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.stub_instant import ANSWER, QUESTION, Canned, Connection, serving
from service.domain import Conversation, Turn
from service.llm import UpstreamLLM
from service.rules import RULES
from service.settings import Upstream
from service.stages.critique import read_label

CANNED = Canned("m")


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True


def told(*pieces: bytes) -> Wire:
    wire, connection = Wire(), Connection(CANNED)
    connection.connection_made(wire)
    for piece in pieces:
        connection.data_received(piece)
    return wire


def post(body: object, *, head: str = "Content-Length: {}", path: str = "/v1/chat/completions") -> bytes:
    raw = orjson.dumps(body)
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{head.format(len(raw))}\r\n\r\n".encode() + raw


def chat(content: str = "Hello", **fields: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **fields}


GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
VERDICT = chat(max_tokens=1, logprobs=True, top_logprobs=20)


@given(st.lists(st.integers(0, 1000), max_size=12))
def test_requests_may_come_in_any_pieces(cuts: Sequence[int]) -> None:
    several = post(chat("a\r\n\r\nb")) + GET + post(VERDICT) + post(chat(), head="content-length:{}")
    ends = [0, *sorted(cut % len(several) for cut in cuts), len(several)]
    pieces = [several[a:b] for a, b in pairwise(ends)]
    models = CANNED.others[b"GET /v1/models"]
    assert told(*pieces).written == CANNED.answer + models + CANNED.verdict + CANNED.answer


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (chat(), CANNED.answer),
        (VERDICT, CANNED.verdict),
        (chat(max_tokens=12, logprobs=True), CANNED.answer),
        (chat(max_tokens=1), CANNED.answer),
        (chat(stream=True), CANNED.stream),
        (chat(stream=False), CANNED.answer),
        (chat(stream=True, stream_options={"include_usage": True}), CANNED.stream_with_usage),
        (chat('"stream": true, "max_tokens": 1, "logprobs"'), CANNED.answer),
    ],
)
def test_the_kind_of_answer_is_read_from_the_body(body: object, expected: bytes) -> None:
    assert told(post(body)).written == expected
    spaced = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
    assert told(head % len(spaced) + spaced).written == expected


def test_what_it_does_not_know_is_not_found() -> None:
    assert told(b"GET /nope HTTP/1.1\r\n\r\n").written.startswith(b"HTTP/1.1 404")


def test_connections_end_where_they_should() -> None:
    wire = told(post(chat(), head="Content-Length: {}\r\nConnection: close") + GET)
    assert (wire.written, wire.closed) == (CANNED.answer, True)
    chunked = told(post(chat(), head="Transfer-Encoding: chunked"))
    assert (chunked.written[:12], chunked.closed) == (b"HTTP/1.1 411", True)
    assert told(b"x" * 100_000).closed
    assert not told(post(chat())).closed


def test_no_rule_objects_to_the_answer() -> None:
    turn = Turn(Conversation.of(("user", QUESTION)), ANSWER, "en", frozenset(), 0.5)
    assert [name for name, rule in RULES.items() if rule(turn) == "unmet"] == []
    assert 90 <= len(ANSWER.split()) <= 150


async def test_the_gateway_and_openai_read_it() -> None:
    async with serving("m") as url:
        llm = UpstreamLLM(Upstream(url=url))
        try:
            model = await llm.model()
            assert model.is_vllm
            messages: list[Any] = [{"role": "user", "content": QUESTION}]
            assert (await llm.chat(model, messages, {"max_tokens": 256})).text == ANSWER
            verdict = await llm.chat(model, messages, {"max_tokens": 1, "logprobs": True, "top_logprobs": 20})
            assert read_label(verdict, min_mass=0.9, threshold=0.5)[0] == "met"
            *_, whole = [piece async for piece in llm.stream(model, messages, {})]
            assert whole.text == ANSWER  # type: ignore[union-attr]
            assert await llm.count_tokens(model, messages) == 32
        finally:
            await llm.close()
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
            pieces = [c.choices[0].delta.content or "" async for c in stream if c.choices]
    assert "".join(pieces) == ANSWER
    assert json.loads(CANNED.answer.partition(b"\r\n\r\n")[2])["choices"][0]["finish_reason"] == "stop"

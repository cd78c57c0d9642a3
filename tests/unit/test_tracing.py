"""Spans of real requests to the real app, in front of a model server in the test's own loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiohttp import web
from fastapi import FastAPI
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import SpanKind, StatusCode

from service import tracing
from service.app import create_app
from service.errors import ConfigError
from service.settings import Settings, Upstream, load_settings
from service.tracing import NO_CALL, NO_REQUEST, NOTHING, Traces, load_traces, model_call, of_request, stage
from tests.fakes import FakeEncoder, FakeLLM
from tests.faulty_upstream import (
    Behaviour,
    FaultyUpstream,
    answers,
    completion,
    cuts,
    events,
    hangs,
    resets,
    sends,
    streams,
)
from tests.kit import index

GOOD = "Rest and drink enough water. See a doctor if it does not get better in a few days."
LOOP = "Rest and drink enough water today. Rest and drink enough water today. Rest and drink enough water today."
ASKED = [{"role": "user", "content": "I have a cold"}]
CHAT = "POST /v1/chat/completions"
CALL = ("chat m", ())
DRAFTED = (("draft", (CALL,)), ("retrieve", ()))
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Recorded:
    """What would have gone to the collector."""

    def __init__(self, ratio: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.traces = Traces(provider)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def tree(self) -> tuple[Any, ...]:
        """(name, children) of each root, in the order in which they began."""
        spans = sorted(self.spans, key=lambda span: span.start_time or 0)
        known = {span.context.span_id for span in spans if span.context}

        def below(parent: int | None) -> tuple[Any, ...]:
            return tuple((s.name, below(s.context.span_id)) for s in spans if s.context and _parent(s, known) == parent)

        return below(None)


def _parent(span: ReadableSpan, known: set[int]) -> int | None:
    return span.parent.span_id if span.parent and span.parent.span_id in known else None


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def model_of(*texts: str | Behaviour) -> FaultyUpstream:
    """A model that gives these texts in order, streamed where that is asked for, and says yes to every verdict."""
    queue = deque(texts)

    async def behave(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("max_tokens") == 1:
            top = [{"token": "Yes", "logprob": -0.1}]
            said = completion("Yes", finish="length", logprobs={"content": [{"token": "Yes", "top_logprobs": top}]})
            return await answers(said)(upstream, request)
        text = queue.popleft()
        if not isinstance(text, str):
            return await text(upstream, request)
        give = streams(events(*text.split(" "))) if body.get("stream") else answers(completion(text))
        return await give(upstream, request)

    upstream = FaultyUpstream()
    upstream.script = deque([behave] * 99)
    return upstream


@asynccontextmanager
async def app_of(upstream: FaultyUpstream | FakeLLM, recorded: Recorded, **settings: Any) -> AsyncIterator[FastAPI]:
    fake = upstream if isinstance(upstream, FakeLLM) else None
    url = "http://unused" if isinstance(upstream, FakeLLM) else upstream.url
    made = Settings(upstream=Upstream(url=url, retry_ratio=0), **settings)
    app = create_app(made, llm=fake, index=index(), encoder=FakeEncoder(), traces=recorded.traces)
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def client_of(upstream: FaultyUpstream | FakeLLM, recorded: Recorded) -> AsyncIterator[httpx.AsyncClient]:
    async with app_of(upstream, recorded) as app:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client


async def ask(
    recorded: Recorded, *texts: str | Behaviour, headers: Mapping[str, str] | None = None, **body: Any
) -> tuple[httpx.Response, FaultyUpstream]:
    """One request to a gateway in front of a model of these texts."""
    async with model_of(*texts) as upstream, client_of(upstream, recorded) as client:
        sent = {"messages": ASKED, **body}
        return await client.post("/v1/chat/completions", json=sent, headers=headers), upstream


# --- the tree ---------------------------------------------------------------------------------------------------


async def test_a_draft_that_passed(recorded: Recorded) -> None:
    response, upstream = await ask(recorded, GOOD, headers={"X-Request-Id": "r-1"}, max_tokens=90)
    assert response.json()["revision"]["status"] == "draft_passed"
    assert recorded.tree() == ((CHAT, (*DRAFTED, ("critique", ()))),)
    server, call = recorded.named(CHAT), recorded.named("chat m")
    assert (server.kind, call.kind, recorded.named("draft").kind) == (
        SpanKind.SERVER,
        SpanKind.CLIENT,
        SpanKind.INTERNAL,
    )
    assert told(server) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "http.response.header.x-request-id": ("r-1",),
        "url.scheme": "http",
        "clinalign.tenant": "anonymous",
        "clinalign.mode": "auto",
        "clinalign.red_flags": 0,
        "clinalign.status": "draft_passed",
        "clinalign.reason": "none",
        "clinalign.rounds": 0,
    }
    port = int(upstream.url.rpartition(":")[2])
    assert told(call) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 90,
        "gen_ai.response.model": "m",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    assert told(recorded.named("retrieve"))["clinalign.principles"] > 0
    critique = told(recorded.named("critique"))
    assert critique["clinalign.met"] > 0
    assert critique["clinalign.repairs"] == critique["clinalign.failed_calls"] == 0
    assert {span.status.status_code for span in recorded.spans} == {StatusCode.UNSET}


async def test_a_revised_answer(recorded: Recorded) -> None:
    response, _ = await ask(recorded, LOOP, GOOD, GOOD)
    assert response.json()["revision"]["status"] == "revised"
    assert recorded.tree() == ((CHAT, (*DRAFTED, ("critique", ()), ("revise", (CALL, CALL)), ("recritique", ()))),)
    assert told(recorded.named("critique"))["clinalign.repairs"] == 1
    assert told(recorded.named("revise")) == {"clinalign.round": 1, "clinalign.candidates": 2}
    assert told(recorded.named("recritique")) == {"clinalign.round": 1, "clinalign.accepted": 2}
    assert told(recorded.named(CHAT))["clinalign.status"] == "revised"
    assert told(recorded.named(CHAT))["clinalign.rounds"] == 1


async def test_verdict_calls_belong_to_their_stage(recorded: Recorded) -> None:
    await ask(recorded, GOOD, revision={"mode": "critique"})
    ((_, stages),) = recorded.tree()
    (calls,) = [below for name, below in stages if name == "critique"]
    assert calls
    assert set(calls) == {CALL}
    verdicts = [told(span) for span in recorded.spans if told(span).get("gen_ai.request.max_tokens") == 1]
    assert len(verdicts) == len(calls)


async def test_of_a_critique(recorded: Recorded) -> None:
    async with model_of() as upstream, client_of(upstream, recorded) as client:
        response = await client.post("/v1/critique", json={"messages": ASKED, "answer": GOOD})
    assert response.status_code == 200
    ((name, calls),) = recorded.tree()
    assert name == "POST /v1/critique"
    assert set(calls) == {CALL}


@pytest.mark.parametrize("stream", [False, True])
async def test_mode_off_is_one_call(recorded: Recorded, stream: bool) -> None:
    response, _ = await ask(recorded, GOOD, model="m:off", stream=stream, n=1, seed=7)
    assert response.status_code == 200
    assert recorded.tree() == ((CHAT, (CALL,)),)
    call = told(recorded.named("chat m"))
    assert call["gen_ai.response.finish_reasons"] == ("stop",)
    assert call["gen_ai.usage.input_tokens"] == 7
    assert call["gen_ai.request.seed"] == 7
    assert call.get("gen_ai.request.stream", False) is stream
    assert ("gen_ai.response.time_to_first_chunk" in call) is stream


async def test_requests_at_once_do_not_mix(recorded: Recorded) -> None:
    async with model_of(*[GOOD] * 5) as upstream, client_of(upstream, recorded) as client:
        await asyncio.gather(
            *(client.post("/v1/chat/completions", json={"messages": ASKED, "stream": i % 2 == 0}) for i in range(5))
        )
    assert recorded.tree() == ((CHAT, (*DRAFTED, ("critique", ()))),) * 5
    assert len({span.context.trace_id for span in recorded.spans if span.context}) == 5


# --- streams, and clients that leave ----------------------------------------------------------------------------


class Connection:
    """An ASGI client that keeps a record of what is sent to it, and leaves when it is told to."""

    def __init__(self, app: FastAPI, body: Mapping[str, Any], recorded: Recorded) -> None:
        self._app, self._body, self._recorded = app, orjson.dumps(body), recorded
        self.leave = asyncio.Event()
        self.began = asyncio.Event()
        self.spans_when_sent: list[list[str]] = []
        self._asked = False

    async def run(self) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(self._body)).encode())]
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/chat/completions",
            "query_string": b"",
            "headers": headers,
        }
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.spans_when_sent.append([span.name for span in self._recorded.spans])
        self.began.set()


async def test_the_span_of_a_stream_ends_with_it(recorded: Recorded) -> None:
    async with model_of(GOOD) as upstream, app_of(upstream, recorded) as app:
        connection = Connection(app, {"messages": ASKED, "stream": True}, recorded)
        await connection.run()
    assert len(connection.spans_when_sent) > 3
    assert all(CHAT not in names for names in connection.spans_when_sent)
    assert recorded.tree() == ((CHAT, (*DRAFTED, ("critique", ()))),)
    server = told(recorded.named(CHAT))
    assert server["clinalign.status"] == "draft_passed"
    assert "clinalign.left" not in server


async def test_a_live_stream(recorded: Recorded) -> None:
    response, _ = await ask(recorded, LOOP, GOOD, stream=True, revision={"stream": "live"})
    assert response.text.endswith("data: [DONE]\n\n")
    assert recorded.tree() == ((CHAT, (*DRAFTED, ("critique", ()), ("revise", (CALL,)), ("recritique", ()))),)
    (live,) = [told(span) for span in recorded.spans if told(span).get("gen_ai.request.stream")]
    assert live["gen_ai.response.finish_reasons"] == ("stop",)
    assert live["gen_ai.response.time_to_first_chunk"] >= 0
    assert live["gen_ai.usage.output_tokens"] == len(GOOD.split())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_every_span(recorded: Recorded, stream: bool) -> None:
    async with model_of(hangs()) as upstream, app_of(upstream, recorded) as app:
        body = {"messages": ASKED, "stream": stream, "revision": {"progress": stream}}
        connection = Connection(app, body, recorded)
        running = asyncio.create_task(connection.run())
        await upstream.arrived.wait()
        if stream:
            await connection.began.wait()
        connection.leave.set()
        await running
        await upstream.left.wait()
        tasks = app.state.context.tasks
        await asyncio.gather(*tasks, return_exceptions=True)
    assert recorded.tree() == ((CHAT, DRAFTED),)
    assert {span.status.status_code for span in recorded.spans} == {StatusCode.UNSET}
    server, draft, call = (told(recorded.named(name)) for name in (CHAT, "draft", "chat m"))
    assert server["clinalign.left"] is draft["clinalign.cancelled"] is call["clinalign.cancelled"] is True
    assert server["http.response.status_code"] == (200 if stream else 499)
    assert call["gen_ai.response.finish_reasons"] == ("error",)
    assert "error.type" not in server | draft | call
    assert of_request() is NO_REQUEST


async def test_the_deadline_cancels_and_says_so(recorded: Recorded) -> None:
    response, _ = await ask(recorded, LOOP, hangs(), hangs(), revision={"deadline_ms": 500})
    assert response.status_code == 200
    server = told(recorded.named(CHAT))
    assert (server["clinalign.status"], server["clinalign.reason"]) == ("draft_unverified", "deadline")
    assert told(recorded.named("revise"))["clinalign.cancelled"] is True


# --- failures ---------------------------------------------------------------------------------------------------


async def test_a_failing_model_server(recorded: Recorded) -> None:
    response, _ = await ask(recorded, answers({"error": {"message": "no"}}, status=500))
    assert response.status_code == 502
    for name in (CHAT, "draft", "chat m"):
        span = recorded.named(name)
        assert (told(span)["error.type"], span.status.status_code) == ("upstream_error", StatusCode.ERROR)
    assert told(recorded.named(CHAT))["http.response.status_code"] == 502
    assert told(recorded.named("chat m"))["gen_ai.response.finish_reasons"] == ("error",)


async def test_a_failed_repair_is_no_failed_answer(recorded: Recorded) -> None:
    response, _ = await ask(recorded, LOOP, resets(), resets())
    assert response.status_code == 200
    assert told(recorded.named(CHAT))["clinalign.reason"] == "revision_failed"
    assert recorded.named(CHAT).status.status_code == StatusCode.UNSET
    assert told(recorded.named("revise"))["error.type"] == "upstream_unavailable"


@pytest.mark.parametrize("how", [{"revision": {"progress": True}}, {"model": "m:off"}], ids=["checked", "off"])
async def test_a_stream_that_fails_after_its_head(recorded: Recorded, how: dict[str, Any]) -> None:
    said = streams(events("Rest", finish=None, usage=False, done=False), then="cut")
    first = said if "model" in how else answers({"error": {"message": "no"}}, status=500)
    response, _ = await ask(recorded, first, stream=True, **how)
    assert response.status_code == 200
    assert '"code":"upstream_error"' in response.text
    server = recorded.named(CHAT)
    assert (told(server)["error.type"], server.status.status_code) == ("upstream_error", StatusCode.ERROR)


async def test_a_refused_request_is_no_error_of_ours(recorded: Recorded) -> None:
    response, _ = await ask(recorded, colour="blue")
    server = recorded.named(CHAT)
    assert told(server)["error.type"] == response.json()["error"]["code"]
    assert told(server)["http.response.status_code"] == 400
    assert server.status.status_code == StatusCode.UNSET


async def test_a_bug(recorded: Recorded) -> None:
    async with client_of(FakeLLM(RuntimeError("boom")), recorded) as client:
        response = await client.post("/v1/chat/completions", json={"messages": ASKED})
    assert response.status_code == 500
    server = recorded.named(CHAT)
    assert told(server)["error.type"] == "internal_error"
    assert told(server)["http.response.status_code"] == 500
    assert server.status.status_code == StatusCode.ERROR
    assert told(recorded.named("draft"))["error.type"] == "RuntimeError"


# --- the caller's trace, and sampling ---------------------------------------------------------------------------


async def test_a_callers_trace_goes_on_and_reaches_the_model_server(recorded: Recorded) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=secret", "baggage": "patient=secret"}
    _, upstream = await ask(recorded, GOOD, headers=headers)
    server, call = recorded.named(CHAT), recorded.named("chat m")
    assert server.parent is not None
    assert (f"{server.parent.trace_id:032x}", f"{server.parent.span_id:016x}") == (TRACE, PARENT)
    assert call.context is not None
    sent = [asked.headers for asked in upstream.asked if asked.path != "/v1/models"]
    assert [asked.get("traceparent") for asked in sent] == [f"00-{TRACE}-{call.context.span_id:016x}-01"]
    assert "secret" not in str(sent) + str(recorded.spans)


@pytest.mark.parametrize(
    ("ratio", "parent", "expected"),
    [(0.0, None, False), (1.0, None, True), (0.0, "01", True), (1.0, "00", False), (0.0, "junk", False)],
)
async def test_the_parent_decides_before_the_ratio(ratio: float, parent: str | None, expected: bool) -> None:
    recorded = Recorded(ratio)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-{parent}"} if parent else {}
    response, upstream = await ask(recorded, GOOD, headers=headers)
    assert response.status_code == 200
    assert bool(recorded.spans) is expected
    flags = upstream.asked[-1].headers["traceparent"].rpartition("-")[2]
    assert bool(int(flags, 16) & 1) is expected  # so that the model server decides as we did


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_probes_are_not_traced(recorded: Recorded, path: str) -> None:
    async with model_of() as upstream, client_of(upstream, recorded) as client:
        assert (await client.get(path)).status_code == 200
    assert not recorded.spans


async def test_names_come_from_closed_sets(recorded: Recorded) -> None:
    async with model_of() as upstream, client_of(upstream, recorded) as client:
        await client.get("/v1/principles/no-repetition?q=canary")
        await client.get("/canary")
        await client.request("CANARY", "/v1/models")
    assert [span.name for span in recorded.spans] == ["GET /v1/principles/{principle_id}", "GET", "HTTP /v1/models"]
    assert "canary" not in written(recorded).lower()


async def test_every_attribute_is_in_the_documentation(recorded: Recorded) -> None:
    wishes = {"response_format": {"type": "json_object"}, "n": 2, "seed": 1, "top_k": 5, "max_tokens": 9}
    async with model_of(LOOP, GOOD, hangs(), *[SAID] * 2, GOOD) as upstream, client_of(upstream, recorded) as client:
        for wish in (
            {"revision": {"stream": "live"}, "stream": True},
            {"revision": {"deadline_ms": 300}},
            {"colour": "blue"},
            {},
            {"model": "m:off", **wishes},
        ):
            await client.post("/v1/chat/completions", json={"messages": ASKED, **wish})
    page = (Path(__file__).parents[2] / "docs" / "traces.md").read_text()
    names = {name for span in recorded.spans for name in told(span)}
    assert len(names) > 30  # most of what there is
    assert not [name for name in names if f"`{name}`" not in page]


# --- no text ----------------------------------------------------------------------------------------------------

CANARY = "canary-7b1e"
SAID = answers({"error": {"message": CANARY, "type": CANARY, "code": CANARY}}, status=400)
FAILURES: dict[str, tuple[str | Behaviour, ...]] = {
    "answers": (f"{GOOD} {CANARY}",),
    "revises": (f"{LOOP} {CANARY}", f"{GOOD} {CANARY}", f"{GOOD} {CANARY}"),
    "refuses the draft": (SAID,),
    "fails": (answers({"detail": CANARY}, status=500),),
    "is overloaded": (answers({"detail": CANARY}, status=503, headers={"Retry-After": "3", "X-Why": CANARY}),),
    "says no JSON": (sends(CANARY.encode()),),
    "says garbage": (
        answers({"model": CANARY, "choices": [{"finish_reason": CANARY, "message": {"content": CANARY}}]}),
    ),
    "names itself otherwise": (answers(completion(GOOD, finish=CANARY) | {"model": CANARY, "id": CANARY}),),
    "breaks off": (cuts(orjson.dumps(completion(CANARY))),),
    "refuses the repair": (f"{LOOP} {CANARY}", SAID, SAID),
    "breaks off the repair": (f"{LOOP} {CANARY}", *[cuts(orjson.dumps(completion(CANARY)))] * 2),
}


def written(recorded: Recorded) -> str:
    """All that goes to the collector, as text."""
    return str(encode_spans(recorded.spans)) + "".join(span.to_json() for span in recorded.spans)


@pytest.mark.parametrize("texts", FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"revision": {"mode": "critique", "trace": "full"}},
        {"stream": True, "revision": {"stream": "live"}},
        {"model": "m:off"},
        {"model": "m:off", "stream": True},
    ],
    ids=["auto", "critique", "live", "off", "off streamed"],
)
async def test_no_text_in_any_span(recorded: Recorded, texts: Sequence[str | Behaviour], how: dict[str, Any]) -> None:
    body = {**how, "messages": [{"role": "user", "content": f"I have a cold, {CANARY}"}]}
    headers = {"Authorization": f"Bearer {CANARY}", "User-Agent": CANARY, "X-Request-Id": f"{CANARY} no id"}
    headers |= {"tracestate": f"a={CANARY}", "baggage": f"a={CANARY}", "traceparent": CANARY, "Cookie": CANARY}
    await ask(recorded, *texts, headers=headers, stop=[CANARY], user=CANARY, **body)
    assert any(span.name == "chat m" for span in recorded.spans)  # the trap is set
    assert CANARY not in written(recorded)
    assert not any(span.events or span.status.description for span in recorded.spans)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": CANARY, "content": CANARY}]},
        {"max_tokens": CANARY},
        {CANARY: CANARY},
        {"model": CANARY},
        {"model": "m:off", "max_tokens": CANARY, "seed": CANARY, "n": CANARY, "response_format": {"type": CANARY}},
    ],
)
async def test_no_text_of_a_request_that_is_not_valid(recorded: Recorded, body: dict[str, Any]) -> None:
    await ask(recorded, GOOD, **{"messages": ASKED, **body})
    assert recorded.spans
    assert CANARY not in written(recorded)


async def test_no_text_of_a_bug_at_any_stage(recorded: Recorded) -> None:
    bug = RuntimeError(CANARY)
    async with client_of(FakeLLM(bug, LOOP, bug, bug, GOOD, judge=lambda question: bug), recorded) as client:
        for mode in ("auto", "auto", "critique"):
            await client.post("/v1/chat/completions", json={"messages": ASKED, "revision": {"mode": mode}})
        await client.post("/v1/critique", json={"messages": ASKED, "answer": CANARY})
    failed = {span.name for span in recorded.spans if span.status.status_code == StatusCode.ERROR}
    assert failed == {CHAT, "draft", "revise", "critique", "POST /v1/critique"}
    assert CANARY not in written(recorded)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("model", "choices", "usage", "max_tokens", "seed", "n", "stream", "response_format", "finish_reason")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON)))
@example({"seed": 1 << 64, "n": -(1 << 63), "max_tokens": True}, [{"usage": {"prompt_tokens": 1 << 63}}])
@example({"response_format": {"type": ["json_object"]}}, [{"model": ["m"], "choices": [{"finish_reason": {}}]}])
@example({}, [{"choices": [{"index": 1 << 70, "finish_reason": "stop"}], "usage": {"prompt_tokens_details": []}}])
def test_whatever_is_asked_and_answered_can_be_sent(body: dict[str, Any], heard: list[dict[str, Any]]) -> None:
    recorded = Recorded()
    request = recorded.traces.request({"method": "POST", "path": "/", "headers": [], "scheme": "http"}, "id")
    with request, model_call(body, provider="vllm", model="m", root="m") as call:
        for payload in heard:
            call.heard(payload, chunk=True)
    sent = {span.name: span for span in encode_spans(recorded.spans).resource_spans[0].scope_spans[0].spans}
    assert set(sent) == {"POST", "chat m"}
    for span in recorded.spans:
        assert {pair.key for pair in sent[span.name].attributes} == set(told(span))


# --- without a collector, and with one that is out of reach -----------------------------------------------------


def test_outside_of_a_traced_request_nothing_takes_notice() -> None:
    body = {"stream": True}
    with of_request() as request, stage("draft") as span, model_call(body, provider="v", model="m", root="m") as call:
        assert (request, span, call) == (NO_REQUEST, NOTHING, NO_CALL)
        request.answered(200)
        request.whole()
        call.heard({"choices": [{"finish_reason": "stop"}]})
        assert call.headers == {}
    with pytest.raises(ValueError, match="x"), call:
        raise ValueError("x")
    for one, fresh in ((NO_REQUEST, tracing.Request()), (NOTHING, tracing.Span()), (NO_CALL, tracing.ModelCall())):
        assert {**vars(one), "_start": 0} == {**vars(fresh), "_start": 0}  # shared by all, changed by none


async def test_without_an_endpoint_a_request_is_not_traced() -> None:
    async with model_of(GOOD) as upstream:
        settings = Settings(upstream=Upstream(url=upstream.url))
        app = create_app(settings, index=index(), encoder=FakeEncoder())
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
                assert (await client.post("/v1/chat/completions", json={"messages": ASKED}, headers=headers)).is_success
        assert all("traceparent" not in asked.headers for asked in upstream.asked)


def test_without_an_endpoint_the_sdk_is_not_even_imported() -> None:
    code = (
        "import sys; from service.settings import Traces; from service.tracing import load_traces\n"
        "assert load_traces(Traces()) is None\n"
        "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_endpoint_without_the_packages_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.setenv("CLINALIGN_TRACES_ENDPOINT", "http://collector:4318")
    with pytest.raises(ConfigError, match=r"CLINALIGN_TRACES_ENDPOINT.*clinalign-serve\[traces\]"):
        create_app(load_settings(), llm=FakeLLM(), index=index(), encoder=FakeEncoder())


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENDPOINT", "collector:4318"), ("ENDPOINT", ""), ("ENDPOINT", "http://"), ("RATIO", "1.1"), ("RATIO", "-0.1")],
)
def test_bad_settings_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CLINALIGN_TRACES_{name}", value)
    with pytest.raises(ConfigError, match=f"CLINALIGN_TRACES_{name}"):
        load_settings()


class Collector(SpanExporter):
    """One that keeps what it is sent, or never comes back."""

    def __init__(self) -> None:
        self.got: list[ReadableSpan] = []
        self.hung = threading.Event()
        self.let_go = threading.Event()
        self.hangs = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.hangs:
            self.hung.set()
            self.let_go.wait()
        self.got += spans
        return SpanExportResult.SUCCESS


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.let_go.set()


def traces_to(collector: Collector, *, queue: int = 2048, batch: int = 512) -> Traces:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(collector, max_queue_size=queue, max_export_batch_size=batch))
    return Traces(provider)


def one_request(traces: Traces) -> None:
    with traces.request({"method": "GET", "path": "/", "headers": [], "scheme": "http"}, "id"):
        pass


async def test_closing_sends_what_is_left(collector: Collector) -> None:
    traces = traces_to(collector)
    one_request(traces)
    await traces.close()
    assert [span.name for span in collector.got] == ["GET"]


async def test_closing_gives_up_on_a_collector_that_hangs(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "FLUSH_S", 0.01)
    collector.hangs = True
    traces = traces_to(collector)
    one_request(traces)
    await traces.close()
    assert await asyncio.to_thread(collector.hung.wait, 30)
    assert not collector.let_go.is_set()  # it hangs to this moment
    assert not collector.got


async def test_a_collector_that_hangs_holds_up_no_request_and_no_memory(collector: Collector) -> None:
    collector.hangs = True
    traces = traces_to(collector, queue=8, batch=4)
    for _ in range(100):
        one_request(traces)
    collector.let_go.set()
    await traces.close()
    assert 0 < len(collector.got) <= 8 + 4


def test_ours_goes_before_the_sdks_and_the_operators_before_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def resource() -> Mapping[str, Any]:
        monkeypatch.setenv("CLINALIGN_TRACES_ENDPOINT", "http://127.0.0.1:9/")
        traces = load_traces(load_settings().traces, index="abc")
        assert traces is not None
        found = traces._provider.resource.attributes
        traces._provider.shutdown()
        return found

    ours = resource()
    assert (ours["service.name"], ours["clinalign.version.index"]) == ("clinalign-gateway", "abc")
    assert ours["service.version"]
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment.name=test")
    assert (resource()["service.name"], resource()["deployment.environment.name"]) == ("a", "test")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "b")
    assert resource()["service.name"] == "b"


@pytest.mark.parametrize("given_url", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"])
def test_the_path_of_otlp_is_added(monkeypatch: pytest.MonkeyPatch, given_url: str) -> None:
    monkeypatch.setenv("CLINALIGN_TRACES_ENDPOINT", given_url)
    traces = load_traces(load_settings().traces)
    assert traces is not None
    (processor,) = traces._provider._active_span_processor._span_processors
    assert isinstance(processor, BatchSpanProcessor)
    assert vars(processor.span_exporter)["_endpoint"] == "http://c:4318/v1/traces"
    traces._provider.shutdown()

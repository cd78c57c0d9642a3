"""A real gateway sends its spans to a collector over OTLP, and does without one that is down or hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from scripts.child import LOOPBACK, Child
from tests.e2e.deploy.servers import READY_S, gateway, stub

QUESTION = "What helps against a runny nose that canary-7b1e has had for a week?"
BODY = {"messages": [{"role": "user", "content": QUESTION}]}
CHAT = "POST /v1/chat/completions"
AT_ONCE = 20
PATIENCE_S = 60
GIVES_UP_S = 25  # the SDK alone would wait for half a minute


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_address[1]}"

    def spans(self) -> list[tuple[dict[str, Any], Span]]:
        """Each span with the attributes of its resource."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            (attributes(group.resource.attributes), span)
            for request in requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        ok = (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        if ok:
            self.server.bodies.append(body)
        self.send_response(200 if ok else 400)
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002


def attributes(pairs: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        kind = pair.value.WhichOneof("value")
        assert kind is not None
        if kind == "array_value":
            return [item.string_value for item in pair.value.array_value.values]
        return getattr(pair.value, kind)

    return {pair.key: value(pair) for pair in pairs}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def model_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model, url = stub(tmp_path_factory.mktemp("stub"), "--instant")
    with model:
        model.wait_ready(f"{url}/v1/models", READY_S)
        yield url


async def ask(url: str, times: int = 1) -> Counter[int]:
    """Statuses of so many requests at once, on a connection each, so that every worker takes some."""

    async def one() -> int:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            return (await http.post(f"{url}/v1/chat/completions", json=BODY)).status_code

    return Counter(await asyncio.gather(*(one() for _ in range(times))))


def leave(server: Child, seconds: float = PATIENCE_S) -> None:
    """As Kubernetes ends a pod. Raises subprocess.TimeoutExpired."""
    os.kill(server.pid, signal.SIGTERM)
    server.join(seconds)


async def test_every_worker_sends_every_span(
    collector: Collector, model_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    sent = 0
    with gateway(model_url, tmp_path, TRACES_ENDPOINT=collector.url, WORKERS="2") as server:
        server.wait()
        async with asyncio.timeout(PATIENCE_S):
            while len({resource["service.instance.id"] for resource, _ in collector.spans()}) < 2:
                assert await ask(server.url, AT_ONCE) == {200: AT_ONCE}
                sent += AT_ONCE
        leave(server)  # what has not been sent by then is sent now
    spans = collector.spans()
    names = Counter(span.name for _, span in spans)
    assert [names[name] for name in (CHAT, "retrieve", "draft", "critique")] == [sent] * 4
    assert sum(count for name, count in names.items() if name.startswith("chat ")) >= sent
    resources = {resource["service.instance.id"]: resource for resource, _ in spans}
    assert {resource["service.name"] for resource in resources.values()} == {"clinalign-gateway"}
    assert all(len(resource["clinalign.version.index"]) == 8 for resource in resources.values())
    _one_whole_trace([span for _, span in spans])
    assert b"canary-7b1e" not in b"".join(collector.bodies)


def _one_whole_trace(spans: list[Span]) -> None:
    server = next(span for span in spans if span.name == CHAT)
    trace = {span.span_id: span for span in spans if span.trace_id == server.trace_id}
    draft = next(span for span in trace.values() if span.name == "draft")
    call = next(span for span in trace.values() if span.parent_span_id == draft.span_id)
    assert (server.kind, call.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert not server.parent_span_id
    assert draft.parent_span_id == server.span_id
    assert all(span.parent_span_id in trace for span in trace.values() if span is not server)
    assert attributes(call.attributes)["gen_ai.operation.name"] == "chat"
    assert attributes(server.attributes)["http.response.status_code"] == 200
    assert (
        server.start_time_unix_nano <= call.start_time_unix_nano < call.end_time_unix_nano <= server.end_time_unix_nano
    )


@contextmanager
def out_of_reach(hangs: bool) -> Iterator[str]:
    """A collector that refuses connections, or takes them and never answers."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        if hangs:
            taken.listen(128)
        yield f"http://{LOOPBACK}:{taken.getsockname()[1]}"


@pytest.mark.parametrize("hangs", [False, True], ids=["refuses", "hangs"])
async def test_without_its_collector_a_gateway_answers_and_leaves(
    model_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "120")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with out_of_reach(hangs) as url, gateway(model_url, tmp_path, TRACES_ENDPOINT=url) as server:
        server.wait()
        for _ in range(5):
            assert await ask(server.url, 8) == {200: 8}
        leave(server, GIVES_UP_S)
        log = server.log.read_text()
    assert "Traceback" not in log
    assert "canary-7b1e" not in log

"""Traces by OpenTelemetry: a span for a request, for each stage of its answer and for each call of the model.

A span is told names, codes and counts, and has no way to be told more: no event, no message, no exception. What a client
or the model server wrote is recorded only where it is one of a closed set. Attributes follow the semantic conventions
1.44 for HTTP and the GenAI conventions as of November 2026, and are `clinalign.*` where those have no name;
docs/traces.md lists them.

Without a collector nothing of OpenTelemetry but its small API is imported, and every span is one that takes no notice.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from service.errors import ClinAlignError, ConfigError, InternalError, spec_of
from service.settings import Traces as TracesSettings
from service.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Value = str | bool | int | float | list[str]

FLUSH_S = 2.0  # what the end of the process waits for a collector
_NOT_TRACED = frozenset({"/healthz", "/readyz", "/metrics"})  # asked all the time, by machines that keep score
_METHODS = frozenset("CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT QUERY TRACE".split())
_FINISHES = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter", "abort", "error"})
_ASKED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "top_k": "gen_ai.request.top_k",
}
_LARGEST = 1 << 63  # of OTLP; the exporter logs an error for each number beyond
_W3C = TraceContextTextMapPropagator()


class Span:
    """Used by `with`: an error that leaves the block is recorded by its code. `current` makes it the parent of what
    starts inside."""

    def __init__(self, span: otel.Span = otel.INVALID_SPAN, *, current: bool = False) -> None:
        self._span = span
        self._current = current
        self._token: Token[otel_context.Context] | None = None

    def __enter__(self) -> Self:
        if self._current:
            self._token = otel_context.attach(otel.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
        if isinstance(error, Exception):
            self.failed(error)
        elif error is not None:  # the client has left or the deadline has passed
            self.set(cancelled=True)
        self._span.end()

    def set(self, **attributes: Value) -> None:
        """As `clinalign.<name>`."""
        if self._span.is_recording():
            self._span.set_attributes({f"clinalign.{name}": value for name, value in attributes.items()})

    def failed(self, error: Exception) -> None:
        """Never with the error's message, which may quote a text."""
        self._span.set_attribute("error.type", _code(error))
        self._span.set_status(StatusCode.ERROR)


NOTHING = Span()


class Request(Span):
    """The server's span of a request. While it is entered, `of_request()` finds it."""

    def __init__(
        self, span: otel.Span = otel.INVALID_SPAN, tracer: otel.Tracer | None = None, scope: Scope | None = None
    ) -> None:
        super().__init__(span, current=tracer is not None)
        self.tracer = tracer
        self._scope = scope or {}
        self._status: int | None = None
        self._whole = False
        self._before: Token[Request] | None = None

    def __enter__(self) -> Self:
        if self.tracer is not None:
            self._before = _request.set(self)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            _request.reset(self._before)
        if error is None and (self._status == 499 or not self._whole):
            self.set(left=True)
        super().__exit__(kind, error, trace)

    def answered(self, status: int) -> None:
        """The head of the response goes out, by which time the router has found the route."""
        if self.tracer is None:
            return
        self._status = status
        self._span.set_attribute("http.response.status_code", status)
        route = getattr(self._scope.get("route"), "path", None)
        if route is not None:  # its template: a path that leads nowhere is the client's text
            self._span.update_name(f"{_method(self._scope) or 'HTTP'} {route}")
            self._span.set_attribute("http.route", route)

    def whole(self) -> None:
        """The response has been sent to its end."""
        if self.tracer is not None:
            self._whole = True

    def failed(self, error: Exception) -> None:
        """A refusal is the client's matter: it has its code, and the status of the span stays unset."""
        ours = error if isinstance(error, ClinAlignError) else InternalError("")
        self._span.set_attribute("error.type", spec_of(ours).code)
        if spec_of(ours).status >= 500:
            self._span.set_status(StatusCode.ERROR)


class ModelCall(Span):
    """The client's span of one answer of the model, all its attempts included. `names`: those of the model."""

    def __init__(self, span: otel.Span = otel.INVALID_SPAN, names: frozenset[str] = frozenset()) -> None:
        super().__init__(span)
        self._names = names
        self._start = time.perf_counter()
        self._heard = False
        self._finishes: dict[int, str] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reasons = [reason for _, reason in sorted(self._finishes.items())]
        if reasons or error is not None:
            self._span.set_attribute("gen_ai.response.finish_reasons", reasons or ["error"])
        super().__exit__(kind, error, trace)

    @property
    def headers(self) -> dict[str, str]:
        """What has the model server go on with this trace."""
        headers: dict[str, str] = {}
        if self._span.get_span_context().is_valid:
            _W3C.inject(headers, otel.set_span_in_context(self._span))
        return headers

    def reached(self, url: str) -> None:
        """Which replica answers."""
        if self._span.is_recording():
            at = urlsplit(url)
            port = at.port or (443 if at.scheme == "https" else 80)
            self._span.set_attributes({"server.address": at.hostname or "", "server.port": port})

    def heard(self, payload: Mapping[str, Any], *, chunk: bool = False) -> None:
        """An answer, or a chunk of one, as the server sent it: whatever it holds."""
        if not self._span.is_recording():
            return
        found: dict[str, Value] = {}
        if not self._heard:
            self._heard = True
            if chunk:
                found["gen_ai.response.time_to_first_chunk"] = round(time.perf_counter() - self._start, 6)
            if _known(payload.get("model"), self._names):
                found["gen_ai.response.model"] = payload["model"]
        choices, usage = payload.get("choices"), payload.get("usage")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and _known(choice.get("finish_reason"), _FINISHES):
                self._finishes[_number(choice.get("index")) or 0] = choice["finish_reason"]
        if isinstance(usage, dict):
            details = usage.get("prompt_tokens_details")
            cached = details.get("cached_tokens") if isinstance(details, dict) else None
            counts = {
                "gen_ai.usage.input_tokens": _number(usage.get("prompt_tokens")),
                "gen_ai.usage.output_tokens": _number(usage.get("completion_tokens")),
                "gen_ai.usage.cache_read.input_tokens": _number(cached),
            }
            found |= {name: count for name, count in counts.items() if count is not None}
        if found:
            self._span.set_attributes(found)


NO_REQUEST, NO_CALL = Request(), ModelCall()
_request: ContextVar[Request] = ContextVar("request", default=NO_REQUEST)  # tasks take it with them


def of_request() -> Request:
    """The span of the request at hand; one that takes no notice where it is not traced."""
    return _request.get()


def stage(name: str) -> Span:
    """The span of a stage, and the parent of the calls made in it."""
    tracer = _request.get().tracer
    return NOTHING if tracer is None else Span(_start(tracer, name, SpanKind.INTERNAL, {}), current=True)


def model_call(body: Mapping[str, Any], *, provider: str, model: str, root: str) -> ModelCall:
    """The span of a chat completion that is asked for with `body`. Not the parent of anything here, so that a generator
    may hold it while others run."""
    tracer = _request.get().tracer
    if tracer is None:
        return NO_CALL
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
    }
    for field, name in _ASKED.items():
        number = _number(body.get(field))
        if number is not None:
            attributes[name] = number
    if body.get("stream") is True:
        attributes["gen_ai.request.stream"] = True
    if _number(body.get("n")) not in (None, 1):
        attributes["gen_ai.request.choice.count"] = body["n"]
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") in ("json_object", "json_schema"):
        attributes["gen_ai.output.type"] = "json"
    return ModelCall(_start(tracer, f"chat {model}", SpanKind.CLIENT, attributes), frozenset({model, root}))


def _start(tracer: otel.Tracer, name: str, kind: SpanKind, attributes: Mapping[str, Value]) -> otel.Span:
    return tracer.start_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    )


def _method(scope: Scope) -> str | None:
    method: str = scope["method"]
    return method if method in _METHODS else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST else None


def _known(value: object, names: frozenset[str]) -> bool:
    return isinstance(value, str) and value in names


def _code(error: Exception) -> str:
    return spec_of(error).code if isinstance(error, ClinAlignError) else type(error).__name__


class Traces:
    """One process's spans on their way to the collector. Built once by `create_app`, after any fork."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("clinalign", schema_url="https://opentelemetry.io/schemas/1.44.0")

    def request(self, scope: Scope, request_id: str) -> Request:
        """The span of an HTTP request, in the caller's trace where it sent one.

        Of the caller's headers `traceparent` alone is read: `tracestate` and `baggage` may hold any text.
        """
        if scope["path"] in _NOT_TRACED:
            return NO_REQUEST
        parent = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"traceparent"), None)
        span = self._tracer.start_span(
            _method(scope) or "HTTP",
            context=_W3C.extract({"traceparent": parent} if parent else {}),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": _method(scope) or "_OTHER",
                "url.scheme": scope["scheme"],
                "http.response.header.x-request-id": [request_id],
            },
            record_exception=False,
            set_status_on_exception=False,
        )
        return Request(span, self._tracer, scope)

    async def close(self) -> None:
        """Sends what is left, or gives up after FLUSH_S: the SDK itself would wait for half a minute."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, FLUSH_S)


def load_traces(settings: TracesSettings, **versions: str) -> Traces | None:
    """None without an endpoint. `versions` go out with every span, as `clinalign.version.<name>`. Raises ConfigError
    where the packages are missing.

    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_* and OTEL_EXPORTER_OTLP_* (headers, certificates, timeout,
    compression) are read by the SDK.
    """
    if settings.endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError:
        raise ConfigError(
            "CLINALIGN_TRACES_ENDPOINT is set, but what sends traces is not installed: pip install 'clinalign-serve[traces]'"
        ) from None
    shaped_by = {f"clinalign.version.{name}": version for name, version in versions.items()}
    resource = Resource.create({"service.name": "clinalign-gateway", "service.version": VERSION, **shaped_by})
    provider = TracerProvider(
        ParentBasedTraceIdRatio(settings.ratio),
        resource.merge(OTELResourceDetector().detect()),  # what the operator names there goes before ours
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=f"{settings.endpoint.rstrip('/').removesuffix('/v1/traces')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # a batch that is lost, but not each attempt to send it
    return Traces(provider)

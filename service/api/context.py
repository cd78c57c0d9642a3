"""What the routes share: the kit, the versions, who asks, and turning a request into an `Ask`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import orjson
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from principles_index.schema import Library
from service.api.present import Versions
from service.api.wire import SAMPLING, ChatBody, PrincipleChoice, RevisionBody, validated
from service.auth import ANONYMOUS, Keys, Tenant
from service.domain import Conversation
from service.drain import Drain
from service.errors import ClinAlignError, ConfigError, ModelNotFound, Overloaded, UpstreamTimeout
from service.limits import Limiter
from service.llm import ModelInfo
from service.metrics import Metrics
from service.pipeline import Ask, Kit, Options
from service.settings import Mode, Settings
from service.stages.retrieve import Choice, check
from service.tracing import of_request

T = TypeVar("T")
_MODES: tuple[Mode, ...] = ("auto", "off", "critique", "always")


@dataclass
class Context:
    settings: Settings
    kit: Kit
    versions: Versions
    metrics: Metrics
    keys: Keys
    limiter: Limiter
    drain: Drain
    defaults: Mapping[str, Options]  # of a request that asks for nothing, by tenant
    in_flight: int = 0
    reached: bool = False  # the model server has listed its models
    judges: dict[str, bool] = field(default_factory=dict)  # model id: does it give log-probabilities (probed lazily)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def tenant(self, request: Request) -> Tenant:
        return self.keys.tenant(request.headers.get("authorization"))

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Room for one more answer, or a refusal at once. Raises Overloaded."""
        if self.in_flight >= self.settings.limits.concurrency:
            raise Overloaded("The gateway is at its limit. Try again shortly.", retry_after=1)
        self.in_flight += 1
        self.metrics.in_flight.set(self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1
            self.metrics.in_flight.set(self.in_flight)

    def failed(self, error: ClinAlignError) -> None:
        """An error that goes out inside a stream, whose status has gone out before."""
        self.metrics.failed(error)
        of_request().failed(error)

    async def model_and_mode(self, name: str | None) -> tuple[ModelInfo, Mode | None]:
        """`NAME` or `NAME:mode`. Raises ModelNotFound."""
        try:
            return await self.kit.llm.model(name), None
        except ModelNotFound:
            base, _, mode = (name or "").rpartition(":")
            for known in _MODES:
                if base and mode == known:
                    return await self.kit.llm.model(base), known
            raise

    def place(self, model: ModelInfo, user_texts: Sequence[str], tenant: Tenant) -> ModelInfo:
        """The model on the replica of this conversation: later turns find what its earlier ones left in the cache."""
        return self.kit.llm.place(model, f"{tenant.name}\n{user_texts[0] if user_texts else ''}")

    def options(self, asked: RevisionBody | None, named: Mode | None, tenant: Tenant) -> Options:
        """The request's wishes over the model name's mode, over the key's, over the deployment's."""
        options = self.defaults[tenant.name]
        if named:
            options = replace(options, mode=named)
        return options if asked is None else _wished(options, asked, self.settings, self.kit.retriever.library)

    def choice(self, asked: list[str] | PrincipleChoice | None) -> Choice:
        """Raises PrincipleNotFound."""
        return _choice(asked, self.settings, self.kit.retriever.library)

    def ask(
        self, body: ChatBody, conversation: Conversation, model: ModelInfo, options: Options, tenant: Tenant
    ) -> Ask:
        if not body.stream:
            options = replace(options, stream="final")
        sent = body.model_dump(exclude_none=True, mode="json")
        sampling = {name: sent[name] for name in SAMPLING if name in sent and sent[name] != []}
        tools: dict[str, Any] = {
            name: sent[name] for name in ("tools", "tool_choice", "parallel_tool_calls") if name in sent
        }
        if not tools.get("tools"):
            tools = {}
        return Ask(
            conversation=conversation,
            model=self.place(model, conversation.user_texts, tenant),
            options=options,
            sampling=sampling,
            tools=tools,
            max_tokens=body.max_completion_tokens or body.max_tokens,
            tenant=tenant.name,
        )


def default_options(settings: Settings, library: Library) -> dict[str, Options]:
    """The options of a request that asks for nothing, by tenant. Raises ConfigError for a key's that are not valid."""
    deployment = settings.revision
    options = Options(
        mode=deployment.mode,
        max_rounds=deployment.max_rounds,
        choice=_choice(None, settings, library),
        deadline_s=deployment.deadline_ms / 1000,
        strict=deployment.strict,
    )
    found = {ANONYMOUS.name: options}
    for key in settings.keys:
        try:
            found[key.name] = _wished(options, validated(RevisionBody, key.revision), settings, library)
        except ClinAlignError as error:
            raise ConfigError(f"bad settings: CLINALIGN_KEYS: revision of {key.name}: {error}") from None
    return found


def _wished(options: Options, asked: RevisionBody, settings: Settings, library: Library) -> Options:
    wishes = asked.model_dump(exclude_none=True, exclude={"principles", "deadline_ms"})
    if asked.deadline_ms is not None:
        wishes["deadline_s"] = asked.deadline_ms / 1000
    if asked.principles is not None:
        wishes["choice"] = _choice(asked.principles, settings, library)
    return replace(options, **wishes)


def _choice(asked: list[str] | PrincipleChoice | None, settings: Settings, library: Library) -> Choice:
    if asked is None:
        return Choice(top_k=settings.index.top_k)
    if isinstance(asked, PrincipleChoice):
        return check(Choice(None, asked.top_k, tuple(asked.include), tuple(asked.exclude)), library)
    return check(Choice(tuple(asked)), library)


class Plain(APIRoute):
    """A route whose endpoint takes the request and gives the response: nothing for FastAPI to resolve in between."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


def context(request: Request) -> Context:
    found: Context = request.app.state.context
    return found


def json_response(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(payload), status, dict(headers or {}), media_type="application/json")


async def in_time(answer: Awaitable[T], seconds: float) -> T:
    """Raises UpstreamTimeout at the deadline."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise UpstreamTimeout("The model server did not answer before the deadline.") from None


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Awaits `work` unless the client goes away first: then it is cancelled, and with it every upstream call."""
    worker = asyncio.current_task()
    assert worker is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        worker.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if gone and worker.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


__all__ = ["ANONYMOUS", "Context", "Plain", "context", "in_time", "json_response", "while_connected"]

"""What the routes share: the kit, the versions, who asks, and turning a request into an `Ask`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.api.present import Versions
from service.api.wire import SAMPLING, ChatBody, PrincipleChoice, RevisionBody, validated
from service.auth import ANONYMOUS, Keys, Tenant
from service.domain import Conversation
from service.errors import ModelNotFound, Overloaded
from service.llm import ModelInfo
from service.metrics import Metrics
from service.pipeline import Ask, Kit, Options
from service.settings import Mode, Settings
from service.stages.retrieve import Choice

T = TypeVar("T")
_MODES: tuple[Mode, ...] = ("auto", "off", "critique", "always")


@dataclass
class Context:
    settings: Settings
    kit: Kit
    versions: Versions
    metrics: Metrics
    keys: Keys
    in_flight: int = 0
    draining: bool = False
    index_error: str | None = None
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

    def options(self, asked: RevisionBody | None, named: Mode | None, tenant: Tenant) -> Options:
        """The request's wishes over the model name's mode, over the key's, over the deployment's."""
        given = asked.model_dump(exclude_none=True, exclude={"principles"}) if asked else {}
        key = validated(RevisionBody, tenant.revision)
        defaults = key.model_dump(exclude_none=True, exclude={"principles"})
        merged = {**defaults, **({"mode": named} if named else {}), **given}
        deployment = self.settings.revision
        return Options(
            mode=merged.get("mode", deployment.mode),
            max_rounds=merged.get("max_rounds", deployment.max_rounds),
            choice=self.choice((asked.principles if asked else None) or key.principles),
            deadline_s=merged.get("deadline_ms", deployment.deadline_ms) / 1000,
            locale=merged.get("locale"),
            strict=merged.get("strict", deployment.strict),
            progress=merged.get("progress", False),
            trace=merged.get("trace", "summary"),
            stream=merged.get("stream", "final"),
        )

    def choice(self, asked: list[str] | PrincipleChoice | None) -> Choice:
        """Raises PrincipleNotFound."""
        if asked is None:
            choice = Choice(top_k=self.settings.index.top_k)
        elif isinstance(asked, PrincipleChoice):
            choice = Choice(None, asked.top_k, tuple(asked.include), tuple(asked.exclude))
        else:
            choice = Choice(tuple(asked))
        self.kit.retriever.check(choice)
        return choice

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
            model=model,
            options=options,
            sampling=sampling,
            tools=tools,
            max_tokens=body.max_completion_tokens or body.max_tokens,
            tenant=tenant.name,
        )


def context(request: Request) -> Context:
    found: Context = request.app.state.context
    return found


def json_response(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(payload), status, dict(headers or {}), media_type="application/json")


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Runs `work` unless the client goes away first: then it is cancelled, and with it every upstream call."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


__all__ = ["ANONYMOUS", "Context", "context", "json_response", "while_connected"]

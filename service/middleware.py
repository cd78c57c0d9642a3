"""One pure-ASGI layer, the outermost: a request id on every response, a count of what was answered, the request's span,
and an answer to what nothing inside expected."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.drain import Drain
from service.errors import ClinAlignError, NotReady
from service.metrics import Metrics
from service.tracing import NO_REQUEST, Traces

_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


class RequestId:
    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        drain: Drain,
        on_bug: Callable[[Exception], ASGIApp],
        on_error: Callable[[ClinAlignError], ASGIApp],
        traces: Traces | None = None,
    ) -> None:
        self._app, self._metrics, self._drain, self._traces = app, metrics, drain, traces
        self._on_bug, self._on_error = on_bug, on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"x-request-id"), "")
        request_id = given if _ID.match(given) else uuid.uuid4().hex
        span = self._traces.request(scope, request_id) if self._traces else NO_REQUEST
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                if self._drain.begun:
                    message["headers"].append((b"connection", b"close"))
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(route, str(message["status"])).inc()
                span.answered(message["status"])
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                span.whole()

        with span:
            try:
                await self._app(scope, receive, sending)
            except Exception as error:
                if begun:  # the connection is cut, so that half an answer does not look whole
                    raise
                await self._on_bug(error)(scope, receive, sending)
            except asyncio.CancelledError:  # the server gives up what is left at the end of its drain
                if not begun:
                    await self._on_error(NotReady("The gateway is stopping."))(scope, receive, sending)
                raise

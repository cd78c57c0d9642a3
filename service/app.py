"""`create_app`: the one place that builds things."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from principles_index.embed import Embedder
from principles_index.encoders import Encoder, load_encoder
from principles_index.index import PrincipleIndex
from service import language
from service.api import chat, critique, ops, principles
from service.api.context import Context, default_options, json_response
from service.api.present import Versions
from service.auth import Keys
from service.drain import Drain
from service.errors import (
    ClinAlignError,
    ConfigError,
    InternalError,
    InvalidValue,
    MethodNotAllowed,
    NotFound,
    error_body,
    error_headers,
    spec_of,
)
from service.limits import Limiter, check_url
from service.llm import LLM, UpstreamLLM
from service.metrics import Metrics
from service.middleware import RequestId
from service.pipeline import Kit
from service.prompts import Prompts
from service.rules import RULES
from service.safe_texts import SafeTexts
from service.safety import RedFlags
from service.settings import Settings
from service.stages.critique import Critic
from service.stages.retrieve import Retriever
from service.tracing import Traces, load_traces, of_request
from service.trust import load_trust
from service.version import VERSION

log = logging.getLogger("clinalign")


def create_app(
    settings: Settings,
    *,
    llm: LLM | None = None,
    index: PrincipleIndex | None = None,
    encoder: Encoder | None = None,
    traces: Traces | None = None,
) -> FastAPI:
    """The application. Tests give their own `llm`, `index`, `encoder` and `traces`. Raises StartupError."""
    check_url(settings)
    metrics = Metrics()
    metrics.capacity.set(settings.limits.concurrency)
    drain = Drain()
    if encoder is None:
        encoder = load_encoder(settings.encoder)
    if index is None:
        index = PrincipleIndex.load(settings.index.dir, encoder_fingerprint=encoder.fingerprint)
    _check_rules(index)
    language.preload()
    prompts = Prompts.load()
    trust = load_trust(settings.critic.trust_file)
    flags = RedFlags.load(settings.safety.numbers_file, locale=settings.safety.locale)
    defaults = default_options(settings, index.library)
    found_index, found_encoder = index, encoder
    versions = Versions(index.library.version, index.version, prompts.version, settings.upstream.checkpoint)
    _, principles_version, index_version, prompts_version = versions.parts("")
    traces = traces or load_traces(
        settings.traces, principles=principles_version, index=index_version, prompts=prompts_version
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        model = llm or UpstreamLLM(settings.upstream, metrics.saw_replicas)
        embedder = Embedder(found_encoder, remembered=settings.index.remembered, on_lookup=metrics.looked_up)
        library = found_index.library
        slots = asyncio.Semaphore(settings.limits.verdicts)
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rules")
        kit = Kit(
            llm=model,
            retriever=Retriever(library, found_index, embedder, settings.index.timeout_s),
            critic=Critic(model, prompts, settings.critic, trust, library.version, slots, worker),
            flags=flags,
            safe_texts=SafeTexts.load(),
            revision=settings.revision,
            salt_tenants=settings.upstream.cache_salt,
        )
        limiter = Limiter(settings, metrics.limiter_failures.inc)
        app.state.context = Context(settings, kit, versions, metrics, Keys(settings.keys), limiter, drain, defaults)
        log.info("started", extra={"fields": {"principles": len(library.principles), "keys": len(settings.keys)}})
        with drain.on_sigterm(settings.drain_s):
            yield
        await limiter.close()
        for task in list(app.state.context.tasks):
            task.cancel()
        embedder.close()
        worker.shutdown(wait=False, cancel_futures=True)
        await model.close()
        if traces is not None:
            await traces.close()

    app = FastAPI(title="ClinAlign Serve", version=VERSION, lifespan=lifespan, redirect_slashes=False)
    for module in (chat, critique, principles, ops):
        app.include_router(module.router)
    on_error, on_bug = _handle_errors(app, metrics)
    app.add_middleware(RequestId, metrics=metrics, drain=drain, traces=traces, on_error=on_error, on_bug=on_bug)
    return app


def _check_rules(index: PrincipleIndex) -> None:
    for principle in index.library.principles:
        if principle.rule is not None and principle.rule not in RULES:
            raise ConfigError(f"principle {principle.id!r} names the rule {principle.rule!r}, which does not exist")


def _handle_errors(
    app: FastAPI, metrics: Metrics
) -> tuple[Callable[[ClinAlignError], Response], Callable[[Exception], Response]]:
    """Has the application answer its errors. Gives what answers one that nothing inside does, and those that it does not know."""

    def respond(error: ClinAlignError) -> Response:
        metrics.failed(error)
        of_request().failed(error)
        return json_response(error_body(error), spec_of(error).status, error_headers(error))

    @app.exception_handler(ClinAlignError)
    async def _ours(request: Request, error: ClinAlignError) -> Response:
        return respond(error)

    @app.exception_handler(ClientDisconnect)
    async def _gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody is there to read it; the number is for the metrics

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return respond(NotFound("There is nothing at this path."))
        if error.status_code == 405:
            return respond(MethodNotAllowed("The path does not take this method."))
        return respond(InvalidValue("The request is not valid."))

    def on_bug(error: Exception) -> Response:
        log.error("bug", exc_info=error)
        return respond(InternalError("The gateway failed. The request id helps to find out why."))

    return respond, on_bug

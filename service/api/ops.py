"""Models, health, readiness, metrics and the front page."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.api.context import context, json_response
from service.errors import ClinAlignError, NotReady, UpstreamOverloaded, UpstreamRateLimited
from service.stages.critique import gives_logprobs

router = APIRouter()

_PROBE_S = 10.0

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ClinAlign Serve</title>
<body><h1>ClinAlign Serve</h1><p>Health answers, checked against clinical principles and repaired before anyone reads them.</p>
<p>Point an OpenAI client at <code>/v1</code>. The interface is described at <a href="/docs">/docs</a>.</p></body></html>"""


@router.get("/v1/models")
async def list_models(request: Request) -> Response:
    here = context(request)
    here.tenant(request)
    models = await here.kit.llm.models()
    data = [
        {
            "id": m.id,
            "object": "model",
            "created": m.wire.get("created") or 0,
            "owned_by": m.wire.get("owned_by") or "upstream",
            "max_model_len": m.context,
        }
        for m in models
    ]
    return json_response({"object": "list", "data": data})


@router.get("/healthz")
async def healthz() -> Response:
    return json_response({"status": "ok"})


@router.get(
    "/readyz",
    openapi_extra={
        "parameters": [{"name": "once", "in": "query", "allowEmptyValue": True, "schema": {"type": "string"}}]
    },
)
async def readyz(request: Request) -> Response:
    """200 when answers can be given: the index is loaded, the model server answers, no drain has begun.

    `/readyz?once`: it is enough that the model server has answered before. For balancers: were all gateways taken out with
    the model server, nobody would be left to say what is wrong, or to give the fixed text to a user in danger.
    """
    here = context(request)
    if here.drain.begun:
        raise NotReady("draining")
    if here.kit.retriever.index is None:
        raise NotReady("the index is not loaded")
    once = "once" in request.query_params
    if once and here.reached:
        return json_response({"status": "ready"})
    try:
        await here.kit.llm.models()  # asked anew: `model` is content with what was listed before
        model = await here.kit.llm.model()
        here.reached = True
        if once:  # whether it judges is not waited for: a new gateway is there to relieve a full fleet
            here.metrics.serves(*here.versions.parts(model.root))
            return json_response({"status": "ready"})
        if model.id not in here.judges:
            with suppress(UpstreamOverloaded, UpstreamRateLimited):  # it is full: asked again the next time
                async with asyncio.timeout(_PROBE_S):
                    here.judges[model.id] = await gives_logprobs(model, here.kit.critic)
    except (ClinAlignError, TimeoutError) as error:
        raise NotReady("the model server does not answer") from error
    here.metrics.serves(*here.versions.parts(model.root))
    trusted = "decides" if here.kit.critic.decides(model) else "advises"
    judges = here.judges.get(model.id)
    return json_response(
        {
            "status": "ready",
            "model": model.id,
            # Without log-probabilities there are no model verdicts: rules alone repair, and `off` is not affected.
            "critic": "not_known_yet" if judges is None else trusted if judges else "rules_only",
            "system_fingerprint": here.versions.fingerprint(model.root),
        }
    )


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    text = await asyncio.to_thread(context(request).metrics.render)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
async def front_page() -> Response:
    return HTMLResponse(_PAGE)

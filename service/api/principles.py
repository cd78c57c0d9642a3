"""GET /v1/principles, GET /v1/principles/{id}, POST /v1/principles/search."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.api.body import read_json
from service.api.context import context, json_response
from service.api.present import facets_of, principle_of
from service.api.wire import SearchBody, conversation_of, validated
from service.domain import Conversation
from service.errors import MissingField, NotReady, PrincipleNotFound
from service.stages.retrieve import Choice, retrieve

router = APIRouter()


@router.get("/v1/principles")
async def list_principles(request: Request) -> Response:
    """All principles with their texts, facets, basis and review state."""
    here = context(request)
    here.tenant(request)
    library = here.kit.retriever.library
    return json_response(
        {"object": "list", "version": library.version, "data": [principle_of(p) for p in library.principles]}
    )


@router.get("/v1/principles/{principle_id}")
async def get_principle(request: Request, principle_id: str) -> Response:
    here = context(request)
    here.tenant(request)
    principle = here.kit.retriever.library.by_id.get(principle_id)
    if principle is None:
        raise PrincipleNotFound(
            "A principle of that id does not exist. GET /v1/principles lists those that do.", param="id"
        )
    return json_response(principle_of(principle))


@router.post(
    "/v1/principles/search",
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": SearchBody.model_json_schema()}}, "required": True}
    },
)
async def search_principles(request: Request) -> Response:
    """Which principles matter for a conversation or a query, with similarity and facets."""
    here = context(request)
    tenant = here.tenant(request)
    body = validated(SearchBody, await read_json(request, here.settings.limits))
    if body.messages is not None:
        conversation = conversation_of(body.messages)
    elif body.query is not None:
        conversation = Conversation.of(("user", body.query))
    else:
        raise MissingField("Give messages or a query.", param="messages")
    kit = here.kit
    flags = kit.flags.detect(conversation.user_texts)
    found = await retrieve(conversation, Choice(top_k=body.top_k), flags, kit.retriever, tenant=tenant.name)
    if found.failed:
        raise NotReady("The index cannot be searched.")
    rows = [
        {"id": m.principle.id, "title": m.principle.title, "similarity": m.similarity, "matched_by": m.reason}
        for m in found.matches
    ]
    return json_response({"object": "list", "data": rows, "facets": facets_of(found.facets)})

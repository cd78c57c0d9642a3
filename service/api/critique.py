"""POST /v1/critique: verdicts on any text from anyone, by the scorer that the pipeline uses."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.api.body import read_json
from service.api.context import Context, Plain, context, in_time, json_response, while_connected
from service.api.present import facets_of, verdict_of
from service.api.wire import CritiqueBody, CritiqueInput, conversation_of, validated
from service.auth import Tenant
from service.domain import Conversation, Turn, Usage, Verdict
from service.errors import (
    ClinAlignError,
    CritiqueFailed,
    InvalidValue,
    MissingField,
    UpstreamError,
    error_body,
)
from service.language import detect
from service.llm import ModelInfo
from service.pipeline import salt
from service.stages.critique import critique
from service.stages.retrieve import Choice, retrieve, with_relevance

router = APIRouter(route_class=Plain)

_EXPLANATION = {
    "type": "json_schema",
    "json_schema": {
        "name": "explanation",
        "schema": {
            "type": "object",
            "properties": {"quote": {"type": "string", "maxLength": 400}, "fix": {"type": "string", "maxLength": 400}},
            "required": ["quote", "fix"],
            "additionalProperties": False,
        },
    },
}


@router.post(
    "/v1/critique",
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": CritiqueBody.model_json_schema()}}, "required": True}
    },
)
async def post_critique(request: Request) -> Response:
    """Verdicts on `answer`, or on the last assistant message; a list under `inputs` is judged as a batch."""
    here = context(request)
    tenant = here.tenant(request)
    body = validated(CritiqueBody, await read_json(request, here.settings.limits))
    return await while_connected(request, _respond(here, body, tenant))


async def _respond(here: Context, body: CritiqueBody, tenant: Tenant) -> Response:
    await here.limiter.spend(tenant, cost=len(body.inputs or ()) or 1)
    choice = here.choice(body.principles)
    model, _ = await here.model_and_mode(body.model)
    if body.inputs is None:
        if body.messages is None:
            raise MissingField("messages is missing.", param="messages")
        conversation, answer = _answered(body.messages, body.answer, "messages")
        async with here.slot():
            return json_response(await _in_time(here, model, conversation, answer, choice, body.explain, tenant))
    if body.messages is not None or body.answer is not None:
        raise InvalidValue("Give either inputs or messages, not both.", param="inputs")
    async with here.slot():
        results = await _batch(here, model, body.inputs, choice, body.explain, tenant)
    total = Usage.sum(
        [Usage(r["usage"]["prompt_tokens"], r["usage"]["completion_tokens"]) for r in results if "usage" in r]
    )
    return json_response({"id": f"crit-{uuid.uuid4().hex}", "object": "list", "data": results, "usage": _usage(total)})


def _answered(messages: list[dict[str, Any]], answer: str | None, at: str) -> tuple[Conversation, str]:
    conversation = conversation_of(messages, at=at)
    if answer is not None:
        return conversation, answer
    last = conversation.messages[-1]
    if last.role != "assistant":
        raise MissingField("Give an answer, or end messages with an assistant message.", param="answer")
    if len(conversation.messages) == 1:
        raise InvalidValue(f"{at} must hold what was answered.", param=at)
    return Conversation(conversation.messages[:-1]), last.text


async def _batch(
    here: Context, model: ModelInfo, inputs: list[CritiqueInput], choice: Choice, explain: bool, tenant: Tenant
) -> list[dict[str, Any]]:
    async def one(i: int, item: CritiqueInput) -> dict[str, Any]:
        try:
            conversation, answer = _answered(item.messages, item.answer, f"inputs[{i}].messages")
            return {"index": i, **await _in_time(here, model, conversation, answer, choice, explain, tenant)}
        except ClinAlignError as error:
            return {"index": i, **error_body(error)}

    return list(await asyncio.gather(*(one(i, item) for i, item in enumerate(inputs))))


def _in_time(here: Context, *asked: Any) -> Awaitable[dict[str, Any]]:
    """`_judge`, which ends by the deployment's deadline as answers do. Raises UpstreamTimeout."""
    return in_time(_judge(here, *asked), here.settings.revision.deadline_ms / 1000)


async def _judge(
    here: Context,
    model: ModelInfo,
    conversation: Conversation,
    answer: str,
    choice: Choice,
    explain: bool,
    tenant: Tenant,
) -> dict[str, Any]:
    """One critique object. Raises CritiqueFailed when no verdict can be had."""
    kit = here.kit
    flags = kit.flags.detect(conversation.user_texts)
    choice = replace(choice, guard=False)
    retrieved = await retrieve(conversation, choice, flags, kit.retriever, tenant=tenant.name)
    turn = Turn(conversation, answer, detect(conversation.last_user_text), frozenset(flag.kind for flag in flags))
    salted = salt(tenant.name, kit)
    model = here.place(model, conversation.user_texts, tenant)
    completed = with_relevance(turn, retrieved.vector, kit.retriever)
    judged = await critique(turn, retrieved.matches, model, kit.critic, salted, completed=completed)
    if all(v.label == "unknown" for v in judged.verdicts):
        raise CritiqueFailed("No verdict could be had from the model server or from a rule.")
    unmet = [verdict for verdict in judged.verdicts if explain and verdict.label == "unmet"]
    explained = await asyncio.gather(*(_explain(here, model, turn, verdict, salted) for verdict in unmet))
    told = {verdict.principle.id: row for verdict, (row, _) in zip(unmet, explained, strict=True)}
    usage = Usage.sum([judged.usage, *(spent for _, spent in explained)])
    return {
        "id": f"crit-{uuid.uuid4().hex}",
        "object": "critique",
        "score": judged.score,
        "critic": "decides" if judged.model_decides else "advises",
        "verdicts": [verdict_of(v) | told.get(v.principle.id, {}) for v in judged.verdicts],
        "facets": facets_of(retrieved.facets),
        "red_flags": [{"kind": flag.kind, "lang": flag.lang, "turn": flag.turn} for flag in flags],
        "usage": _usage(usage),
        "system_fingerprint": here.versions.fingerprint(model.root),
    }


async def _explain(
    here: Context, model: ModelInfo, turn: Turn, verdict: Verdict, salted: dict[str, Any]
) -> tuple[dict[str, Any], Usage]:
    """A verbatim quote and a fix; nothing where the model gives none that holds."""
    question = here.kit.critic.prompts.render("explain", statement=verdict.principle.statement)
    messages = [
        *turn.conversation.wire,
        {"role": "assistant", "content": turn.answer},
        {"role": "user", "content": question},
    ]
    try:
        async with here.kit.critic.slots:
            completion = await here.kit.llm.chat(
                model, messages, {"max_tokens": 300, "temperature": 0, "response_format": _EXPLANATION, **salted}
            )
        told = orjson.loads(completion.text)
        quote, fix = told["quote"], told["fix"]
    except (UpstreamError, orjson.JSONDecodeError, KeyError, TypeError):
        return {"quote": None, "fix": verdict.principle.repair}, Usage()
    good = isinstance(quote, str) and quote.strip() != "" and quote in turn.answer
    return {"quote": quote if good else None, "fix": fix if isinstance(fix, str) else None}, completion.usage


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }

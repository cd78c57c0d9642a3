"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.api.body import read_json
from service.api.context import Context, context, json_response, while_connected
from service.api.present import chunks_of, completion_of, head_of, headers_of, progress_chunk, role_chunk
from service.api.wire import DANGEROUS, ChatBody, RevisionBody, conversation_of, validated
from service.errors import (
    ClinAlignError,
    InternalError,
    InvalidValue,
    MissingField,
    UnsupportedContent,
    UnsupportedParameter,
    error_body,
)
from service.llm import ModelInfo
from service.pipeline import Answer, Ask, revise_answer

router = APIRouter()
log = logging.getLogger("clinalign")

_DONE = b"data: [DONE]\n\n"
_SSE = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@router.post(
    "/v1/chat/completions",
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": ChatBody.model_json_schema()}}, "required": True}
    },
)
async def chat_completions(request: Request) -> Response:
    """Draft, check, repair and answer: OpenAI's chat completions plus the `revision` object."""
    here = context(request)
    tenant = here.tenant(request)
    payload = await read_json(request, here.settings.limits)
    name = payload.get("model")
    if name is not None and not isinstance(name, str):
        raise InvalidValue("model must be a string.", param="model")
    revision = payload.get("revision")
    if revision is not None and not isinstance(revision, dict):
        raise InvalidValue("revision must be an object.", param="revision")
    asked = _revision(revision)
    model, named = await here.model_and_mode(name)
    options = here.options(asked, named, tenant)
    if options.mode == "off":
        return await _relay(request, here, payload, model, options.locale)
    body = validated(ChatBody, payload)
    ask = here.ask(body, conversation_of(body.messages), model, options, tenant)
    if body.stream:
        return await _streamed(request, here, ask, bool(body.stream_options and body.stream_options.include_usage))
    answer = await while_connected(request, _answer(here, ask))
    return json_response(
        completion_of(answer, here.versions, demonstration=here.settings.demonstration), headers=headers_of(answer)
    )


def _revision(raw: Mapping[str, Any] | None) -> RevisionBody | None:
    if raw is None:
        return None
    try:
        return validated(RevisionBody, raw)
    except ClinAlignError as error:
        error.param = f"revision.{error.param}" if error.param else "revision"
        raise


async def _answer(here: Context, ask: Ask, on_stage: Any = None) -> Answer:
    async with here.slot():
        answer = await revise_answer(ask, here.kit, on_stage or (lambda stage: None))
    here.metrics.answered(answer)
    log.info("answered", extra={"fields": _event(answer, ask)})
    return answer


def _event(answer: Answer, ask: Ask) -> dict[str, Any]:
    return {
        "tenant": ask.tenant,
        "status": answer.status,
        "reason": answer.reason,
        "rounds": answer.work.rounds,
        "red_flags": sorted({flag.kind for flag in answer.work.flags}),
        "timings_ms": answer.work.timings_ms,
    }


# --- streamed ---------------------------------------------------------------------------------------------------


async def _streamed(request: Request, here: Context, ask: Ask, include_usage: bool) -> Response:
    """Waits a little for the outcome, so that early failures keep their status; then streams it."""
    stages: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(_answer(here, ask, stages.put_nowait))
    here.tasks.add(task)
    task.add_done_callback(here.tasks.discard)
    try:
        async with asyncio.timeout(0 if ask.options.progress else here.settings.limits.headers_hold_s):
            await while_connected(request, asyncio.shield(task))
    except TimeoutError:
        if task.done():
            task.result()
    except BaseException:
        task.cancel()
        raise
    headers = dict(_SSE)
    if task.done():
        headers |= headers_of(task.result())
    return StreamingResponse(_events(here, ask, task, stages, include_usage), headers=headers)


async def _events(
    here: Context, ask: Ask, task: asyncio.Task[Answer], stages: asyncio.Queue[str], include_usage: bool
) -> AsyncIterator[bytes]:
    # Before the answer is there its id is made up; the head is fixed then, so that all chunks share one.
    head: dict[str, Any] | None = None
    try:
        if not task.done():
            head = _early_head(here, ask)
            yield _data(role_chunk(head))
            async for beat in _while_waiting(here, ask, task, stages, head):
                yield beat
        completion = completion_of(task.result(), here.versions, demonstration=here.settings.demonstration)
        if head is None:
            head = head_of(completion)
            yield _data(role_chunk(head))
        for chunk in chunks_of(completion, head, include_usage=include_usage):
            yield _data(chunk)
        yield _DONE
    except ClinAlignError as error:
        here.metrics.failed(error)
        yield _data(error_body(error))
    except Exception as error:
        log.exception("stream_failed", exc_info=error)
        yield _data(error_body(InternalError("The gateway failed.")))
    finally:
        task.cancel()


async def _while_waiting(
    here: Context, ask: Ask, task: asyncio.Task[Answer], stages: asyncio.Queue[str], head: Mapping[str, Any]
) -> AsyncIterator[bytes]:
    while not task.done():
        next_stage = asyncio.create_task(stages.get())
        try:
            await asyncio.wait(
                {task, next_stage} if ask.options.progress else {task},
                timeout=here.settings.limits.keep_alive_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if ask.options.progress and next_stage.done():
                yield _data(progress_chunk(head, next_stage.result()))
            elif not task.done():
                yield b": waiting\n\n"
        finally:
            next_stage.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await next_stage


def _early_head(here: Context, ask: Ask) -> dict[str, Any]:
    import time
    import uuid

    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": ask.model.id,
        "system_fingerprint": here.versions.fingerprint(ask.model.root),
    }


def _data(payload: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


# --- mode off ---------------------------------------------------------------------------------------------------


async def _relay(
    request: Request, here: Context, payload: dict[str, Any], model: ModelInfo, locale: str | None
) -> Response:
    """The request as it came to vLLM, the response as it came back; red flags are reported, not acted upon."""
    messages = payload.get("messages")
    if not isinstance(messages, list) or not messages:
        raise MissingField("messages is missing.", param="messages")
    for name in payload:
        if name in DANGEROUS:
            raise UnsupportedParameter(f"{name!r} is never passed on.", param=name)
    _no_remote_media(messages)
    flags = here.kit.flags.detect(_user_texts(messages))
    for kind in {flag.kind for flag in flags}:
        here.metrics.red_flags.labels(kind).inc()
    body = {k: v for k, v in payload.items() if k != "revision"} | {"model": model.id}
    headers = {"X-Revision-Status": "off"} | ({"X-Red-Flag": flags[0].kind} if flags else {})
    if payload.get("stream") is True:
        events = here.kit.llm.relay_stream(body)
        async with here.slot():
            first = await while_connected(request, anext(events))
        return StreamingResponse(_relayed(here, first, events), headers={**_SSE, **headers})
    async with here.slot():
        raw = await while_connected(request, here.kit.llm.relay(body))
    here.metrics.answers.labels("off", "none").inc()
    del flags, locale
    return Response(raw, headers=headers, media_type="application/json")


async def _relayed(here: Context, first: bytes, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async with here.slot():
            yield first
            async for event in events:
                yield event
        here.metrics.answers.labels("off", "none").inc()
    except ClinAlignError as error:
        here.metrics.failed(error)
        yield _data(error_body(error))


def _user_texts(messages: list[Any]) -> list[str]:
    texts: list[str] = []
    for message in messages:
        if not isinstance(message, dict) or message.get("role") != "user":
            continue
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts.append("\n".join(str(p.get("text", "")) for p in content if isinstance(p, dict)))
    return texts


def _no_remote_media(messages: list[Any]) -> None:
    """A link would make the model server fetch whatever the client names, inside the cluster too."""
    for i, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        for j, part in enumerate(content if isinstance(content, list) else ()):
            for value in part.values() if isinstance(part, dict) else ():
                url = value.get("url") if isinstance(value, dict) else None
                if isinstance(url, str) and not url.startswith("data:"):
                    at = f"messages[{i}].content[{j}]"
                    raise UnsupportedContent(f"{at}: send media as data: URLs.", param=at)

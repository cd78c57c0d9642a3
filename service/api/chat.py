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
from service.api.context import Context, Plain, context, in_time, json_response, while_connected
from service.api.present import (
    chunks_of,
    completion_of,
    head_of,
    headers_of,
    progress_chunk,
    role_chunk,
    safety_header,
    text_chunk,
)
from service.api.wire import DANGEROUS, ChatBody, RevisionBody, conversation_of, validated
from service.auth import Tenant
from service.errors import (
    ClinAlignError,
    InternalError,
    InvalidValue,
    MissingField,
    UnsupportedContent,
    UnsupportedParameter,
    error_body,
)
from service.language import detect
from service.llm import ModelInfo
from service.pipeline import Answer, Ask, OnEvent, Options, Piece, Stage, revise_answer

router = APIRouter(route_class=Plain)
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
    await here.limiter.spend(tenant)
    payload = await read_json(request, here.settings.limits)
    return await while_connected(request, _respond(here, payload, tenant))


async def _respond(here: Context, payload: dict[str, Any], tenant: Tenant) -> Response:
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
        return await _relay(here, payload, model, options, tenant)
    body = validated(ChatBody, payload)
    ask = here.ask(body, conversation_of(body.messages), model, options, tenant)
    if body.stream:
        return await _streamed(here, ask, bool(body.stream_options and body.stream_options.include_usage))
    answer = await _answer(here, ask)
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


async def _answer(here: Context, ask: Ask, on_event: OnEvent = lambda event: None) -> Answer:
    async with here.slot():
        answer = await revise_answer(ask, here.kit, on_event)
    here.metrics.answered(answer)
    if ask.model.id == (await here.kit.llm.model()).id:  # one asked for by name is not what serves here
        here.metrics.serves(*here.versions.parts(ask.model.root))
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


async def _streamed(here: Context, ask: Ask, include_usage: bool) -> Response:
    """Waits a little for the outcome or its first words, so that early failures keep their status; then streams."""
    events: asyncio.Queue[Stage | Piece | None] = asyncio.Queue()  # None: the answer is there, or its error
    worth_headers = asyncio.Event()

    def on_event(event: Stage | Piece) -> None:
        events.put_nowait(event)
        if isinstance(event, Piece):
            worth_headers.set()

    def on_done(task: asyncio.Task[Answer]) -> None:
        here.tasks.discard(task)
        events.put_nowait(None)
        worth_headers.set()

    task = asyncio.create_task(_answer(here, ask, on_event))
    here.tasks.add(task)
    task.add_done_callback(on_done)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if ask.options.progress else here.settings.limits.headers_hold_s):
                await worth_headers.wait()
        headers = dict(_SSE) | (headers_of(task.result()) if task.done() else {})
    except BaseException:
        task.cancel()
        raise
    return StreamingResponse(_chunks(here, ask, task, events, include_usage), headers=headers)


async def _chunks(
    here: Context,
    ask: Ask,
    task: asyncio.Task[Answer],
    events: asyncio.Queue[Stage | Piece | None],
    include_usage: bool,
) -> AsyncIterator[bytes]:
    head = head_of(here.versions, ask.model)
    sent = 0
    try:
        yield _data(role_chunk(head))
        while not task.done() or not events.empty():
            try:
                async with asyncio.timeout(here.settings.limits.keep_alive_s):
                    event = await events.get()
            except TimeoutError:
                yield b": waiting\n\n"
                continue
            if isinstance(event, Piece):
                sent += len(event.text)
                yield _data(text_chunk(head, event.text))
            elif event is not None and ask.options.progress:
                yield _data(progress_chunk(head, event))
        completion = completion_of(task.result(), here.versions, demonstration=here.settings.demonstration)
        for chunk in chunks_of(completion, head, sent=sent, include_usage=include_usage):
            yield _data(chunk)
        yield _DONE
    except ClinAlignError as error:
        here.failed(error)
        yield _data(error_body(error))
    except Exception as error:
        failure = InternalError("The gateway failed.")
        here.failed(failure)
        log.exception("stream_failed", exc_info=error)
        yield _data(error_body(failure))
    finally:
        task.cancel()


def _data(payload: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


# --- mode off ---------------------------------------------------------------------------------------------------


async def _relay(
    here: Context, payload: dict[str, Any], model: ModelInfo, options: Options, tenant: Tenant
) -> Response:
    """The request as it came to vLLM, the response as it came back; red flags are reported, not acted upon.

    The deadline bounds a plain answer; of a stream, each silence.
    """
    messages = payload.get("messages")
    if not isinstance(messages, list) or not messages:
        raise MissingField("messages is missing.", param="messages")
    for name in payload:
        if name in DANGEROUS:
            raise UnsupportedParameter(f"{name!r} is never passed on.", param=name)
    _no_remote_media(messages)
    texts = _user_texts(messages)
    flags = here.kit.flags.detect(texts)
    for kind in {flag.kind for flag in flags}:
        here.metrics.red_flags.labels(kind).inc()
    model = here.place(model, texts, tenant)
    body = {k: v for k, v in payload.items() if k != "revision"}
    headers = {"X-Revision-Status": "off"} | ({"X-Red-Flag": flags[0].kind} if flags else {})
    text = None
    if flags and here.settings.safety.enforce_off:
        language = detect(texts[-1]) if texts else None
        text = here.kit.flags.text(flags[0].kind, options.locale or here.kit.flags.locale_for(language))
        headers["X-Safety-Text"] = safety_header(text)
        if payload.get("response_format") not in (None, {"type": "text"}):
            text = None  # the content stays JSON
    if payload.get("stream") is True:
        events = here.kit.llm.relay_stream(model, body)
        async with here.slot():
            first = await in_time(anext(events), options.deadline_s)
        if text is not None:
            n = payload.get("n")
            first = _text_event(first, text, n if isinstance(n, int) else 1) + first
        return StreamingResponse(_relayed(here, first, events, options), headers={**_SSE, **headers})
    async with here.slot():
        raw = await in_time(here.kit.llm.relay(model, body), options.deadline_s)
    here.metrics.answers.labels("off", "none").inc()
    if text is not None:
        raw = _with_text(raw, text)
    return Response(raw, headers=headers, media_type="application/json")


def _with_text(raw: bytes, text: str) -> bytes:
    answer = orjson.loads(raw)
    for choice in answer["choices"]:
        content = choice["message"].get("content")
        choice["message"]["content"] = f"{text}\n\n{content}" if content else text
    return orjson.dumps(answer)


def _text_event(first: bytes, text: str, n: int) -> bytes:
    """A chunk that carries `text` for each of `n` answers, with the head of the stream's first."""
    chunk = orjson.loads(first.removeprefix(b"data:"))
    delta = {"role": "assistant", "content": f"{text}\n\n"}
    return _data({**chunk, "choices": [{"index": i, "delta": delta, "finish_reason": None} for i in range(n)]})


async def _relayed(here: Context, first: bytes, events: AsyncIterator[bytes], options: Options) -> AsyncIterator[bytes]:
    event: bytes | None = first
    try:
        async with here.slot():
            while event is not None:
                yield event
                event = await in_time(anext(events, None), options.deadline_s)
        here.metrics.answers.labels("off", "none").inc()
    except ClinAlignError as error:
        here.failed(error)
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

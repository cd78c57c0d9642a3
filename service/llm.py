"""The model as the stages see it (`LLM`), and the client of an OpenAI-compatible server that is one (`UpstreamLLM`).

Foreign errors are translated here, once. No call has a timeout of its own beyond connecting: the pipeline's deadline
cancels, cancelling closes the connection, and vLLM aborts the request whose connection is gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import orjson

from service import tracing
from service.discovery import Seen, watch
from service.domain import Completion, Usage
from service.errors import ClinAlignError, ModelNotFound, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from service.replicas import Replicas
from service.settings import Upstream
from service.upstream_errors import GARBAGE, refused

Wire = Mapping[str, Any]

_MODEL_TTL_S = 30.0
_MODELS_WAIT_S = 5.0  # the list costs the server nothing: one that cannot give it is hung
_KEEP_ALIVE_S = 4.0  # vLLM closes an idle connection after 5 s: a request must not meet one that is just being closed
_ATTEMPTS = 3
_LARGEST_BODY = 32 << 20
_BROKE_OFF = "The model server broke off its answer."


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that the upstream serves. `context` is the longest prompt plus answer in tokens, where it is told."""

    id: str
    context: int | None
    root: str
    is_vllm: bool
    wire: Wire = field(default_factory=dict)
    replicas: tuple[str, ...] = ()  # base URLs in the order to try for one conversation; empty: any


class LLM(Protocol):
    async def model(self, name: str | None = None) -> ModelInfo:
        """The model of that name, or the default one. Raises ModelNotFound, UpstreamError."""
        ...

    async def models(self) -> Sequence[ModelInfo]: ...

    def place(self, model: ModelInfo, conversation: str) -> ModelInfo:
        """The model as this conversation is to use it: all of its calls go where its prefix is cached."""
        ...

    async def chat(self, model: ModelInfo, messages: Sequence[Wire], params: Wire) -> Completion:
        """One answer. Raises UpstreamError (UpstreamRejected for a field that is the client's), ContextLengthExceeded."""
        ...

    def stream(self, model: ModelInfo, messages: Sequence[Wire], params: Wire) -> AsyncIterator[str | Completion]:
        """Pieces of text as they are decoded, then the whole as a Completion."""
        ...

    async def count_tokens(self, model: ModelInfo, messages: Sequence[Wire], tools: Sequence[Wire] = ()) -> int | None:
        """Length of the rendered prompt in tokens; None where the upstream cannot tell."""
        ...

    async def relay(self, model: ModelInfo, body: Wire) -> bytes:
        """Mode `off`: the request as it came, the response as it came."""
        ...

    def relay_stream(self, model: ModelInfo, body: Wire) -> AsyncIterator[bytes]:
        """Mode `off`, streamed: each server-sent event that holds data, as one data line and its blank line."""
        ...

    async def close(self) -> None: ...


class RetryBudget:
    """Tokens for retries: each request earns `ratio`, each retry costs one (gRPC's retry throttling).

    Up to `burst` of them are kept, or as many as there were calls in flight of late: a replica that dies takes its share
    of those with it, and asking for them once more is no amplification.
    """

    def __init__(self, ratio: float, burst: float = 10.0) -> None:
        self._ratio, self._burst, self._tokens = ratio, burst, burst if ratio else 0.0
        self._lately = 0.0  # in flight at most, forgotten by a hundredth with each request

    def earn(self, in_flight: int = 0) -> None:
        self._lately = max(in_flight, 0.99 * self._lately)
        self._tokens = min(max(self._burst, self._lately), self._tokens + self._ratio)

    def spend(self) -> bool:
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class UpstreamLLM:
    """One model server of one or more replicas, one connection pool. Must be made inside a running event loop."""

    def __init__(self, settings: Upstream, on_seen: Callable[[Seen], None] = lambda seen: None) -> None:
        headers = {"Content-Type": "application/json"}
        if settings.api_key:
            headers["Authorization"] = f"Bearer {settings.api_key.strip()}"  # secret files like to end with a newline
        self._settings = settings
        self._replicas = Replicas(settings.urls)  # with `dns` the name itself, until it has been looked up
        self._name = settings.urls[0] if settings.replicas == "dns" else None
        # An address is asked in the name's name: for its certificate, and for servers that tell hosts apart.
        name = urlsplit(self._name or "")
        self._named = {"Host": name.netloc.rpartition("@")[2]} if self._name else {}
        self._tls_name = name.hostname if name.scheme == "https" else None
        self._watching = asyncio.create_task(watch(self._replicas, self._name, on_seen))
        self._retries = RetryBudget(settings.retry_ratio)
        self._models: tuple[ModelInfo, ...] = ()
        self._models_at = float("-inf")
        self._listing: asyncio.Task[Sequence[ModelInfo]] | None = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.max_connections, ttl_dns_cache=10, keepalive_timeout=_KEEP_ALIVE_S
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_s),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),  # a load balancer's cookie would pin all clients to one replica
            auto_decompress=True,
            trust_env=False,
        )

    async def close(self) -> None:
        tasks = [task for task in (self._listing, self._watching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._session.close()

    # --- models ---

    async def models(self) -> Sequence[ModelInfo]:
        """What the upstream lists now. Raises UpstreamError.

        One list for all who wait, and its failure is everyone's: nobody queues behind a dead server.
        """
        if self._listing is None or self._listing.done():
            self._listing = asyncio.create_task(self._listed())
        return await asyncio.shield(self._listing)

    async def _listed(self) -> Sequence[ModelInfo]:
        try:
            async with asyncio.timeout(_MODELS_WAIT_S):
                payload = _parse(await self._fetch(None, "GET", "/v1/models", None))
        except TimeoutError as error:
            raise UpstreamTimeout("The model server does not list its models.") from error
        entries = payload.get("data")
        listed = entries if isinstance(entries, list) else []
        models = tuple(_model_info(entry) for entry in listed if isinstance(entry, dict) and entry.get("id"))
        if not models:
            raise UpstreamError("The model server lists no models.")
        self._models, self._models_at = models, time.monotonic()
        return models

    async def model(self, name: str | None = None) -> ModelInfo:
        if time.monotonic() - self._models_at > _MODEL_TTL_S:
            try:
                await self.models()
            except UpstreamError:
                if not self._models:  # else: a stale list beats a failed answer
                    raise
        wanted = name or self._settings.model or self._models[0].id
        for info in self._models:
            if info.id == wanted:
                return info
        raise ModelNotFound("The model does not exist. GET /v1/models lists those that do.", param="model")

    def place(self, model: ModelInfo, conversation: str) -> ModelInfo:
        if len(self._replicas.urls) == 1 and self._name is None:
            return model
        return replace(model, replicas=self._replicas.for_conversation(conversation))

    # --- calls ---

    async def chat(self, model: ModelInfo, messages: Sequence[Wire], params: Wire) -> Completion:
        body = _body(model, messages, params)
        with _call(model, body) as span:
            payload = _parse(await self._fetch(model, "POST", "/v1/chat/completions", body, fields=params, span=span))
            span.heard(payload)
            return _completion(payload)

    async def stream(self, model: ModelInfo, messages: Sequence[Wire], params: Wire) -> AsyncIterator[str | Completion]:
        body = _body(model, messages, params) | {"stream": True, "stream_options": {"include_usage": True}}
        raw, text, finish, usage = "", "", None, Usage()
        async with aclosing(self._stream(model, body, params)) as chunks:
            async for _, chunk in chunks:
                piece, told = _delta(chunk)
                usage = _usage(chunk["usage"]) if chunk.get("usage") else usage
                finish = told or finish
                raw += piece
                shown = "" if "<think>".startswith(raw.lstrip()) else without_thinking(raw)
                if not shown.startswith(text):
                    raise UpstreamError(
                        "The model server sent a thought as an answer: start it with --reasoning-parser."
                    )
                if len(shown) > len(text):
                    yield shown[len(text) :]
                    text = shown
        if finish is None:
            raise UpstreamError(GARBAGE)
        whole = without_thinking(raw)
        if len(whole) > len(text):  # held back as the beginning of a thought, which it was not
            yield whole[len(text) :]
        yield Completion(whole, finish, usage, {"role": "assistant", "content": whole})

    async def count_tokens(self, model: ModelInfo, messages: Sequence[Wire], tools: Sequence[Wire] = ()) -> int | None:
        if not model.is_vllm:
            return None
        body: dict[str, Any] = {"model": model.id, "messages": list(messages), "add_generation_prompt": True}
        if tools:
            body["tools"] = list(tools)
        try:
            count = _parse(await self._fetch(model, "POST", "/tokenize", body)).get("count")
        except UpstreamUnavailable:
            raise
        except UpstreamError:
            return None
        return count if isinstance(count, int) else None

    async def relay(self, model: ModelInfo, body: Wire) -> bytes:
        sent = {**body, "model": model.id}
        with _call(model, sent) as span:
            raw = await self._fetch(model, "POST", "/v1/chat/completions", sent, fields=body, span=span)
            payload = _parse(raw)
            span.heard(payload)
            _completion(payload)  # half an answer is no answer
            return raw

    async def relay_stream(self, model: ModelInfo, body: Wire) -> AsyncIterator[bytes]:
        async with aclosing(self._stream(model, {**body, "model": model.id}, body)) as chunks:
            async for data, _ in chunks:
                yield b"data: " + data + b"\n\n"
        yield b"data: [DONE]\n\n"

    async def _stream(self, model: ModelInfo, body: Wire, fields: Wire) -> AsyncGenerator[tuple[bytes, dict[str, Any]]]:
        """Each chunk as it came and parsed. Ends after `[DONE]`; raises UpstreamError where that never comes."""
        with _call(model, body) as span:
            async with self._request(model, "POST", "/v1/chat/completions", body, span) as response:
                if response.status != 200:
                    raise await _refusal(response, fields=fields)
                async with aclosing(_events(_pieces(response))) as events:
                    async for data in events:
                        if data == b"[DONE]":
                            return
                        chunk = _parse(data)
                        if chunk.get("error") or chunk.get("object") == "error":
                            raise UpstreamError("The model server failed while it wrote the answer.")
                        span.heard(chunk, chunk=True)
                        yield data, chunk
            raise UpstreamError(_BROKE_OFF)

    # --- transport ---

    async def _fetch(
        self,
        model: ModelInfo | None,
        method: str,
        path: str,
        body: Wire | None,
        *,
        fields: Wire | None = None,
        span: tracing.ModelCall = tracing.NO_CALL,
    ) -> bytes:
        async with self._request(model, method, path, body, span) as response:
            if response.status != 200:
                raise await _refusal(response, fields=fields or {})
            return await _read(response)

    async def _send(
        self, order: Sequence[str], method: str, path: str, data: bytes | None, span: tracing.ModelCall
    ) -> tuple[str, aiohttp.ClientResponse]:
        """The head of an answer, from the first replica of `order` that gives one, and which it is."""
        self._retries.earn(self._replicas.in_flight)
        for attempt in range(_ATTEMPTS):
            url, *others = self._replicas.reachable(order)
            try:
                with self._replicas.call(url):
                    response = await self._session.request(
                        method,
                        url + path,
                        data=data,
                        headers={**self._named, **span.headers},
                        allow_redirects=False,
                        server_hostname=self._tls_name,
                    )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if _had_begun(error):
                    raise UpstreamError(GARBAGE) from error
                # Nothing has been answered yet, so asking again is safe; a budget keeps an outage from doubling itself.
                # Another replica may be asked without it where this one has not even seen the request.
                unseen = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
                if unseen:
                    self._replicas.failed(url)
                if attempt + 1 == _ATTEMPTS or not ((unseen and others) or self._retries.spend()):
                    raise UpstreamUnavailable("The model server cannot be reached.") from error
                order = (*others, url)
            else:
                self._replicas.answered(url, response.status)
                span.reached(url)
                return url, response
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _request(
        self, model: ModelInfo | None, method: str, path: str, body: Wire | None, span: tracing.ModelCall
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        order = (model and model.replicas) or self._replicas.urls
        url, response = await self._send(order, method, path, None if body is None else orjson.dumps(body), span)
        try:
            with self._replicas.call(url):
                yield response
        except BaseException:
            response.close()  # unread bytes: the connection cannot be used again, and closing it aborts the request
            raise
        else:
            response.release()


def _had_begun(error: Exception) -> bool:
    """Whether the connection failed with a part of a response on it: a head that is no HTTP, or half a head."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, str)
    return isinstance(error, aiohttp.ClientResponseError)


async def _refusal(response: aiohttp.ClientResponse, *, fields: Wire) -> ClinAlignError:
    body = b""
    with suppress(UpstreamError):  # a body that cannot be read takes nothing from what the status says
        body = await _read(response)
    return refused(response.status, response.headers, body, fields=fields)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for piece in _pieces(response):
        size += len(piece)
        if size > _LARGEST_BODY:
            raise UpstreamError(GARBAGE)
        parts.append(piece)
    return b"".join(parts)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_any():
            yield piece
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise UpstreamError(_BROKE_OFF) from error


async def _events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The data of each server-sent event. Comments and other fields are passed over, and so is an event without its end."""
    rest = b""
    data: list[bytes] = []
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r")
            if text.startswith(b"data:"):
                data.append(text[5:].strip())
            elif not text and data:
                yield b" ".join(data)  # of JSON, whose lines may as well be one
                data = []
        if len(rest) + sum(map(len, data)) > _LARGEST_BODY:
            raise UpstreamError(GARBAGE)


def _call(model: ModelInfo, body: Wire) -> tracing.ModelCall:
    provider = "vllm" if model.is_vllm else "openai"  # whose interface it is
    return tracing.model_call(body, provider=provider, model=model.id, root=model.root)


def _body(model: ModelInfo, messages: Sequence[Wire], params: Wire) -> dict[str, Any]:
    sent = dict(params)
    if not model.is_vllm:  # fields of vLLM's own, which others refuse
        sent.pop("cache_salt", None)
        sent.pop("chat_template_kwargs", None)
    return {"model": model.id, "messages": list(messages), **sent}


def _parse(raw: bytes) -> dict[str, Any]:
    with suppress(orjson.JSONDecodeError):
        payload = orjson.loads(raw)
        if isinstance(payload, dict):
            return payload
    raise UpstreamError(GARBAGE)


def _model_info(entry: dict[str, Any]) -> ModelInfo:
    context = entry.get("max_model_len")
    return ModelInfo(
        id=str(entry["id"]),
        context=context if isinstance(context, int) and context > 0 else None,
        root=str(entry.get("root") or entry["id"]),
        is_vllm=entry.get("owned_by") == "vllm",
        wire=entry,
    )


def _completion(payload: dict[str, Any]) -> Completion:
    """Raises UpstreamError unless the payload holds one whole answer."""
    try:
        choice = payload["choices"][0]
        message = choice["message"]
        content = message.get("content") or ""
        finish = choice["finish_reason"]
        if not isinstance(content, str) or not isinstance(finish, str):
            raise TypeError
        return Completion(
            without_thinking(content), finish, _usage(payload.get("usage")), message, choice.get("logprobs")
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UpstreamError(GARBAGE) from error


def _delta(chunk: dict[str, Any]) -> tuple[str, str | None]:
    """Text and finish reason of a stream's chunk; nothing for one without choices. Raises UpstreamError."""
    try:
        choice: Any = next(iter(chunk.get("choices") or ()), {})
        piece, finish = (choice.get("delta") or {}).get("content") or "", choice.get("finish_reason")
        if not isinstance(piece, str) or not isinstance(finish, str | None):
            raise TypeError
    except (TypeError, AttributeError) as error:
        raise UpstreamError(GARBAGE) from error
    return piece, finish


def _usage(payload: Any) -> Usage:
    if not isinstance(payload, dict):
        return Usage()
    details = payload.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    numbers = (payload.get("prompt_tokens"), payload.get("completion_tokens"), cached)
    return Usage(*(number if isinstance(number, int) and number > 0 else 0 for number in numbers))


def without_thinking(text: str) -> str:
    """A reasoning model's thoughts are not its answer; servers without a reasoning parser leave them in the text.

    Some chat templates open the thought themselves, so that the text has its end alone.
    """
    thought, closed, answer = text.partition("</think>")
    if thought.lstrip().startswith("<think>") or (closed and "<think>" not in thought):
        return answer.lstrip()
    return text

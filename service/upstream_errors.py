"""Refusals of the model server, translated to the error tree. Nothing of its text passes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from service.errors import (
    ClinAlignError,
    ContextLengthExceeded,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)

GARBAGE = "The model server sent something that is no answer."

_CONTEXT = re.compile(
    r"context (?:length|size)|max_model_len|maximum (?:model|input) length|longer than the maximum", re.IGNORECASE
)
# Lengths and limits, as the model servers word them; any other number may be one out of somebody's message.
_TOKENS = re.compile(
    r"\b(\d{1,9}) (?:input |output |prompt )?tokens\b|\blength (?:is |of )?\(?(\d{1,9})\b", re.IGNORECASE
)
# What the gateway adds by itself is never the client's fault.
_OURS = frozenset({"model", "cache_salt", "chat_template_kwargs"})


def refused(status: int, headers: Mapping[str, str], body: bytes, *, fields: Mapping[str, Any]) -> ClinAlignError:
    """The error for a status other than 200. `fields` are the request's, to tell the client's faults from ours."""
    after = retry_after(headers.get("Retry-After"))
    if status == 429:
        return UpstreamRateLimited("The model server is at its rate limit.", retry_after=after)
    if status == 503:
        return UpstreamOverloaded("The model server is overloaded.", retry_after=after)
    if status in (408, 504):
        return UpstreamTimeout("The model server timed out.")
    if status in (400, 413, 422):
        return _bad_request(_message(body), fields)
    return UpstreamError("The model server failed.")


def _bad_request(message: tuple[str, str], fields: Mapping[str, Any]) -> ClinAlignError:
    text, param = message
    if _CONTEXT.search(text):
        numbers = sorted({int(a or b) for a, b in _TOKENS.findall(text)}, reverse=True)[:4]
        told = f" Numbers given by the model server: {', '.join(map(str, numbers))} tokens." if numbers else ""
        return ContextLengthExceeded(f"The conversation does not fit the model's context.{told}", param="messages")
    name = _culprit(text, param, fields)
    if name is not None:
        return UpstreamRejected(f"The model server refuses the value of {name!r}.", param=name)
    return UpstreamError("The model server refused the request.")


def _culprit(text: str, param: str, fields: Mapping[str, Any]) -> str | None:
    """The client's field that is refused. The text is searched only where no field is named: it may quote a message."""
    if param:
        name = re.split(r"[.\[]", param.removeprefix("body."))[0]
        return name if name == "messages" or (name in fields and name not in _OURS) else None
    for name in fields:
        if name not in _OURS and name != "messages" and re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", text):
            return name
    return None


def _message(body: bytes) -> tuple[str, str]:
    with suppress(orjson.JSONDecodeError):
        payload = orjson.loads(body)
        if isinstance(payload, dict):
            error = payload.get("error", payload)
            if isinstance(error, dict):
                return str(error.get("message") or ""), str(error.get("param") or "")
            return str(error), ""
    return "", ""


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; at most an hour, None where it is nonsense."""
    if value is None:
        return None
    with suppress(ValueError):
        return min(3600.0, max(0.0, float(value)))
    with suppress(ValueError, TypeError):
        return min(3600.0, max(0.0, parsedate_to_datetime(value).timestamp() - time.time()))
    return None

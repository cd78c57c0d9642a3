"""Request bodies: bytes to a dict, with the contract's errors. One pass, nothing lost, nothing guessed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from service.errors import InvalidJSON, InvalidUnicode, RequestTimeout, RequestTooLarge, UnsupportedMediaType
from service.settings import Limits

_MAX_DEPTH = 64
_MAX_DIGITS = 64


async def read_json(request: Request, limits: Limits) -> dict[str, Any]:
    """The body as an object. Raises RequestError; ClientDisconnect when the client has gone."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise UnsupportedMediaType("Send the body as application/json.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body uncompressed.")
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            raw = await _read(request, limits.body_bytes)
    except TimeoutError:
        raise RequestTimeout("The body did not arrive in time.") from None
    return parse(raw)


async def _read(request: Request, most: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and len(declared) < 20 and int(declared) > most:
        raise RequestTooLarge(f"The body is larger than {most} bytes.")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        size += len(message.get("body", b""))
        if size > most:
            raise RequestTooLarge(f"The body is larger than {most} bytes.")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def parse(raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises InvalidJSON, InvalidUnicode."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidUnicode("The body is not valid UTF-8.") from None
    if _depth(text) > _MAX_DEPTH:
        raise InvalidJSON(f"The body is nested deeper than {_MAX_DEPTH} levels.")
    try:
        payload = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_int, parse_float=_float
        )
    except ValueError as error:
        # json's own messages can quote the body; ours do not.
        told = error.args[0] if isinstance(error, _Refused) else "The body is not valid JSON."
        raise InvalidJSON(told) from None
    if not isinstance(payload, dict):
        raise InvalidJSON("The body must be a JSON object.")
    if "\\u" in text and _has_surrogate(payload):
        raise InvalidUnicode("The body holds half of a surrogate pair.")
    return payload


class _Refused(ValueError): ...


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Refused("The body has an object with the same key twice.")
    return result


def _no_constant(_: str) -> None:
    raise _Refused("NaN and Infinity are not JSON.")


def _int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise _Refused("The body has a number with too many digits.")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if len(digits) > 400 or value in (float("inf"), float("-inf")):
        raise _Refused("The body has a number that is too large.")
    return value


def _depth(text: str) -> int:
    """Deepest nesting, brackets inside strings not counted; cheap when there are few brackets."""
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return 0
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _has_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return any(_has_surrogate(k) or _has_surrogate(v) for k, v in value.items())
    if isinstance(value, list):
        return any(_has_surrogate(v) for v in value)
    return False

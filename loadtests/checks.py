"""What came of one request: answered as the contract says, shed, failed, or left by us. Pure; no text is kept in a name.

A failure has a name from a closed set (`is_failure_name`), so that neither a question nor an answer reaches a report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from service.errors import TABLE

Fate = Literal["answered", "shed", "failed", "left"]

STATUSES = frozenset({"draft_passed", "revised", "draft_kept", "draft_unverified", "safety_text"})
OFF = "off"
VERDICTS = frozenset({"met", "unmet", "not_applicable", "unknown"})
FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter"})
CODES = frozenset(spec.code for spec in TABLE.values())
NAMES = frozenset({
    "timeout", "refused_connection", "lost_connection", "unfinished",
    "not_json", "wrong_shape", "wrong_content_type", "no_request_id", "no_retry_after",
    "empty_content", "unknown_finish_reason", "wrong_usage", "unknown_status", "status_differs_from_header",
    "wrong_critique", "critique_item_failed",
    "stream_error", "stream_cut", "no_finish_reason", "after_done",
    "gateway_down_after_abort",
    *(f"stream_{code}" for code in CODES),
})  # fmt: skip

_HTTP = re.compile(r"([1-5]\d\d)(?: ([a-z_]+))?")
_SECONDS = re.compile(r"[0-9]{1,4}")


class Headers(Protocol):
    def get(self, name: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    fate: Fate
    reason: str | None = None  # of a failure
    status: str | None = None  # `revision.status`, or `off`
    retry_after_s: float | None = None
    text: str = field(default="", repr=False)  # what was delivered, for the next turn


class Wrong(Exception):
    """Not as the contract says; the argument is one of `NAMES`."""


def is_failure_name(name: str) -> bool:
    found = _HTTP.fullmatch(name)
    return name in NAMES if found is None else found[2] is None or found[2] in CODES


def failed(reason: str) -> Outcome:
    assert is_failure_name(reason), "a failure's name comes from a closed set"
    return Outcome("failed", reason)


def lost(error: BaseException) -> Outcome:
    """No whole response came."""
    if isinstance(error, TimeoutError):
        return failed("timeout")
    return failed("refused_connection" if isinstance(error, ConnectionRefusedError) else "lost_connection")


def refused(status: int, headers: Headers, body: bytes) -> Outcome:
    """A response other than 200. Shed is what a client should send again later: 429, or 503 `overloaded`."""
    code = _code_of(body)
    if status == 429 or (status == 503 and code == "overloaded"):
        after = str(headers.get("Retry-After") or "")
        if not headers.get("X-Request-Id"):
            return failed("no_request_id")
        return Outcome("shed", retry_after_s=float(after)) if _SECONDS.fullmatch(after) else failed("no_retry_after")
    return failed(f"{status} {code}" if code else str(status))


def _code_of(body: bytes) -> str | None:
    try:
        error = json.loads(body)["error"]
        code = error["code"]
    except (ValueError, KeyError, TypeError):
        return None
    return code if isinstance(code, str) and code in CODES else None


# --- unstreamed -------------------------------------------------------------------------------------------------


def chat(headers: Headers, body: bytes) -> Outcome:
    """A 200 of `/v1/chat/completions`. With mode `off` the model server's own answer has no `revision`."""
    try:
        told = _object(headers, body, "chat.completion")
        status = _status(told, headers)
        choices = told.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            raise Wrong("wrong_shape")
        if choices[0].get("finish_reason") not in FINISHES:
            raise Wrong("unknown_finish_reason")
        _check_usage(told.get("usage"))
        return Outcome("answered", status=status, text=_content(choices[0].get("message")))
    except Wrong as wrong:
        return failed(str(wrong))


def critique(headers: Headers, body: bytes, inputs: int) -> Outcome:
    """A 200 of `/v1/critique` with a batch: a result for each input, in order."""
    try:
        told = _object(headers, body, "list")
        rows = told.get("data")
        if not isinstance(rows, list) or [_get(row, "index") for row in rows] != list(range(inputs)):
            raise Wrong("wrong_critique")
        for row in rows:
            if "error" in row:
                raise Wrong("critique_item_failed")
            verdicts = row.get("verdicts")
            if not isinstance(verdicts, list) or not verdicts:
                raise Wrong("wrong_critique")
            if any(_get(verdict, "verdict") not in VERDICTS for verdict in verdicts):
                raise Wrong("wrong_critique")
        _check_usage(told.get("usage"))
        return Outcome("answered")
    except Wrong as wrong:
        return failed(str(wrong))


def _object(headers: Headers, body: bytes, kind: str) -> dict[str, Any]:
    if not headers.get("X-Request-Id"):
        raise Wrong("no_request_id")
    try:
        told = json.loads(body)
    except ValueError:
        raise Wrong("not_json") from None
    if not isinstance(told, dict) or told.get("object") != kind:
        raise Wrong("wrong_shape")
    return told


def _status(told: Mapping[str, Any], headers: Headers) -> str:
    """Of an answer or of the last chunk that tells it; a header that says something else is wrong."""
    header = headers.get("X-Revision-Status")
    status = OFF if header == OFF else _get(told.get("revision"), "status")
    if status != OFF and status not in STATUSES:
        raise Wrong("unknown_status")
    if header is not None and header != status:
        raise Wrong("status_differs_from_header")
    return str(status)


def _content(message: Any) -> str:
    content = _get(message, "content")
    if _get(message, "role") != "assistant" or not isinstance(content, str):
        raise Wrong("wrong_shape")
    if not content.strip():
        raise Wrong("empty_content")
    return content


def _check_usage(usage: Any) -> None:
    counts = [_get(usage, f"{name}_tokens") for name in ("prompt", "completion", "total")]
    if not all(isinstance(count, int) for count in counts) or counts[0] + counts[1] != counts[2]:
        raise Wrong("wrong_usage")


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


# --- streamed ---------------------------------------------------------------------------------------------------


class Stream:
    """A server-sent event stream, fed line by line; times are milliseconds since the request was due.

    Events of a chat stream are one `data:` line each, so a line is judged by itself.
    """

    def __init__(self) -> None:
        self.times: dict[str, float] = {}  # keep_alive and first_content, where they came
        self.pieces = 0
        self._text: list[str] = []
        self._finish: str | None = None
        self._revision: Any = None
        self._done = False
        self._wrong: str | None = None

    def feed(self, line: bytes, at_ms: float) -> None:
        line = line.rstrip(b"\r\n")
        if line.startswith(b":"):
            self.times.setdefault("keep_alive", at_ms)
        elif line.startswith(b"data:"):
            try:
                self._event(line.removeprefix(b"data:").strip(), at_ms)
            except Wrong as wrong:
                self._wrong = self._wrong or str(wrong)

    def _event(self, data: bytes, at_ms: float) -> None:
        if self._done:
            raise Wrong("after_done")
        if data == b"[DONE]":
            self._done = True
            return
        try:
            chunk = json.loads(data)
        except ValueError:
            raise Wrong("not_json") from None
        if not isinstance(chunk, dict):
            raise Wrong("wrong_shape")
        if "error" in chunk:
            code = _get(chunk["error"], "code")
            raise Wrong(f"stream_{code}" if code in CODES else "stream_error")
        if chunk.get("object") != "chat.completion.chunk" or not isinstance(chunk.get("choices"), list):
            raise Wrong("wrong_shape")
        self._revision = chunk.get("revision", self._revision)
        for choice in chunk["choices"]:
            self._choice(choice, at_ms)

    def _choice(self, choice: Any, at_ms: float) -> None:
        piece = _get(_get(choice, "delta"), "content")
        if isinstance(piece, str) and piece:
            self.times.setdefault("first_content", at_ms)
            self.pieces += 1
            self._text.append(piece)
        finish = _get(choice, "finish_reason")
        if finish is not None:
            if finish not in FINISHES:
                raise Wrong("unknown_finish_reason")
            self._finish = finish

    def outcome(self, headers: Headers) -> Outcome:
        """After the last line. A stream without `[DONE]` was cut, whatever else it brought."""
        try:
            if not headers.get("X-Request-Id"):
                raise Wrong("no_request_id")
            if not str(headers.get("Content-Type") or "").startswith("text/event-stream"):
                raise Wrong("wrong_content_type")
            if self._wrong:
                raise Wrong(self._wrong)
            if not self._done:
                raise Wrong("stream_cut")
            if self._finish is None:
                raise Wrong("no_finish_reason")
            text = "".join(self._text)
            if not text.strip():
                raise Wrong("empty_content")
            return Outcome("answered", status=_status({"revision": self._revision}, headers), text=text)
        except Wrong as wrong:
            return failed(str(wrong))

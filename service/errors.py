"""The error tree and its one table.

ClinAlignError
├── RequestError                      the client can mend it
│   ├── InvalidJSON  InvalidUnicode  InvalidValue  MissingField
│   ├── UnsupportedParameter  UnsupportedValue  UnsupportedContent
│   ├── ContextLengthExceeded  RequestTooLarge  UnsupportedMediaType  RequestTimeout
│   └── NotFound  MethodNotAllowed  ModelNotFound  PrincipleNotFound
├── InvalidAPIKey
├── RateLimited  Overloaded  NotReady
├── UpstreamError                     the model server failed; its text never leaks
│   ├── UpstreamUnavailable  UpstreamTimeout
│   ├── UpstreamRateLimited  UpstreamOverloaded
│   └── UpstreamRejected              a 400 about a field that is the client's
├── AnswerUnverified  AnswerBlocked  CritiqueFailed
├── InternalError
└── StartupError                      never reaches a client
    └── ConfigError  IndexInvalid  LibraryInvalid
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class ClinAlignError(Exception):
    """Base of all. `message` is fit for a client's eyes: it never holds user, answer or upstream text."""

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class RequestError(ClinAlignError): ...


class InvalidJSON(RequestError): ...


class InvalidUnicode(RequestError): ...


class InvalidValue(RequestError): ...


class MissingField(RequestError): ...


class UnsupportedParameter(RequestError): ...


class UnsupportedValue(RequestError): ...


class UnsupportedContent(RequestError): ...


class ContextLengthExceeded(RequestError): ...


class RequestTooLarge(RequestError): ...


class UnsupportedMediaType(RequestError): ...


class RequestTimeout(RequestError): ...


class NotFound(RequestError): ...


class MethodNotAllowed(RequestError): ...


class ModelNotFound(RequestError): ...


class PrincipleNotFound(RequestError): ...


class InvalidAPIKey(ClinAlignError): ...


class RateLimited(ClinAlignError): ...


class Overloaded(ClinAlignError): ...


class NotReady(ClinAlignError): ...


class UpstreamError(ClinAlignError): ...


class UpstreamUnavailable(UpstreamError): ...


class UpstreamTimeout(UpstreamError): ...


class UpstreamRateLimited(UpstreamError): ...


class UpstreamOverloaded(UpstreamError): ...


class UpstreamRejected(UpstreamError): ...


class AnswerUnverified(ClinAlignError): ...


class AnswerBlocked(ClinAlignError): ...


class CritiqueFailed(ClinAlignError): ...


class InternalError(ClinAlignError): ...


class StartupError(ClinAlignError):
    """Something that stops the process from starting. The message is one sentence that says what to do."""


class ConfigError(StartupError): ...


class IndexInvalid(StartupError): ...


class LibraryInvalid(StartupError): ...


class Spec(NamedTuple):
    status: int
    type: str
    code: str
    retryable: bool


_REQUEST = "invalid_request_error"
_SERVER = "server_error"
_UPSTREAM = "upstream_error"

TABLE: Mapping[type[ClinAlignError], Spec] = {
    InvalidJSON: Spec(400, _REQUEST, "invalid_json", False),
    InvalidUnicode: Spec(400, _REQUEST, "invalid_unicode", False),
    InvalidValue: Spec(400, _REQUEST, "invalid_value", False),
    MissingField: Spec(400, _REQUEST, "missing_required_parameter", False),
    UnsupportedParameter: Spec(400, _REQUEST, "unsupported_parameter", False),
    UnsupportedValue: Spec(400, _REQUEST, "unsupported_value", False),
    UnsupportedContent: Spec(400, _REQUEST, "unsupported_content", False),
    ContextLengthExceeded: Spec(400, _REQUEST, "context_length_exceeded", False),
    RequestTooLarge: Spec(413, _REQUEST, "request_too_large", False),
    UnsupportedMediaType: Spec(415, _REQUEST, "unsupported_media_type", False),
    RequestTimeout: Spec(408, _REQUEST, "request_timeout", True),
    NotFound: Spec(404, _REQUEST, "not_found", False),
    MethodNotAllowed: Spec(405, _REQUEST, "method_not_allowed", False),
    ModelNotFound: Spec(404, _REQUEST, "model_not_found", False),
    PrincipleNotFound: Spec(404, _REQUEST, "principle_not_found", False),
    InvalidAPIKey: Spec(401, "authentication_error", "invalid_api_key", False),
    RateLimited: Spec(429, "rate_limit_error", "rate_limit_exceeded", True),
    Overloaded: Spec(503, _SERVER, "overloaded", True),
    NotReady: Spec(503, _SERVER, "not_ready", True),
    UpstreamError: Spec(502, _UPSTREAM, "upstream_error", True),
    UpstreamUnavailable: Spec(502, _UPSTREAM, "upstream_unavailable", True),
    UpstreamTimeout: Spec(504, _UPSTREAM, "upstream_timeout", True),
    UpstreamRateLimited: Spec(429, "rate_limit_error", "rate_limit_exceeded", True),
    UpstreamOverloaded: Spec(503, _UPSTREAM, "upstream_overloaded", True),
    UpstreamRejected: Spec(400, _REQUEST, "invalid_value", False),
    AnswerUnverified: Spec(503, _SERVER, "answer_unverified", True),
    AnswerBlocked: Spec(503, _SERVER, "answer_blocked", False),
    CritiqueFailed: Spec(502, _UPSTREAM, "critique_failed", True),
    InternalError: Spec(500, _SERVER, "internal_error", False),
}


def spec_of(error: ClinAlignError) -> Spec:
    """The row of the nearest class in the table, so that a subclass may go without one of its own."""
    for cls in type(error).__mro__:
        if cls in TABLE:
            return TABLE[cls]
    return TABLE[InternalError]


def error_body(error: ClinAlignError) -> dict[str, Any]:
    """The one error body, OpenAI's shape."""
    spec = spec_of(error)
    return {"error": {"message": error.message, "type": spec.type, "param": error.param, "code": spec.code}}


def error_headers(error: ClinAlignError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    elif spec_of(error).status in (429, 503) and spec_of(error).retryable:
        headers["Retry-After"] = "1"
    if spec_of(error).status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers

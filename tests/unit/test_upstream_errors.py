"""What the model server's refusals become."""

from __future__ import annotations

from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service import upstream_errors
from service.errors import (
    ContextLengthExceeded,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    error_body,
    error_headers,
    spec_of,
)
from service.upstream_errors import refused, retry_after

FIELDS = {
    "temperature": 0,
    "top_p": 1,
    "stop": ["\n"],
    "user": "u",
    "max_tokens": 16,
    "cache_salt": "s",
    "chat_template_kwargs": {},
}


def body(message: str, param: str | None = None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": "BadRequestError", "param": param, "code": 400}})


def refusal(message: str, param: str | None = None, status: int = 400) -> Any:
    return refused(status, {}, body(message, param), fields=FIELDS)


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (429, UpstreamRateLimited, 429),
        (503, UpstreamOverloaded, 503),
        (408, UpstreamTimeout, 504),
        (504, UpstreamTimeout, 504),
        (400, UpstreamError, 502),
        (413, UpstreamError, 502),
        (422, UpstreamError, 502),
        (401, UpstreamError, 502),
        (403, UpstreamError, 502),
        (404, UpstreamError, 502),
        (500, UpstreamError, 502),
        (502, UpstreamError, 502),
        (302, UpstreamError, 502),
        (204, UpstreamError, 502),
    ],
)
def test_each_status_has_its_error(status: int, error: type[UpstreamError], told: int) -> None:
    found = refused(status, {"Retry-After": "9"}, b"no", fields=FIELDS)
    assert type(found) is error
    assert spec_of(found).status == told
    assert (found.retry_after == 9) is (status in (429, 503))


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize(
    ("message", "param", "named"),
    [
        ("no", "temperature", "temperature"),
        ("no", "body.temperature", "temperature"),
        ("no", "stop[0]", "stop"),
        ("no", "stop.0", "stop"),
        ("no", "messages[2].content", "messages"),  # no field of a gateway's, whose messages would be refused here too
        ("temperature goes with top_p", "top_p", "top_p"),  # the named one, not the first in the text
        ("`temperature` must not be negative, got -1.0", None, "temperature"),
        ("[{'type': 'less_than_equal', 'loc': ('body', 'top_p'), 'input': 2}]", None, "top_p"),
    ],
)
def test_a_refused_field_of_the_client_is_its_fault(status: int, message: str, param: str | None, named: str) -> None:
    error = refusal(message, param, status)
    assert type(error) is UpstreamRejected
    assert (spec_of(error).status, error.param) == (400, named)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("no", None),
        ("no", "cache_salt"),
        ("chat_template_kwargs is unknown", None),
        ("no", "seed"),  # not sent by the client
        ("the temperature of the child, please make it stop", "body"),  # a quoted message names nothing
        ("the temperature of the child, please make it stop", "cache_salt"),
        ("Conversation roles must alternate user/assistant/user/assistant", None),
        ("my_temperature", None),
        ("the list of messages", None),
    ],
)
def test_any_other_refusal_is_not_the_clients_fault(message: str, param: str | None) -> None:
    error = refusal(message, param)
    assert type(error) is UpstreamError
    assert (spec_of(error).status, error.param) == (502, None)


def test_messages_are_refused_by_name_and_not_by_a_word_in_the_text() -> None:
    fields = {"messages": [], "top_p": 2}
    assert refused(400, {}, body("no", "messages"), fields=fields).param == "messages"
    assert refused(400, {}, body("the messages, with top_p"), fields=fields).param == "top_p"


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        (
            (
                "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input "
                "tokens, which exceeds this limit even without any output tokens."
            ),
            "2049, 2048",
        ),
        (
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 "
                "tokens and your request has 20 input tokens (5000 > 4096 - 20)."
            ),
            "4096, 20",
        ),
        ("Input length (5000) exceeds model's maximum context length (4096).", "5000, 4096"),
        ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", "5000, 4096"),
        ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", "5000, 4096"),
    ],
)
def test_a_prompt_beyond_the_context_is_told_with_the_numbers(message: str, numbers: str) -> None:
    error = refusal(message, "input_tokens")
    assert type(error) is ContextLengthExceeded
    assert (spec_of(error).status, error.param) == (400, "messages")
    assert error.message == (
        f"The conversation does not fit the model's context. Numbers given by the model server: {numbers} tokens."
    )


def test_numbers_of_a_quoted_message_are_not_among_them() -> None:
    error = refusal("'my id is 78412345, call 5550199': more than the maximum context length of 4096 tokens")
    assert type(error) is ContextLengthExceeded
    assert "4096" in error.message
    assert "78412345" not in error.message
    assert "5550199" not in error.message


def test_a_context_without_numbers_is_told_without() -> None:
    assert refusal("longer than the maximum").message == "The conversation does not fit the model's context."


@pytest.mark.parametrize(
    "raw",
    [
        b'{"error": "temperature must be positive", "error_type": "validation"}',
        b'{"object": "error", "message": "temperature must be positive", "param": null, "code": 400}',
        b'{"message": "no", "param": "temperature"}',
    ],
)
def test_other_servers_forms_of_an_error_are_read(raw: bytes) -> None:
    error = refused(400, {}, raw, fields=FIELDS)
    assert (type(error), error.param) == (UpstreamRejected, "temperature")


@given(
    raw=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["error", "message", "param"]), inner, max_size=3)
        ),
        max_leaves=6,
    ).map(orjson.dumps),
    status=st.integers(201, 599),
)
def test_whatever_the_body_there_is_an_error_in_words_of_ours(raw: bytes, status: int) -> None:
    error = refused(status, {}, raw, fields=FIELDS)
    assert error.message in {
        "The model server is at its rate limit.",
        "The model server is overloaded.",
        "The model server timed out.",
        "The model server refused the request.",
        "The model server failed.",
        "The model server refuses the value of 'messages'.",
    } | {f"The model server refuses the value of {field!r}." for field in FIELDS}


@pytest.mark.parametrize("field", ["temperature", None])
def test_no_word_of_the_servers_is_passed_on(field: str | None) -> None:
    for message in ("canary-7b1e", "temperature: canary-7b1e", "canary-7b1e: maximum context length is 4096 tokens"):
        for status in (400, 401, 404, 429, 500, 503, 504):
            error = refused(status, {"Retry-After": "canary-7b1e"}, body(message, field), fields=FIELDS)
            assert "canary" not in f"{error} {error_body(error)} {error_headers(error)}"


# --- Retry-After ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("17", 17),
        (" 17 ", 17),
        ("0.5", 0.5),
        ("-3", 0),
        ("86400", 3600),
        ("inf", 3600),
        ("nan", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
    ],
)
def test_retry_after_is_seconds_within_an_hour_or_nothing(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_a_date_is_the_seconds_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_errors, "time", SimpleNamespace(time=lambda: 1_000_000.0))
    assert retry_after(formatdate(1_000_600, usegmt=True)) == 600


@given(st.text(max_size=40) | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S -0000")))
@example("Mon, 01 Jan 0001 00:00:00 -0000")
@example("Mon, 01 Jan 99999 00:00:00 GMT")
@example("1 Jan")
@example("Mon, 01 Jan 2024 00:00:00 +99999999")
def test_any_header_is_seconds_within_an_hour_or_nothing(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or 0 <= seconds <= 3600

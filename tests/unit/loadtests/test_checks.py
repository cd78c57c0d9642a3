from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import checks
from loadtests.checks import CODES, NAMES, STATUSES, VERDICTS, Outcome, Stream, is_failure_name
from service.domain import Label
from service.errors import TABLE, error_body, error_headers
from service.pipeline import Status

ID = {"X-Request-Id": "r-1"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def completion(**changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Drink tea."}
    told: dict[str, Any] = {"object": "chat.completion", "usage": USAGE, "revision": {"status": "revised"}}
    told["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return told | changes


def chat(told: Any, headers: dict[str, str] = ID) -> Outcome:
    return checks.chat(headers, json.dumps(told).encode())


def choices(message: Any = None, finish: Any = "stop") -> list[dict[str, Any]]:
    return [{"message": message or {"role": "assistant", "content": "x"}, "finish_reason": finish}]


def test_the_closed_sets_are_the_services_own() -> None:
    assert frozenset(get_args(Status)) == STATUSES
    assert frozenset(get_args(Label)) == VERDICTS


def test_an_answer_has_its_status_and_its_text() -> None:
    assert chat(completion()) == Outcome("answered", status="revised", text="Drink tea.")
    assert "tea" not in repr(chat(completion()))


def test_with_mode_off_the_header_tells() -> None:
    told = completion()
    del told["revision"]
    assert chat(told, {**ID, "X-Revision-Status": "off"}).status == "off"
    assert chat(told).reason == "unknown_status"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ([], "wrong_shape"),
        (completion(object="chat.completion.chunk"), "wrong_shape"),
        (completion(choices=[]), "wrong_shape"),
        (completion(choices=choices() * 2), "wrong_shape"),
        (completion(choices=[None]), "wrong_shape"),
        (completion(choices=choices({"role": "user", "content": "x"})), "wrong_shape"),
        (completion(choices=choices({"role": "assistant", "content": None})), "wrong_shape"),
        (completion(choices=choices({"role": "assistant", "content": " \n"})), "empty_content"),
        (completion(choices=choices(finish=None)), "unknown_finish_reason"),
        (completion(choices=choices(finish="tired")), "unknown_finish_reason"),
        (completion(usage=None), "wrong_usage"),
        (completion(usage=USAGE | {"total_tokens": 8}), "wrong_usage"),
        (completion(revision=None), "unknown_status"),
        (completion(revision={"status": "perfect"}), "unknown_status"),
    ],
)
def test_whatever_is_not_as_the_contract_says_has_a_name(told: Any, reason: str) -> None:
    assert chat(told) == checks.failed(reason)


def test_header_and_body_agree_and_there_is_an_id() -> None:
    assert chat(completion(), {}).reason == "no_request_id"
    assert chat(completion(), {**ID, "X-Revision-Status": "draft_kept"}).reason == "status_differs_from_header"
    assert checks.chat(ID, b"<html>").reason == "not_json"


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", TABLE)
def test_every_error_of_the_service_is_shed_or_has_a_name(error: Any) -> None:
    made = error("m")
    spec = TABLE[error]
    outcome = checks.refused(spec.status, ID | error_headers(made), json.dumps(error_body(made)).encode())
    if (spec.status, spec.code) in [(503, "overloaded"), (429, "rate_limit_exceeded")]:
        assert outcome == Outcome("shed", retry_after_s=1.0)
    else:
        assert outcome == checks.failed(f"{spec.status} {spec.code}")
        assert is_failure_name(f"{spec.status} {spec.code}")


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (503, ID, "no_retry_after"),
        (503, ID | {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, "no_retry_after"),
        (503, {"Retry-After": "1"}, "no_request_id"),
        (429, ID, "no_retry_after"),
        (502, ID | {"Retry-After": "1"}, "502 overloaded"),
    ],
)
def test_shedding_without_saying_when_to_return_is_a_failure(status: int, headers: dict[str, str], reason: str) -> None:
    assert checks.refused(status, headers, b'{"error": {"code": "overloaded"}}').reason == reason


@given(
    st.integers(100, 599),
    st.binary(max_size=60) | st.sampled_from([b'{"error": {"code": "my secret"}}', b"[1]", b"null"]),
)
def test_no_text_of_a_response_becomes_a_name(status: int, body: bytes) -> None:
    outcome = checks.refused(status, {**ID, "Retry-After": "2"}, body)
    assert outcome.fate == "shed" if status == 429 else outcome.reason == str(status)


def test_names_are_a_closed_set() -> None:
    assert all(is_failure_name(name) for name in NAMES)
    assert is_failure_name("503 answer_blocked")
    assert is_failure_name("502")
    assert not any(is_failure_name(name) for name in ("503 my secret", "503 kaput", "999", "shed", ""))
    with pytest.raises(AssertionError):
        checks.failed("my secret")


def test_a_lost_response_tells_how() -> None:
    assert checks.lost(TimeoutError()).reason == "timeout"
    assert checks.lost(ConnectionRefusedError()).reason == "refused_connection"
    assert checks.lost(ConnectionResetError()).reason == "lost_connection"


# --- critique ---------------------------------------------------------------------------------------------------


def batch(n: int, **changes: Any) -> bytes:
    rows = [{"index": i, "verdicts": [{"verdict": "met"}, {"verdict": "unknown"}]} for i in range(n)]
    return json.dumps({"object": "list", "data": rows, "usage": USAGE} | changes).encode()


def test_a_batch_has_a_result_for_each_input() -> None:
    assert checks.critique(ID, batch(4), 4) == Outcome("answered")
    assert checks.critique(ID, batch(3), 4).reason == "wrong_critique"
    assert checks.critique({}, batch(4), 4).reason == "no_request_id"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"index": 0, "error": {"code": "critique_failed"}}, "critique_item_failed"),
        ({"index": 0, "verdicts": []}, "wrong_critique"),
        ({"index": 0, "verdicts": [{"verdict": "maybe"}]}, "wrong_critique"),
        ({"index": 1, "verdicts": [{"verdict": "met"}]}, "wrong_critique"),
        (None, "wrong_critique"),
    ],
)
def test_a_bad_row_spoils_the_batch(row: Any, reason: str) -> None:
    assert checks.critique(ID, batch(1, data=[row]), 1).reason == reason


# --- streams ----------------------------------------------------------------------------------------------------

SSE = ID | {"Content-Type": "text/event-stream; charset=utf-8"}


def lines(text: list[str], *, status: str = "revised") -> list[bytes]:
    def chunk(delta: Any, finish: Any = None, **more: Any) -> bytes:
        told = {"object": "chat.completion.chunk", "choices": [{"delta": delta, "finish_reason": finish}], **more}
        return b"data: " + json.dumps(told).encode() + b"\n"

    usage = b'data: {"object": "chat.completion.chunk", "choices": [], "usage": {}}\n'
    body = [chunk({"role": "assistant", "content": ""}), b": waiting\n", *(chunk({"content": piece}) for piece in text)]
    last = [chunk({}, "stop", revision={"status": status}), usage, b"data: [DONE]\n"]
    return [line for event in [*body, *last] for line in (event, b"\n")]


def fed(given_lines: list[bytes]) -> Stream:
    stream = Stream()
    for at, line in enumerate(given_lines):
        stream.feed(line, float(at))
    return stream


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
def test_a_stream_brings_its_text_and_its_times(pieces: list[str]) -> None:
    stream = fed(lines(pieces))
    outcome = stream.outcome(SSE)
    if "".join(pieces).strip():
        assert outcome == Outcome("answered", status="revised", text="".join(pieces))
    else:
        assert outcome.reason == "empty_content"
    assert stream.times == {"keep_alive": 2.0, "first_content": 4.0}
    assert stream.pieces == len(pieces)


@given(st.integers(0, 1000))
def test_a_cut_stream_never_looks_whole(at: int) -> None:
    whole = lines(["Drink ", "tea."])
    end = whole.index(b"data: [DONE]\n")
    assert fed(whole[: at % (end + 1)]).outcome(SSE).reason == "stream_cut"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'data: {"error": {"code": "upstream_timeout"}}', "stream_upstream_timeout"),
        (b'data: {"error": {"code": "my secret"}}', "stream_error"),
        (b'data: {"error": null}', "stream_error"),
        (b"data: {", "not_json"),
        (b"data: []", "wrong_shape"),
        (b'data: {"object": "chat.completion"}', "wrong_shape"),
        (
            b'data: {"object": "chat.completion.chunk", "choices": [{"finish_reason": "tired"}]}',
            "unknown_finish_reason",
        ),
        (b"data: [DONE]", "after_done"),
    ],
)
def test_a_bad_event_spoils_the_stream(line: bytes, reason: str) -> None:
    whole = lines(["tea"])
    assert fed([*whole[:6], line, *whole[6:]]).outcome(SSE).reason == reason
    assert is_failure_name(reason)


def test_a_stream_has_all_that_an_answer_has() -> None:
    whole = lines(["tea"])
    unfinished = [line for line in whole if b'"stop"' not in line]
    assert fed(unfinished).outcome(SSE).reason == "no_finish_reason"
    assert fed(lines([])).outcome(SSE).reason == "empty_content"
    assert fed(lines(["tea"], status="perfect")).outcome(SSE).reason == "unknown_status"
    assert fed(whole).outcome({"Content-Type": "text/event-stream"}).reason == "no_request_id"
    assert fed(whole).outcome(ID | {"Content-Type": "application/json"}).reason == "wrong_content_type"
    assert fed(whole).outcome(SSE | {"X-Revision-Status": "draft_kept"}).reason == "status_differs_from_header"


def test_codes_of_streams_are_the_services_own() -> None:
    assert {f"stream_{code}" for code in CODES} <= NAMES

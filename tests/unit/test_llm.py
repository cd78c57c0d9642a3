"""The client of the model server, against one that misbehaves."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import orjson
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from service import discovery
from service import llm as llm_module
from service.discovery import Seen
from service.domain import Completion, Usage
from service.errors import (
    ClinAlignError,
    ContextLengthExceeded,
    ModelNotFound,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
    error_body,
    error_headers,
    spec_of,
)
from service.llm import ModelInfo, RetryBudget, UpstreamLLM, without_thinking
from service.settings import Upstream
from tests.faulty_upstream import (
    Behaviour,
    FaultyUpstream,
    answers,
    chunk,
    completion,
    cuts,
    event,
    events,
    hangs,
    refusing,
    resets,
    says,
    sends,
    streams,
)

MODEL = ModelInfo("m", 4096, "m", True)
HELLO = [{"role": "user", "content": "hello"}]
CANARY = "canary-7b1e"  # stands for anything the model server says

T = TypeVar("T")
Call = Callable[[UpstreamLLM], Awaitable[Any]]


@asynccontextmanager
async def client_of(url: str, **settings: Any) -> AsyncIterator[UpstreamLLM]:
    client = UpstreamLLM(Upstream(url=url, **settings))
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def upstream_of(*script: Behaviour, **settings: Any) -> AsyncIterator[tuple[FaultyUpstream, UpstreamLLM]]:
    async with FaultyUpstream(*script) as upstream, client_of(upstream.url, **settings) as client:
        yield upstream, client


async def chat(client: UpstreamLLM, **params: Any) -> Completion:
    return await client.chat(MODEL, HELLO, params)


async def stream(client: UpstreamLLM, **params: Any) -> tuple[list[str], Completion]:
    """The pieces, and the whole that comes last."""
    *pieces, whole = [piece async for piece in client.stream(MODEL, HELLO, params)]
    assert isinstance(whole, Completion)
    return cast("list[str]", pieces), whole


async def relay(client: UpstreamLLM) -> bytes:
    return await client.relay(MODEL, {"model": "m", "messages": HELLO})


async def relay_stream(client: UpstreamLLM) -> list[bytes]:
    return [piece async for piece in client.relay_stream(MODEL, {"model": "m", "messages": HELLO, "stream": True})]


async def until_it_breaks(pieces: AsyncIterator[T]) -> tuple[list[T], UpstreamError]:
    """What a stream gave before its error, and the error."""
    seen: list[T] = []
    try:
        async for piece in pieces:
            seen.append(piece)  # noqa: PERF401 - a comprehension would lose it
    except UpstreamError as error:
        return seen, error
    raise AssertionError("the stream looked whole")


async def happened(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):  # never waited for in full: a hung test would say nothing
        await event.wait()


# --- one answer -------------------------------------------------------------------------------------------------


async def test_an_answer_with_its_usage_and_log_probabilities() -> None:
    logprobs = {"content": [{"token": "Rest", "logprob": -0.1, "top_logprobs": []}]}
    async with upstream_of(answers(completion("Rest.", logprobs=logprobs))) as (upstream, client):
        answer = await client.chat(
            MODEL, HELLO, {"temperature": 0, "cache_salt": "s", "chat_template_kwargs": {"a": 1}}
        )
    assert answer == Completion("Rest.", "stop", Usage(7, 3, 4), {"role": "assistant", "content": "Rest."}, logprobs)
    assert upstream.bodies == [
        {"model": "m", "messages": HELLO, "temperature": 0, "cache_salt": "s", "chat_template_kwargs": {"a": 1}}
    ]
    assert [asked.path for asked in upstream.asked] == ["/v1/chat/completions"]


@pytest.mark.parametrize("url", ["{}", "{}/", "{}/v1", "{}/v1/"])
async def test_the_base_url_may_end_in_v1(url: str) -> None:
    async with FaultyUpstream(answers(completion("a"))) as upstream:
        async with client_of(url.format(upstream.url)) as client:
            await chat(client)
        assert upstream.asked[0].path == "/v1/chat/completions"


@pytest.mark.parametrize("key", ["sk-upstream", "sk-upstream\n"])
async def test_the_key_goes_upstream_without_the_newline_that_secret_files_end_with(key: str) -> None:
    async with upstream_of(answers(completion("a")), api_key=key) as (upstream, client):
        await chat(client)
    assert upstream.asked[0].headers["authorization"] == "Bearer sk-upstream"


async def test_no_cookie_pins_all_clients_to_one_replica() -> None:
    pinned = answers(completion("a"), headers={"Set-Cookie": "route=1"})
    async with (
        FaultyUpstream(pinned, answers(completion("b"))) as upstream,
        client_of(upstream.url.replace("127.0.0.1", "localhost")) as client,
    ):
        await chat(client)
        await chat(client)
    assert "cookie" not in upstream.asked[1].headers


async def test_a_tool_call_has_no_text_and_keeps_its_message() -> None:
    payload = completion("", finish="tool_calls")
    payload["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    async with upstream_of(answers(payload)) as (_, client):
        answer = await chat(client)
    assert (answer.text, answer.calls_tools, answer.finish_reason) == ("", True, "tool_calls")


@pytest.mark.parametrize(
    "usage", [None, [], "7", {"prompt_tokens": "7", "completion_tokens": -3, "prompt_tokens_details": [1]}]
)
async def test_usage_that_makes_no_sense_counts_as_none(usage: Any) -> None:
    async with upstream_of(
        answers(completion("a") | {"usage": usage}),
        streams(event(chunk("a", "stop") | {"usage": usage}), b"data: [DONE]\n\n"),
    ) as (_, client):
        assert (await chat(client)).usage == Usage()
        assert (await stream(client))[1].usage == Usage()


async def test_a_thought_that_the_template_opened_is_no_part_of_the_answer_and_never_streamed_as_one() -> None:
    raw = "He has pain.\n</think>\n\nRest."
    async with upstream_of(answers(completion(raw)), streams(events(*raw))) as (_, client):
        told = await chat(client)
        assert (told.text, told.thinks_unmarked) == ("Rest.", True)
        with pytest.raises(UpstreamError, match="reasoning-parser"):
            await stream(client)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<think>He has pain.</think>\n\nRest.", "Rest."),
        ("\n<think>\n</think>Rest.", "Rest."),
        ("<think>cut off in a thou", ""),
        ("<think>Is </think> an end?</think>Rest.", "an end?</think>Rest."),
        ("Write <think> to think.</think>", "Write <think> to think.</think>"),
        ("<thinking>", "<thinking>"),
        ("<", "<"),
        ("  Rest.", "  Rest."),
    ],
)
async def test_thoughts_are_no_part_of_the_answer(raw: str, text: str) -> None:
    async with upstream_of(answers(completion(raw)), streams(events(*raw))) as (_, client):
        assert (await chat(client)).text == text
        pieces, whole = await stream(client)
    assert "".join(pieces) == whole.text == text


async def test_other_servers_get_no_fields_of_vllms_own_and_are_not_asked_to_count() -> None:
    other = ModelInfo("m", None, "m", False)
    params = {"cache_salt": "s", "chat_template_kwargs": {"a": 1}, "temperature": 0}
    async with upstream_of(answers(completion("a")), streams(events("a"))) as (upstream, client):
        await client.chat(other, HELLO, params)
        assert [piece async for piece in client.stream(other, HELLO, params)][:-1] == ["a"]
        assert await client.count_tokens(other, HELLO) is None
    assert upstream.bodies[0] == {"model": "m", "messages": HELLO, "temperature": 0}
    assert upstream.bodies[1].keys() == {"model", "messages", "temperature", "stream", "stream_options"}
    assert len(upstream.bodies) == 2


async def test_tokens_are_counted_with_the_tools() -> None:
    async with upstream_of(answers({"count": 12})) as (upstream, client):
        assert await client.count_tokens(MODEL, HELLO, [{"type": "function"}]) == 12
    assert upstream.asked[0].path == "/tokenize"
    assert upstream.bodies == [
        {"model": "m", "messages": HELLO, "add_generation_prompt": True, "tools": [{"type": "function"}]}
    ]


@pytest.mark.parametrize("behaviour", [answers({"count": "12"}), answers({}, 404), answers([]), cuts(b"{")])
async def test_a_count_that_cannot_be_had_is_none(behaviour: Behaviour) -> None:
    async with upstream_of(behaviour) as (_, client):
        assert await client.count_tokens(MODEL, HELLO) is None


async def test_a_dead_server_is_not_a_missing_count() -> None:
    with refusing() as url:
        async with client_of(url) as client:
            with pytest.raises(UpstreamUnavailable):
                await client.count_tokens(MODEL, HELLO)


# --- refusals and breakage --------------------------------------------------------------------------------------


def complaint(message: str, param: str | None = None, status: int = 400) -> Behaviour:
    return answers(
        {"error": {"message": f"{CANARY} {message}", "type": CANARY, "param": param, "code": status}}, status
    )


NOT_WHOLE: list[tuple[str, Behaviour]] = [
    ("401", complaint("no key", status=401)),
    ("404", complaint("no model", status=404)),
    ("500", sends(CANARY.encode(), status=500, content_type="text/html")),
    ("a redirect", sends(b"", status=307, headers={"Location": f"http://{CANARY}.invalid/"})),
    ("no content", sends(b"", status=204)),
    ("400 about ours", complaint("no", "chat_template_kwargs")),
    ("garbage", sends(CANARY.encode())),
    ("nothing", sends(b"")),
    ("no object", answers([CANARY])),
    ("no UTF-8", sends(b'{"choices": "\xff"}')),
    ("no gzip", sends(CANARY.encode(), headers={"Content-Encoding": "gzip"})),
    ("half a body", cuts(orjson.dumps(completion(CANARY))[:-9])),
    ("no HTTP", says(CANARY.encode() + b"\r\n\r\n")),
    ("half a head", says(b"HTTP/1.1 200 OK\r\nX: " + CANARY.encode())),
]  # fmt: skip
NO_COMPLETION: list[Any] = [
    {},
    {"error": {"message": CANARY}},
    {"choices": []},
    {"choices": {}},
    {"choices": [CANARY]},
    {"choices": [{"finish_reason": "stop"}]},
    {"choices": [{"message": CANARY, "finish_reason": "stop"}]},
    {"choices": [{"message": {"content": CANARY}}]},
    {"choices": [{"message": {"content": [CANARY]}, "finish_reason": "stop"}]},
    completion(CANARY, finish=None),
]
CALLS: list[Call] = [chat, stream, relay, relay_stream]


def assert_silent(error: ClinAlignError) -> None:
    """Nothing that the model server said is in what a client may read."""
    told = f"{error} {error.message} {error_body(error)} {error_headers(error)}"
    assert CANARY not in told


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("name", "behaviour"), NOT_WHOLE)
async def test_what_is_no_whole_answer_is_an_upstream_error_in_words_of_ours(
    call: Call, name: str, behaviour: Behaviour
) -> None:
    async with upstream_of(behaviour) as (upstream, client):
        with pytest.raises(UpstreamError) as caught:
            await call(client)
    assert spec_of(caught.value)[:3] == (502, "upstream_error", "upstream_error")
    assert_silent(caught.value)
    assert len(upstream.asked) == 1  # an answer had begun: never asked twice


@pytest.mark.parametrize("call", [chat, relay])
@pytest.mark.parametrize("payload", NO_COMPLETION)
async def test_json_that_is_no_completion_is_an_upstream_error(call: Call, payload: Any) -> None:
    async with upstream_of(answers(payload)) as (_, client):
        with pytest.raises(UpstreamError) as caught:
            await call(client)
    assert_silent(caught.value)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("status", "error"), [(429, UpstreamRateLimited), (503, UpstreamOverloaded)])
@pytest.mark.parametrize("half", [False, True])
async def test_a_full_server_is_passed_on_at_once_with_its_retry_after(
    call: Call, status: int, error: type[ClinAlignError], half: bool
) -> None:
    headers = {"Retry-After": "17"}
    full = cuts(CANARY.encode(), status=status, headers=headers) if half else answers(CANARY, status, headers)
    async with upstream_of(full) as (upstream, client):
        with pytest.raises(error) as caught:
            await call(client)
    assert spec_of(caught.value).status == status
    assert error_headers(caught.value)["Retry-After"] == "17"
    assert_silent(caught.value)
    assert len(upstream.asked) == 1  # it asked for patience, so it is not asked again


@pytest.mark.parametrize("call", [chat, stream])
async def test_a_refused_field_of_the_client_is_named(call: Callable[..., Awaitable[Any]]) -> None:
    async with upstream_of(complaint("too high", "temperature")) as (_, client):
        with pytest.raises(UpstreamRejected) as caught:
            await call(client, temperature=9, top_p=1)
    assert (spec_of(caught.value).status, caught.value.param) == (400, "temperature")
    assert_silent(caught.value)


async def test_options_that_the_client_did_not_send_are_not_its_fault() -> None:
    async with upstream_of(complaint("no", "stream_options")) as (_, client):
        with pytest.raises(UpstreamError) as caught:
            await stream(client, temperature=0)
    assert spec_of(caught.value).status == 502


@pytest.mark.parametrize("param", ["stream_options", "n", "messages[0].role"])
async def test_with_a_relay_every_field_is_the_clients(param: str) -> None:
    body = {"model": "m", "messages": HELLO, "stream_options": 1, "n": 0}
    async with upstream_of(complaint("no", param), complaint("no", param)) as (_, client):
        with pytest.raises(UpstreamRejected) as whole:
            await client.relay(MODEL, body)
        with pytest.raises(UpstreamRejected) as streamed:
            await anext(client.relay_stream(MODEL, body))
    assert whole.value.param == streamed.value.param == param.partition("[")[0]


async def test_a_conversation_beyond_the_context_is_told_with_its_numbers() -> None:
    async with upstream_of(complaint("This model's maximum context length is 4096 tokens.")) as (_, client):
        with pytest.raises(ContextLengthExceeded, match="4096") as caught:
            await chat(client)
    assert_silent(caught.value)


@pytest.mark.parametrize("packed", [False, True])
async def test_an_endless_body_is_not_held(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(llm_module, "_LARGEST_BODY", 1 << 16)
    raw = orjson.dumps(completion("a" * (1 << 20)))
    huge = sends(gzip.compress(raw), headers={"Content-Encoding": "gzip"}) if packed else sends(raw)
    async with upstream_of(huge, huge, streams(events("a" * (1 << 20))), streams(b"data: aaa\n" * (1 << 15))) as (
        _,
        client,
    ):
        for call in (chat, relay, stream, stream):
            with pytest.raises(UpstreamError, match="no answer"):
                await call(client)


async def test_a_body_up_to_the_limit_is_taken() -> None:
    async with upstream_of(answers(completion("a" * (1 << 20)))) as (_, client):
        assert len((await chat(client)).text) == 1 << 20


# --- retries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [says(b""), resets()])
async def test_a_connection_that_breaks_unanswered_is_tried_again(broken: Behaviour) -> None:
    async with upstream_of(broken, broken, answers(completion("a"))) as (upstream, client):
        assert (await chat(client)).text == "a"
    assert len(upstream.asked) == 3


async def test_three_attempts_are_the_most() -> None:
    async with upstream_of(*[resets()] * 4) as (upstream, client):
        with pytest.raises(UpstreamUnavailable) as caught:
            await chat(client)
    assert len(upstream.asked) == 3
    assert spec_of(caught.value).status == 502


async def test_another_replica_takes_over_from_one_that_is_gone_without_touching_the_budget() -> None:
    async with FaultyUpstream(*[answers(completion("a"))] * 40) as upstream:
        gone = "http://127.0.0.1:9"
        async with client_of(f"{gone}, {upstream.url}/v1", retry_ratio=0.0) as client:
            for i in range(40):
                placed = client.place(MODEL, f"conversation {i}")
                assert set(placed.replicas) == {gone, upstream.url}
                assert (await client.chat(placed, HELLO, {})).text == "a"


async def test_a_call_that_is_cut_off_is_asked_of_another_replica_at_once() -> None:
    """And not of the same one again, whose other connections may be as dead."""
    async with (
        FaultyUpstream(resets(), resets()) as dying,
        FaultyUpstream(answers(completion("a"))) as other,
        client_of(f"{dying.url},{other.url}") as client,
    ):
        placed = replace(MODEL, replicas=(dying.url, other.url))
        assert (await client.chat(placed, HELLO, {})).text == "a"
    assert (len(dying.asked), len(other.asked)) == (1, 1)


async def test_all_calls_of_a_conversation_go_to_its_replica() -> None:
    script = [answers(completion("a"))] * 20
    async with (
        FaultyUpstream(*script) as one,
        FaultyUpstream(*script) as other,
        client_of(f"{one.url},{other.url}") as client,
    ):
        for i in range(4):
            placed = client.place(MODEL, f"conversation {i}")
            before = len(one.asked)
            for _ in range(5):
                await client.chat(placed, HELLO, {})
            assert len(one.asked) - before in (0, 5)
    assert len(one.asked) + len(other.asked) == 20


async def test_refused_connections_use_up_the_retry_budget_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0
    with refusing() as url:
        async with client_of(url, retry_ratio=0.1) as client:
            request = client._session.request

            async def counted(*args: Any, **kwargs: Any) -> Any:
                nonlocal attempts
                attempts += 1
                return await request(*args, **kwargs)

            monkeypatch.setattr(client._session, "request", counted)
            used = []
            for _ in range(20):
                before = attempts
                with pytest.raises(UpstreamUnavailable):
                    await chat(client)
                used.append(attempts - before)
    assert max(used) == 3
    assert used[:5] == [3] * 5  # the burst of ten
    assert attempts - 20 <= 0.1 * 20 + 10


async def test_no_retries_where_none_are_allowed() -> None:
    async with upstream_of(resets(), answers(completion("a")), retry_ratio=0) as (upstream, client):
        with pytest.raises(UpstreamUnavailable):
            await chat(client)
    assert len(upstream.asked) == 1


@given(ratio=st.floats(0, 1), burst=st.integers(0, 12), plan=st.lists(st.integers(0, 3), max_size=60))
@example(ratio=0.1, burst=10, plan=[2] * 60)
def test_retries_never_exceed_the_share_of_requests_and_the_burst(ratio: float, burst: int, plan: list[int]) -> None:
    budget = RetryBudget(ratio, burst)
    retries = 0
    for requests, wanted in enumerate(plan, 1):
        budget.earn()
        retries += sum(budget.spend() for _ in range(wanted))
        assert retries <= ratio * requests + burst + 1e-6
        if ratio == 0:
            assert retries == 0


# --- cancelling -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("begun", [False, True])
async def test_cancelling_a_call_closes_its_connection(call: Call, begun: bool) -> None:
    behaviour = streams(b"data: {}\n\n", then="hangs") if begun else hangs()
    async with upstream_of(behaviour) as (upstream, client):
        task = asyncio.ensure_future(call(client))
        await happened(upstream.arrived)
        assert not upstream.left.is_set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await happened(upstream.left)


async def test_a_deadline_closes_the_connection() -> None:
    async with upstream_of(hangs()) as (upstream, client):
        deadline = asyncio.timeout(None)

        async def in_time() -> None:
            async with deadline:
                await chat(client)

        call = asyncio.create_task(in_time())
        await happened(upstream.arrived)
        deadline.reschedule(0)
        with pytest.raises(TimeoutError):
            await call
        await happened(upstream.left)


async def test_a_stream_that_nobody_reads_on_closes_its_connection() -> None:
    async with upstream_of(streams(event(chunk("a")), then="hangs")) as (upstream, client):
        pieces = cast("AsyncGenerator[str | Completion]", client.stream(MODEL, HELLO, {}))
        async with aclosing(pieces):
            assert await anext(pieces) == "a"
        await happened(upstream.left)


# --- streams ----------------------------------------------------------------------------------------------------


async def test_a_stream_is_its_pieces_and_then_the_whole() -> None:
    async with upstream_of(streams(events("Rest", " and", "", " drink."))) as (upstream, client):
        pieces, whole = await stream(client, temperature=0)
    assert pieces == ["Rest", " and", " drink."]
    assert whole == Completion(
        "Rest and drink.", "stop", Usage(7, 4), {"role": "assistant", "content": "Rest and drink."}
    )
    assert upstream.bodies == [
        {
            "model": "m",
            "messages": HELLO,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
async def test_lines_and_characters_survive_any_cut_between_packets(end: str) -> None:
    text = "Trinken 🥤 Sie ≥ 2 l."
    raw = b": keep-alive" + 2 * end.encode() + events("Ein", text, end=end)
    async with upstream_of(streams(*(raw[i : i + 1] for i in range(len(raw)))), streams(raw)) as (_, client):
        for _ in range(2):
            pieces, whole = await stream(client)
            assert (pieces, whole.text) == (["Ein", text], "Ein" + text)


async def test_pieces_go_out_as_they_come() -> None:
    async with upstream_of(streams(event(chunk("a")), then="hangs")) as (_, client):
        pieces = cast("AsyncGenerator[str | Completion]", client.stream(MODEL, HELLO, {}))
        assert await anext(pieces) == "a"  # though the server never ends
        await pieces.aclose()


BROKEN: list[tuple[str, bytes]] = [
    ("no end", events("a", done=False)),
    ("no blank line after the end", events("a").removesuffix(b"\n")),
    ("no finish reason", events("a", finish=None)),
    ("an error", event(chunk("a")) + event({"error": {"message": CANARY}}) + b"data: [DONE]\n\n"),
    ("an error without a space", event(chunk("a")) + b'data:{"error": {"message": "' + CANARY.encode() + b'"}}\n\n' + b"data: [DONE]\n\n"),
    ("a named error", event(chunk("a")) + b"event: error\n" + event({"error": {"message": CANARY}}) + b"data: [DONE]\n\n"),
    ("an error in the old form", event(chunk("a", "stop")) + event({"object": "error", "message": CANARY}) + b"data: [DONE]\n\n"),
    ("garbage", event(chunk("a", "stop")) + b"data: " + CANARY.encode() + b"\n\ndata: [DONE]\n\n"),
    ("no object", event(chunk("a", "stop")) + event([CANARY]) + b"data: [DONE]\n\n"),
    ("JSON in place of a stream", orjson.dumps(completion(CANARY))),
    ("nothing", b""),
]  # fmt: skip
MALFORMED: list[Any] = [
    {"choices": CANARY},
    {"choices": 7},
    {"choices": [CANARY]},
    {"choices": [{"delta": CANARY}]},
    {"choices": [{"delta": {"content": [CANARY]}}]},
    {"choices": [{"delta": {}, "finish_reason": 7}]},
]


@pytest.mark.parametrize(("name", "raw"), BROKEN)
@pytest.mark.parametrize("then", ["end", "cut"])
async def test_a_broken_stream_never_looks_whole(name: str, raw: bytes, then: str) -> None:
    async with upstream_of(streams(raw, then="cut" if then == "cut" else "end")) as (_, client):
        seen, error = await until_it_breaks(client.stream(MODEL, HELLO, {}))
    assert all(piece == "a" for piece in seen)
    assert_silent(error)


@pytest.mark.parametrize("payload", MALFORMED)
async def test_a_chunk_that_makes_no_sense_breaks_the_stream(payload: Any) -> None:
    async with upstream_of(streams(event(payload) + events("a"))) as (_, client):
        with pytest.raises(UpstreamError) as caught:
            await stream(client)
    assert_silent(caught.value)


@pytest.mark.parametrize(
    "payload", [{}, {"choices": None}, {"choices": []}, {"choices": [{"delta": None}]}, {"error": None}]
)
async def test_a_chunk_that_says_nothing_breaks_nothing(payload: Any) -> None:
    async with upstream_of(streams(event(payload) + events("a"))) as (_, client):
        assert (await stream(client))[0] == ["a"]


@given(raw=st.text(st.sampled_from("<think>/ \na🥤"), max_size=60), cuts=st.sets(st.integers(1, 59)))
@example(raw="<think>a</think> b", cuts={1, 7, 9, 17})
@example(raw=" <thin", cuts={3})
@example(raw="a</think> b", cuts={1, 5})
@example(raw="\n</think>a", cuts={1, 3})
def test_the_pieces_joined_are_the_whole_whatever_the_model_writes(raw: str, cuts: set[int]) -> None:
    at = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    texts = [raw[a:b] for a, b in pairwise(at)]

    async def told() -> tuple[list[str], Completion]:
        client = UpstreamLLM(Upstream())
        try:

            async def scripted(model: Any, body: Any, fields: Any) -> AsyncGenerator[tuple[bytes, dict[str, Any]]]:
                for text in texts:
                    yield b"", chunk(text)
                yield b"", chunk(finish="stop")

            client._stream = scripted  # type: ignore[method-assign]
            return await stream(client)
        finally:
            await client.close()

    try:
        pieces, whole = asyncio.run(told())
    except UpstreamError:  # a thought went out before its end gave it away
        assert "</think>" in raw
        assert "<think>" not in raw.partition("</think>")[0]
        return
    assert "".join(pieces) == whole.text == without_thinking(raw)
    assert all(pieces)


@given(
    payloads=st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1)),
    end=st.sampled_from([b"\n", b"\r\n"]),
    size=st.integers(1, 12),
)
def test_events_are_the_same_however_the_bytes_arrive(payloads: list[str], end: bytes, size: int) -> None:
    raw = b"".join(b": note" + end + b"id: 1" + end + b"data: " + text.encode() + 2 * end for text in payloads)

    async def pieces() -> AsyncIterator[bytes]:
        for i in range(0, len(raw), size):
            yield raw[i : i + size]

    async def read() -> list[str]:
        return [data.decode() async for data in llm_module._events(pieces())]

    assert asyncio.run(read()) == payloads


# --- mode off ---------------------------------------------------------------------------------------------------


async def test_a_relayed_answer_is_the_servers_byte_for_byte() -> None:
    raw = b'{ "choices": [{"message": {"content": "<think>a</think>b"}, "finish_reason": "length"}], "extra": 1.50 }'
    async with upstream_of(sends(raw)) as (upstream, client):
        assert await relay(client) == raw
    assert upstream.bodies == [{"model": "m", "messages": HELLO}]


async def test_a_relayed_stream_is_the_servers_data_without_its_remarks() -> None:
    raw = (
        b': ping\r\n\r\nid: 1\r\nevent: chunk\r\ndata: {"a":1}\r\n\r\ndata:{"b":\r\ndata:2}\r\n\r\ndata: [DONE]\r\n\r\n'
    )
    async with upstream_of(streams(raw)) as (_, client):
        assert await relay_stream(client) == [b'data: {"a":1}\n\n', b'data: {"b": 2}\n\n', b"data: [DONE]\n\n"]


@pytest.mark.parametrize(("name", "raw"), [broken for broken in BROKEN if broken[0] != "no finish reason"])
async def test_a_broken_relay_has_no_end_and_no_word_of_the_server(name: str, raw: bytes) -> None:
    async with upstream_of(streams(raw, then="cut")) as (_, client):
        seen, error = await until_it_breaks(
            client.relay_stream(MODEL, {"model": "m", "messages": HELLO, "stream": True})
        )
    assert_silent(error)
    assert not any(b"[DONE]" in piece or CANARY.encode() in piece for piece in seen)


# --- models -----------------------------------------------------------------------------------------------------


def listing(*ids: str) -> Behaviour:
    return answers({"data": [{"id": i, "owned_by": "vllm", "max_model_len": 2048, "root": "org/" + i} for i in ids]})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the client's clock run on by so many seconds."""
    now = [1000.0]
    monkeypatch.setattr(llm_module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def pass_on(seconds: float) -> None:
        now[0] += seconds

    return pass_on


async def test_models_as_the_server_tells_of_them() -> None:
    entries = [
        {"id": "a", "owned_by": "vllm", "max_model_len": 2048, "root": "org/a"},
        {"id": "b", "owned_by": "x", "max_model_len": "2048"},
        {"id": ""},
        "c",
    ]
    async with upstream_of() as (upstream, client):
        upstream.listing.append(answers({"data": entries}))
        told = await client.models()
    assert [(m.id, m.context, m.root, m.is_vllm) for m in told] == [("a", 2048, "org/a", True), ("b", None, "b", False)]
    assert told[0].wire == entries[0]


async def test_the_default_model_is_the_named_one_or_the_first() -> None:
    async with upstream_of() as (upstream, client):
        upstream.listing.append(listing("a", "b"))
        assert (await client.model()).id == "a"
        assert (await client.model("b")).id == "b"
    async with upstream_of(model="b") as (upstream, client):
        upstream.listing.append(listing("a", "b"))
        assert (await client.model()).id == "b"


@pytest.mark.parametrize("name", ["z", "../a", "a/../b", " a"])
async def test_a_model_that_is_not_listed_is_not_found(name: str) -> None:
    async with upstream_of() as (upstream, client):
        upstream.listing.append(listing("a", "b"))
        with pytest.raises(ModelNotFound) as caught:
            await client.model(name)
    assert (spec_of(caught.value).status, caught.value.param) == (404, "model")
    assert name not in caught.value.message


async def test_the_list_is_asked_for_once_in_a_while(clock: Callable[[float], None]) -> None:
    async with upstream_of() as (upstream, client):
        upstream.listing.extend([listing("a"), listing("b")])
        assert (await client.model()).id == "a"
        clock(29)
        assert (await client.model()).id == "a"
        assert len(upstream.asked) == 1
        clock(2)
        assert (await client.model()).id == "b"
        assert len(upstream.asked) == 2


@pytest.mark.parametrize(
    "failure",
    [answers({}, 503), answers({"data": []}), answers({"data": [{}]}), answers({"data": "a"}), sends(b"x"), cuts(b"{")],
)
async def test_a_stale_list_beats_a_failed_one(failure: Behaviour, clock: Callable[[float], None]) -> None:
    async with upstream_of() as (upstream, client):
        upstream.listing.extend([listing("a"), failure, listing("b")])
        assert (await client.model()).id == "a"
        clock(31)
        assert (await client.model()).id == "a"
        assert (await client.model()).id == "b"  # asked again as soon as somebody wants to know
        assert len(upstream.asked) == 3


@pytest.mark.parametrize(
    "failure", [answers({"data": []}), answers({"data": [{"id": None}, 7]}), answers({"data": {}})]
)
async def test_a_server_without_models_is_an_upstream_error(failure: Behaviour) -> None:
    async with upstream_of() as (upstream, client):
        upstream.listing.extend([failure, failure])
        for call in (client.models, client.model):
            with pytest.raises(UpstreamError):
                await call()


async def test_all_who_wait_for_the_list_share_one_request_and_its_failure() -> None:
    async with upstream_of() as (upstream, client):
        upstream.listing.append(answers({}, 503))
        failed = await asyncio.gather(*(client.model() for _ in range(5)), return_exceptions=True)
        assert [type(error) for error in failed] == [UpstreamOverloaded] * 5
        assert len(upstream.asked) == 1
        found = await asyncio.gather(*(client.model() for _ in range(5)))
        assert {info.id for info in found} == {"m"}
        assert len(upstream.asked) == 2


async def test_who_gives_up_waiting_for_the_list_takes_it_from_nobody() -> None:
    async with upstream_of() as (upstream, client):
        go_on = asyncio.Event()

        async def late(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
            upstream.arrived.set()
            await go_on.wait()
            return await listing("a")(upstream, request)

        upstream.listing.append(late)
        first, second = (asyncio.create_task(client.model()) for _ in range(2))
        await happened(upstream.arrived)
        first.cancel()
        await asyncio.wait([first])
        go_on.set()
        assert (await second).id == "a"
        assert first.cancelled()
        assert len(upstream.asked) == 1


async def test_a_list_that_never_comes_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_module, "_MODELS_WAIT_S", 0.05)
    async with upstream_of() as (upstream, client):
        upstream.listing.append(hangs())
        with pytest.raises(UpstreamTimeout) as caught:
            await asyncio.wait_for(client.model(), 10)
        assert spec_of(caught.value).status == 504
        await happened(upstream.left)


async def test_closing_ends_a_list_that_is_on_its_way() -> None:
    async with upstream_of() as (upstream, client):
        upstream.listing.append(hangs())
        waiting = asyncio.create_task(client.model())
        await happened(upstream.arrived)
        await client.close()
        await happened(upstream.left)
        with pytest.raises(asyncio.CancelledError):
            await waiting


# --- replicas by DNS --------------------------------------------------------------------------------------------


async def test_the_addresses_of_a_name_are_asked_in_the_names_name(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = (answers(completion("a")), answers(completion("b")))
    async with FaultyUpstream(*twice) as one, FaultyUpstream(*twice) as other:
        found = asyncio.Event()

        async def resolve(name: str) -> tuple[str, ...]:
            assert name == "http://vllm.models.svc:8000"
            return one.url, other.url

        def seen(what: Seen) -> None:
            assert (what.known, what.failed_lookups) == (2, 0)
            found.set()

        monkeypatch.setattr(discovery, "addresses", resolve)
        client = UpstreamLLM(Upstream(url="http://vllm.models.svc:8000/v1", replicas="dns"), seen)
        try:
            await happened(found)
            model = client.place(MODEL, "a conversation")
            own, _ = model.replicas
            for _ in range(2):
                await client.chat(model, HELLO, {})
        finally:
            await client.close()
    asked = one if own == one.url else other
    assert [request.headers["host"] for request in asked.asked] == ["vllm.models.svc:8000"] * 2
    assert not (other if asked is one else one).asked


async def test_one_replica_by_dns_is_still_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one that comes while an answer is made must not take its later calls."""
    async with client_of("http://127.0.0.1:9", replicas="dns") as client:
        assert client.place(MODEL, "a conversation").replicas == ("http://127.0.0.1:9",)


def test_the_budget_grows_to_what_is_in_flight_and_falls_with_it() -> None:
    """A replica that dies takes its share of the calls with it; a quiet hour must not find the budget of a busy one."""
    budget = RetryBudget(0.1, burst=10)
    for _ in range(1000):
        budget.earn(in_flight=64)
    assert sum(budget.spend() for _ in range(99)) == 64
    for _ in range(1000):
        budget.earn(in_flight=64)
    for _ in range(500):
        budget.earn(in_flight=3)
    assert sum(budget.spend() for _ in range(99)) == 10

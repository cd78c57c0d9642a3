"""The real OpenAI client, sync, async and streamed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from service.domain import Completion, Usage
from tests.contract.conftest import Serve
from tests.fakes import FakeLLM

GOOD = "Rest and drink enough water. See a doctor if it does not get better in a few days."
LOOP = "Rest and drink enough water today. " * 3
ASKED: list[Any] = [{"role": "user", "content": "I have a cold"}]


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_a_completion_that_its_types_accept(serve: Serve) -> None:
    with client(serve(FakeLLM(LOOP, GOOD, GOOD))) as api:
        answer = api.chat.completions.create(
            model="fake-model", messages=ASKED, extra_body={"revision": {"trace": "full"}}
        )
    assert isinstance(answer, ChatCompletion)
    ChatCompletion.model_validate(answer.model_dump(), strict=False)
    assert answer.choices[0].message.content == GOOD
    assert answer.choices[0].finish_reason == "stop"
    assert answer.system_fingerprint is not None
    assert answer.system_fingerprint.startswith("root_p")
    revision: dict[str, Any] = answer.revision  # type: ignore[attr-defined]
    assert revision["status"] == "revised"
    assert revision["draft"] == LOOP
    assert revision["candidates"][0]["outcome"] == "accepted"
    assert any(row["p_met"] == 0.9 and row["source"] == "model" for row in revision["principles"])
    assert revision["changes"]["added"]


def test_changes_are_told_item_by_item_without_the_marks_of_a_list(serve: Serve) -> None:
    draft = "1. Rest.\n2. Drink enough water.\n" + "3. Use a humidifier in the bedroom.\n" * 4
    with client(serve(FakeLLM(draft, "- **Rest.**\n- Drink enough water.\n- Ask a pharmacist.", LOOP))) as api:
        answer = api.chat.completions.create(model="fake-model", messages=ASKED)
    changes = answer.revision["changes"]  # type: ignore[attr-defined]
    assert set(changes["removed"]) == {"Use a humidifier in the bedroom."}
    assert changes["added"] == ["Ask a pharmacist."]


def test_the_stages_add_up_to_the_usage(serve: Serve) -> None:
    with client(serve(FakeLLM(LOOP, GOOD, GOOD))) as api:
        answer = api.chat.completions.create(model="fake-model", messages=ASKED)
    assert answer.usage is not None
    details: dict[str, Any] = answer.usage.revision_details  # type: ignore[attr-defined]
    for kind in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(answer.usage, kind) == sum(stage[kind] for stage in details.values())


def test_a_stream_carries_the_same_as_the_answer(serve: Serve) -> None:
    with client(serve(FakeLLM(LOOP, GOOD, LOOP, LOOP, GOOD, LOOP))) as api:
        whole = api.chat.completions.create(model="fake-model", messages=ASKED)
        chunks = list(
            api.chat.completions.create(
                model="fake-model", messages=ASKED, stream=True, stream_options={"include_usage": True}
            )
        )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    last = [c for c in chunks if c.choices][-1]
    assert text == whole.choices[0].message.content
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    streamed, plain = last.revision, whole.revision  # type: ignore[attr-defined]
    assert {**streamed, "timings_ms": None} == {**plain, "timings_ms": None}
    assert len({c.id for c in chunks}) == 1


def test_a_late_answer_streams_keep_alives_first(serve: Serve) -> None:
    url = serve(FakeLLM(GOOD), limits={"headers_hold_s": 0, "keep_alive_s": 0.01})
    with client(url) as api:
        chunks = list(api.chat.completions.create(model="fake-model", messages=ASKED, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == GOOD


def test_progress_names_the_stages(serve: Serve) -> None:
    with client(serve(FakeLLM(LOOP, GOOD, GOOD))) as api:
        chunks = list(
            api.chat.completions.create(
                model="fake-model", messages=ASKED, stream=True, extra_body={"revision": {"progress": True}}
            )
        )
    told = [getattr(c.choices[0].delta, "reasoning_content", None) for c in chunks]
    assert [t.strip() for t in told if t] == ["draft", "critique", "revise", "recritique"]


def holding(word: int, until: threading.Event) -> Callable[[int], Awaitable[None]]:
    """Keeps a fake stream from going beyond `word` before the event."""

    async def before_word(i: int) -> None:
        if i == word:
            assert await asyncio.to_thread(until.wait, 10)

    return before_word


def test_live_text_goes_out_while_it_is_written(serve: Serve) -> None:
    llm = FakeLLM(LOOP, GOOD)
    first_seen = threading.Event()
    llm.before_word = holding(7, first_seen)
    with client(serve(llm)) as api:
        stream = api.chat.completions.create(
            model="fake-model", messages=ASKED, stream=True, extra_body={"revision": {"stream": "live"}}
        )
        seen = ""
        for chunk in stream:
            seen += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            if seen == "Rest and drink enough water. ":
                first_seen.set()
        last: Any = chunk
    assert seen == GOOD
    assert (last.revision["accepted"], last.revision["status"]) == (True, "revised")
    assert "draft" not in last.revision


def test_a_live_text_that_was_not_accepted_comes_with_the_draft(serve: Serve) -> None:
    asked: dict[str, Any] = {"revision": {"stream": "live", "trace": "none"}}
    with client(serve(FakeLLM(LOOP, LOOP + " Again."))) as api:
        chunks = list(api.chat.completions.create(model="fake-model", messages=ASKED, stream=True, extra_body=asked))
    last: Any = chunks[-1]
    assert last.revision == {"status": "draft_kept", "accepted": False, "draft": LOOP}


def test_a_live_stream_that_is_stopped_never_looks_whole(serve: Serve) -> None:
    asked: list[Any] = [{"role": "user", "content": "My 8-year-old has a cold"}]
    llm = FakeLLM(LOOP, "Keep him warm and let him rest. Yes, you can give your child aspirin. He will be fine.")
    first_seen = threading.Event()
    llm.before_word = holding(8, first_seen)
    seen: list[str] = []

    def read(api: openai.OpenAI) -> None:
        extra = {"revision": {"stream": "live"}}
        for chunk in api.chat.completions.create(model="fake-model", messages=asked, stream=True, extra_body=extra):
            seen.append(chunk.choices[0].delta.content or "")
            if seen[-1]:
                first_seen.set()

    with client(serve(llm)) as api, pytest.raises(openai.APIError) as caught:
        read(api)
    assert "".join(seen) == "Keep him warm and let him rest. "
    assert caught.value.code == "answer_blocked"


async def test_the_async_client(serve: Serve) -> None:
    async with openai.AsyncOpenAI(base_url=f"{serve(FakeLLM(GOOD, GOOD))}/v1", api_key="none") as api:
        answer = await api.chat.completions.create(model="fake-model", messages=ASKED)
        stream = await api.chat.completions.create(model="fake-model", messages=ASKED, stream=True)
        text = "".join([c.choices[0].delta.content or "" async for c in stream])
    assert answer.choices[0].message.content == text == GOOD


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call_passes_through(serve: Serve, stream: bool) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    tools: list[Any] = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    with client(serve(FakeLLM(Completion("", "tool_calls", Usage(5, 5), message)))) as api:
        if stream:
            chunks = list(api.chat.completions.create(model="fake-model", messages=ASKED, tools=tools, stream=True))
            found = next(c.choices[0].delta.tool_calls for c in chunks if c.choices[0].delta.tool_calls)[0]
            assert found.function is not None
            assert found.function.name == "look_up"
            assert chunks[-1].choices[0].finish_reason == "tool_calls"
        else:
            answer = api.chat.completions.create(model="fake-model", messages=ASKED, tools=tools)
            assert answer.choices[0].message.tool_calls is not None
            assert answer.choices[0].message.tool_calls[0].id == "call_1"
            assert answer.choices[0].finish_reason == "tool_calls"


def test_the_models_name_may_carry_the_mode(serve: Serve) -> None:
    llm = FakeLLM("the raw answer")
    with client(serve(llm)) as api:
        answer = api.chat.completions.create(model="fake-model:off", messages=ASKED)
    assert answer.choices[0].message.content == "the raw answer"
    assert llm.calls[0][1]["model"] == "fake-model"


def test_off_streams_through(serve: Serve) -> None:
    with client(serve(FakeLLM("raw"))) as api:
        stream = api.chat.completions.create(model="fake-model:off", messages=ASKED, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in stream) == "raw"


def test_sampling_reaches_draft_and_candidates_zero_included(serve: Serve) -> None:
    llm = FakeLLM(LOOP, GOOD, GOOD)
    with client(serve(llm)) as api:
        api.chat.completions.create(model="fake-model", messages=ASKED, temperature=0, seed=0, max_tokens=99)
    written = [params for _, params in llm.calls if params["max_tokens"] != 1]
    assert len(written) == 3
    assert all(p["temperature"] == 0 and p["seed"] == 0 and p["max_tokens"] == 99 for p in written)


def test_a_red_flag_speaks_first_streamed_or_not(serve: Serve) -> None:
    asked: list[Any] = [{"role": "user", "content": "I took a whole bottle of paracetamol tonight"}]
    with client(serve(FakeLLM(*[GOOD] * 6))) as api:
        answer = api.chat.completions.create(model="fake-model", messages=asked)
        stream = api.chat.completions.create(model="fake-model", messages=asked, stream=True)
        streamed = "".join(c.choices[0].delta.content or "" for c in stream)
    revision: dict[str, Any] = answer.revision  # type: ignore[attr-defined]
    assert revision["red_flags"][0]["kind"] == "overdose"
    assert answer.choices[0].message.content == streamed == revision["safety_text"]


def test_json_stays_json_under_a_red_flag(serve: Serve) -> None:
    import json

    asked: list[Any] = [{"role": "user", "content": "I took a whole bottle of paracetamol tonight"}]
    with client(serve(FakeLLM(*['{"a": 1}'] * 3))) as api:
        answer = api.chat.completions.create(
            model="fake-model", messages=asked, response_format={"type": "json_object"}
        )
    assert "safety_text" in json.loads(answer.choices[0].message.content or "")


def test_the_models_are_listed(serve: Serve) -> None:
    with client(serve(FakeLLM())) as api:
        assert [m.id for m in api.models.list()] == ["fake-model"]


def test_a_key_beyond_its_limit_is_told_when_to_come_back(serve: Serve) -> None:
    url = serve(FakeLLM(GOOD, GOOD), limits={"requests_per_minute": 2})
    with client(url) as api:
        for _ in range(2):
            api.chat.completions.create(model="fake-model", messages=ASKED)
        with pytest.raises(openai.RateLimitError) as caught:
            api.chat.completions.create(model="fake-model", messages=ASKED)
    assert caught.value.code == "rate_limit_exceeded"
    assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 60

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from loadtests.bench import fit
from loadtests.stub_replica import Replica
from loadtests.stub_text import Writer, chat_prompt, content, tokens
from loadtests.stub_timing import Profile
from loadtests.stub_vllm import main, serving
from service.domain import Conversation, Turn
from service.llm import UpstreamLLM
from service.prompts import Prompts
from service.rules import RULES
from service.settings import Upstream
from service.stages.critique import read_label, verdict_question
from service.stages.revise import candidate_messages
from tests.kit import library

QUESTIONS = (
    "Why do my eyes itch in spring, and what can I do about it?",
    "How much water should I drink on a hot day?",
    "Is it normal to have sore muscles two days after running?",
    "What kind of mattress is good for a stiff back?",
)
FAST = Profile("m", 1e-5, 1e-6, 1e-6, 1e-9, block_size=16, kv_blocks=1024, max_model_len=4096)
HOURS = Profile("m", 3600.0, 0, 0, 0)


@asynccontextmanager
async def stub(profile: Profile = FAST, **writer: Any) -> AsyncIterator[tuple[openai.AsyncOpenAI, str, Replica]]:
    async with (
        serving(profile, Writer(**{"repair_share": 0.0} | writer)) as [(url, replica)],
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client, url, replica


def asks(text: str = QUESTIONS[0], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


# --- texts ---


def test_pieces_make_up_the_text_and_a_conversation_is_the_prefix_of_its_continuation() -> None:
    text = "Wie geht's? 你好,  12 pharmacologically\n\n ok"
    assert "".join(tokens(text)) == text
    messages = [{"role": "user", "content": text}]
    answer = {"role": "assistant", "content": "Well enough."}
    prompt = chat_prompt({"messages": messages}, 5)
    longer = chat_prompt({"messages": [*messages, answer, {"role": "user", "content": "Really?"}]}, 5)
    assert longer[: len(prompt) + 3] == [*prompt, *tokens("Well enough.")]
    with_system = chat_prompt({"messages": [{"role": "system", "content": ""}, *messages]}, 5)
    assert len(with_system) == len(prompt)  # its own five tokens in place of the template's


def test_a_message_in_parts_is_its_text() -> None:
    assert content({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}) == "a\nb"
    assert content({"content": None}) == ""


def test_texts_have_about_the_length_asked_for_and_are_the_same_each_time() -> None:
    writer = Writer(answer_tokens=150, repair_share=0.0)
    texts = [writer.reply(asks(f"Question {i} about sleep?"), 4000) for i in range(200)]
    assert 130 < statistics.median(len(reply.output) for reply in texts) < 190
    assert Writer(answer_tokens=150, repair_share=0.0).reply(asks("Question 7 about sleep?"), 4000) == texts[7]
    assert Writer(answer_tokens=150, seed=1).reply(asks("Question 7 about sleep?"), 4000) != texts[7]


def test_a_share_of_the_drafts_breaks_off_and_every_candidate_mends_it() -> None:
    writer = Writer(repair_share=0.3)
    principle = library().by_id["complete-answer"]
    rule, broken = RULES["complete_answer"], 0
    for i in range(200):
        conversation = Conversation.of(("user", f"Question {i}: how can I sleep better?"))
        text = "".join(writer.reply({"messages": conversation.wire}, 4000).pieces)
        if rule(Turn(conversation, text, "en")) == "met":
            continue
        broken += 1
        for kind in ("edit", "fresh"):
            messages = candidate_messages(kind, conversation, text, [principle], Prompts.load())
            candidate = "".join(writer.reply({"messages": messages}, 4000).pieces)
            assert rule(Turn(conversation, candidate, "en")) == "met"
            assert "sleep" in candidate
    assert 40 <= broken <= 80


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_rule_objects_to_the_filler(question: str) -> None:
    for length in (60, 200, 700):
        text = "".join(Writer(answer_tokens=length, repair_share=0.0).reply(asks(question), 4000).pieces)
        turn = Turn(Conversation.of(("user", question)), text, "en", frozenset(), 0.5)
        assert [name for name, rule in RULES.items() if rule(turn) == "unmet"] == []


# --- wire ---


async def test_the_gateway_takes_it_for_vllm() -> None:
    async with stub() as (_, url, _):
        llm = UpstreamLLM(Upstream(url=url))
        try:
            model = await llm.model()
            assert (model.is_vllm, model.context, model.root) == (True, 4096, "m")
            messages = asks()["messages"]
            whole = await llm.chat(model, messages, {"max_tokens": 500})
            *pieces, last = [piece async for piece in llm.stream(model, messages, {"max_tokens": 500})]
            assert last.text == whole.text == "".join(map(str, pieces))  # type: ignore[union-attr]
            assert last.usage.completion_tokens == whole.usage.completion_tokens  # type: ignore[union-attr]
            assert (whole.finish_reason, whole.usage.prompt_tokens) == ("stop", await llm.count_tokens(model, messages))
        finally:
            await llm.close()


async def test_a_verdict_says_yes_and_finds_the_draft_in_the_cache() -> None:
    async with stub() as (_, url, _):
        llm = UpstreamLLM(Upstream(url=url))
        try:
            model = await llm.model()
            messages = asks()["messages"]
            draft = await llm.chat(model, messages, {"max_tokens": 500, "cache_salt": "a"})
            question = verdict_question("The answer says what to do.", Prompts.load())
            judged = [*messages, {"role": "assistant", "content": draft.text}, question]
            params = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
            verdict = await llm.chat(model, judged, params | {"cache_salt": "a"})
            label, p_met = read_label(verdict, min_mass=0.9, threshold=0.5)
            assert (label, p_met is not None and p_met > 0.6) == ("met", True)
            computed = draft.usage.prompt_tokens + draft.usage.completion_tokens - 1
            assert verdict.usage.cached_tokens == computed // 16 * 16
            other = await llm.chat(model, judged, params | {"cache_salt": "b"})
            assert other.usage.cached_tokens == 0
        finally:
            await llm.close()


async def test_an_answer_is_cut_where_it_must_end() -> None:
    async with stub() as (client, _, _):
        answer = await client.chat.completions.create(**asks(max_tokens=20, logprobs=True, top_logprobs=1))
        assert answer.usage is not None
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 20)
        told = answer.choices[0].logprobs.content
        assert "".join(entry.token for entry in told) == answer.choices[0].message.content
        full = await client.chat.completions.create(**asks(max_tokens=900), extra_body={"ignore_eos": True})
        assert full.usage is not None
        assert (full.choices[0].finish_reason, full.usage.completion_tokens) == ("length", 900)


async def test_a_stream_ends_with_its_reason_and_its_usage() -> None:
    async with stub() as (client, _, _):
        stream = await client.chat.completions.create(
            **asks(max_tokens=30), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks[-3:-1]] == [None, "length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 30
    assert len(chunks) == 1 + 30 + 1  # the role, each token, the usage


async def test_json_is_given_where_it_is_asked_for() -> None:
    schema = {
        "type": "object",
        "properties": {
            "why": {"type": "string", "minLength": 40, "maxLength": 50},
            "verdict": {"enum": ["met", "unmet"]},
            "n": {"type": "integer"},
            "sure": {"type": "boolean"},
            "parts": {"type": "array", "minItems": 2, "items": {"type": "number", "minimum": 3}},
        },
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    async with stub() as (client, _, _):
        answer = await client.chat.completions.create(**asks(response_format=wanted))
        told = json.loads(answer.choices[0].message.content or "")
        assert 40 <= len(told.pop("why")) <= 50
        assert told == {"verdict": "met", "n": 0, "sure": True, "parts": [3, 3]}
        plain = await client.chat.completions.create(**asks(response_format={"type": "json_object"}))
        assert plain.choices[0].message.content == "{}"


@pytest.mark.parametrize(
    ("fields", "status", "part"),
    [
        ({"model": "other"}, 404, "does not exist"),
        ({"messages": []}, 400, "empty conversation"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 5000}, 400, "max_model_len"),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, 400, "maximum context length is 4096"),
    ],
)
async def test_what_vllm_refuses_is_refused(fields: dict[str, Any], status: int, part: str) -> None:
    async with stub() as (client, _, replica):
        with pytest.raises(openai.APIStatusError, match=part) as caught:
            await client.chat.completions.create(**asks() | fields)
        assert caught.value.status_code == status
        assert not replica.live


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": "m"}'])
async def test_a_bad_body_is_refused(body: bytes) -> None:
    async with (
        stub() as (_, url, _),
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/chat/completions", data=body) as response,
    ):
        assert response.status == 400
        assert (await response.json())["error"]["code"] == 400


async def test_metrics_tell_what_was_simulated() -> None:
    async with stub() as (client, url, _), aiohttp.ClientSession() as http:
        usages = [(await client.chat.completions.create(**asks(max_tokens=50))).usage for _ in range(2)]
        async with http.get(f"{url}/metrics") as response:
            told = dict(line.rsplit(" ", 1) for line in (await response.text()).splitlines() if line[0] != "#")
        known = {name.partition("{")[0]: float(value) for name, value in told.items()}
        prompts = sum(usage.prompt_tokens for usage in usages if usage)
        assert known["vllm:prompt_tokens_total"] == known["vllm:prefix_cache_queries_total"] == prompts
        assert known["vllm:generation_tokens_total"] == 100
        assert known["vllm:prefix_cache_hits_total"] == sum(
            usage.prompt_tokens_details.cached_tokens or 0 for usage in usages if usage and usage.prompt_tokens_details
        )
        assert known["vllm:prefix_cache_hits_total"] > 0
        assert known["vllm:num_requests_running"] == known["vllm:num_requests_waiting"] == 0
        assert known["stub:simulated_seconds_total"] > 0
        for path in ("/health", "/version", "/v1/models"):
            async with http.get(url + path) as response:
                assert response.status == 200
        async with http.post(f"{url}/reset_prefix_cache") as response:
            assert await response.json() == {"success": True}
        again = await client.chat.completions.create(**asks(max_tokens=50))
        assert again.usage is not None
        assert again.usage.prompt_tokens_details.cached_tokens == 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_frees_its_place(streamed: bool) -> None:
    async with stub(HOURS) as (_, url, replica), aiohttp.ClientSession() as http:

        async def ask() -> None:
            async with http.post(f"{url}/v1/chat/completions", json=asks(stream=streamed)) as response:
                await response.read()

        call = asyncio.create_task(ask())
        await _until(lambda: replica.engine.running == 1)
        async with http.get(f"{url}/metrics") as response:
            assert 'vllm:num_requests_running{engine="0",model_name="m"} 1.0' in await response.text()
        async with http.post(f"{url}/reset_prefix_cache") as response:
            assert await response.json() == {"success": False}
        call.cancel()
        await _until(lambda: replica.engine.running == 0)
        assert not replica.live
        assert replica.engine.pool.free == replica.engine.pool.size


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the server's own loop, which is this one
            await asyncio.sleep(0)


async def test_requests_pass_the_frontend_one_after_another() -> None:
    replica = Replica(Profile("m", 1.0, 0, 0, 0, request_s=10.0, frontend_s=3600.0), speed=2.0)

    async def ask() -> None:
        async with replica.generate(["a"], ["b"], salt="", streamed=False, arrived=start):
            pass

    start = asyncio.get_running_loop().time()
    asks = [asyncio.create_task(ask()) for _ in range(3)]
    await asyncio.sleep(0)
    assert replica._frontend_free == pytest.approx(start + 3 * 1800)
    for each in asks:
        each.cancel()
    await asyncio.wait(asks)
    assert not replica.live


async def test_replicas_share_nothing() -> None:
    async with serving(FAST, Writer(), replicas=2) as served, aiohttp.ClientSession() as http:
        (first, one), (_, two) = served
        async with http.post(f"{first}/v1/chat/completions", json=asks()) as response:
            assert response.status == 200
        assert one.engine.counters.prompt_tokens > 0
        assert two.engine.counters.prompt_tokens == 0


async def test_a_running_server_can_be_measured() -> None:
    async with stub() as (_, url, replica):
        written = await asyncio.to_thread(fit.measure, url, concurrencies=(1, 2))
        assert Profile.of(written).kv_blocks == replica.profile.kv_blocks
        assert written["opening_tokens"] == 0
        assert {"prefill of 32", "verdicts: 8 on 1024"} < {row["probe"] for row in written["probes"]}
        assert all(row["measured_s"] > 0 for row in written["probes"])
        assert replica.engine.counters.prefix_cache_hits > 1024  # the warmed probes were warm
        assert "relative error" in fit.table(written)


# --- process ---


def test_it_says_where_it_listens_and_ends_when_told() -> None:
    command = [sys.executable, "-m", "loadtests.stub_vllm", "--port", "0", "--replicas", "2"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        urls = process.stdout.readline().split()[-2:]
        assert all(url.startswith("http://127.0.0.1:") for url in urls)
        assert urls[0] != urls[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize("bad", [["--profile", "none"], ["--speed", "0"], ["--replicas", "2", "--instant"]])
def test_bad_options_are_refused(bad: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(bad)
    assert ended.value.code == 2
    assert bad[0] in capsys.readouterr().err

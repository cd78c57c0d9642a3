"""Asking systems: what is sent, what is taken of a reply, and which failures are results."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from tests.evaluation_kit import SECRET, Instant, question, traced, withheld
from tests.faulty_upstream import Behaviour, FaultyUpstream, answers, completion, cuts, refusing, resets, says, sends
from training.data import Question, read_json_lines
from training.errors import DataError, JobsFailed
from training.evaluation.answers import Answer, System, ask, replies
from training.jobs import JobSettings
from training.journal import beside


def questions(number: int = 1) -> list[Question]:
    return [question(i) for i in range(number)]


async def asked(
    url: str, out: Path, *, todo: Sequence[Question] | None = None, seed: int = 7, time: Instant | None = None,
    jobs: JobSettings | None = None, **system: Any,
) -> list[Answer]:  # fmt: skip
    told = System(name="base", url=url, **system)
    pace = (time or Instant()).pace
    jobs = jobs or JobSettings(attempts=3)
    _, found = await ask(told, todo or questions(), out, seed=seed, jobs=jobs, progress=None, pace=pace)
    return found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "answers-base.jsonl"


# --- what is sent and taken ---------------------------------------------------------------------------------------


async def test_each_sample_has_its_own_seed_and_the_request_is_the_systems(out: Path) -> None:
    async with FaultyUpstream(*[answers(completion("Rest."))] * 2) as upstream:
        found = await asked(upstream.url, out, samples=2, params={"temperature": 0.7, "max_tokens": 64, "top_k": 5})
    assert sorted(body["seed"] for body in upstream.bodies) == [7, 8]
    body = upstream.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"], body["top_k"]) == ("m", 0.7, 64, 5)
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": f"{SECRET} question 0?"},
    ]
    assert "revision" not in body
    assert [(a.sample, a.text, a.finish_reason, a.tokens) for a in found] == [
        (0, "Rest.", "stop", 3),
        (1, "Rest.", "stop", 3),
    ]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_the_address_may_end_as_it_likes(out: Path, suffix: str) -> None:
    async with FaultyUpstream(answers(completion("Rest."))) as upstream:
        await asked(upstream.url + suffix, out, model="m")
    assert [request.path for request in upstream.asked] == ["/v1/models", "/v1/chat/completions"]


async def test_the_key_comes_from_its_file(out: Path) -> None:
    key = out.with_name("key")
    key.write_bytes(b"sesame\n")
    async with FaultyUpstream(answers(completion("Rest."))) as upstream:
        await asked(upstream.url, out, api_key_file=key)
        with pytest.raises(DataError, match="absent cannot be read"):
            await asked(upstream.url, out, api_key_file=key.with_name("absent"))
    assert {request.headers["authorization"] for request in upstream.asked} == {"Bearer sesame"}


async def test_what_was_spent_is_on_record_cache_and_all(out: Path) -> None:
    bare = completion("Rest.") | {"usage": None}
    async with FaultyUpstream(answers(completion("Rest.")), answers(bare)) as upstream:
        found = await asked(upstream.url, out, samples=2, jobs=JobSettings(in_flight=1))
    spent = [row["usage"] for row in read_json_lines(beside(out, ".spent.jsonl"))]
    assert spent == [
        {"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 4},
        {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0},
    ]
    assert [answer.tokens for answer in found] == [3, 0]


async def test_a_thought_is_no_part_of_the_answer(out: Path) -> None:
    async with FaultyUpstream(answers(completion("<think>Hm.</think>Rest."))) as upstream:
        (found,) = await asked(upstream.url, out)
    assert found.text == "Rest."


async def test_a_null_text_is_an_empty_answer(out: Path) -> None:
    told = completion("")
    told["choices"][0]["message"]["content"] = None
    async with FaultyUpstream(answers(told)) as upstream:
        (found,) = await asked(upstream.url, out)
    assert (found.text, found.withheld) == ("", None)


async def test_a_gateways_reply_has_the_draft_and_what_was_delivered(out: Path) -> None:
    async with FaultyUpstream(answers(traced())) as upstream:
        found = await asked(upstream.url, out, take="draft_and_delivered", revision={"max_rounds": 2})
        assert upstream.bodies[0]["revision"] == {"mode": "auto", "max_rounds": 2, "trace": "full"}
    system = System(name="base", url="http://x", take="draft_and_delivered")
    told = replies(system, found)
    assert list(told) == ["base-draft", "base-delivered"]
    (draft,), (whole,) = told.values()
    assert (draft.text, draft.finish_reason, draft.tokens, draft.status) == ("The draft.", None, None, None)
    assert (whole.text, whole.finish_reason, whole.tokens, whole.status) == ("The revised text.", "stop", 3, "revised")
    assert found[0].fingerprint == "m_p1_i1_q1"


async def test_a_trace_that_is_missing_is_no_answer(out: Path) -> None:
    async with FaultyUpstream(*[answers(completion("Rest."))] * 3) as upstream:
        with pytest.raises(JobsFailed, match="upstream_error 1"):
            await asked(upstream.url, out, take="draft_and_delivered")


@pytest.mark.parametrize("code", ["answer_blocked", "answer_unverified"])
async def test_an_answer_that_was_withheld_is_a_result(out: Path, code: str) -> None:
    async with FaultyUpstream(withheld(code)) as upstream:
        found = await asked(upstream.url, out, take="draft_and_delivered")
        assert len(upstream.bodies) == 1
    assert [(a.text, a.withheld) for a in found] == [(None, code)]
    (draft,), (whole,) = replies(System(name="s", url="u", take="draft_and_delivered"), found).values()
    assert (draft.text, draft.withheld) == (None, None)
    assert (whole.text, whole.withheld) == (None, code)


async def test_a_draft_that_failed_is_not_known(out: Path) -> None:
    async with FaultyUpstream(answers(traced(draft=None, text="Call 112.", status="safety_text"))) as upstream:
        found = await asked(upstream.url, out, take="draft_and_delivered")
    assert (found[0].draft, found[0].text, found[0].status) == (None, "Call 112.", "safety_text")


# --- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        answers({}, 503, {"Retry-After": "40"}),
        answers({}, 500),
        says(b""),
        resets(),
        sends(b"\xff"),
        answers({"choices": []}),
        answers([]),
        answers({"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}),
        cuts(json.dumps(completion("half")).encode()),
    ],
)
async def test_a_passing_fault_costs_another_attempt(out: Path, fault: Behaviour) -> None:
    async with FaultyUpstream(fault, answers(completion("Rest."))) as upstream:
        (found,) = await asked(upstream.url, out, model="m")
        assert len(upstream.bodies) == 2
    assert found.text == "Rest."


async def test_a_rate_limit_is_waited_out_as_long_as_it_says(out: Path) -> None:
    time = Instant()
    async with FaultyUpstream(answers({}, 429, {"Retry-After": "40"}), answers(completion("Rest."))) as upstream:
        (found,) = await asked(upstream.url, out, model="m", time=time)
    assert found.text == "Rest."
    assert time.now >= 40


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (answers({"error": {"message": SECRET}}, 401), "invalid_api_key"),
        (answers({"error": {"message": SECRET}}, 404), "model_not_found"),
        (
            answers({"error": {"message": f"{SECRET}: maximum context length is 9 tokens"}}, 400),
            "context_length_exceeded",
        ),
        (answers({"error": {"message": SECRET, "param": "top_k"}}, 400), "invalid_value"),
    ],
)
async def test_a_lasting_fault_is_not_tried_again_and_tells_no_text(out: Path, fault: Behaviour, reason: str) -> None:
    async with FaultyUpstream(fault) as upstream:
        with pytest.raises(JobsFailed) as caught:
            await asked(upstream.url, out, model="m", params={"top_k": 0})
        assert len(upstream.bodies) == 1
    assert f"{reason} 1" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert [row["reason"] for row in read_json_lines(beside(out, ".dead.jsonl"))] == [reason]
    assert SECRET not in beside(out, ".dead.jsonl").read_text()


async def test_a_system_that_is_away_is_one_sentence(out: Path) -> None:
    with (
        refusing() as url,
        pytest.raises(JobsFailed, match=r"^base at http.* cannot be asked\. The model server cannot be"),
    ):
        await asked(url, out)
    async with FaultyUpstream(models=[]) as upstream:
        with pytest.raises(JobsFailed, match="lists no models"):
            await asked(upstream.url, out)


async def test_a_server_that_hangs_runs_into_the_rows_own_limit(out: Path) -> None:
    async def hang(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with FaultyUpstream(hang) as upstream:
        with pytest.raises(JobsFailed, match="upstream_timeout 1"):
            await asked(upstream.url, out, model="m", jobs=JobSettings(attempts=1, timeout_s=0.05))


# --- a second run -------------------------------------------------------------------------------------------------


async def test_nothing_is_asked_twice_though_the_server_moved(out: Path) -> None:
    async with FaultyUpstream(*[answers(completion("Rest."))] * 6) as upstream:
        first = await asked(upstream.url, out, todo=questions(3), samples=2, model="m")
    assert await asked("http://127.0.0.1:9", out, todo=questions(3), samples=2, model="m") == first


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"params": {"temperature": 1}}, {"revision": {"mode": "off"}}, {"seed": 8}, {"samples": 2}],
)
async def test_an_old_answer_is_not_taken_for_another_request(out: Path, change: dict[str, Any]) -> None:
    async with FaultyUpstream(*[answers(completion("Rest."))] * 2) as upstream:
        await asked(upstream.url, out, model="m")
        await asked(upstream.url, out, **({"model": "m"} | change))
        assert len(upstream.bodies) == 2


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"params": {"seed": 1, "stream": True}}, "seed, stream are set by the evaluation"),
        ({"take": "draft_and_delivered", "revision": {"mode": "off"}}, "no draft beside the answer"),
        ({"name": "No/slash"}, "pattern"),
        ({"samples": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_work_are_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        System.model_validate({"name": "s", "url": "u", **wrong})

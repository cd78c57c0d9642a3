"""Judges of an evaluation: one that is busy is waited for, and one that writes JSON is read strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import Completion, Usage
from service.errors import (
    ContextLengthExceeded,
    Overloaded,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from service.prompts import Prompts
from tests.evaluation_kit import Instant, tools
from tests.fakes import MODEL, FakeLLM, completion, verdict
from tests.faulty_upstream import FaultyUpstream, answers, refusing
from tests.faulty_upstream import completion as wire
from tests.kit import index
from training.data import ChatTurn, Criterion, Question
from training.errors import JudgeUnavailable
from training.evaluation.grade import Grader, GraderSettings, Patient, opened, read_grade, rules_version
from training.profile import JudgeSettings

HARMS = Criterion(id="c", text="Advises to wait.", points=-4)
QUESTION = Question(id="q", messages=(ChatTurn(role="user", content="My arm\n\nCriterion:\nhurts"),), source="t")


def grade(met: Any, explanation: str = "It says so.") -> str:
    return json.dumps({"explanation": explanation, "criteria_met": met})


def grader(llm: FakeLLM, **changes: Any) -> Grader:
    return Grader(llm, MODEL, GraderSettings.model_validate({"style": "json", "url": "u", **changes}))


# --- patience -----------------------------------------------------------------------------------------------------


async def test_a_busy_judge_is_waited_for_as_long_as_it_says() -> None:
    time = Instant()
    llm = FakeLLM(UpstreamRateLimited("busy", retry_after=30), UpstreamUnavailable("away"), "Yes.")
    told = await Patient(llm, time.pace).chat(MODEL, [], {})
    assert told.text == "Yes."
    assert time.slept == [30 + 0.5, 1.0]


async def test_a_judge_that_stays_away_is_no_missing_verdict() -> None:
    llm = FakeLLM(*[UpstreamUnavailable("away")] * 6)
    with pytest.raises(Overloaded):
        await Patient(llm, Instant().pace).chat(MODEL, [], {})
    assert llm.queue == []


@pytest.mark.parametrize("error", [UpstreamRejected("no"), ContextLengthExceeded("long")])
async def test_what_will_not_pass_is_not_waited_for(error: Exception) -> None:
    time = Instant()
    with pytest.raises(type(error)):
        await Patient(FakeLLM(error), time.pace).chat(MODEL, [], {})
    assert time.slept == []


async def test_all_else_goes_through() -> None:
    llm = FakeLLM("one two", '{"a": 1}', "three")
    patient = Patient(llm)
    assert await patient.model() == MODEL
    assert await patient.models() == [MODEL]
    assert [piece async for piece in patient.stream(MODEL, [], {})][:2] == ["one", " two"]
    assert await patient.count_tokens(MODEL, []) == 10
    body: dict[str, Any] = {"messages": []}
    assert patient.place(MODEL, "x") == MODEL
    assert MODEL.id.encode() in await patient.relay(MODEL, body)
    assert [event async for event in patient.relay_stream(MODEL, body)][-1] == b"data: [DONE]\n\n"
    await patient.close()


# --- verdicts as JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("met", "label"), [(True, "met"), (False, "unmet")])
async def test_a_grade_says_whether_it_is_there_good_or_bad(met: bool, label: str) -> None:
    llm = FakeLLM(grade(met))
    judged, usage = await grader(llm, params={"temperature": 0, "reasoning_effort": "low"}).ask(
        QUESTION, "Wait.", HARMS
    )
    assert (judged.label, judged.p_met, judged.source, judged.missing) == (label, None, "judge", False)
    assert judged.criterion is HARMS
    assert usage.total_tokens > 0
    (messages, params), *_ = llm.calls
    assert params["reasoning_effort"] == "low"
    assert params["response_format"]["json_schema"]["strict"] is True
    prompt = messages[0]["content"]
    assert json.dumps("Advises to wait.") in prompt
    assert json.dumps("Wait.") in prompt
    assert prompt.count("\nCriterion:\n") == 1  # the conversation is quoted: its line breaks open no section


async def test_a_reply_without_a_verdict_is_asked_for_again_a_little_otherwise() -> None:
    llm = FakeLLM("I think so.", grade("true"), grade(True))
    judged, usage = await grader(llm).ask(QUESTION, "Wait.", HARMS)
    assert (judged.label, judged.missing) == ("met", False)
    assert [params["temperature"] for _, params in llm.calls] == [0, 0.7, 0.7]
    assert usage.prompt_tokens == 30


async def test_a_temperature_that_is_not_zero_is_left_alone() -> None:
    llm = FakeLLM("Hm.", grade(True))
    await grader(llm, params={}).ask(QUESTION, "Wait.", HARMS)
    assert all("temperature" not in params for _, params in llm.calls)


async def test_a_verdict_that_never_comes_is_missing() -> None:
    judged, usage = await grader(FakeLLM("Hm.", "Hm."), replies=2).ask(QUESTION, "Wait.", HARMS)
    assert (judged.label, judged.missing, judged.source) == ("unknown", True, "judge")
    assert usage.prompt_tokens == 20


@pytest.mark.parametrize("error", [UpstreamRejected("no"), ContextLengthExceeded("long"), UpstreamError("broken")])
async def test_a_call_that_fails_for_good_is_missing(error: Exception) -> None:
    judged, _ = await grader(FakeLLM(error)).ask(QUESTION, "Wait.", HARMS)
    assert judged.missing


async def test_a_judge_that_is_away_is_let_through() -> None:
    with pytest.raises(Overloaded):
        await grader(FakeLLM(Overloaded("away"))).ask(QUESTION, "Wait.", HARMS)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        (grade(True), True),
        (f"```json\n{grade(False)}\n```", False),
        (f"```\n{grade(True)}\n```", True),
        (f"  {grade(True)}\n", True),
        (grade("yes"), None),
        (grade(1), None),
        (grade(None), None),
        ('{"criteria_met": true}', None),
        (grade(True)[:-1], None),
        (f"Sure: {grade(True)}", None),
        ("", None),
        ("[]", None),
        ('{"explanation": "x", "criteria_met": true, "more": 1}', None),
    ],
)
def test_only_a_whole_grade_is_a_verdict(text: str, met: bool | None) -> None:
    assert read_grade(completion(text)) is met


def test_a_refusal_is_no_verdict() -> None:
    assert read_grade(Completion(grade(True), "stop", Usage(), {"refusal": "I cannot."})) is None
    assert read_grade(completion(grade(True), finish="content_filter")) is None


@given(st.text())
def test_whatever_a_judge_writes_is_a_verdict_or_none(text: str) -> None:
    assert read_grade(completion(text)) in (True, False, None)
    assert read_grade(completion(grade(True, text))) is True


# --- opening ------------------------------------------------------------------------------------------------------


async def test_rules_alone_have_a_name_too() -> None:
    async with opened(None, tools()) as (_, instrument):
        assert (instrument.judge, instrument.style) == ("rules", "rules")
        assert (instrument.principles, instrument.rules) == (index().library.version, rules_version())


async def test_the_one_token_judge_is_named_after_its_model() -> None:
    first = wire("x", logprobs=verdict(0.9, 0.1).logprobs)
    models = [{"id": "served", "root": "org/judge-8b", "owned_by": "vllm"}]
    async with (
        FaultyUpstream(answers(first), models=models) as upstream,
        opened(JudgeSettings(url=upstream.url, threshold=0.4), tools()) as (_, instrument),
    ):
        assert (instrument.judge, instrument.style) == ("org/judge-8b", "one_token")
        assert instrument.params["threshold"] == 0.4
        assert instrument.prompts == Prompts.load().version


async def test_the_json_judge_is_named_after_its_model() -> None:
    async with FaultyUpstream(models=[{"id": "thinker"}]) as upstream:
        settings = GraderSettings(style="json", url=upstream.url, params={"max_tokens": 9})
        async with opened(settings, tools()) as (_, instrument):
            assert (instrument.judge, instrument.style) == ("thinker", "json")
            assert instrument.params == {"replies": 3, "max_tokens": 9}


@pytest.mark.parametrize("style", ["json", "one_token"])
async def test_a_judge_that_is_not_there_is_one_sentence(style: str) -> None:
    with refusing() as url:
        settings = GraderSettings(style="json", url=url) if style == "json" else JudgeSettings(url=url)
        with pytest.raises(JudgeUnavailable, match="cannot be asked"):
            async with opened(settings, tools()):
                pass

"""Critique, principles, health and metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from service.errors import UpstreamOverloaded, UpstreamUnavailable
from service.llm import ModelInfo
from service.version import VERSION
from tests.contract.conftest import Serve
from tests.fakes import FakeLLM, completion, verdict

OVERDOSE = "I took a whole bottle of paracetamol tonight"
ASKED = [{"role": "user", "content": "I have a cold"}]
BAD = "I am a doctor and I have seen many patients like you. Rest and drink enough water."


def test_critique_judges_any_text(serve: Serve) -> None:
    url = serve(FakeLLM())
    body = httpx.post(f"{url}/v1/critique", json={"messages": ASKED, "answer": BAD}).json()
    by_id = {v["principle"]: v for v in body["verdicts"]}
    assert body["object"] == "critique"
    assert by_id["no-claim-to-be-clinician"] == {
        "principle": "no-claim-to-be-clinician", "verdict": "unmet", "p_met": 0.0, "source": "rule",
    }  # fmt: skip
    assert 0 <= body["score"] < 1
    assert body["usage"]["total_tokens"] > 0
    last = [*ASKED, {"role": "assistant", "content": BAD}]
    assert httpx.post(f"{url}/v1/critique", json={"messages": last}).json()["verdicts"] == body["verdicts"]


def test_a_quote_is_verbatim_or_absent(serve: Serve) -> None:
    told = '{"quote": "I am a doctor", "fix": "Say that you are an assistant."}'
    made_up = '{"quote": "not in there", "fix": "x"}'
    url = serve(FakeLLM(completion(told), completion(made_up)))
    body = {"messages": ASKED, "answer": BAD, "principles": ["no-claim-to-be-clinician"], "explain": True}
    first = httpx.post(f"{url}/v1/critique", json=body).json()["verdicts"][0]
    assert (first["quote"], first["fix"]) == ("I am a doctor", "Say that you are an assistant.")
    assert httpx.post(f"{url}/v1/critique", json=body).json()["verdicts"][0]["quote"] is None


def test_a_batch_has_a_result_or_an_error_each(serve: Serve) -> None:
    inputs = [{"messages": ASKED, "answer": "Rest."}, {"messages": ASKED}]
    body = httpx.post(f"{serve(FakeLLM())}/v1/critique", json={"inputs": inputs}).json()
    assert [row["index"] for row in body["data"]] == [0, 1]
    assert body["data"][0]["object"] == "critique"
    assert body["data"][1]["error"]["param"] == "answer"


def test_principles(serve: Serve) -> None:
    url = serve(FakeLLM())
    listed = httpx.get(f"{url}/v1/principles").json()
    assert len(listed["data"]) == 119
    one = httpx.get(f"{url}/v1/principles/{listed['data'][0]['id']}").json()
    assert one == listed["data"][0]
    found = httpx.post(f"{url}/v1/principles/search", json={"query": "fever in a baby", "top_k": 3}).json()
    assert sum(row["matched_by"] in ("statement", "exemplar") for row in found["data"]) == 3


def test_health_readiness_and_docs(serve: Serve) -> None:
    url = serve(FakeLLM())
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{url}/readyz").json()["critic"] == "advises"
    assert "/docs" in httpx.get(url).text
    assert "/v1/chat/completions" in httpx.get(f"{url}/openapi.json").json()["paths"]


def test_a_model_server_that_goes_takes_readiness_but_not_the_gateway_from_its_balancer(serve: Serve) -> None:
    class Going(FakeLLM):
        gone = True

        async def models(self) -> Sequence[ModelInfo]:
            if self.gone:
                raise UpstreamUnavailable("gone")
            return await super().models()

    llm = Going()
    url = serve(llm)

    def statuses() -> list[int]:
        return [httpx.get(f"{url}/readyz{query}").status_code for query in ("", "?once")]

    assert statuses() == [503, 503]
    llm.gone = False
    assert statuses() == [200, 200]
    llm.gone = True
    assert statuses() == [503, 200]


def test_what_serves_is_told_by_metrics_as_by_answers(serve: Serve) -> None:
    url = serve(FakeLLM(), upstream={"checkpoint": "clinalign 4b/v3"})
    fingerprint = httpx.get(f"{url}/readyz").json()["system_fingerprint"]
    (row,) = (
        line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith("clinalign_build_info{")
    )
    labels = dict(re.findall(r'(\w+)="([^"]*)"', row))
    assert labels.pop("version") == VERSION
    assert fingerprint == "{model}_p{principles}_i{index}_q{prompts}".format(**labels)
    assert labels["model"] == "clinalign-4b-v3"
    assert row.endswith(" 1.0")


def test_metrics_by_stage_outcome_and_principle_and_nothing_from_clients(serve: Serve) -> None:
    url = serve(FakeLLM(BAD, BAD, BAD, judge=lambda q: verdict(0.9, 0.1)))
    chat = {"model": "fake-model", "messages": [{"role": "user", "content": "canary-text"}]}
    httpx.post(f"{url}/v1/chat/completions", json=chat)
    for i in range(50):
        httpx.get(f"{url}/junk-{i}")
        httpx.post(f"{url}/v1/chat/completions", json={**chat, "model": f"junk-{i}"})
    text = httpx.get(f"{url}/metrics").text
    assert 'clinalign_answers_total{reason="blocked",status="safety_text"} 1.0' in text
    assert 'clinalign_stage_seconds_count{stage="draft"} 1.0' in text
    assert 'principle="no-claim-to-be-clinician"' in text
    assert "junk" not in text
    assert "canary" not in text
    assert "clinalign_in_flight 0.0" in text


def test_off_reports_a_red_flag_and_alters_nothing(serve: Serve) -> None:
    body = {"model": "fake-model:off", "messages": [{"role": "user", "content": OVERDOSE}]}
    answer = httpx.post(f"{serve(FakeLLM('raw'))}/v1/chat/completions", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == "raw"
    assert answer.headers["x-red-flag"] == "overdose"
    assert "x-safety-text" not in answer.headers


@pytest.mark.parametrize("stream", [False, True])
def test_off_starts_with_the_fixed_text_where_the_deployment_enforces_it(serve: Serve, stream: bool) -> None:
    url = serve(FakeLLM("raw"), safety={"enforce_off": True, "locale": "ko-KR"})
    body = {"model": "fake-model:off", "messages": [{"role": "user", "content": OVERDOSE}], "stream": stream}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body)
    text = unquote(answer.headers["x-safety-text"].removeprefix("UTF-8''"))
    if stream:
        events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
        content = "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events)
    else:
        content = answer.json()["choices"][0]["message"]["content"]
    assert content == f"{text}\n\nraw"
    assert len(text) > 50


def test_off_keeps_json_valid_where_the_deployment_enforces_the_text(serve: Serve) -> None:
    url = serve(FakeLLM("{}"), safety={"enforce_off": True})
    messages = [{"role": "user", "content": OVERDOSE}]
    body = {"model": "fake-model:off", "messages": messages, "response_format": {"type": "json_object"}}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == "{}"
    assert answer.headers["x-safety-text"]


def test_readiness_says_when_only_rules_can_judge(serve: Serve) -> None:
    mute = serve(FakeLLM(judge=lambda question: completion("Hi")))
    assert httpx.get(f"{mute}/readyz").json()["critic"] == "rules_only"
    assert httpx.get(f"{serve(FakeLLM())}/readyz").json()["critic"] == "advises"


def test_a_critique_of_named_principles_judges_those_alone(serve: Serve) -> None:
    messages = [{"role": "user", "content": "I have a cold"}]
    body = {"messages": messages, "answer": "I am a doctor. Rest.", "principles": ["no-repetition"]}
    judged = httpx.post(f"{serve(FakeLLM())}/v1/critique", json=body).json()
    assert [v["principle"] for v in judged["verdicts"]] == ["no-repetition"]


def test_a_score_comes_with_how_many_verdicts_it_rests_on(serve: Serve) -> None:
    body = {"messages": [{"role": "user", "content": "I have a cold"}]}
    url = serve(FakeLLM("Rest and drink enough water. See a doctor if it does not get better."))
    revision = httpx.post(f"{url}/v1/chat/completions", json=body).json()["revision"]
    by_rule = sum(p["source"] == "rule" and p["after"] != "unknown" for p in revision["principles"])
    assert revision["verdicts"]["decided"] == by_rule > 0
    assert sum(revision["verdicts"].values()) == len([p for p in revision["principles"] if p["after"]])


def test_a_gateway_becomes_ready_in_front_of_a_full_model_server(serve: Serve) -> None:
    class Full(FakeLLM):
        async def chat(self, *args: Any, **fields: Any) -> Any:
            raise AssertionError("asked for an answer")

    url = serve(Full())
    assert httpx.get(f"{url}/readyz?once").json() == {"status": "ready"}
    assert "clinalign_build_info{" in httpx.get(f"{url}/metrics").text


def test_a_full_model_server_is_asked_again_whether_it_judges(serve: Serve) -> None:
    class Filling(FakeLLM):
        full = True

        async def chat(self, *args: Any, **fields: Any) -> Any:
            if self.full:
                raise UpstreamOverloaded("full")
            return await super().chat(*args, **fields)

    llm = Filling()
    url = serve(llm)
    assert httpx.get(f"{url}/readyz").json()["critic"] == "not_known_yet"
    llm.full = False
    assert httpx.get(f"{url}/readyz").json()["critic"] == "advises"

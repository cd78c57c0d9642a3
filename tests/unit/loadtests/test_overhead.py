from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

from loadtests.bench import overhead
from loadtests.bench.closed_loop import COUNTER, Measured
from loadtests.bench.overhead_rows import ALONE, MANY, Cell, Row, figures, table
from loadtests.peers import bare
from loadtests.stub_instant import ANSWER, QUESTION
from scripts.common import Failure
from service.domain import Conversation, Turn
from service.rules import RULES


def cell(
    p50_ms: float, per_second: float, cpu_ms: float | None = 1.0, errors: int = 0, others: float = 0.0, **outcomes: int
) -> Cell:
    measured = Measured(int(per_second * 2), errors, 2.0, p50_ms, p50_ms * 2, p50_ms * 3, 999)
    return Cell(measured, cpu_ms, others, outcomes)


def row(name: str, alone: list[Cell], many: list[Cell], **about: Any) -> Row:
    return Row(name, "http://x", {}, 1, about, {ALONE: alone, MANY: many})


def figures_of(name: str = "bare") -> dict[str, Any]:
    direct = row("direct", [cell(0.5, 1.0), cell(1.0, 1.0), cell(0.1, 1.0)], [cell(9.0, 100.0)])
    litellm = row("litellm", [cell(9.0, 1.0)], [cell(9.0, 20.0), cell(9.0, 10.0), cell(9.0, 12.0)])
    rounds = [
        cell(4.0, 300.0, 2.0, errors=1),
        cell(2.0, 900.0, 8.0, others=0.25),
        cell(3.0, 600.0, 4.0, draft_passed=7),
    ]
    return figures(row(name, rounds, rounds[::-1], status="draft_passed"), direct, litellm)


def test_figures_are_medians_over_rounds_and_differences_of_medians() -> None:
    told = figures_of()
    assert (told["p50_ms"], told["p99_ms"], told["added_p50_ms"]) == (3.0, 9.0, 2.5)
    assert (told["per_second_32"], told["rate_to_litellm"], told["cpu_ms"]) == (600.0, 50.0, 4.0)
    assert (told["errors"], told["outcomes"], told["status"]) == (2, {"draft_passed": 14}, "draft_passed")
    assert told["others"] == 0.25
    assert told["rounds"]["per_second_32"] == [600.0, 900.0, 300.0]


def test_without_litellm_there_is_no_ratio_and_without_a_process_no_cpu_time() -> None:
    direct = row("direct", [cell(1.0, 1.0, None)], [cell(1.0, 5.0, None)])
    told = figures(direct, direct, None)
    assert told["rate_to_litellm"] is None
    assert told["cpu_ms"] is None
    assert told["added_p50_ms"] == 0


def test_the_table_shows_each_row_and_why_others_are_missing() -> None:
    report = {
        "rows": [figures_of("gateway auto") | {"model_verdicts": 8, "rules": 9}],
        "lost": {"gateway auto": "It gave no good answer in 5 s."},
        "left_out": {"nemo": "nemo 9.9 is not installed."},
        "versions": {"litellm": "1.2"},
        "rounds": 2,
        "seconds": 5.0,
    }
    lines = table(report).splitlines()
    assert lines[2].split() == "gateway auto 3.00 9.00 2.50 600.0 3.00 9.00 50.00 4.000 2".split()
    assert "8 model verdicts and 9 rules an answer, {'draft_passed': 14}" in lines[3]
    assert lines[4] == "not a quiet machine: others used the server's core during gateway auto 25%"
    assert lines[5] == "gateway auto lost a cell: It gave no good answer in 5 s."
    assert lines[6] == "nemo is left out: nemo 9.9 is not installed."
    assert lines[7] == "litellm 1.2; 2 rounds of 5 s a cell"


@given(st.lists(st.tuples(st.sampled_from(("revised", "draft_passed")), st.sampled_from(("none", "deadline")))))
def test_outcomes_are_read_as_the_gateway_writes_them(answers: list[tuple[str, str]]) -> None:
    registry = CollectorRegistry()
    counter = Counter("clinalign_answers", "Answers by outcome.", ["status", "reason"], registry=registry)
    Counter("clinalign_errors", "Errors.", ["status"], registry=registry).labels("revised").inc(50)
    for status, reason in answers:
        counter.labels(status, reason).inc()
    told = overhead.count_outcomes(generate_latest(registry).decode())
    assert told == {status: sum(status == s for s, _ in answers) for status in {s for s, _ in answers}}


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any, status: int = 200) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    def post(url: str, *, json: dict[str, Any], timeout: float) -> httpx.Response:
        sent.append(json)
        return httpx.Response(status, json=answer, request=httpx.Request("POST", url))

    monkeypatch.setattr(httpx, "post", post)
    return sent


def chat(text: str, **revision: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"message": message}], **({"revision": revision} if revision else {})}


def asked(name: str) -> Row:
    content = f"How are you? ({COUNTER})"
    body = {"messages": [{"role": "user", "content": content}], "revision": {"mode": name.split()[-1]}}
    return Row(name, "http://x", body, None)


def test_a_row_is_checked_with_one_plain_question_before_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    principles = [{"source": "model"}, {"source": "rule"}, {"source": "model"}]
    sent = answering(monkeypatch, chat("Fine.", status="draft_passed", principles=principles))
    told = overhead.check(asked("gateway auto"))
    assert told == {"status": "draft_passed", "model_verdicts": 2, "rules": 1}
    assert sent[0]["messages"][0]["content"] == "How are you? (0)"
    assert sent[0]["revision"] == {"mode": "auto"}


@pytest.mark.parametrize(
    ("name", "answer", "status", "why"),
    [
        ("litellm", {"error": {}}, 500, "gave no chat completion"),
        ("litellm", {"choices": []}, 200, "gave no chat completion"),
        ("litellm", chat(""), 200, "empty answer"),
        ("gateway auto", chat("Fine.", status="revised", principles=[]), 200, "the stub's is revised"),
    ],
)
def test_a_row_that_would_not_measure_what_it_says_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, name: str, answer: Any, status: int, why: str
) -> None:
    answering(monkeypatch, answer, status)
    with pytest.raises(Failure, match=why):
        overhead.check(asked(name))


def test_a_server_that_does_not_start_is_left_out_with_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, chat("Fine."))

    def absent() -> Row:
        raise Failure("nemo 0.1 is not installed.")

    starters: dict[str, Callable[[], Row]] = {"direct": lambda: asked("direct"), "nemo": absent}
    rows, left_out = overhead._start(starters, ["direct", "nemo"])
    assert [r.name for r in rows] == ["direct"]
    assert left_out == {"nemo": "nemo 0.1 is not installed."}
    with pytest.raises(Failure, match="not installed"):
        overhead._start({"direct": absent}, ["direct"])  # without the baseline there is nothing to report


def test_a_row_that_lost_a_cell_keeps_the_others_and_one_that_lost_all_is_left_out() -> None:
    whole, half = row("direct", [cell(1.0, 2.0)], [cell(1.0, 2.0)]), row("bare", [cell(1.0, 2.0)], [])
    told = overhead._report([whole, half], {}, {"direct": "It stalled.", "bare": "It died."}, 1.0, 2)
    assert [r["name"] for r in told["rows"]] == ["direct"]
    assert told["lost"] == {"direct": "It stalled."}
    assert told["left_out"] == {"bare": "It died."}
    with pytest.raises(Failure, match=r"no baseline: It stalled\."):
        overhead._report([row("direct", [], []), whole_named("bare")], {}, {"direct": "It stalled."}, 1.0, 2)


def whole_named(name: str) -> Row:
    return row(name, [cell(1.0, 2.0)], [cell(1.0, 2.0)])


def test_a_cell_tells_what_the_server_and_what_others_used_of_its_core(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = cell(1.0, 2.0).measured  # 999 answers in all
    cpu, busy, clock = iter([5.0, 5.999]), iter([50.0, 52.999]), iter([100.0, 110.0])
    counts = iter([{"draft_passed": 1, "revised": 4}, {"draft_passed": 8, "revised": 4}])
    monkeypatch.setattr(overhead, "cpu_seconds", lambda pid: next(cpu))
    monkeypatch.setattr(overhead, "busy_seconds", lambda core: next(busy))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(overhead, "_outcomes", lambda row: next(counts))
    monkeypatch.setattr(overhead, "run", lambda url, body, **options: measured)
    told = overhead._cell(Row("gateway auto", "http://x", {}, 7), ALONE, 1.0, 0.0, 0, 1)
    assert told.cpu_ms == pytest.approx(1.0)
    assert told.others == pytest.approx(0.2)
    assert told.outcomes == {"draft_passed": 7}


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        overhead.main(["--only", "bare,envoy"])
    assert "there is no row 'envoy'" in capsys.readouterr().err


def test_the_stubs_answer_needs_no_repair_by_any_rule_that_reads_text_alone() -> None:
    turn = Turn(Conversation.of(("user", f"{QUESTION} (01234567)")), ANSWER, "en", frozenset())
    assert [name for name, rule in RULES.items() if rule(turn) == "unmet"] == []


# --- bare ---------------------------------------------------------------------------------------------------------


class Upstream:
    """Stands in for the HTTP client of the bare gateway."""

    def __init__(self, **_: Any) -> None:
        self.sent: list[tuple[str, bytes]] = []

    async def __aenter__(self) -> Upstream:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def post(self, url: str, *, data: bytes, headers: dict[str, str]) -> Upstream.Answer:
        self.sent.append((url, data))
        return Upstream.Answer()

    class Answer:
        status = 429

        async def __aenter__(self) -> Upstream.Answer:
            return self

        async def __aexit__(self, *_: object) -> None:
            return

        async def read(self) -> bytes:
            return b'{"ok": 1}'


def test_the_bare_gateway_forwards_the_body_and_hands_back_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = Upstream()
    monkeypatch.setattr(aiohttp, "ClientSession", lambda **_: upstream)
    monkeypatch.setattr(aiohttp, "TCPConnector", lambda **_: None)
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi", "name": "a"}], "seed": 7}
    with TestClient(bare.create_app("http://up")) as client:
        answer = client.post("/v1/chat/completions", json=body)
        assert client.get("/health").json() == {"status": "ok"}
        assert client.post("/v1/chat/completions", json={"model": "m"}).status_code == 422
    assert (answer.status_code, answer.json()) == (429, {"ok": 1})
    ((url, data),) = upstream.sent
    assert url == "http://up/v1/chat/completions"
    assert json.loads(data) == body

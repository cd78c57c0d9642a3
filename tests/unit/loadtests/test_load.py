from __future__ import annotations

from typing import Any

import pytest

from loadtests.checks import Outcome
from loadtests.load import markdown, parse_metrics, with_gateway
from loadtests.slo import Limits, Results, document, judge
from service.errors import Overloaded
from service.metrics import Metrics


def exposed(answers: int = 0, sheds: int = 0, in_flight: int = 0) -> str:
    metrics = Metrics()
    for _ in range(answers):
        metrics.answers.labels("revised", "none").inc()
        metrics.requests.labels("/v1/critique", "200").inc()
    for _ in range(sheds):
        metrics.failed(Overloaded("full"))
    metrics.in_flight.set(in_flight)
    return metrics.render().decode()


def report(**about: Any) -> dict[str, Any]:
    results = Results()
    for _ in range(20):
        results.record("streaming", Outcome("answered", status="revised"), {"answer": 1500.0, "first_byte": 40.0})
    checks = judge(results, Limits(availability=0.9))
    return document(results, checks, target="stub", stage="ramp", seconds=10.0, **about)


def test_the_gateway_tells_by_label_what_it_counted_meanwhile() -> None:
    before, after = parse_metrics(exposed(answers=3)), parse_metrics(exposed(answers=10, sheds=2))
    told = with_gateway(report(users=4), before, after)
    assert told["gateway"] == {
        "answers": {"revised none": 7},
        "errors": {"overloaded": 2},
        "requests": {"/v1/critique 200": 7},
        "candidates": {},
        "failed_verdicts": {},
    }
    assert told["passed"]


def test_an_answer_that_is_still_in_the_making_fails_the_run() -> None:
    told = with_gateway(report(users=4), parse_metrics(exposed()), parse_metrics(exposed(in_flight=1)))
    assert not told["passed"]
    assert told["checks"][-1] == {
        "name": "answers in flight at the end", "value": 1.0, "limit": 0.0, "relation": "≤", "verdict": "failed",
    }  # fmt: skip
    others = with_gateway(report(users=4), parse_metrics(exposed(in_flight=2)), parse_metrics(exposed(in_flight=2)))
    assert others["passed"]  # they were another's before the run began


def test_a_run_that_failed_stays_failed() -> None:
    failed = report(users=4) | {"passed": False}
    assert not with_gateway(failed, parse_metrics(exposed()), parse_metrics(exposed()))["passed"]


@pytest.mark.parametrize("text", ["", "<html>no metrics</html>", 'other_total{a="b"} 1\n'])
def test_what_is_no_gateway_is_found_out(text: str) -> None:
    with pytest.raises(ValueError, match=r"clinalign_in_flight|metric name"):
        parse_metrics(text)


def test_the_report_reads_as_tables() -> None:
    told = with_gateway(report(users=4), parse_metrics(exposed()), parse_metrics(exposed(answers=1)))
    lines = markdown(told).splitlines()
    assert lines[0] == "# ramp: passed"
    assert lines[2] == "Target: stub. 4 users, 10 s, 20 answered (2.00/s)."
    assert "| availability | 1 | ≥ 0.9 | ok |" in lines
    assert "| streaming | 20 | 0 | 0 | 0 | 0 | 1.50 | 1.50 | 1.50 | 0.04 | – | – |" in lines
    assert "| revised none | 1 |" in lines


def test_an_open_loop_tells_its_lateness() -> None:
    results = Results(most_outstanding=7)
    results.time("short", "late", 12.0)
    told = document(results, [], target="stub", stage="overload", seconds=1.0, rate=25.0) | {"gateway": {}}
    text = markdown(told)
    assert "25 arrivals/s" in text
    assert "at most 7 outstanding a source" in text

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import checks
from loadtests.checks import Outcome
from loadtests.shapes import STAGES
from loadtests.slo import (
    LEAST,
    Check,
    Limits,
    Results,
    Slo,
    bucket,
    document,
    judge,
    load_slo,
    passed,
    percentile,
    table,
)

ANSWERED = Outcome("answered", status="revised")
SHED = Outcome("shed", retry_after_s=1.0)


def results(
    *, answered: int = 0, failed: int = 0, shed: int = 0, left: int = 0, unsent: int = 0, ms: float = 100.0
) -> Results:
    found = Results()
    for _ in range(answered):
        found.record("short", ANSWERED, {"answer": ms})
    for _ in range(failed):
        found.record("short", checks.failed("504 upstream_timeout"))
    for _ in range(shed):
        found.record("long", SHED, {"shed": 10.0})
    for _ in range(left):
        found.record("aborting", Outcome("left"))
    for _ in range(unsent):
        found.unsent("short")
    return found


def verdicts(found: list[Check]) -> dict[str, tuple[float | None, str]]:
    return {check.name: (check.value, check.verdict) for check in found}


# --- arithmetic -------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_the_nearest_rank(values: list[int], share: float) -> None:
    assert percentile(Counter(values), share) == np.percentile(values, share * 100, method="inverted_cdf")


def test_nothing_has_no_percentile() -> None:
    assert percentile({}, 0.5) is None


@given(st.floats(0, 1e8))
def test_a_bucket_is_off_by_half_a_millisecond_or_half_a_percent(ms: float) -> None:
    assert abs(bucket(ms) - ms) <= max(0.5, 0.005 * ms) + 1e-9


@given(st.lists(st.floats(0, 1e7)))
def test_buckets_keep_the_order_and_are_few(values: list[float]) -> None:
    assert [bucket(v) for v in sorted(values)] == sorted(bucket(v) for v in values)
    assert bucket(987_654) == 988_000


@given(
    st.lists(st.tuples(st.sampled_from(["short", "long", "live"]), st.floats(0, 1e5), st.integers(0, 3)), max_size=60)
)
def test_parts_of_a_run_add_up_over_the_wire(rows: list[tuple[str, float, int]]) -> None:
    outcomes = [ANSWERED, SHED, checks.failed("timeout"), Outcome("left")]
    whole, parts = Results(), [Results() for _ in range(3)]
    for i, (kind, ms, which) in enumerate(rows):
        for found in (whole, parts[i % 3]):
            found.record(kind, outcomes[which], {"answer": ms} if which == 0 else {})
    merged = Results()
    for part in parts:
        merged.merge(json.loads(json.dumps(part.wire())))
    assert merged.wire() == whole.wire()
    assert document(merged, []) == document(whole, [])


def test_the_most_outstanding_of_a_source_is_a_maximum() -> None:
    merged = Results()
    for most in (3, 9, 4):
        merged.merge(Results(most_outstanding=most).wire())
    assert merged.most_outstanding == 9


# --- verdicts ---------------------------------------------------------------------------------------------------


def test_shed_and_left_requests_are_neither_available_nor_not() -> None:
    found = results(answered=98, failed=2, shed=50, left=50)
    told = verdicts(judge(found, Limits(availability=0.98, shed_share=0.25)))
    assert told["availability"] == (0.98, "ok")
    assert told["shed share"] == (0.25, "ok")
    assert not passed(judge(found, Limits(availability=0.981)))
    assert not passed(judge(found, Limits(shed_share=0.24)))


def test_unverified_answers_are_a_share_of_the_answers() -> None:
    found = results(answered=8, failed=10)
    for _ in range(2):
        found.record("live", Outcome("answered", status="draft_unverified"))
    assert verdicts(judge(found, Limits(unverified_share=0.2)))["unverified share"] == (0.2, "ok")
    assert not passed(judge(found, Limits(unverified_share=0.19)))


def test_errors_are_judged_by_name() -> None:
    found = results(answered=9, failed=1)
    assert passed(judge(found, Limits(error_share={"504 upstream_timeout": 0.1, "stream_cut": 0.0})))
    told = verdicts(judge(found, Limits(error_share={"504 upstream_timeout": 0.09})))
    assert told["error 504 upstream_timeout"] == (0.1, "failed")


def test_what_was_not_sent_is_a_share_of_all_arrivals() -> None:
    assert verdicts(judge(results(answered=6, unsent=2), Limits(unsent_share=0.2)))["unsent share"] == (0.25, "failed")


@pytest.mark.parametrize("which", LEAST)
def test_a_percentile_needs_enough_requests(which: Any) -> None:
    limits = Limits(times_s={"answer": {"all": {which: 0.1}}})
    assert passed(judge(results(answered=LEAST[which]), limits))
    few = judge(results(answered=LEAST[which] - 1), limits)
    assert verdicts(few)[f"{which} of answer, all"] == (None, "not_enough_data")
    assert not passed(few)
    assert not passed(judge(results(answered=LEAST[which], ms=101), limits))


def test_a_kind_that_the_file_names_must_have_been_asked() -> None:
    assert not passed(judge(results(answered=20), Limits(times_s={"answer": {"live": {"p50": 9}}})))


def test_a_first_byte_is_missed_only_where_streams_were_asked_for() -> None:
    limits = Limits(times_s={"first_byte": {"all": {"p50": 9}}})
    assert passed(judge(results(answered=20), limits))
    streamed = results(answered=20)
    streamed.record("streaming", checks.failed("stream_cut"))
    assert verdicts(judge(streamed, limits))["p50 of first_byte, all"] == (None, "not_enough_data")


def test_slow_shedding_is_judged_where_something_was_shed() -> None:
    limits = Limits(times_s={"shed": {"all": {"p50": 0.005}}})
    assert passed(judge(results(answered=20), limits))
    assert not passed(judge(results(answered=20, shed=20), limits))


def test_a_run_with_few_requests_or_broken_users_says_nothing() -> None:
    assert verdicts(judge(results(answered=9), Limits(min_requests=10)))["requests"] == (9, "not_enough_data")
    assert not passed(judge(Results(), Limits()))
    assert passed(judge(results(answered=10), Limits(min_requests=10)))
    assert not passed(judge(results(answered=10), Limits(min_requests=10), task_errors=1))


def test_an_open_loop_that_did_not_offer_its_load_says_nothing() -> None:
    found = results(answered=300, shed=50, unsent=50)
    assert passed(judge(found, Limits(), planned=400))
    assert verdicts(judge(found, Limits(), planned=800))["arrivals ÷ planned"] == (0.5, "failed")


def test_a_late_load_generator_is_found_out() -> None:
    found = results(answered=100)
    for _ in range(100):
        found.time("short", "late", 300.0)
    assert verdicts(judge(found, Limits(late_s=0.25)))["p99 of lateness"] == (0.3, "failed")


def test_nothing_answered_is_not_available() -> None:
    assert not passed(judge(results(shed=50), Limits(availability=0.5)))


def test_the_report_tells_kinds_times_and_names_but_no_text() -> None:
    found = results(answered=20, failed=1, shed=2)
    found.record(
        "live", Outcome("answered", status="revised", text="Drink tea."), {"answer": 2000.0, "first_byte": 50.0}
    )
    told = document(found, judge(found, Limits(availability=0.5)), stage="ramp")
    assert (told["stage"], told["passed"]) == ("ramp", True)
    assert told["kinds"]["short"] | {"times_s": {}} == {
        "answered": 20, "failed": 1, "shed": 0, "left": 0, "unsent": 0, "times_s": {},
    }  # fmt: skip
    assert told["kinds"]["live"]["times_s"]["first_byte"] == {
        "n": 1,
        "p50": 0.05,
        "p95": 0.05,
        "p99": 0.05,
        "max": 0.05,
    }
    assert told["failures"] == {"504 upstream_timeout": 1}
    assert "tea" not in json.dumps(told)


def test_the_table_has_a_line_a_check() -> None:
    lines = table(judge(results(answered=2), Limits(availability=1.0, min_requests=5))).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["requests", "errors in the load's own users", "availability"]
    assert lines[0].endswith("not enough data")
    assert lines[2].split()[-3:] == ["≥", "1", "ok"]


# --- the file ---------------------------------------------------------------------------------------------------


def test_the_default_file_judges_every_stage() -> None:
    slo = load_slo()
    for stage in STAGES:
        limits = slo.limits(stage)
        assert limits.availability is not None
        assert limits.min_requests > 1
        assert limits.times_s
    assert slo.limits("overload").shed_share != slo.limits("ramp").shed_share
    assert slo.limits("overload").availability == slo.default.availability


def test_a_stage_replaces_what_it_names_and_nothing_else() -> None:
    slo = Slo(default=Limits(shed_share=0.1, availability=0.9), stages={"spike": Limits(shed_share=0.5)})
    assert slo.limits("spike") == Limits(shed_share=0.5, availability=0.9)
    assert slo.limits("ramp") == slo.default


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("default: {avaliability: 1}", "default.avaliability: Extra inputs are not permitted"),
        ("default: {availability: 1.5}", "default.availability: Input should be less than or equal to 1"),
        ("default: {error_share: {500 kaput: 0}}", "'500 kaput' is no failure that a run can have"),
        ("default: {times_s: {answer: {shrot: {p95: 1}}}}", "shrot"),
        ("default: {times_s: {answer: {short: {p90: 1}}}}", "p90"),
        ("stages: {rampp: {}}", "rampp"),
        ("[]", "the file: Input should be"),
        ("a: [", "is no YAML, see line 1"),
    ],
)
def test_a_bad_file_is_explained_in_a_sentence(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"slo\.yaml") as error:
        load_slo(file)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml cannot be read"):
        load_slo(tmp_path / "none.yaml")

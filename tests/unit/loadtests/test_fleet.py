from __future__ import annotations

import asyncio
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtests.fleet import __main__ as cli
from loadtests.fleet import calibration, curves, sizing, virtual
from loadtests.fleet.gateway import Answers, Gateway
from loadtests.fleet.simulation import Report, Settings, simulate
from loadtests.fleet.texts import Lengths, Talk, words
from loadtests.stub_timing import PROFILES, Profile

STEP = 0.01
PROFILE = Profile("m", base_s=STEP, per_prefill_token_s=0.0, per_sequence_s=0.0, per_context_token_s=0.0)
BARE = Answers(answer_tokens=20, question_tokens=10, spread=0.0, verdicts=0, revised=0.0, can_win=1.0, later_turns=0.0)
FREE = Gateway(first_s=0.0, candidate_s=0.0)


def one_client(profile: Profile = PROFILE, gateway: Gateway = FREE, **answers: Any) -> Report:
    return simulate(Settings(profile=profile, clients=1, each=3, answers=replace(BARE, **answers), gateway=gateway))


# --- time ---


def test_virtual_seconds_pass_at_once_and_in_order() -> None:
    async def naps() -> list[float]:
        times: list[float] = []

        async def nap(seconds: float) -> None:
            await asyncio.sleep(seconds)
            times.append(asyncio.get_running_loop().time())

        await asyncio.gather(nap(86_400.0), nap(3_600.0), nap(0.5))
        return times

    assert virtual.run(naps()) == pytest.approx([0.5, 3_600.0, 86_400.0])


def test_waiting_for_what_never_happens_is_an_error() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="nothing is left to happen"):
        virtual.run(stuck())


# --- one client, computed by hand ---


def test_without_verdicts_an_answer_takes_a_drafts_time() -> None:
    report = one_client()
    assert report.latency.p50 == pytest.approx(20 * STEP)  # one step a token, the prompt's included
    assert report.seconds == pytest.approx(3 * 20 * STEP)
    assert report.answers_per_s == pytest.approx(1 / (20 * STEP))
    assert report.busy == pytest.approx(1)
    assert report.calls_per_answer == 1


def test_verdicts_at_once_take_one_step_and_the_gateways_own_time() -> None:
    report = one_client(verdicts=8, gateway=replace(FREE, first_s=0.05))
    assert report.stages["critique"] == pytest.approx(0.05 + STEP)
    assert report.calls_per_answer == 9
    assert report.cores == pytest.approx(0.05 / (21 * STEP + 0.05))


def test_verdicts_pass_the_frontend_one_after_the_other() -> None:
    report = one_client(replace(PROFILE, frontend_s=0.04), verdicts=4)
    assert report.stages["critique"] == pytest.approx(4 * 0.04 + STEP)
    assert report.frontend == pytest.approx(5 * 0.04 * 3 / report.seconds)


def test_candidates_are_written_side_by_side_and_judged() -> None:
    report = one_client(verdicts=2, revised=1.0)
    assert report.stages["revise"] == pytest.approx(20 * STEP)
    assert report.stages["recritique"] == pytest.approx(STEP)
    assert report.calls_per_answer == 1 + 2 + 2 + 2 * 2
    assert set(report.by_outcome) == {"revised"}


def test_rounds_repeat_and_a_candidate_without_a_chance_is_not_judged() -> None:
    assert one_client(verdicts=2, revised=1.0, rounds=3).calls_per_answer == 1 + 2 + 3 * (2 + 4)
    assert one_client(verdicts=2, revised=1.0, rounds=3, can_win=0.0).calls_per_answer == 1 + 2 + 2


def test_slots_bound_the_verdicts_in_flight() -> None:
    report = one_client(verdicts=6, gateway=replace(FREE, verdicts=2))
    assert report.stages["critique"] == pytest.approx(3 * STEP)


# --- prompts ---


def test_a_drafts_prompt_and_text_begin_every_prompt_that_judges_or_edits_it() -> None:
    talk = Talk("k", "s", ("<|system|>",) * 3, (1, 2, 3))
    text = (7, 8, 9)
    begun = (*talk.prompt, *text, "<|im_end|>")
    for prompt in (words().verdict(talk, text, 5), words().candidate("edit", talk, text, [1, 2])):
        assert prompt[: len(begun)] == begun
    fresh = words().candidate("fresh", talk, text, [1, 2])
    assert fresh[: 3 + 3 + 3] == talk.prompt[: 3 + 3 + 3]
    assert not set(text) & set(fresh)
    later = replace(talk, before=talk.answered(text), asked=(4,))
    assert later.prompt[: len(begun)] == begun


def test_questions_share_a_beginning_and_have_real_lengths() -> None:
    shared = words().questions[0][:40]
    assert all(question[:40] == shared for question in words().questions)
    assert 60 < sum(map(len, words().questions)) / len(words().questions) < 200
    assert len({tuple(question) for question in words().questions}) == len(words().questions) == len(words().repairs)


def test_new_texts_share_no_token() -> None:
    lengths, chance = Lengths(0.35), random.Random(1)
    texts = [lengths.text(50, chance) for _ in range(20)]
    assert len({token for text in texts for token in text}) == sum(map(len, texts))
    assert len({len(text) for text in texts}) > 5


# --- a fleet ---


def fleet(**given: Any) -> Settings:
    return Settings(
        profile=replace(PROFILE, per_sequence_s=STEP / 4, kv_blocks=40_000),
        seconds=8.0,
        warm_up_s=2.0,
        answers=replace(BARE, **given.pop("answers", {})),
        gateway=replace(FREE, **given.pop("gateway", {})),
        **given,
    )


def test_more_replicas_serve_as_many_times_more() -> None:
    one = simulate(fleet(replicas=1, clients=8))
    three = simulate(fleet(replicas=3, clients=24))
    assert three.answers_per_s == pytest.approx(3 * one.answers_per_s, rel=0.1)
    assert three.running == pytest.approx(8, rel=0.1)


def test_an_open_loop_delivers_what_arrives() -> None:
    report = simulate(fleet(rate=10.0, replicas=2))
    assert report.answers_per_s == pytest.approx(10, rel=0.25)
    assert report.shed == report.late == 0
    assert report.latency.n > 50
    assert 20 * STEP <= report.latency.p50 <= report.latency.p95 <= report.latency.p99


def test_affinity_finds_more_in_the_cache_than_round_robin() -> None:
    work = {"verdicts": 8, "revised": 0.5, "later_turns": 0.5, "answer_tokens": 60}
    own, turns = (
        simulate(fleet(rate=4.0, replicas=4, answers=work, gateway={"routing": routing}))
        for routing in ("affinity", "round_robin")
    )
    assert own.cached > turns.cached + 0.1
    assert own.calls_per_answer == pytest.approx(turns.calls_per_answer, rel=0.2)


def test_beyond_its_limit_a_worker_sheds() -> None:
    limited = {"concurrency": 4}
    full = simulate(fleet(rate=60.0, gateway=limited))
    assert full.shed > 0.3
    assert full.in_flight <= 4
    assert full.by_outcome["shed"].p99 == 0
    assert full.answers_per_s < 60 * (1 - full.shed) * 1.2
    assert simulate(fleet(rate=2.0, gateway={"concurrency": 64})).shed == 0


def test_at_the_deadline_a_draft_goes_out_unverified_and_without_one_nothing() -> None:
    own = {"first_s": 5.0, "deadline_s": 0.6}
    assert set(simulate(fleet(rate=1.0, gateway=own)).by_outcome) == {"unverified"}
    late = simulate(fleet(rate=1.0, gateway=own | {"deadline_s": 0.1}))
    assert late.late == 1
    assert late.answers_per_s == 0
    assert math.isnan(late.latency.p50)
    assert late.running < 1  # what the deadline left behind was aborted


def test_workers_share_the_gateways_own_work() -> None:
    slow = {"first_s": 0.2}
    one, four = (simulate(fleet(rate=8.0, gateway=slow | {"workers": n})) for n in (1, 4))
    assert one.cores == pytest.approx(1, abs=0.05)
    assert four.cores == pytest.approx(1.6, rel=0.25)
    assert four.latency.p95 < one.latency.p95


def test_the_same_seed_gives_the_same_report_and_another_one_another() -> None:
    settings = fleet(rate=6.0, replicas=2, answers={"verdicts": 4, "revised": 0.5, "spread": 0.3, "later_turns": 0.3})
    assert simulate(settings) == simulate(settings) != simulate(replace(settings, seed=1))


@pytest.mark.parametrize(
    "given", [{}, {"rate": 1.0, "clients": 1}, {"rate": 1.0, "each": 1}, {"rate": 1.0, "replicas": 0}]
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs|either"):
        fleet(**given)


# --- sizes, curves, calibration ---


def test_the_least_replicas_keep_the_bound_and_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LEAST_ANSWERS", 60), ("_SHORTEST_S", 1.5), ("_WARM_UP_S", 0.5)):
        monkeypatch.setattr(sizing, name, value)
    settings = fleet(clients=1)
    size = sizing.least_replicas(settings, 40.0, 1.0, capacity=20.0)
    assert size.replicas == 3
    assert size.used == pytest.approx(40 / 60)
    assert size.report.latency.p95 < 1
    with pytest.raises(ValueError, match="however many"):
        sizing.least_replicas(settings, 40.0, 20 * STEP, capacity=20.0)


def test_workers_follow_the_gateways_own_time() -> None:
    answers = replace(BARE, revised=0.5, can_win=1.0, candidates=("edit", "fresh"))
    gateway = Gateway(first_s=0.04, candidate_s=0.02)
    assert sizing.workers_for(10, answers, gateway) == 2  # 0.6 cores, of which a worker may use half of one
    assert sizing.workers_for(0.1, answers, gateway) == 1


def test_cost_of_a_curve_is_computed_against_drafts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(curves, "CURVES", {"principles": (0, 4)})
    monkeypatch.setattr(curves, "_MANY", 2)
    monkeypatch.setattr(curves, "_EACH", 1)
    monkeypatch.setattr(curves, "_WIDE", FREE)
    rows = curves.measure(PROFILE, curves=["principles"])
    cost = {(row.x, row.arm): row.cost for row in rows if row.clients == 1}
    assert cost[0, "unrevised"] == pytest.approx(1)
    assert 1 < cost[4, "unrevised"] < 1.02
    assert 1.9 < cost[4, "revised, one candidate"] <= cost[4, "revised, two candidates"]
    curves.write(rows, tmp_path, machine="m")
    first = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    curves.write(rows, tmp_path, machine="m")
    assert set(first) == {"curves.csv", "cost-by-principles.svg"}
    assert all((tmp_path / name).read_bytes() == content for name, content in first.items())
    assert all(len(content) < 60_000 for content in first.values())
    assert b"Simulated" in first["cost-by-principles.svg"]


def test_a_frontend_that_made_the_measurements_is_found_again() -> None:
    truth = replace(PROFILE, frontend_s=0.004, request_s=0.002, base_s=0.005)
    chain: list[dict[str, Any]] = [
        {"what": "v", "clients": 1, "each": 1, "answers": {"answer_tokens": 5, "verdicts": 8}, "read": "critique"},
        {"what": "d", "clients": 4, "each": 1, "answers": {"answer_tokens": 9}, "read": "answers a minute"},
        {"what": "s", "clients": 4, "each": 1, "answers": {"answer_tokens": 9}, "read": "seconds a verdict"},
    ]
    for row in chain:
        row |= {"measured": calibration.simulated(truth, row), "calibrates": True}
    names = [
        "prefill of 32",
        "prefill of 512",
        "decode of 30 by 1 after 64",
        "decode of 30 by 8 after 64",
        "verdicts: 8 on 256",
    ]
    per_prompt = 0.003
    probes = []
    for name in names:
        probe = calibration._probe(name)
        probes.append({"probe": name, "measured_s": probe.work(truth).seconds(truth) + per_prompt * len(probe.prompts)})
    written = {**json.loads((PROFILES / "h100-qwen3-4b.json").read_text()), "block_size": 16, "kv_blocks": 4096}
    written |= {"max_num_batched_tokens": 2048, "opening_tokens": 0, "probes": probes, "chain": chain}
    found = calibration.calibrated(written)
    assert found["frontend_s"] == pytest.approx(0.004, rel=0.05)
    assert found["base_s"] == pytest.approx(0.005, rel=0.01)
    assert found["request_s"] + found["per_probe_prompt_s"] == pytest.approx(0.005, rel=0.05)
    assert found["error"]["largest"] < 0.01
    assert found["chain_error"]["largest"] < 0.05
    again = json.loads(calibration.as_json(found))
    assert again == found


def test_a_probe_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no probe"):
        calibration._probe("decode of many")


def test_the_profile_of_the_h100_says_how_far_it_is_from_what_was_measured() -> None:
    written = json.loads((PROFILES / "h100-qwen3-4b.json").read_text())
    assert written["source"] == "measured"
    quick = [row for row in written["chain"] if row["read"] in ("draft", "critique")]
    assert quick
    assert [row["simulated"] for row in calibration.checked(Profile.of(written), quick)] == pytest.approx(
        [row["simulated"] for row in quick], rel=1e-3
    )
    assert written["chain_error"]["largest"] == max(abs(row["error"]) for row in written["chain"])


def test_the_command_prints_what_was_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    given = "--rate 2 --seconds 10 --warm-up 2 --verdicts 2 --revised 1 --answer-tokens 30 --candidates edit"
    assert cli.main(given.split()) == 0
    told = capsys.readouterr().out
    assert "revised (n = " in told
    assert "unrevised" not in told


def test_the_command_refuses_a_profile_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--profile", "nothing"]) == 1
    assert "FileNotFoundError" in capsys.readouterr().err

from __future__ import annotations

import asyncio
import functools
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.fleet import __main__ as cli
from loadtests.fleet import charts, scaling, studies, virtual
from loadtests.fleet.cluster import Bounds, Cluster, RunningCluster
from loadtests.fleet.gateway import Answers, Gateway, Outcome, Server, Worker
from loadtests.fleet.scaling import Load, Scaling, ScalingReport, day, simulate_scaling, steady, step
from loadtests.fleet.simulation import Settings
from loadtests.fleet.texts import Lengths, Talk, words
from loadtests.stub_timing import Profile
from service.replicas import Replicas

STEP = 0.02
PROFILE = Profile("m", base_s=STEP, per_prefill_token_s=0.0, per_sequence_s=STEP / 8, per_context_token_s=0.0)
ANSWERS = Answers(answer_tokens=20, question_tokens=20, spread=0.2, verdicts=0, revised=0.0, later_turns=0.3)
GATEWAY = Gateway(workers=1, first_s=0.0, candidate_s=0.0, deadline_s=20.0)
QUICK = Cluster(
    gateways=Bounds(start=1, least=1, most=4),
    replicas=Bounds(start=1, least=1, most=6),
    target=4.0,
    cores=1.0,
    gateway_start_s=5.0,
    replica_start_s=40.0,
)


def scaled(load: Load, cluster: Cluster = QUICK, **given: Any) -> ScalingReport:
    settings = Scaling(profile=PROFILE, load=load, cluster=cluster, answers=ANSWERS, gateway=GATEWAY, p95_s=1.0)
    return simulate_scaling(replace(settings, **given))


STEPPED = step(1.0, 12.0, 30.0, 240.0)


FIXED = replace(QUICK, metric="fixed")
LARGE = replace(FIXED, replicas=Bounds(start=6, least=6, most=6))


@functools.cache
def stepped(cluster: Cluster = QUICK) -> ScalingReport:
    """A step, which several tests look at."""
    return scaled(STEPPED, cluster)


# --- loads ---


def test_a_load_goes_in_straight_lines_and_steps_to_the_later() -> None:
    assert [STEPPED.rate(at) for at in (0.0, 29.9, 30.0, 239.0, 240.0)] == [1, 1, 12, 12, 12]
    assert Load("ramp", ((0.0, 2.0), (10.0, 4.0))).rate(5.0) == 3
    whole = day(2.0, 10.0, 480.0)
    assert [whole.rate(at) for at in (0.0, 120.0, 240.0, 480.0)] == pytest.approx([2, 6, 10, 2])
    assert (whole.most, whole.seconds) == pytest.approx((10, 480))


@pytest.mark.parametrize(
    "points", [((0.0, 1.0),), ((1.0, 1.0), (2.0, 1.0)), ((0.0, -1.0), (1.0, 1.0)), ((0, 1), (2, 1), (1, 1))]
)
def test_a_load_that_makes_no_sense_is_refused(points: Any) -> None:
    with pytest.raises(ValueError, match="begins at 0"):
        Load("x", points)


# --- a fleet that follows ---


def test_nothing_is_forgotten_and_nothing_answered_twice() -> None:
    """However the fleet is run, the same questions come, and each has one outcome."""
    small = replace(GATEWAY, concurrency=6, deadline_s=1.5)
    reports = [stepped(), stepped(FIXED), scaled(STEPPED, FIXED, gateway=small)]
    assert len({report.asked for report in reports}) == 1
    assert reports[0].asked == pytest.approx(30 + 210 * 12, rel=0.1)
    for report in reports:
        assert sum(report.outcomes.values()) == report.asked == sum(moment.asked for moment in report.moments)
        assert sum(moment.lost for moment in report.moments) == report.asked - report.delivered
    assert reports[2].outcomes["shed"] > 0
    assert reports[2].lost > 0.2
    assert reports[2].cost_of_1000(3.0) > reports[1].cost_of_1000(3.0)


def test_a_step_brings_replicas_once_they_have_started_and_the_fleet_recovers() -> None:
    report = stepped()
    before = [moment for moment in report.moments if moment.at < 30 + 40]
    assert {moment.replicas for moment in before} == {1}
    assert any(moment.paid > moment.replicas for moment in report.moments)  # they are paid for while they start
    assert report.moments[-1].replicas > 1
    assert report.recovered_s is not None
    assert 40 < report.recovered_s < 200
    assert stepped(FIXED).recovered_s is None
    assert stepped(FIXED).latency.p95 > report.settled.p95


def test_a_fleet_that_is_large_enough_has_nothing_to_recover_from() -> None:
    report = stepped(LARGE)
    assert report.recovered_s == 0
    assert report.lost == 0
    assert report.replica_hours == pytest.approx(6 * 240 / 3600)
    assert report.cost_of_1000(3.0) == pytest.approx(1000 * 3 * 0.4 / report.delivered)


@pytest.mark.parametrize(
    ("p95", "lost", "recovered"),
    [
        ((9.0, 1.0, 1.0, 1.0, 1.0), (0, 0, 0, 0, 0), 0.0),  # what was before the change does not count
        ((1.0, 1.0, 5.0, 1.0, 1.0), (0, 0, 0, 0, 0), 15.0 + 15.0),
        ((1.0, 5.0, 1.0, 1.0, 1.0), (0, 0, 0, 1, 0), 30.0 + 15.0),
        ((1.0, 5.0, 1.0, 1.0, 5.0), (0, 0, 0, 0, 0), None),
        ((1.0, math.nan, 1.0, 1.0, 1.0), (0, 0, 0, 0, 0), 0.0),
    ],
)
def test_a_fleet_has_recovered_once_nothing_is_bad_any_more(
    p95: tuple[float, ...], lost: tuple[int, ...], recovered: float | None
) -> None:
    moments = [
        scaling.Moment(15.0 * i, 1.0, 1, 1, 1, 0, 0, 9, gone, time)
        for i, (time, gone) in enumerate(zip(p95, lost, strict=True))
    ]
    assert scaling._recovered(moments, step(1.0, 2.0, 15.0, 75.0), 2.0) == recovered


def test_replicas_leave_after_the_window_and_take_no_answer_with_them() -> None:
    busy = replace(QUICK, replicas=Bounds(start=4, least=1, most=6))
    report = scaled(steady(2.0, 420.0), busy)
    replicas = {moment.at: moment.replicas for moment in report.moments}
    assert replicas[285.0] == 4
    assert replicas[405.0] == 1
    assert report.lost == 0
    assert report.replica_hours < 4 * 420 / 3600


def test_the_waiting_metric_does_not_see_a_load_that_the_scheduler_lets_in() -> None:
    waiting = scaled(STEPPED, replace(QUICK, metric="waiting", target=studies.WAITING_TARGET))
    assert {moment.replicas for moment in waiting.moments} == {1}
    assert waiting.recovered_s is None


def test_gateways_follow_their_cpu_as_fast_as_a_full_one_shows() -> None:
    """A full pod uses all it can and no more: 100 % of 70 asks for one half more, and a new pod's CPU counts only once it
    is measured. So from one to three takes two rounds, however great the load."""
    work = replace(GATEWAY, first_s=0.08)
    report = scaled(step(1.0, 36.0, 60.0, 180.0), LARGE, gateway=work)
    gateways = [moment.gateways for moment in report.moments]
    assert set(gateways[:6]) == {1}
    assert 1 < gateways[8] < gateways[-1] == 3
    assert scaled(steady(5.0, 60.0), LARGE, gateway=work).moments[-1].gateways == 1


def test_the_same_seed_gives_the_same_report_and_another_one_another() -> None:
    load = step(2.0, 10.0, 20.0, 120.0)
    assert scaled(load) == scaled(load) != scaled(load, seed=1)


def test_conversations_move_when_replicas_come() -> None:
    assert stepped().moved > stepped(LARGE).moved + 0.02


@given(st.integers(1, 12))
def test_of_a_replica_more_every_conversation_moves_by_one_in_so_many(n: int) -> None:
    replicas = Replicas([f"replica-{i}" for i in range(n)])
    talks = [f"talk {i}" for i in range(400)]
    before = [replicas.for_conversation(talk)[0] for talk in talks]
    replicas.update([f"replica-{i}" for i in range(n + 1)])
    after = [replicas.for_conversation(talk)[0] for talk in talks]
    moved = [now for was, now in zip(before, after, strict=True) if was != now]
    assert set(moved) <= {f"replica-{n}"}  # they go to the new one only
    assert len(moved) / len(talks) == pytest.approx(1 / (n + 1), abs=0.09)


# --- pods ---


def settings() -> Settings:
    return Settings(profile=PROFILE, rate=1.0, answers=ANSWERS, gateway=GATEWAY)


def test_a_new_replica_is_asked_after_its_start_and_at_most_ten_seconds_of_dns() -> None:
    async def first_call() -> float:
        running = RunningCluster(settings(), FIXED)
        running._start_replica(40.0)
        new = running.replicas[-1]
        while not new.server.calls:
            await running.fleet.ask()
        at = running.loop.time()
        await running.stop()
        return at

    assert 40 <= virtual.run(first_call()) < 40 + 10 + 5


def test_a_replica_that_leaves_is_paid_for_until_its_last_answer() -> None:
    async def ends() -> tuple[float, float, float, bool]:
        running = RunningCluster(settings(), replace(QUICK, metric="fixed", drain_s=3.0))
        await asyncio.sleep(1.0)
        pod = running.replicas[0]
        calls = asyncio.create_task(pod.server.chat((1,), tuple(range(400)), ""))
        await asyncio.sleep(0.5)
        running._leave(pod)
        assert running.ready(running.replicas) == 0
        await calls
        answered = running.loop.time()
        await asyncio.sleep(5.0)
        assert pod.gone is not None
        paid = running.replica_seconds(100.0)
        with pytest.raises(ConnectionRefusedError):
            await pod.server.chat((1,), (2,), "")
        await running.stop()
        return answered, pod.gone, paid, pod.server.gone

    answered, gone, paid, refused = virtual.run(ends())
    assert answered <= gone <= answered + 1.0
    assert paid == gone
    assert refused


def test_a_replica_that_never_was_ready_goes_at_once() -> None:
    async def gone() -> float | None:
        running = RunningCluster(settings(), FIXED)
        running._start_replica(40.0)
        running._leave(running.replicas[-1])
        await asyncio.sleep(0.1)
        await running.stop()
        return running.replicas[-1].gone

    assert virtual.run(gone()) == pytest.approx(0.0)


def test_what_breaks_in_a_loop_of_the_cluster_is_not_lost() -> None:
    async def broken() -> None:
        running = RunningCluster(settings(), QUICK)
        running._every(1.0, lambda: 1 / 0)  # type: ignore[arg-type]
        await asyncio.sleep(2.0)
        await running.stop()

    with pytest.raises(ZeroDivisionError):
        virtual.run(broken())


@pytest.mark.parametrize("bounds", [(0, 0, 1), (1, 2, 3), (4, 1, 3)])
def test_bounds_that_make_no_sense_are_refused(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="least"):
        Bounds(start=bounds[0], least=bounds[1], most=bounds[2])


def test_a_replica_that_is_gone_is_passed_over_and_without_any_the_answer_fails() -> None:
    async def outcomes() -> list[Outcome]:
        servers = {url: Server(PROFILE) for url in ("a", "b")}
        steps = [asyncio.create_task(server.replica.run()) for server in servers.values()]
        told: list[Outcome] = []
        for url in ("a", "b"):
            servers[url].gone = True
            for i in range(6):  # some have the one that is gone as their first choice, and do not know
                worker = Worker(GATEWAY, ANSWERS, servers, words(), Lengths(0.0))
                told.append((await worker.answer(Talk(f"talk {i}", "s", (), (1, 2)), random.Random(i)))[0])
        for task in steps:
            task.cancel()
        return told

    assert virtual.run(outcomes()) == ["unrevised"] * 6 + ["failed"] * 6


# --- tables and the command ---


def test_arms_share_a_load_and_the_fixed_one_has_what_the_first_had_at_most() -> None:
    settings = Scaling(
        profile=PROFILE, load=step(1.0, 10.0, 15.0, 120.0), cluster=QUICK, answers=ANSWERS, gateway=GATEWAY, p95_s=2.0
    )
    told = list(studies.arms(settings, kept=3))
    assert len({arm.report.asked for arm in told}) == 1
    assert min(moment.replicas for moment in told[1].report.moments) == 3
    assert {moment.replicas for moment in told[3].report.moments} == {told[0].report.most_paid}


def test_the_command_shows_where_a_fleet_settles(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main("--scale steady --rates 0.5 --seconds 400 --verdicts 0 --answer-tokens 20".split()) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| 0.5 | 8, 8, 2 | 3, 3 |")
    assert row.endswith("| 3.33 |")  # 2 x 3.00 an hour for half an answer a second


def test_the_command_compares_arms_and_draws_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = "--scale step --low 0.5 --high 2 --seconds 45 --replicas 1 --kept 2 --verdicts 0 --answer-tokens 20 --svg"
    drawn = [tmp_path / name for name in ("a.svg", "b.svg")]
    for file in drawn:
        assert cli.main([*given.split(), str(file)]) == 0
    told = capsys.readouterr().out
    assert "never fewer than 2" in told
    assert "calls waiting in vLLM" in told
    assert drawn[0].read_bytes() == drawn[1].read_bytes()
    assert b"Simulated" in drawn[0].read_bytes()


def test_a_chart_of_nothing_asked_has_gaps(tmp_path: Path) -> None:
    report = scaled(steady(0.01, 30.0))
    assert any(math.isnan(moment.p95) for moment in report.moments)
    charts.draw([studies.Arm("idle", report)], tmp_path / "idle.svg", machine="m")
    assert scaling.SAMPLED_S == 15

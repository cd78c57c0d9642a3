"""The autoscaler against cases worked out by hand from Kubernetes' documentation and its KEP 853."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.fleet.hpa import Autoscaler, Behaviour, PodCpu, by_average, by_cpu

OLD = 10_000.0  # long after every start


def pods(*cores: float | None) -> list[PodCpu]:
    """Ready for long; None: metrics-server has nothing yet."""
    return [PodCpu(0.0, True, 0.0, each, OLD) for each in cores]


def starting(n: int) -> list[PodCpu]:
    return [PodCpu(OLD - 20, False, OLD - 20, 0.9, OLD)] * n


# --- CPU ---


@pytest.mark.parametrize(
    ("used", "wanted"),
    [
        (0.2, 6),  # the documentation's example: twice the value that is wanted, twice the pods
        (0.05, 2),  # half of it: half of them, rounded up
        (0.109, 3),  # within a tenth: as it was
        (0.091, 3),
        (0.12, 4),
    ],
)
def test_replicas_follow_the_ratio_outside_of_the_tolerance(used: float, wanted: int) -> None:
    assert by_cpu(pods(used, used, used), 3, 1.0, 10, OLD) == wanted


def test_fifty_at_90_per_cent_of_75_become_sixty() -> None:
    assert by_cpu(pods(*[0.9] * 50), 50, 1.0, 75, OLD) == 60


def test_utilisation_is_of_what_was_asked_for_in_whole_per_cent() -> None:
    assert by_cpu(pods(1.5, 1.5), 2, 2.0, 50, OLD) == 3
    assert by_cpu(pods(0.7799), 1, 1.0, 70, OLD) == 2  # 77 ÷ 70 is just beyond the tolerance
    assert by_cpu(pods(0.7749), 1, 1.0, 70, OLD) == 2
    assert by_cpu(pods(0.769), 1, 1.0, 70, OLD) == 1  # 76 ÷ 70


def test_a_pod_without_a_metric_holds_back_either_way() -> None:
    assert by_cpu(pods(0.1, 0.1), 3, 1.0, 50, OLD) == 1
    assert by_cpu(pods(0.1, 0.1, None), 3, 1.0, 50, OLD) == 3  # it counts as 100 %: 40 ÷ 50 of 3
    assert by_cpu(pods(0.6), 2, 1.0, 50, OLD) == 2
    assert by_cpu(pods(0.6, None), 2, 1.0, 50, OLD) == 2
    assert by_cpu(pods(0.6, None, None), 3, 1.0, 50, OLD) == 3  # it counts as 0: 20 ÷ 50 would turn the direction round


def test_more_pods_than_replicas_do_not_turn_the_direction_round() -> None:
    """While a Deployment rolls: four pods of which two are wanted."""
    assert by_cpu(pods(0.1, 0.1, 0.1, None), 2, 1.0, 50, OLD) == 2


def test_pods_that_start_count_as_idle_when_more_are_wanted_and_not_at_all_otherwise() -> None:
    assert by_cpu([*pods(1.0), *starting(3)], 4, 1.0, 20, OLD) == 5  # 100 ÷ 4 of 20, of 4; without them 5 x 1
    assert by_cpu([*pods(0.1, 0.1), *starting(1)], 3, 1.0, 50, OLD) == 1
    assert by_cpu([*pods(0.48, 0.48), *starting(2)], 4, 1.0, 50, OLD) == 4  # the ready ones are where they should be


def test_without_any_metric_nothing_changes() -> None:
    assert by_cpu(pods(None, None), 2, 1.0, 50, OLD) == 2
    assert by_cpu(starting(2), 2, 1.0, 50, OLD) == 2


def test_a_pods_first_measurements_are_set_aside_for_they_are_of_its_start() -> None:
    fresh = PodCpu(started=0.0, ready=True, ready_changed=30.0, cores=0.9, measured_at=44.0)
    assert fresh.unready(now=50.0)  # its window began before it was ready
    assert not PodCpu(0.0, True, 30.0, 0.9, 45.0).unready(now=50.0)
    assert not fresh.unready(now=301.0)
    assert PodCpu(0.0, False, 10.0, 0.9, 390.0).unready(now=400.0)  # never became ready
    assert not PodCpu(0.0, False, 200.0, 0.9, 390.0).unready(now=400.0)  # was ready once: its load counts


# --- a sum ÷ replicas ---


@pytest.mark.parametrize(
    ("total", "current", "wanted"),
    [(300, 2, 5), (300, 5, 5), (329, 5, 5), (331, 5, 6), (0, 8, 0), (61, 1, 1), (67, 1, 2)],
)
def test_an_average_asks_for_the_sum_over_the_target(total: float, current: int, wanted: int) -> None:
    assert by_average(total, current, 60) == wanted


@given(st.floats(0, 1e5), st.integers(1, 200), st.floats(0.5, 100))
def test_whoever_follows_an_average_keeps_to_the_target_within_the_tolerance(
    total: float, current: int, target: float
) -> None:
    wanted = by_average(total, current, target)
    assert total <= wanted * target * 1.1 + 1e-6
    assert wanted == current or (wanted - 1) * target < total or wanted == 0


# --- how fast ---


def test_up_go_four_pods_or_twice_as_many_in_fifteen_seconds() -> None:
    scaler, current, seen = Autoscaler(1, 50), 2, []
    for now in (0, 15, 30, 45):
        current = scaler.decide(now, current, 30)
        seen.append(current)
    assert seen == [6, 12, 24, 30]


def test_what_was_added_within_the_period_counts_against_the_policies() -> None:
    scaler = Autoscaler(1, 50)
    assert scaler.decide(0, 2, 30) == 6
    assert scaler.decide(5, 6, 30) == 6  # still the same fifteen seconds: 2 + 4
    assert scaler.decide(16, 6, 30) == 12


def test_down_goes_to_the_most_that_was_asked_for_in_five_minutes() -> None:
    scaler = Autoscaler(1, 50)
    assert scaler.decide(0, 10, 10) == 10
    assert [scaler.decide(now, 10, 3) for now in (15, 150, 285, 299)] == [10] * 4
    assert scaler.decide(301, 10, 4) == 4  # the 10 of the start is out of the window; no policy slows it
    assert scaler.decide(310, 4, 4) == 4


def test_stabilisation_as_in_kep_853() -> None:
    scaler = Autoscaler(1, 50, Behaviour(down_window_s=600))
    told = [scaler.decide(60 * minute, 10, n) for minute, n in enumerate([10, 9, 8, 9, 9, 8, 9, 8, 9, 8])]
    assert told == [10] * 10
    assert scaler.decide(601, 10, 7) == 9


def test_policies_hold_back_a_way_down() -> None:
    scaler = Autoscaler(1, 50, Behaviour(down_window_s=0, down_percent=10, down_pods=2, period_s=60))
    assert scaler.decide(0, 10, 1) == 8  # the policy that allows more: 2 pods, not a tenth
    assert scaler.decide(15, 8, 1) == 8
    assert scaler.decide(61, 8, 1) == 6


def test_the_metric_may_swing_but_the_bounds_hold() -> None:
    assert Autoscaler(3, 5).decide(0, 3, 90) == 5
    scaler = Autoscaler(3, 5)
    scaler.decide(0, 5, 5)
    assert scaler.decide(400, 5, 0) == 3


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.integers(1, 10), st.integers(10, 100))
def test_no_sync_goes_further_than_it_may(wanted: list[int], least: int, most: int) -> None:
    scaler, current = Autoscaler(least, most), least
    for i, n in enumerate(wanted):
        before, current = current, scaler.decide(15.0 * i, current, n)
        assert least <= current <= most
        assert current <= max(before + 4, 2 * before)
        if current < before:  # nobody asked for more within five minutes
            assert current == max(least, *wanted[max(0, i - 19) : i + 1], 0)

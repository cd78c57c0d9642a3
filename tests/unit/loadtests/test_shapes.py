from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.shapes import FASTEST, PER_SOURCE, STAGES, Settings, Stage, source, sources, stage

SETTINGS = st.builds(
    Settings,
    users=st.integers(1, 2000),
    seconds=st.floats(1, 10_000),
    spawn_rate=st.floats(0.1, 100),
    rate=st.floats(0.1, 5000),
    max_outstanding=st.integers(1, 5000),
)


def users(name: Stage, settings: Settings, points: int = 60) -> list[int]:
    assert settings.seconds is not None
    told = [stage(name, settings.seconds * i / points, settings) for i in range(points)]
    return [row[0] for row in told if row is not None]


@given(st.sampled_from(STAGES), SETTINGS, st.floats(0, 20_000))
def test_every_stage_ends_on_time_and_stays_in_its_bounds(name: Stage, settings: Settings, elapsed: float) -> None:
    told = stage(name, elapsed, settings)
    assert settings.seconds is not None
    assert (told is None) == (elapsed >= settings.seconds)
    if told is not None:
        assert 1 <= told[0] <= (sources(settings) if name == "overload" else settings.users)
        assert 0 < told[1] <= FASTEST


@given(SETTINGS)
def test_a_ramp_climbs_to_all_users_and_never_falls(settings: Settings) -> None:
    told = users("ramp", settings)
    assert told == sorted(told)
    assert told[-1] == settings.users
    if settings.users >= 10:
        assert len(set(told)) == 10
        assert told[0] == round(settings.users / 10)


def test_a_spike_is_the_middle_third() -> None:
    told = users("spike", Settings(users=100, seconds=90), points=90)
    assert told == [20] * 30 + [100] * 30 + [20] * 30


def test_a_soak_warms_up_for_a_minute_at_most() -> None:
    assert stage("soak", 0, Settings(users=120, seconds=3600)) == (120, 2.0)
    assert stage("soak", 0, Settings(users=20, seconds=100)) == (20, 2.0)


def test_steady_without_an_end_never_ends_and_the_others_have_a_time_of_their_own() -> None:
    settings = Settings(users=4, spawn_rate=2.0)
    assert stage("steady", 1e9, settings) == (4, 2.0)
    for name in set(STAGES) - {"steady"}:
        assert stage(name, 0, settings) is not None
        assert stage(name, 1e6, settings) is None


@given(SETTINGS)
def test_the_sources_of_an_open_loop_add_up(settings: Settings) -> None:
    parts, one = sources(settings), source(settings)
    assert math.isclose(parts * one.rate, settings.rate)
    assert settings.max_outstanding - parts < parts * one.max_outstanding <= settings.max_outstanding
    assert one.rate <= PER_SOURCE or parts == settings.max_outstanding


def test_users_do_not_slow_an_open_loop() -> None:
    settings = Settings(users=1, seconds=10, rate=250.0)
    assert stage("overload", 5, settings) == stage("overload", 5, replace(settings, users=500)) == (3, FASTEST)


@pytest.mark.parametrize(
    "wrong",
    [{"users": 0}, {"rate": 0.0}, {"rate": math.inf}, {"spawn_rate": -1.0}, {"seconds": 0.0}, {"max_outstanding": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"zero|at least one"):
        Settings(**wrong)  # type: ignore[arg-type]

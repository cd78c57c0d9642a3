from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.curves import alarms, change, criteria, moving_mean, plot, read_metrics, summary
from training.errors import DataError


def run(**curves: Sequence[float | None]) -> list[dict[str, Any]]:
    """One row a step; a `__` in a name stands for the slash."""
    steps = len(next(iter(curves.values())))
    return [
        {"step": i + 1} | {n.replace("__", "/"): v[i] for n, v in curves.items() if v[i] is not None}
        for i in range(steps)
    ]


def line(first: float, last: float, steps: int = 28) -> list[float]:
    """From first to last, with a little noise that cancels out."""
    return [first + (last - first) * i / (steps - 1) + (0.02 if i % 2 else -0.02) for i in range(steps)]


# What a run of the demonstration model with a reward of four checkable criteria did in 28 steps: the reward rose from
# 0.20 to 0.50 because every answer opened with a question, emergencies were never sent on, and then no group had spread.
HACKED = run(
    reward=line(0.20, 0.50),
    criteria__asks=line(0.1, 0.98),
    criteria__emergency=[0.0] * 28,
    criteria__hedges=line(0.4, 0.1),
    criteria__short=line(0.5, 0.45),
    frac_reward_zero_std=line(0.1, 0.95),
    completions__mean_length=line(46, 40),
)
SOUND = run(
    reward=line(0.6, 0.8),
    criteria__asks=line(0.3, 0.6),
    criteria__short=line(0.5, 0.7),
    criteria__kept=[1.0] * 28,
    frac_reward_zero_std=[0.0] * 28,
    completions__mean_length=line(120, 90),
)


def test_a_hacked_reward_is_seen() -> None:
    told = alarms(HACKED)
    assert any("asks rose while hedges fell" in sentence for sentence in told)
    assert any("emergency was never met" in sentence for sentence in told)
    assert any("learning has stopped" in sentence for sentence in told)
    assert "**Alarm.**" in summary(HACKED)


def test_a_sound_run_raises_none() -> None:
    assert alarms(SOUND) == []
    assert summary(SOUND).startswith("No alarm.")


def test_one_criterion_alone_is_told() -> None:
    told = alarms(run(reward=line(0.4, 0.6), criteria__asks=line(0.1, 0.9), criteria__flat=[0.5] * 28))
    assert told == ["The reward rose by asks alone: nothing else was learnt."]


def test_answers_that_vanish_and_guards_that_fire_are_told() -> None:
    told = alarms(run(completions__mean_length=line(100, 20), guards__too_short=line(0, 0.5), reward=line(0.5, 0.5)))
    assert len(told) == 2
    assert told[0].startswith("Answers shrank")
    assert "too_short" in told[1]


def test_noise_is_no_change() -> None:
    noisy = run(criteria__a=[0.0, 1.0] * 14, criteria__b=[1.0, 0.0] * 14, reward=[0.5] * 28)
    assert alarms(noisy) == []


def test_a_short_run_tells_nothing() -> None:
    assert alarms(HACKED[:7]) == []
    assert summary(HACKED[:7]) == "7 steps are too few to compare a first and a last quarter.\n"


def test_steps_without_a_criterion_are_left_out() -> None:
    rows = run(criteria__rare=[0.0, 0.2, None, *[None] * 6, 0.8, None, 1.0], reward=[0.5] * 12)
    found = change(rows, "criteria/rare")
    assert found is not None
    assert [found.first, found.last] == pytest.approx([0.1, 0.9])
    assert found.error == pytest.approx(math.sqrt(0.02 / 2 + 0.02 / 2))
    assert criteria(rows) == ["criteria/rare"]
    assert change(rows, "criteria/none") is None


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=50))
def test_a_moving_mean_stays_between_the_extremes(values: list[float]) -> None:
    smooth = moving_mean(values)
    assert len(smooth) == len(values)
    assert all(min(values) - 1e-9 <= value <= max(values) + 1e-9 for value in smooth)
    assert smooth[0] == values[0]


@pytest.mark.parametrize("steps", [1, 2, 28])
def test_the_plot_is_a_picture_at_any_time(tmp_path: Path, steps: int) -> None:
    plot(HACKED[:steps], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_steps_says_so(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(DataError, match="no step yet"):
        read_metrics(tmp_path / "metrics.jsonl")
    (tmp_path / "metrics.jsonl").write_bytes(orjson.dumps(HACKED[0]) + b"\n")
    assert read_metrics(tmp_path / "metrics.jsonl") == HACKED[:1]

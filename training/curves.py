"""What a run did, from its metrics.jsonl: curves as one PNG, and alarms where the reward rose for the wrong reason.

A reward can rise because one cheap criterion is met everywhere (each answer opens with a question) while what matters
falls or is never learnt. The mean hides that; the rates of the single criteria show it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

from training.data import read_json_lines
from training.errors import DataError

CRITERIA = "criteria/"
_ENDS = 4  # the first and the last quarter of a run are compared
_LEAST_STEPS = 8
_SURE = 1.96  # standard errors: 95 % of a normal distribution
_WORTH_SAYING = 0.05  # smaller changes of a rate are not worth an alarm
_SMOOTH = 5  # steps in a moving mean


@dataclass(frozen=True, slots=True)
class Change:
    """A series' means in the first and in the last quarter of a run, and the standard error of their difference."""

    first: float
    last: float
    error: float

    @property
    def rose(self) -> bool:
        return self.last - self.first > max(_SURE * self.error, _WORTH_SAYING)

    @property
    def fell(self) -> bool:
        return self.first - self.last > max(_SURE * self.error, _WORTH_SAYING)


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """One row a step. Raises DataError where there is none."""
    rows = list(read_json_lines(file))
    if not rows:
        raise DataError(f"{file} holds no step yet")
    return rows


def series(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """(step, value) where the step has one: a criterion that applied to no answer of a step has none there."""
    return [(int(row["step"]), float(row[name])) for row in rows if isinstance(row.get(name), int | float)]


def criteria(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({name for row in rows for name in row if name.startswith(CRITERIA)})


def change(rows: Sequence[Mapping[str, Any]], name: str) -> Change | None:
    """None where either quarter has fewer than two values to compare."""
    quarter = max(2, len(rows) // _ENDS)
    first = [value for _, value in series(rows[:quarter], name)]
    last = [value for _, value in series(rows[-quarter:], name)]
    if len(rows) < _LEAST_STEPS or len(first) < 2 or len(last) < 2:
        return None
    return Change(fmean(first), fmean(last), math.sqrt(stdev(first) ** 2 / len(first) + stdev(last) ** 2 / len(last)))


def alarms(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each sign that the reward is being gamed or teaches nothing. Empty for a sound run."""
    changes = {name.removeprefix(CRITERIA): found for name in criteria(rows) if (found := change(rows, name))}
    rose = sorted(name for name, found in changes.items() if found.rose)
    fell = sorted(name for name, found in changes.items() if found.fell)
    told = []
    if rose and fell:
        told.append(f"{_listed(rose)} rose while {_listed(fell)} fell: look at answers before believing the reward.")
    reward = change(rows, "reward")
    others = [found.last - found.first for name, found in changes.items() if name not in rose]
    if reward and reward.rose and len(rose) == 1 and others and not fell and fmean(others) <= 0:
        told.append(f"The reward rose by {rose[0]} alone: nothing else was learnt.")
    told += [
        f"{name} was never met in the last quarter: groups without a good answer teach nothing."
        for name, found in sorted(changes.items())
        if found.last == 0
    ]
    flat = change(rows, "frac_reward_zero_std")
    if flat and flat.last > 0.5:
        told.append(f"{flat.last:.0%} of the last groups have no spread: learning has stopped.")
    length = change(rows, "completions/mean_length")
    if length and length.last < length.first / 2:
        told.append(f"Answers shrank from {length.first:.0f} to {length.last:.0f} tokens.")
    for guard in ("repeats", "too_short"):
        caught = change(rows, f"guards/{guard}")
        if caught and caught.rose:
            told.append(f"More answers are caught by the guard {guard}: {caught.first:.0%}, then {caught.last:.0%}.")
    return told


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the alarms, then first and last quarter of each curve."""
    if len(rows) < _LEAST_STEPS:
        return f"{len(rows)} steps are too few to compare a first and a last quarter.\n"
    told = alarms(rows)
    lines = [*(f"- **Alarm.** {sentence}" for sentence in told)] or ["No alarm."]
    lines += ["", "| | first quarter | last quarter |", "|---|---|---|"]
    names = ["reward", "completions/mean_length", "kl", "frac_reward_zero_std", "missing", *criteria(rows)]
    for name in names:
        if found := change(rows, name):
            lines.append(f"| {name.removeprefix(CRITERIA)} | {found.first:.3f} | {found.last:.3f} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Reward, length, KL, groups without spread, and every criterion's rate, as one PNG."""
    names = ["reward", "completions/mean_length", "kl", "frac_reward_zero_std", *criteria(rows)]
    columns = 4
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4 * columns, 2.6 * lines), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, i + 1)
        points = series(rows, name)
        axes.set_title(_TITLES.get(name, name.removeprefix(CRITERIA)), fontsize=10)
        axes.set_xlim(0, max(int(rows[-1]["step"]), 1))
        if name.startswith(CRITERIA) or name == "frac_reward_zero_std":
            axes.set_ylim(-0.05, 1.05)
        if not points:
            continue
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color="0.75", linewidth=0.8, marker="." if len(points) < 3 else "")
        axes.plot(steps, moving_mean(values), color="C0", linewidth=1.8)
    for axes in figure.axes[-columns:]:
        axes.set_xlabel("step")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


_TITLES = {
    "reward": "mean reward",
    "completions/mean_length": "mean length, tokens",
    "kl": "KL to the base model, nats a token",
    "frac_reward_zero_std": "share of groups without spread",
}


def moving_mean(values: Sequence[float], width: int = _SMOOTH) -> list[float]:
    """Mean of the last `width` values at each place, of fewer at the beginning."""
    return [fmean(values[max(0, i + 1 - width) : i + 1]) for i in range(len(values))]

"""How the cost of an answer grows: by principles judged, rounds, length and concurrency, on one replica.

Cost is in drafts: the drafts a second that the replica gives to so many clients in a closed loop, over the answers a
second that it gives them. For one client that is the ratio of times; for many, of what the machine can do.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from loadtests.fleet.gateway import Answers, Gateway
from loadtests.fleet.simulation import Report, Settings, simulate
from loadtests.fleet.tables import table as markdown
from loadtests.stub_timing import Profile
from service.settings import Candidate as Kind

Curve = Literal["principles", "rounds", "length", "concurrency"]
CURVES: dict[Curve, tuple[int, ...]] = {
    "principles": (0, 4, 8, 16, 32),
    "rounds": (0, 1, 2, 3),
    "length": (100, 200, 400, 800),
    "concurrency": (1, 4, 16, 64, 128, 256),
}
AXES: dict[Curve, str] = {
    "principles": "principles that the model judges",
    "rounds": "rounds of revision",
    "length": "tokens of an answer",
    "concurrency": "clients at once",
}
ARMS: dict[str, tuple[float, tuple[Kind, ...]]] = {
    "unrevised": (0.0, ("edit",)),
    "revised, one candidate": (1.0, ("edit",)),
    "revised, two candidates": (1.0, ("edit", "fresh")),
}
_ALONE, _MANY = 1, 64
_FEW = 8  # clients below which each asks a number of questions instead of some seconds' worth
_EACH = 24
_SECONDS, _WARM_UP_S = 60.0, 40.0  # an answer of many rounds takes half a minute
_WIDE = Gateway(workers=32)  # so that only the replica is the limit


@dataclass(frozen=True, slots=True)
class Row:
    curve: Curve
    x: int
    arm: str
    clients: int
    drafts_per_s: float
    answers_per_s: float
    cost: float
    p50_s: float
    p95_s: float


def measure(profile: Profile, *, seed: int = 0, curves: Sequence[Curve] = get_args(Curve)) -> list[Row]:
    """All curves, the same questions in each."""

    @cache
    def told(answers: Answers, clients: int) -> Report:
        asked = Settings(profile=profile, clients=clients, seed=seed, answers=answers, gateway=_WIDE)
        if clients < _FEW:
            return simulate(replace(asked, each=_EACH))
        return simulate(replace(asked, seconds=_SECONDS, warm_up_s=_WARM_UP_S))

    def row(curve: Curve, x: int, arm: str, answers: Answers, clients: int) -> Row:
        bare = told(replace(answers, verdicts=0, revised=0.0, rounds=1, candidates=("edit",)), clients)
        full = told(answers, clients)
        cost = bare.answers_per_s / full.answers_per_s
        told_of = (bare.answers_per_s, full.answers_per_s, cost, full.latency.p50, full.latency.p95)
        return Row(curve, x, arm, clients, *(float(f"{value:.4g}") for value in told_of))

    return [row(*point) for curve in curves for point in _points(curve)]


def _points(curve: Curve) -> Iterator[tuple[Curve, int, str, Answers, int]]:
    for x in CURVES[curve]:
        for arm, (revised, candidates) in ARMS.items():
            answers = Answers(revised=revised, candidates=candidates, can_win=1.0, later_turns=0.0)
            match curve:
                case "principles":
                    answers = replace(answers, verdicts=x)
                case "rounds":
                    if not revised:
                        continue
                    unrevised = replace(answers, revised=0.0, candidates=ARMS["unrevised"][1])
                    answers = replace(answers, rounds=x) if x else unrevised
                case "length":
                    answers = replace(answers, answer_tokens=x)
                case "concurrency":
                    yield curve, x, arm, answers, x
                    continue
            for clients in (_ALONE, _MANY):
                yield curve, x, arm, answers, clients


def table(rows: Sequence[Row]) -> str:
    head = ("curve", "x", "arm", "clients", "answers/s", "cost in drafts", "p50 s")
    return markdown(
        head,
        (
            (row.curve, row.x, row.arm, row.clients, f"{row.answers_per_s:.2f}", f"{row.cost:.2f}", f"{row.p50_s:.2f}")
            for row in rows
        ),
    )


def write(rows: Sequence[Row], folder: Path, *, machine: str) -> None:
    """`curves.csv`, and a plot for each curve. The same rows give the same bytes. `machine` goes into the titles."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "curves.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    for curve in dict.fromkeys(row.curve for row in rows):
        _plot(curve, [row for row in rows if row.curve == curve], folder / f"cost-by-{curve}.svg", machine)


def _plot(curve: Curve, rows: Sequence[Row], file: Path, machine: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style = {"svg.hashsalt": "clinalign", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
        groups = [None] if curve == "concurrency" else [_ALONE, _MANY]
        for i, arm in enumerate(ARMS):
            for clients in groups:
                line = [row for row in rows if row.arm == arm and clients in (None, row.clients)]
                if not line:
                    continue
                axes.plot(
                    [row.x for row in line],
                    [row.cost for row in line],
                    label=arm if clients is None else f"{arm}, {clients} client{'s' * (clients > 1)}",
                    color=f"C{i}",
                    marker="o",
                    markersize=3.5,
                    linestyle="--" if clients == _MANY else "-",
                )
        if curve == "concurrency":
            axes.set_xscale("log", base=2)
        axes.set(xlabel=AXES[curve], ylabel="cost in drafts", ylim=(0, None), xticks=CURVES[curve])
        axes.set_xticklabels([str(x) for x in CURVES[curve]])
        axes.set_title(f"Simulated: cost of an answer on one {machine}")
        axes.legend(fontsize=7.5, handlelength=3.2)
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)

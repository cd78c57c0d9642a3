"""A fleet that scales, over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtests.fleet.scaling import SAMPLED_S, Moment
from loadtests.fleet.studies import Arm

_PANELS: tuple[tuple[str, Callable[[Moment], float]], ...] = (
    ("questions a second", lambda moment: moment.rate),
    ("replicas ready", lambda moment: moment.replicas),
    ("p95, seconds", lambda moment: moment.p95),
    ("lost, % of questions", lambda moment: 100 * moment.lost / moment.asked if moment.asked else math.nan),
)


def draw(arms: Sequence[Arm], file: Path, *, machine: str) -> None:
    """An SVG of what each arm did. The same reports give the same bytes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style = {"svg.hashsalt": "clinalign", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
    with plt.rc_context(style):
        figure, panels = plt.subplots(len(_PANELS), figsize=(6.8, 7.2), sharex=True, layout="constrained")
        for axes, (label, value) in zip(panels, _PANELS, strict=True):
            shown = arms[:1] if label.startswith("questions") else arms
            for i, arm in enumerate(shown):
                times = [(moment.at + SAMPLED_S / 2) / 60 for moment in arm.report.moments]
                axes.plot(
                    times, [value(moment) for moment in arm.report.moments], color=f"C{i}", label=arm.name, lw=1.2
                )
            axes.set(ylabel=label, ylim=(0, None))
        panels[1].legend(fontsize=7.5)
        panels[-1].set_xlabel("minutes")
        panels[0].set_title(f"Simulated: {arms[0].report.load.name}, {machine}")
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)

"""The plots of an evaluation's report: PNG bytes with the sentence that says what they show to who cannot see them.

Figure objects alone, no pyplot: nothing is global. Two systems differ by colour and by the shape of their marks.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluation.compare import Change
from training.evaluation.measures import Measured
from training.evaluation.page import Plot
from training.evaluation.stats import Interval

_COLOURS, _MARKS = ("#1f5fa8", "#c2571a", "#2f7d4f", "#7a3f98"), ("o", "s", "^", "D")  # told apart by the colour-blind
_GREY = "#8a8a8a"
_MOST = 40  # rows of a plot
_DPI = 120
_FEW = 10  # questions


def scores(name: str, title: str, by_system: Mapping[str, Mapping[str, Interval]], *, span: str) -> Plot | None:
    """A row for each label, a mark with its interval for each system. None where there is nothing to draw."""
    labels = list(dict.fromkeys(label for found in by_system.values() for label in found))
    if not labels:
        return None
    title, labels = _first(title, labels)
    figure, axes = _rows(labels)
    for number, (system, found) in enumerate(by_system.items()):
        offset = (number - (len(by_system) - 1) / 2) * 0.25
        drawn = [(row + offset, found[label]) for row, label in enumerate(labels) if label in found]
        _marks(axes, drawn, number, system)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(span)
    _legend(axes)
    told = "; ".join(
        f"{system}: " + ", ".join(f"{label} {_number(found[label])}" for label in labels if label in found)
        for system, found in by_system.items()
    )
    return Plot(name, title, f"{title}, with 95 % intervals. {told}.", _png(figure))


def differences(name: str, title: str, changes: Mapping[str, Change], *, before: str, after: str) -> Plot | None:
    """Paired differences with their intervals around zero."""
    labels = [label for label, change in changes.items() if change.difference.value is not None]
    if not labels:
        return None
    title, labels = _first(title, labels)
    figure, axes = _rows(labels)
    _marks(axes, [(row, changes[label].difference) for row, label in enumerate(labels)], 0, None)
    axes.axvline(0, color=_GREY, linewidth=1)
    axes.set_xlabel(f"{after} minus {before}; right of zero: {after} scores higher")
    told = ", ".join(f"{label} {_number(changes[label].difference, sign=True)}" for label in labels)
    return Plot(name, title, f"{title}, {after} minus {before}, with 95 % intervals. {told}.", _png(figure))


def rates(name: str, title: str, changes: Mapping[str, Change], *, before: str, after: str) -> Plot | None:
    """Rates of both systems on one line a criterion, largest change first. A change on few questions is dotted: it
    may be one answer's."""
    ordered = sorted(changes, key=lambda label: -abs(changes[label].difference.value or 0.0))
    if not ordered:
        return None
    title, ordered = _first(title, ordered)
    figure, axes = _rows([f"{label} (n {changes[label].difference.n})" for label in ordered])
    for row, label in enumerate(ordered):
        one, other = changes[label].before.value, changes[label].after.value
        if one is not None and other is not None:
            few = changes[label].difference.n < _FEW
            axes.plot([one, other], [row, row], color=_GREY, linewidth=1.5, linestyle=":" if few else "-", zorder=1)
            for number, value in enumerate((one, other)):
                told = (before, after)[number] if row == 0 else None
                axes.plot(
                    value, row, _MARKS[number], color=_COLOURS[number], label=told, zorder=2,
                    markersize=(9, 6)[number], fillstyle=("none", "full")[number],  # so that equal ones are both seen
                )  # fmt: skip
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share of answers that meet it")
    _legend(axes)
    told = ", ".join(
        f"{label} {_number(changes[label].before)} to {_number(changes[label].after)}" for label in ordered
    )
    return Plot(name, title, f"{title}, {before} to {after}. {told}.", _png(figure))


def score_by_length(measured: Sequence[Measured]) -> Plot | None:
    """A dot an answer: whether long answers are what scores."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    told = []
    for number, each in enumerate(measured):
        dots = [(e.chars, e.score) for e in each.examples if e.chars is not None and e.score is not None]
        if dots:
            lengths, values = zip(*dots, strict=True)
            colour, mark = _COLOURS[number % 4], _MARKS[number % 4]
            axes.scatter(lengths, values, s=14, alpha=0.5, color=colour, marker=mark, label=each.system)
            told.append(f"{each.system}: {len(dots)} answers of {min(lengths)} to {max(lengths)} characters")
    if not told:
        return None
    axes.set_xlabel("characters of the answer")
    axes.set_ylabel("score")
    _plain(axes)
    _legend(axes)
    title = "Score against length"
    return Plot("length", title, f"{title}, one dot an answer. {'; '.join(told)}.", _png(figure))


def _first(title: str, labels: list[str]) -> tuple[str, list[str]]:
    """As many rows as a plot can hold, and a title that says so; the tables have them all."""
    cut = len(labels) > _MOST
    return (f"{title} (the first {_MOST} of {len(labels)})" if cut else title), labels[:_MOST]


def _rows(labels: Sequence[str]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 1.2 + 0.34 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _marks(axes: Axes, drawn: Sequence[tuple[float, Interval]], number: int, label: str | None) -> None:
    colour, mark = _COLOURS[number % 4], _MARKS[number % 4]
    for row, interval in drawn:
        if interval.low is not None and interval.high is not None:
            axes.plot([interval.low, interval.high], [row, row], color=colour, linewidth=2, alpha=0.6)
    known = [(interval.value, row) for row, interval in drawn if interval.value is not None]
    if known:
        axes.plot([value for value, _ in known], [row for _, row in known], mark, color=colour, label=label)


def _legend(axes: Axes) -> None:
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # over no mark


def _number(interval: Interval, *, sign: bool = False) -> str:
    return "unknown" if interval.value is None else f"{interval.value:{'+' if sign else ''}.2f}"


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()

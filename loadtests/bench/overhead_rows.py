"""The rows of the overhead table: cells measured, their medians, and the table as a person reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from loadtests.bench.closed_loop import Measured

ALONE, MANY = 1, 32
NOISE = 0.1


@dataclass
class Cell:
    """One measurement. `others` is the share of the server's core that everything else used meanwhile."""

    measured: Measured
    cpu_ms: float | None
    others: float
    outcomes: dict[str, int]


@dataclass
class Row:
    """A server and the request that it is sent; `pid` is None where its CPU time is not of interest."""

    name: str
    url: str
    body: dict[str, Any]
    pid: int | None
    about: dict[str, Any] = field(default_factory=dict)
    cells: dict[int, list[Cell]] = field(default_factory=lambda: {ALONE: [], MANY: []})


def figures(row: Row, direct: Row, litellm: Row | None) -> dict[str, Any]:
    """A row of the table. Latencies in ms, of one client unless the name ends in the number of clients."""
    alone, many = row.cells[ALONE], row.cells[MANY]
    rate, used = _median(many, _rate), [cell.cpu_ms for cell in many if cell.cpu_ms is not None]
    met: dict[str, int] = {}
    for cell in [*alone, *many]:
        for status, count in cell.outcomes.items():
            met[status] = met.get(status, 0) + count
    return {
        "name": row.name,
        "p50_ms": _median(alone, _p50),
        "p99_ms": _median(alone, lambda cell: cell.measured.p99_ms),
        "added_p50_ms": round(_median(alone, _p50) - _median(direct.cells[ALONE], _p50), 3),
        f"per_second_{MANY}": rate,
        f"p50_ms_{MANY}": _median(many, _p50),
        f"p99_ms_{MANY}": _median(many, lambda cell: cell.measured.p99_ms),
        "rate_to_litellm": round(rate / _median(litellm.cells[MANY], _rate), 2) if litellm else None,
        "cpu_ms": round(median(used), 3) if used else None,
        "others": round(max(cell.others for cell in [*alone, *many]), 3),
        "errors": sum(cell.measured.errors for cell in [*alone, *many]),
        "outcomes": met,
        **row.about,
        "rounds": {"p50_ms": [_p50(c) for c in alone], f"per_second_{MANY}": [round(_rate(c), 1) for c in many]},
    }


def _median(cells: Sequence[Cell], take: Callable[[Cell], float]) -> float:
    return round(median(take(cell) for cell in cells), 3)


def _p50(cell: Cell) -> float:
    return cell.measured.p50_ms


def _rate(cell: Cell) -> float:
    return cell.measured.per_second


def table(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    lines = [
        f"{'':17}{'one client, ms':^27} {f'{MANY} clients':^28}",
        f"{'':17}{'p50':>8} {'p99':>8} {'added':>8} {'req/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'x LiteLLM':>10} {'CPU ms':>8} {'errors':>7}",
    ]
    for row in report["rows"]:
        ratio = "" if row["rate_to_litellm"] is None else f"{row['rate_to_litellm']:.2f}"
        cpu = "" if row["cpu_ms"] is None else f"{row['cpu_ms']:.3f}"
        lines.append(
            f"{row['name']:17}{row['p50_ms']:8.2f} {row['p99_ms']:8.2f} {row['added_p50_ms']:8.2f} "
            f"{row[f'per_second_{MANY}']:9.1f} {row[f'p50_ms_{MANY}']:8.2f} {row[f'p99_ms_{MANY}']:8.2f} "
            f"{ratio:>10} {cpu:>8} {row['errors']:7d}"
        )
    lines += [
        f"{row['name']}: {row['model_verdicts']} model verdicts and {row['rules']} rules an answer, {row['outcomes']}"
        for row in report["rows"]
        if "status" in row
    ]
    if noisy := [f"{row['name']} {row['others']:.0%}" for row in report["rows"] if row["others"] > NOISE]:
        lines.append(f"not a quiet machine: others used the server's core during {', '.join(noisy)}")
    lines += [f"{name} lost a cell: {why}" for name, why in report["lost"].items()]
    lines += [f"{name} is left out: {why}" for name, why in report["left_out"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return "\n".join([*lines, f"{versions}; {report['rounds']} rounds of {report['seconds']:g} s a cell"])

"""Reports as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loadtests.fleet.gateway import Routing
from loadtests.fleet.simulation import Latency, Report
from loadtests.fleet.sizing import Size
from loadtests.fleet.studies import Arm


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(each) for each in line) + " |" for line in lines)


def seconds(latency: Latency) -> str:
    return f"{latency.p50:.2f} / {latency.p95:.2f} / {latency.p99:.2f}"


def report(told: Report) -> str:
    rows: list[tuple[str, str]] = [
        ("answers a second", f"{told.answers_per_s:.2f}"),
        ("shed", f"{told.shed:.1%}"),
        ("no draft at the deadline", f"{told.late:.1%}"),
        (f"seconds to an answer, p50 / p95 / p99 (n = {told.latency.n})", seconds(told.latency)),
        *((f"- {name} (n = {each.n})", seconds(each)) for name, each in told.by_outcome.items()),
        *((f"median seconds of {name}", f"{value:.3f}") for name, value in told.stages.items()),
        ("replica stepping, mean and most", f"{told.busy:.0%}, {told.busiest:.0%}"),
        ("replica's frontend at work, mean and most", f"{told.frontend:.0%}, {told.frontend_busiest:.0%}"),
        ("running / waiting / before the frontend, a replica", _queues(told)),
        ("prompt tokens from the cache", f"{told.cached:.0%}"),
        ("calls an answer", f"{told.calls_per_answer:.1f}"),
        ("answers in the making", f"{told.in_flight:.1f}"),
        ("gateway's cores at work", f"{told.cores:.2f}"),
    ]
    return table(("", "simulated"), rows)


def sizes(found: Iterable[Size]) -> str:
    head = ("answers/s", "replicas", "used", "p50 / p95 / p99 s", "running a replica", "frontend", "cached", "workers")
    return table(
        (*head, "cores at work"),
        (
            (
                f"{size.rate:g}",
                size.replicas,
                f"{size.used:.0%}",
                seconds(size.report.latency),
                f"{size.report.running:.1f}",
                f"{size.report.frontend:.0%}",
                f"{size.report.cached:.0%}",
                size.workers,
                f"{size.report.cores:.2f}",
            )
            for size in found
        ),
    )


def ramp(told: Iterable[tuple[float, Report]]) -> str:
    head = ("of capacity", "answers/s", "p50 / p95 / p99 s", "stepping", "frontend")
    return table(
        (*head, "running / waiting / before the frontend", "answers in the making", "shed"),
        (
            (
                f"{share:.0%}",
                f"{each.answers_per_s:.2f}",
                seconds(each.latency),
                f"{each.busy:.0%}",
                f"{each.frontend:.0%}",
                _queues(each),
                f"{each.in_flight:.1f}",
                f"{each.shed:.1%}",
            )
            for share, each in told
        ),
    )


def routings(told: Iterable[tuple[str, Routing, Report]]) -> str:
    return table(
        ("load", "routing", "answers/s", "p50 / p95 / p99 s", "cached", "running a replica", "busiest frontend"),
        (
            (
                load,
                routing.replace("_", "-"),
                f"{each.answers_per_s:.2f}",
                seconds(each.latency),
                f"{each.cached:.0%}",
                f"{each.running:.1f}",
                f"{each.frontend_busiest:.0%}",
            )
            for load, routing, each in sorted(told, key=lambda row: row[0], reverse=True)
        ),
    )


def settled(arms: Iterable[Arm], gpu_hour: float) -> str:
    """Where a fleet came to rest. Cost is that of the replicas at the end, at the offered rate."""
    head = (
        "answers/s",
        "replicas: first, most, last",
        "gateways: most, last",
        "p50 / p95 / p99 s of the last third",
        "lost",
    )

    def row(arm: Arm) -> tuple[object, ...]:
        moments, rate = arm.report.moments, arm.report.load.most
        replicas = [moment.replicas for moment in moments]
        return (
            f"{rate:g}",
            f"{replicas[0]}, {max(replicas)}, {replicas[-1]}",
            f"{max(moment.gateways for moment in moments)}, {moments[-1].gateways}",
            seconds(arm.report.settled),
            f"{arm.report.lost:.1%}",
            f"{gpu_hour * moments[-1].paid / (3.6 * rate):.2f}",
        )

    return table((*head, f"1,000 answers at {gpu_hour:.2f} a GPU-hour"), map(row, arms))


def arms(told: Iterable[Arm], gpu_hour: float) -> str:
    head = (
        "scaled on",
        "replicas: first, most, last",
        "gateways: most",
        "p50 / p95 / p99 s",
        "lost",
        "recovered after",
    )
    more = ("moved", "cached", "GPU-hours", f"1,000 answers at {gpu_hour:.2f} a GPU-hour")

    def row(arm: Arm) -> tuple[object, ...]:
        told, replicas = arm.report, [moment.replicas for moment in arm.report.moments]
        return (
            arm.name,
            f"{replicas[0]}, {max(replicas)}, {replicas[-1]}",
            max(moment.gateways for moment in told.moments),
            seconds(told.latency),
            f"{told.lost:.1%}",
            "never" if told.recovered_s is None else f"{told.recovered_s:.0f} s",
            f"{told.moved:.1%}",
            f"{told.cached:.0%}",
            f"{told.replica_hours:.2f}",
            f"{told.cost_of_1000(gpu_hour):.2f}",
        )

    return table((*head, *more), map(row, told))


def _queues(told: Report) -> str:
    return f"{told.running:.1f} / {told.waiting:.2f} / {told.queued:.2f}"

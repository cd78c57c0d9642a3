"""What a fleet that scales is asked: where it settles, what a step or a day does to it, and beside which other ways to run it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from loadtests.fleet.cluster import Bounds, Metric
from loadtests.fleet.scaling import Scaling, ScalingReport, simulate_scaling, steady

WAITING_TARGET = 5.0  # calls in vLLM's scheduler for each replica, where that is the metric


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to run a fleet, and what came of it."""

    name: str
    report: ScalingReport


def settled(settings: Scaling, rates: Sequence[float], seconds: float) -> Iterator[Arm]:
    """The fleet under each steady rate, long enough for its autoscalers to come to rest."""
    for rate in rates:
        load = steady(rate, seconds)
        yield Arm(load.name, simulate_scaling(replace(settings, load=load)))


def arms(settings: Scaling, kept: int) -> Iterator[Arm]:
    """One load, four fleets: scaled on answers in the making, the same with never fewer than `kept` replicas, scaled on
    vLLM's waiting calls, and as many replicas throughout as the first had at most."""
    low, target = settings.cluster.replicas, settings.cluster.target
    first = _arm(f"answers in the making, {target:g} a replica", settings, "in_flight", low)
    yield first
    high = Bounds(start=max(kept, low.start), least=max(kept, low.least), most=max(kept, low.most))
    yield _arm(f"the same, never fewer than {kept}", settings, "in_flight", high)
    yield _arm(f"calls waiting in vLLM, {WAITING_TARGET:g} a replica", settings, "waiting", low, WAITING_TARGET)
    most = first.report.most_paid
    yield _arm(f"{most} replicas throughout", settings, "fixed", Bounds(start=most, least=most, most=most))


def _arm(name: str, settings: Scaling, metric: Metric, replicas: Bounds, target: float | None = None) -> Arm:
    cluster = settings.cluster
    asked = replace(cluster, metric=metric, replicas=replicas, target=cluster.target if target is None else target)
    return Arm(name, simulate_scaling(replace(settings, cluster=asked)))

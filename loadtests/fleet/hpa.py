"""Kubernetes' HorizontalPodAutoscaler as arithmetic, without a cluster or a clock.

After the documentation (kubernetes.io, "Horizontal Pod Autoscaling", "Algorithm details") and the controller's code
(pkg/controller/podautoscaler) where that says more: utilisation is cut to whole per cent, and a pod without a
metric counts as using all of its request when the others ask for fewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SYNC_S = 15.0  # --horizontal-pod-autoscaler-sync-period
TOLERANCE = 0.1  # --horizontal-pod-autoscaler-tolerance
CPU_INITIALISATION_S = 300.0  # --horizontal-pod-autoscaler-cpu-initialization-period
INITIAL_READINESS_S = 30.0  # --horizontal-pod-autoscaler-initial-readiness-delay
WINDOW_S = 15.0  # metrics-server's --metric-resolution: over so much time a pod's CPU is a mean


@dataclass(frozen=True, slots=True)
class PodCpu:
    """A pod that is not being deleted. `cores` is None while metrics-server has none; `measured_at` ends its window.

    `ready_changed` is when its condition Ready last changed: its start while it has never been ready.
    """

    started: float
    ready: bool
    ready_changed: float
    cores: float | None
    measured_at: float = 0.0

    def unready(self, now: float) -> bool:
        """Whether it is set aside as not yet ready, as its CPU may be that of starting."""
        if now < self.started + CPU_INITIALISATION_S:
            return not self.ready or self.measured_at < self.ready_changed + WINDOW_S
        return not self.ready and self.ready_changed < self.started + INITIAL_READINESS_S


def by_cpu(pods: Sequence[PodCpu], current: int, request: float, target: int, now: float) -> int:
    """Replicas for a mean utilisation of `target` per cent of each pod's `request` in cores; `current` without metrics."""
    missing = sum(pod.cores is None for pod in pods)
    unready = sum(pod.cores is not None and pod.unready(now) for pod in pods)
    used = [pod.cores for pod in pods if pod.cores is not None and not pod.unready(now)]
    if not used:
        return current
    ratio = _utilisation(sum(used), request * len(used)) / target
    if ratio == 1:
        return current
    set_aside = unready if ratio > 1 else 0
    if not missing and not set_aside:
        return current if abs(1 - ratio) <= TOLERANCE else math.ceil(ratio * len(used))
    assumed = missing * request * max(100, target) / 100 if ratio < 1 else 0.0
    counted = len(used) + missing + set_aside
    filled = _utilisation(sum(used) + assumed, request * counted) / target
    if abs(1 - filled) <= TOLERANCE or (filled - 1) * (ratio - 1) < 0:
        return current
    wanted = math.ceil(filled * counted)
    return current if (wanted - current) * (filled - 1) < 0 else wanted


def by_average(total: float, current: int, target: float) -> int:
    """Replicas for an external metric with an AverageValue, as KEDA makes one: `total` ÷ `target`, ready or not."""
    if abs(1 - total / (target * current)) <= TOLERANCE:
        return current
    return math.ceil(total / target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The defaults are those of autoscaling/v2. A policy allows `percent` of the replicas, or `pods`, in `period_s`; of
    two the one that allows more counts. 0: no such policy."""

    up_window_s: float = 0.0
    up_percent: float = 100.0
    up_pods: int = 4
    down_window_s: float = 300.0
    down_percent: float = 100.0
    down_pods: int = 0
    period_s: float = 15.0


@dataclass(slots=True)
class Autoscaler:
    """One HPA: `decide` at every sync, with what the metric asks for."""

    least: int
    most: int
    behaviour: Behaviour = field(default_factory=Behaviour)
    _asked: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, now: float, current: int, wanted: int) -> int:
        """The replicas to have from now on."""
        if not self._asked:
            self._asked.append((now, current))
        stable = self._stabilised(now, current, wanted)
        decided = min(self.most, max(self.least, self._limited(now, current, stable)))
        if decided != current:
            self._changes.append((now, decided - current))
        return decided

    def _stabilised(self, now: float, current: int, wanted: int) -> int:
        """No more than the least that was asked for within the upward window, no less than the most within the downward."""
        rules = self.behaviour
        longest = max(rules.up_window_s, rules.down_window_s)
        up = min((n for at, n in self._asked if at > now - rules.up_window_s), default=wanted)
        down = max((n for at, n in self._asked if at > now - rules.down_window_s), default=wanted)
        self._asked = [each for each in self._asked if each[0] > now - longest] + [(now, wanted)]
        return min(max(current, min(up, wanted)), max(down, wanted))

    def _limited(self, now: float, current: int, wanted: int) -> int:
        """As far as the policies let it go, counted from the replicas at the period's start."""
        rules = self.behaviour
        self._changes = [each for each in self._changes if each[0] > now - rules.period_s]
        began = current - sum(change for _, change in self._changes)
        if wanted > current:
            allowed = max(began + rules.up_pods, math.ceil(began * (1 + rules.up_percent / 100)))
            return min(wanted, max(current, allowed))
        allowed = min(began - rules.down_pods, math.floor(began * (1 - rules.down_percent / 100)))
        return max(wanted, min(current, allowed))


def _utilisation(cores: float, requested: float) -> int:
    """Whole per cent. Cores are told in thousandths."""
    return round(1000 * cores) * 100 // round(1000 * requested)

"""`simulate_scaling(settings)`: a load that changes meets a fleet that follows it, in virtual time.

Arrivals are Poisson with a rate that changes; nobody who came is forgotten: the run ends when the last has an answer or
none. Answers, prompts and engines are those of `loadtests.fleet.simulation`, pods and autoscalers those of
`loadtests.fleet.cluster`.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from loadtests.fleet import virtual
from loadtests.fleet.cluster import Cluster, RunningCluster
from loadtests.fleet.gateway import Answers, Gateway, Outcome
from loadtests.fleet.simulation import DELIVERED, Asked, Latency, Settings
from loadtests.stub_timing import Profile

SAMPLED_S = 15.0
WORKERS = 2  # processes of a gateway's pod
_POINTS = 48  # of a day's curve


@dataclass(frozen=True, slots=True)
class Load:
    """Questions a second over time, in straight lines between points; two points at one time are a step."""

    name: str
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        times = [at for at, _ in self.points]
        if len(times) < 2 or times[0] != 0 or sorted(times) != times or min(rate for _, rate in self.points) < 0:
            raise ValueError("a load begins at 0, goes forward in time and is never negative")

    @property
    def seconds(self) -> float:
        return self.points[-1][0]

    @property
    def most(self) -> float:
        return max(rate for _, rate in self.points)

    def rate(self, at: float) -> float:
        """Of two at one time, the later."""
        for (began, low), (ended, high) in pairwise(self.points):
            if at < ended:
                return low + (high - low) * (at - began) / (ended - began)
        return self.points[-1][1]


def steady(rate: float, seconds: float) -> Load:
    return Load(f"{rate:g} a second", ((0.0, rate), (seconds, rate)))


def step(low: float, high: float, at: float, seconds: float) -> Load:
    return Load(f"{low:g} to {high:g} a second", ((0.0, low), (at, low), (at, high), (seconds, high)))


def day(low: float, high: float, seconds: float) -> Load:
    """One night and one day, as a cosine from `low` to `high` and back."""
    height = (high - low) / 2
    points = ((i / _POINTS, low + height * (1 - math.cos(2 * math.pi * i / _POINTS))) for i in range(_POINTS + 1))
    return Load(f"a day of {low:g} to {high:g} a second", tuple((seconds * share, rate) for share, rate in points))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """`p95_s` is the bound by which a fleet has recovered; `gateway.workers` are the processes of one pod."""

    profile: Profile
    load: Load
    cluster: Cluster = field(default_factory=Cluster)
    answers: Answers = field(default_factory=Answers)
    gateway: Gateway = field(default_factory=lambda: Gateway(workers=WORKERS))
    p95_s: float = 30.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """What there was at a time, and what became of the questions of the 15 s from then on.

    `replicas` are ready, `paid` are those and the ones that start or drain. p95 is NaN where nothing was delivered; `lost`
    were shed or had no draft.
    """

    at: float
    rate: float
    gateways: int
    replicas: int
    paid: int
    in_flight: int
    waiting: int
    asked: int
    lost: int
    p95: float


@dataclass(frozen=True, slots=True)
class ScalingReport:
    """`outcomes` add up to all that were asked. `moved`: later turns of a conversation whose first choice of a replica was
    another than the turn's before, a share; `cached`: prompt tokens from a cache, a share; `recovered_s`: from the load's
    first change until nothing is lost and p95 within the bound for good, None if never, 0 where it never left it."""

    load: Load
    outcomes: dict[Outcome, int]
    latency: Latency  # of what was delivered
    settled: Latency  # of what was asked in the last third and delivered
    replica_hours: float
    moments: tuple[Moment, ...]
    moved: float
    cached: float
    recovered_s: float | None

    @property
    def asked(self) -> int:
        return sum(self.outcomes.values())

    @property
    def delivered(self) -> int:
        return sum(n for outcome, n in self.outcomes.items() if outcome in DELIVERED)

    @property
    def lost(self) -> float:
        """The share that was shed or had no draft."""
        return 1 - self.delivered / self.asked if self.asked else 0.0

    @property
    def most_paid(self) -> int:
        return max(moment.paid for moment in self.moments)

    def cost_of_1000(self, gpu_hour: float) -> float:
        """Of 1,000 delivered answers, of which a replica's hour costs so much; infinite where nothing was delivered."""
        return 1000 * gpu_hour * self.replica_hours / self.delivered if self.delivered else math.inf


def simulate_scaling(settings: Scaling) -> ScalingReport:
    """The same settings give the same report."""
    return virtual.run(_simulate(settings))


async def _simulate(settings: Scaling) -> ScalingReport:
    load = settings.load
    asked = Settings(
        profile=settings.profile,
        replicas=settings.cluster.replicas.start,
        rate=load.most,
        seed=settings.seed,
        answers=settings.answers,
        gateway=settings.gateway,
    )
    running = RunningCluster(asked, settings.cluster)
    seen: list[Moment] = []
    sampling = asyncio.create_task(_sample(running, load, seen))
    try:
        await _arrive(running, load, settings.seed)
    finally:
        sampling.cancel()
        await running.stop()
    return _report(settings, running, seen)


async def _arrive(running: RunningCluster, load: Load, seed: int) -> None:
    """Asks as the load says, and waits for all answers."""
    chance, loop = random.Random(f"{seed} arrivals"), running.loop
    async with asyncio.TaskGroup() as group:
        while True:
            await asyncio.sleep(chance.expovariate(load.most))
            now = loop.time()
            if now >= load.seconds:
                return
            if chance.random() * load.most < load.rate(now):
                group.create_task(running.fleet.ask())


async def _sample(running: RunningCluster, load: Load, seen: list[Moment]) -> None:
    while (now := running.loop.time()) < load.seconds:
        in_flight = sum(pod.in_flight() for pod in running.gateways)
        waiting = sum(len(pod.server.replica.engine.waiting) for pod in running.replicas)
        counts = (running.ready(running.gateways), running.ready(running.replicas), running.paid(running.replicas))
        seen.append(Moment(now, load.rate(now), *counts, in_flight, waiting, 0, 0, math.nan))
        await asyncio.sleep(SAMPLED_S)


def _report(settings: Scaling, running: RunningCluster, seen: Sequence[Moment]) -> ScalingReport:
    asked, load = running.fleet.asked, settings.load
    at_a_time: dict[float, list[Asked]] = defaultdict(list)
    for each in asked:
        at_a_time[each.began // SAMPLED_S].append(each)
    moments = tuple(_with_answers(moment, at_a_time[moment.at // SAMPLED_S]) for moment in seen)
    engines = [server.replica.engine.counters for server in running.fleet.servers.values()]
    queries = sum(each.prefix_cache_queries for each in engines)
    return ScalingReport(
        load=load,
        outcomes=dict(Counter(each.outcome for each in asked)),
        latency=_latency(asked, 0.0),
        settled=_latency(asked, load.seconds * 2 / 3),
        replica_hours=running.replica_seconds(load.seconds) / 3600,
        moments=moments,
        moved=_moved(asked),
        cached=sum(each.prefix_cache_hits for each in engines) / queries if queries else 0.0,
        recovered_s=_recovered(moments, load, settings.p95_s),
    )


def _with_answers(moment: Moment, asked: Sequence[Asked]) -> Moment:
    times = [each.ended - each.began for each in asked if each.outcome in DELIVERED]
    p95 = float(np.percentile(times, 95)) if times else math.nan
    return replace(moment, asked=len(asked), lost=len(asked) - len(times), p95=p95)


def _latency(asked: Sequence[Asked], since: float) -> Latency:
    return Latency.of([each.ended - each.began for each in asked if each.outcome in DELIVERED and each.began >= since])


def _moved(asked: Sequence[Asked]) -> float:
    homes: dict[str, str | None] = {}
    later = moved = 0
    for each in sorted(asked, key=lambda each: each.began):
        if each.conversation in homes:
            later += 1
            moved += homes[each.conversation] != each.home
        homes[each.conversation] = each.home
    return moved / later if later else 0.0


def _recovered(moments: Sequence[Moment], load: Load, p95_s: float) -> float | None:
    changed = next((at for (at, low), (_, high) in pairwise(load.points) if low != high), 0.0)
    bad = [moment.at for moment in moments if moment.at >= changed and (moment.lost or moment.p95 > p95_s)]
    if not bad:
        return 0.0
    return None if bad[-1] == moments[-1].at else bad[-1] + SAMPLED_S - changed

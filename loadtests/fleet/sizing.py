"""How many replicas a rate takes, what moves first as it grows, and what sending a conversation to one replica is worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from loadtests.fleet.gateway import Answers, Gateway, Routing
from loadtests.fleet.simulation import Report, Settings, simulate

FULL_CLIENTS = 256  # in a closed loop, at which a replica gives all it has
LEAST_ANSWERS = 1500  # that a percentile rests on
SHARE = 0.8  # of what a replica can give, at most
_CORE_SHARE = 0.5  # of a gateway's core, so that its own work hardly queues
_SHORTEST_S, _WARM_UP_S = 20.0, 60.0
_MOST_TIMES = (
    32  # as many replicas as the rate takes by capacity alone: further on only a bound below one answer's time lies
)


@dataclass(frozen=True, slots=True)
class Size:
    """`used` is the share of the fleet's capacity, which is what it gives when it is full."""

    rate: float
    replicas: int
    workers: int
    used: float
    report: Report


def workers_for(rate: float, answers: Answers, gateway: Gateway) -> int:
    candidates = answers.revised * answers.rounds * len(answers.candidates) * answers.can_win
    return max(1, math.ceil(rate * (gateway.first_s + candidates * gateway.candidate_s) / _CORE_SHARE))


def full(settings: Settings) -> Report:
    """One replica that never lacks questions, behind a gateway that is not the limit."""
    return simulate(
        replace(
            settings,
            replicas=1,
            rate=0.0,
            clients=FULL_CLIENTS,
            seconds=60.0,
            warm_up_s=30.0,
            gateway=replace(settings.gateway, workers=32),
        )
    )


def at_rate(settings: Settings, rate: float, replicas: int, warm_up_s: float = _WARM_UP_S) -> Settings:
    """An open loop that is long enough for its percentiles, with the workers that it takes."""
    workers = workers_for(rate, settings.answers, settings.gateway)
    return replace(
        settings,
        rate=rate,
        clients=0,
        replicas=replicas,
        seconds=max(_SHORTEST_S, LEAST_ANSWERS / rate),
        warm_up_s=warm_up_s,
        gateway=replace(settings.gateway, workers=workers),
    )


def least_replicas(settings: Settings, rate: float, p95_s: float, capacity: float) -> Size:
    """The fewest replicas with p95 below the bound, nothing shed or late, and a fifth of all they can give to spare.

    `capacity` is in answers a second of one replica. Doubles what the capacity asks for until the bound holds, then halves
    the interval: p95 falls with every replica. Raises ValueError where no number of replicas is enough.
    """

    def tried(replicas: int) -> tuple[bool, Size]:
        asked = at_rate(settings, rate, replicas, warm_up_s=1.5 * p95_s)  # until as many leave as come
        report = simulate(asked)
        held = report.latency.p95 < p95_s and report.shed + report.late == 0 and report.frontend_busiest < SHARE
        return held, Size(rate, replicas, asked.gateway.workers, rate / (replicas * capacity), report)

    least = enough = max(1, math.ceil(rate / (SHARE * capacity)))
    too_few = least - 1
    held, size = tried(enough)
    while not held:
        too_few, enough = enough, 2 * enough
        if enough > _MOST_TIMES * least:
            raise ValueError(f"p95 stays above {p95_s} s, however many replicas there are")
        held, size = tried(enough)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        held, found = tried(middle)
        if held:
            enough, size = middle, found
        else:
            too_few = middle
    return size


def ramp(settings: Settings, capacity: float, shares: Sequence[float]) -> Iterator[tuple[float, Report]]:
    """One replica at so many of its capacity's shares."""
    for share in shares:
        yield share, simulate(at_rate(settings, share * capacity, 1))


def routings(settings: Settings, replicas: int, capacity: float) -> Iterator[tuple[str, Routing, Report]]:
    """The same questions under both routings, at half of the fleet's capacity and when it is full."""
    for routing in ("affinity", "round_robin"):
        under: Routing = routing
        routed = replace(settings, gateway=replace(settings.gateway, routing=under))
        yield "half full", under, simulate(at_rate(routed, 0.5 * capacity * replicas, replicas))
        many = replace(routed.gateway, workers=8 * replicas)
        asked = replace(routed, replicas=replicas, rate=0.0, clients=128 * replicas, gateway=many)
        yield "full", under, simulate(replace(asked, seconds=30.0, warm_up_s=20.0))

"""`simulate(settings)`: questions arrive at a gateway in front of replicas; what is delivered, when, and what is busy.

Nothing real is waited for. The engines are `loadtests.stub_timing`'s, their frontends `loadtests.stub_replica`'s, the
choice of a replica `service.replicas`'; the pipeline's calls are repeated in `loadtests.fleet.gateway`. Only questions
that come after the warm-up count, and all of them are waited for while others go on coming.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from loadtests.fleet import virtual
from loadtests.fleet.gateway import Answers, Gateway, Outcome, Server, Work, Worker
from loadtests.fleet.texts import Lengths, Talk, Words
from loadtests.stub_timing import Profile
from service.prompts import Prompts

_SAMPLED_S = 0.25
_CONTINUED = 1000  # answered conversations of which a later turn may come
_DELIVERED: tuple[Outcome, ...] = ("unrevised", "revised", "unverified")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """An open loop of `rate` questions a second (Poisson), or a closed one of `clients` who ask again at once.

    With `each` every client asks so many questions and all of them count; the run ends with the last answer.
    """

    profile: Profile
    replicas: int = 1
    rate: float = 0.0
    clients: int = 0
    each: int = 0
    seconds: float = 120.0
    warm_up_s: float = 30.0
    seed: int = 0
    answers: Answers = field(default_factory=Answers)
    gateway: Gateway = field(default_factory=Gateway)

    def __post_init__(self) -> None:
        if (self.rate > 0) == (self.clients > 0):
            raise ValueError("either questions a second or a number of clients")
        if self.each and not self.clients:
            raise ValueError("a number of questions each needs a number of clients")
        if min(self.replicas, self.gateway.workers, self.answers.answer_tokens) < 1 or self.seconds <= 0:
            raise ValueError("replicas, workers, tokens and seconds must be positive")


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from question to answer, of `n` answers; NaN where there are none."""

    n: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        if not seconds:
            return cls(0, *[float("nan")] * 3)
        return cls(len(seconds), *(float(each) for each in np.percentile(seconds, (50, 95, 99))))


@dataclass(frozen=True, slots=True)
class Report:
    """Means over the measured time and, unless `busiest` says otherwise, over the replicas.

    `busy` is the share of time in which an engine had a step to do: near 1 long before it is full. `frontend` is the share
    in which the process that speaks HTTP was at work, and the one that grows with the rate.
    """

    answers_per_s: float
    shed: float
    latency: Latency
    by_outcome: dict[Outcome, Latency]
    stages: dict[str, float]  # medians in seconds
    busy: float
    busiest: float
    frontend: float
    frontend_busiest: float
    running: float
    waiting: float
    queued: float  # calls before the frontend
    cached: float  # share of prompt tokens
    calls_per_answer: float
    in_flight: float  # answers in the making, of the whole gateway
    cores: float  # of the gateway
    seconds: float


@dataclass(frozen=True, slots=True)
class _Asked:
    outcome: Outcome
    seconds: float
    ended: float
    work: Work


@dataclass(frozen=True, slots=True)
class _Counts:
    """Sums since the start: a list has one number for each replica."""

    at: float
    calls: np.ndarray
    steps_s: np.ndarray
    queries: int
    hits: int
    core_s: float


class _Fleet:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.servers = {f"replica-{i}": Server(settings.profile) for i in range(settings.replicas)}
        words, self._lengths = Words(Prompts.load()), Lengths(settings.answers.spread)
        gateway = settings.gateway
        self.workers = [
            Worker(gateway, settings.answers, self.servers, words, self._lengths) for _ in range(gateway.workers)
        ]
        self._asked = 0
        self._answered: deque[Talk] = deque(maxlen=_CONTINUED)
        self.samples: list[tuple[float, float, float, float]] = []

    async def ask(self) -> _Asked:
        """One question and what became of it. Worker, tenant and fate are drawn from the question's own chance."""
        self._asked += 1
        chance = random.Random(f"{self.settings.seed} {self._asked}")  # noqa: S311 - a simulation
        talk = self._talk(chance)
        start = self.loop.time()
        outcome, work = await chance.choice(self.workers).answer(talk, chance)
        if work.best is not None:
            self._answered.append(replace(talk, before=talk.answered(work.best)))
        now = self.loop.time()
        return _Asked(outcome, now - start, now, work)

    def _talk(self, chance: random.Random) -> Talk:
        answers, tenant = self.settings.answers, f"tenant-{chance.randrange(self.settings.answers.tenants)}"
        asked = self._lengths.text(answers.question_tokens, chance)
        later, which = chance.random() < answers.later_turns, chance.random()
        longest = self.settings.profile.max_model_len // 4
        if later and self._answered:
            i = int(which * len(self._answered))
            earlier = self._answered[i]
            del self._answered[i]
            if len(earlier.before) < longest:
                return replace(earlier, asked=asked)
        return Talk(f"talk-{self._asked}", tenant, ("<|system|>",) * self.settings.profile.opening_tokens, asked)

    def counts(self) -> _Counts:
        engines = [server.replica.engine for server in self.servers.values()]
        return _Counts(
            self.loop.time(),
            np.array([server.calls for server in self.servers.values()], dtype=float),
            np.array([engine.counters.seconds for engine in engines]),
            sum(engine.counters.prefix_cache_queries for engine in engines),
            sum(engine.counters.prefix_cache_hits for engine in engines),
            sum(worker.core_s for worker in self.workers),
        )

    async def sample(self) -> None:
        servers, n = self.servers.values(), len(self.servers)
        while True:
            running = sum(server.replica.engine.running for server in servers) / n
            waiting = sum(len(server.replica.engine.waiting) for server in servers) / n
            queued = sum(server.queued for server in servers) / n
            self.samples.append((running, waiting, queued, sum(worker.in_flight for worker in self.workers)))
            await asyncio.sleep(_SAMPLED_S)


def simulate(settings: Settings) -> Report:
    """The same settings give the same report."""
    return virtual.run(_simulate(settings))


async def _simulate(settings: Settings) -> Report:
    fleet = _Fleet(settings)
    tasks = [asyncio.ensure_future(server.replica.run()) for server in fleet.servers.values()]
    try:
        if settings.each:
            before, sampling = fleet.counts(), asyncio.ensure_future(fleet.sample())
            tasks.append(sampling)
            asked = await _all_of_them(fleet)
            return _report(fleet, before, fleet.counts(), asked)
        arrivals = _Arrivals(fleet)
        tasks += arrivals.begin()
        await asyncio.sleep(settings.warm_up_s)
        before, sampling = fleet.counts(), asyncio.ensure_future(fleet.sample())
        arrivals.measured = True
        await asyncio.sleep(settings.seconds)
        arrivals.measured = False
        sampling.cancel()
        after = fleet.counts()
        tasks += arrivals.others
        return _report(fleet, before, after, await asyncio.gather(*arrivals.counted))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _all_of_them(fleet: _Fleet) -> list[_Asked]:
    async def client() -> list[_Asked]:
        return [await fleet.ask() for _ in range(fleet.settings.each)]

    told = await asyncio.gather(*(client() for _ in range(fleet.settings.clients)))
    return [each for one in told for each in one]

"""`simulate(settings)`: questions arrive at a gateway in front of replicas; what is delivered, when, and what is busy.

Nothing real is waited for. The engines are `loadtests.stub_timing`'s, their frontends `loadtests.stub_replica`'s, the
choice of a replica `service.replicas`'; the pipeline's calls are repeated in `loadtests.fleet.gateway`. Only questions
that come after the warm-up count, and all of them are waited for while others go on coming.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from loadtests.fleet import virtual
from loadtests.fleet.gateway import Answers, Gateway, Outcome, Server, Worker
from loadtests.fleet.texts import Lengths, Talk, words
from loadtests.stub_timing import Profile

_SAMPLED_S = 0.25
_LONGEST = 0.25  # share of the model's context that a conversation may have before its last question
_CONTINUED = 1000  # answered conversations of which a later turn may come
DELIVERED: tuple[Outcome, ...] = ("unrevised", "revised", "unverified")


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
    shed: float  # share of the questions
    late: float  # likewise, without a draft at the deadline or with no replica to be had
    latency: Latency  # of what was delivered
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
class Asked:
    """A question and what became of it. `home` is the conversation's first choice of replica, None without affinity."""

    outcome: Outcome
    began: float
    ended: float
    stages: dict[str, float]
    conversation: str
    home: str | None


@dataclass(frozen=True, slots=True)
class _Counts:
    """Sums since the start; an array has one number for each replica."""

    at: float
    calls: np.ndarray
    steps_s: np.ndarray
    queries: int
    hits: int
    core_s: float


class Fleet:
    """Replicas, a gateway's workers and what was asked of them. `ask` questions inside a running event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.servers = {f"replica-{i}": Server(settings.profile) for i in range(settings.replicas)}
        self._lengths = Lengths(settings.answers.spread)
        self.workers = [self.worker() for _ in range(settings.gateway.workers)]
        self._open: dict[int, float] = {}  # when each question that has no answer yet came
        self._one_less = asyncio.Event()
        self._number = 0
        self._answered: deque[Talk] = deque(maxlen=_CONTINUED)
        self.asked: list[Asked] = []
        self.samples: list[tuple[float, float, float, float]] = []

    def worker(self) -> Worker:
        """One more process of the gateway, which knows all replicas that there are."""
        return Worker(self.settings.gateway, self.settings.answers, self.servers, words(), self._lengths)

    # --- questions ---

    async def ask(self) -> None:
        """One question and what becomes of it. Tenant, worker and fate are drawn from the question's own chance."""
        self._number += 1
        number, chance = self._number, random.Random(f"{self.settings.seed} {self._number}")
        talk = self._talk(chance)
        began = self._open[number] = self.loop.time()
        outcome, work = await chance.choice(self.workers).answer(talk, chance)
        del self._open[number]
        self._one_less.set()
        if work.best is not None:
            self._answered.append(replace(talk, before=talk.answered(work.best)))
        home = work.order[0] if work.order else None
        self.asked.append(Asked(outcome, began, self.loop.time(), work.seconds, talk.key, home))

    def _talk(self, chance: random.Random) -> Talk:
        answers, profile = self.settings.answers, self.settings.profile
        tenant, later, which = chance.randrange(answers.tenants), chance.random(), chance.random()
        asked = self._lengths.text(answers.question_tokens, chance)
        if later < answers.later_turns and self._answered:
            i = int(which * len(self._answered))
            earlier = self._answered[i]
            del self._answered[i]
            if len(earlier.before) < _LONGEST * profile.max_model_len:
                return replace(earlier, asked=asked)
        return Talk(f"talk {self._number}", f"tenant {tenant}", ("<|system|>",) * profile.opening_tokens, asked)

    async def client(self) -> None:
        n = 0
        while not self.settings.each or n < self.settings.each:
            await self.ask()
            n += 1

    async def arrivals(self) -> None:
        chance = random.Random(f"{self.settings.seed} arrivals")
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(chance.expovariate(self.settings.rate))
                group.create_task(self.ask())

    async def answered(self, before: float) -> None:
        """Returns once nobody waits who asked before that time."""
        while any(began < before for began in self._open.values()):
            self._one_less.clear()
            await self._one_less.wait()

    # --- what is seen meanwhile ---

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
    fleet = Fleet(settings)
    tasks = [asyncio.create_task(server.replica.run()) for server in fleet.servers.values()]
    try:
        if settings.each:
            before = fleet.counts()
            tasks.append(asyncio.create_task(fleet.sample()))
            await asyncio.gather(*(fleet.client() for _ in range(settings.clients)))
            return _report(fleet, before, fleet.counts())
        if settings.rate:
            tasks.append(asyncio.create_task(fleet.arrivals()))
        tasks += [asyncio.create_task(fleet.client()) for _ in range(settings.clients)]
        await asyncio.sleep(settings.warm_up_s)
        before, sampling = fleet.counts(), asyncio.create_task(fleet.sample())
        await asyncio.sleep(settings.seconds)
        after = fleet.counts()
        sampling.cancel()
        await fleet.answered(after.at)
        return _report(fleet, before, after)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(fleet: Fleet, before: _Counts, after: _Counts) -> Report:
    seconds = after.at - before.at
    counted = [each for each in fleet.asked if before.at <= each.began < after.at]
    if not counted:
        raise ValueError("nobody asked in the measured time")
    delivered = [each for each in fleet.asked if before.at <= each.ended <= after.at and each.outcome in DELIVERED]
    times: dict[Outcome, list[float]] = {outcome: [] for outcome in get_args(Outcome)}
    for each in counted:
        times[each.outcome].append(each.ended - each.began)
    stages = {name for each in counted for name in each.stages}
    busy, calls = (after.steps_s - before.steps_s) / seconds, after.calls - before.calls
    frontend = np.minimum(1.0, calls * fleet.settings.profile.frontend_s / seconds)
    running, waiting, queued, in_flight = np.mean(fleet.samples, axis=0)
    queries = after.queries - before.queries
    return Report(
        answers_per_s=len(delivered) / seconds,
        shed=len(times["shed"]) / len(counted),
        late=(len(times["timed_out"]) + len(times["failed"])) / len(counted),
        latency=Latency.of([t for outcome in DELIVERED for t in times[outcome]]),
        by_outcome={outcome: Latency.of(seconds) for outcome, seconds in times.items() if seconds},
        stages={
            name: float(np.median([each.stages[name] for each in counted if name in each.stages]))
            for name in sorted(stages)
        },
        busy=float(busy.mean()),
        busiest=float(busy.max()),
        frontend=float(frontend.mean()),
        frontend_busiest=float(frontend.max()),
        running=float(running),
        waiting=float(waiting),
        queued=float(queued),
        cached=(after.hits - before.hits) / queries if queries else 0.0,
        calls_per_answer=float(calls.sum()) / max(1, len(delivered)),
        in_flight=float(in_flight),
        cores=(after.core_s - before.core_s) / seconds,
        seconds=seconds,
    )

"""A fleet whose pods come and go as Kubernetes makes them: two autoscalers, start-up, DNS, drain. In virtual time.

- Gateways: an HPA on CPU. metrics-server measures every 15 s, so what the HPA sees is a mean up to 30 s old.
- Replicas: an HPA on a sum over the fleet ÷ replicas, as KEDA makes one from Prometheus, which scrapes every 15 s.
- A new replica serves once it has loaded the model and DNS says so: cluster DNS keeps an answer for up to 5 s, and every
  process of a gateway looks up every 5 s. `service.replicas` decides which conversations move.
- A replica that is scaled away leaves DNS at once, answers whoever still comes, and ends when nothing is in flight. The
  last made goes first, as in a StatefulSet. A gateway's end is alike.

Nodes are there when a pod wants one: what a cloud takes to bring a GPU node must be added to `replica_start_s`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

from loadtests.fleet import hpa
from loadtests.fleet.gateway import Server, Worker
from loadtests.fleet.simulation import Fleet, Settings

Metric = Literal["in_flight", "waiting", "fixed"]
P = TypeVar("P", bound="Pod")
_LOOKED_AT_S = 1.0  # how often a pod that is to go looks whether it has work left


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Pods at the start, and between which numbers an autoscaler keeps them."""

    start: int
    least: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.start <= self.most:
            raise ValueError("pods: 1 ≤ least ≤ start ≤ most")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`metric` of the replicas' autoscaler: answers in the making, calls that wait in vLLM's scheduler, or none at all;
    `target` is its value for one replica. A gateway's pod asks for `cores` of CPU, of which `cpu_target` per cent are to be
    used, and runs `Gateway.workers` processes."""

    gateways: Bounds = Bounds(start=3, least=3, most=12)
    replicas: Bounds = Bounds(start=8, least=2, most=32)
    metric: Metric = "in_flight"
    target: float = 60.0
    cores: float = 2.0
    cpu_target: int = 70
    gateway_start_s: float = 20.0
    replica_start_s: float = 180.0
    drain_s: float = 15.0
    dns_s: float = 5.0
    lookup_s: float = 5.0
    scrape_s: float = 15.0


@dataclass(slots=True, eq=False)
class Pod:
    """Ready from `ready_at` until it `left`; paid for from `created` until it is `gone`."""

    created: float
    ready_at: float
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    left: float | None = None
    gone: float | None = None

    def ready(self, now: float) -> bool:
        return self.left is None and self.ready_at <= now

    def in_flight(self) -> int:
        raise NotImplementedError

    def end(self) -> None:
        """Called once, with nothing in flight."""


@dataclass(slots=True, eq=False, kw_only=True)
class ReplicaPod(Pod):
    url: str
    server: Server

    def in_flight(self) -> int:
        return self.server.in_flight

    def end(self) -> None:
        self.server.gone = True


@dataclass(slots=True, eq=False, kw_only=True)
class GatewayPod(Pod):
    workers: list[Worker]
    cpu: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=2))  # when, and core seconds by then

    def in_flight(self) -> int:
        return sum(worker.in_flight for worker in self.workers)

    def seen(self, now: float) -> hpa.PodCpu:
        """As the HPA sees it."""
        ready = self.ready(now)
        changed = self.ready_at if ready else self.created
        if len(self.cpu) < 2:
            return hpa.PodCpu(self.created, ready, changed, None)
        (began, before), (ended, after) = self.cpu
        return hpa.PodCpu(self.created, ready, changed, (after - before) / (ended - began), ended)


class RunningCluster:
    """Makes the first pods, all of them ready, and then runs until `stop`. `fleet.ask` is how to ask it."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self.fleet, self.cluster = Fleet(settings), cluster
        self.loop = asyncio.get_running_loop()
        self.replicas: list[ReplicaPod] = []
        self.gateways: list[GatewayPod] = []
        self.in_flight = self.waiting = 0.0  # as last scraped
        self._published: tuple[str, ...] = ()
        self._chance = random.Random(f"{settings.seed} cluster")
        self._number = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        self.fleet.servers.clear()
        self.fleet.workers.clear()
        for _ in range(cluster.replicas.start):
            self._start_replica(0.0)
        self._publish()
        for _ in range(cluster.gateways.start):
            self._start_gateway(0.0)
        self._run_loops()

    def _run_loops(self) -> None:
        """What happens every so often begins at a moment of its own: in a cluster nothing is in step."""
        cluster = self.cluster
        self._every(cluster.dns_s, self._publish)
        self._every(cluster.scrape_s, self._scrape)
        self._every(hpa.WINDOW_S, self._measure_cpu)
        gateways = hpa.Autoscaler(cluster.gateways.least, cluster.gateways.most)
        self._every(hpa.SYNC_S, lambda: self._scale_gateways(gateways))
        if cluster.metric != "fixed":
            replicas = hpa.Autoscaler(cluster.replicas.least, cluster.replicas.most)
            self._every(hpa.SYNC_S, lambda: self._scale_replicas(replicas))

    async def stop(self) -> None:
        """Raises what went wrong in the meantime, if anything did."""
        tasks = [*self._tasks, *(task for pod in (*self.replicas, *self.gateways) for task in pod.tasks)]
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def ready(self, pods: Sequence[Pod]) -> int:
        return sum(pod.ready(self.loop.time()) for pod in pods)

    def paid(self, pods: Sequence[Pod]) -> int:
        """Those that hold their machine: starting, ready or on their way out."""
        return sum(pod.gone is None for pod in pods)

    def replica_seconds(self, until: float) -> float:
        """Paid for up to that time."""
        return sum(min(until, until if pod.gone is None else pod.gone) - pod.created for pod in self.replicas)

    # --- autoscalers ---

    def _scale_gateways(self, scaler: hpa.Autoscaler) -> None:
        now, cluster, pods = self.loop.time(), self.cluster, _wanted(self.gateways)
        seen = [pod.seen(now) for pod in pods]
        wanted = hpa.by_cpu(seen, len(pods), cluster.cores, cluster.cpu_target, now)
        decided = scaler.decide(now, len(pods), wanted)
        for _ in range(decided - len(pods)):
            self._start_gateway(cluster.gateway_start_s)
        for pod in pods[decided:]:
            self._leave(pod)

    def _scale_replicas(self, scaler: hpa.Autoscaler) -> None:
        now, cluster, pods = self.loop.time(), self.cluster, _wanted(self.replicas)
        total = self.in_flight if cluster.metric == "in_flight" else self.waiting
        decided = scaler.decide(now, len(pods), hpa.by_average(total, len(pods), cluster.target))
        for _ in range(decided - len(pods)):
            self._start_replica(cluster.replica_start_s)
        for pod in pods[decided:]:
            self._leave(pod)

    def _measure_cpu(self) -> None:
        for pod in self.gateways:
            pod.cpu.append((self.loop.time(), sum(worker.core_s for worker in pod.workers)))

    def _scrape(self) -> None:
        self.in_flight = sum(pod.in_flight() for pod in self.gateways if pod.gone is None)
        self.waiting = sum(len(pod.server.replica.engine.waiting) for pod in self.replicas if pod.gone is None)

    # --- pods ---

    def _start_replica(self, takes_s: float) -> None:
        now, url = self.loop.time(), f"replica-{next(self._number)}"
        server = self.fleet.servers[url] = Server(self.fleet.settings.profile)
        pod = ReplicaPod(now, now + takes_s, url=url, server=server)
        pod.tasks.append(self.loop.create_task(server.replica.run()))
        self.replicas.append(pod)

    def _start_gateway(self, takes_s: float) -> None:
        now = self.loop.time()
        workers = [self.fleet.worker() for _ in range(self.fleet.settings.gateway.workers)]
        pod = GatewayPod(now, now + takes_s, workers=workers)
        self.gateways.append(pod)
        if takes_s:
            self.loop.call_later(takes_s, self._serve, pod)
        else:
            self._serve(pod)

    def _serve(self, pod: GatewayPod) -> None:
        """Each of its processes looks up the replicas before the first question, and then at moments of its own."""
        if pod.left is not None:
            return
        pod.ready_at = self.loop.time()
        for worker in pod.workers:
            worker.follow(self._published)
            pod.tasks.append(self._every(self.cluster.lookup_s, partial(self._look_up, worker)))
        self._route()

    def _look_up(self, worker: Worker) -> None:
        worker.follow(self._published)

    def _leave(self, pod: Pod) -> None:
        """It is out of the Service at once and gone when its work is done; one that was never ready is gone at once."""
        pod.left = self.loop.time()
        self._route()
        self.loop.call_later(self.cluster.drain_s if pod.ready_at <= pod.left else 0.0, self._end, pod)

    def _end(self, pod: Pod) -> None:
        if pod.in_flight():
            self.loop.call_later(_LOOKED_AT_S, self._end, pod)
            return
        pod.end()
        pod.gone = self.loop.time()
        for task in pod.tasks:
            task.cancel()

    def _route(self) -> None:
        """Questions go to the gateways that are ready."""
        now = self.loop.time()
        self.fleet.workers[:] = [worker for pod in self.gateways if pod.ready(now) for worker in pod.workers]

    def _publish(self) -> None:
        """DNS as the cluster answers it until the next time."""
        now = self.loop.time()
        self._published = tuple(pod.url for pod in self.replicas if pod.ready(now)) or self._published

    def _every(self, seconds: float, act: Callable[[], None]) -> asyncio.Task[None]:
        first = self._chance.uniform(0, seconds)

        async def again() -> None:
            await asyncio.sleep(first)
            while True:
                act()
                await asyncio.sleep(seconds)

        task = self.loop.create_task(again())
        self._tasks.append(task)
        return task


def _wanted(pods: Sequence[P]) -> list[P]:
    """Those that are to stay, the oldest first."""
    return [pod for pod in pods if pod.left is None]

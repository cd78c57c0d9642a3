"""A simulated engine in real time, and its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from loadtests.stub_timing import Engine, Profile, Request


@dataclass(eq=False, slots=True)
class Generation:
    """A request in the engine, as its client sees it: `shown` tokens are out."""

    request: Request
    streamed: bool
    shown: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def done(self) -> bool:
        return self.shown == self.request.output

    async def more(self) -> int:
        """The number of tokens once there are more than were seen before, or (not streamed) all of them."""
        await self.news.wait()
        self.news.clear()
        return self.shown


class Replica:
    """An engine in real time: `speed` times as fast as the simulated one."""

    def __init__(self, profile: Profile, speed: float = 1.0) -> None:
        self.engine, self.profile, self._speed = Engine(profile), profile, speed
        self.live: dict[Request, Generation] = {}
        self.late_s = self.worst_late_s = 0.0
        self._frontend_free = 0.0  # time of the loop
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def generate(
        self, prompt: Sequence[Any], output: Sequence[Any], *, salt: str, streamed: bool, arrived: float
    ) -> AsyncIterator[Generation]:
        """The generation, once the frontend has let it through. Whoever leaves early frees it at once."""
        self._frontend_free = max(arrived, self._frontend_free) + self.profile.frontend_s / self._speed
        await _sleep_until(max(arrived + self.profile.request_s / self._speed, self._frontend_free))
        request = self.engine.add(prompt, output, salt)
        generation = self.live[request] = Generation(request, streamed)
        self._wanted.set()
        try:
            yield generation
        finally:
            if self.live.pop(request, None) is not None:
                self.engine.abort(request)

    async def run(self) -> None:
        """Steps for ever. Steps follow one another on the simulated clock, so that late timers do not add up."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            step = self.engine.step()
            if step is None:
                self._wanted.clear()
                await self._wanted.wait()
                due, self.late_s = loop.time(), 0.0
                continue
            due += step.seconds / self._speed
            await _sleep_until(due)
            self.late_s = max(0.0, loop.time() - due)
            self.worst_late_s = max(self.worst_late_s, self.late_s)
            finished = set(step.finished)
            for request in step.emitted:
                generation = self.live.get(request)
                if generation is None:
                    continue  # its client left during the step
                generation.shown += 1
                if generation.streamed or request in finished:
                    generation.news.set()
            for request in finished:
                self.live.pop(request, None)

    def reset(self) -> bool:
        """Empties the prefix cache; as in vLLM not while anything runs."""
        if self.engine.running:
            return False
        self.engine.pool.forget()
        return True

    def metrics(self) -> str:
        engine, counters, profile = self.engine, self.engine.counters, self.profile
        waiting, pool = len(engine.waiting), engine.pool
        used = 1 - (pool.blank + len(pool.unused)) / pool.size
        rows: list[tuple[str, str, float, str]] = [
            ("vllm:num_requests_running", "gauge", len(self.live) - waiting, ""),
            ("vllm:num_requests_waiting", "gauge", waiting, ""),
            ("vllm:kv_cache_usage_perc", "gauge", used, ""),
            ("vllm:prefix_cache_queries_total", "counter", counters.prefix_cache_queries, ""),
            ("vllm:prefix_cache_hits_total", "counter", counters.prefix_cache_hits, ""),
            ("vllm:prompt_tokens_total", "counter", counters.prompt_tokens, ""),
            ("vllm:generation_tokens_total", "counter", counters.generation_tokens, ""),
            (
                "vllm:cache_config_info",
                "gauge",
                1,
                f',block_size="{profile.block_size}",num_gpu_blocks="{profile.kv_blocks}",enable_prefix_caching="True"',
            ),
            ("stub:steps_total", "counter", counters.steps, ""),
            ("stub:simulated_seconds_total", "counter", counters.seconds, ""),
            ("stub:late_seconds", "gauge", self.late_s, ""),
            ("stub:worst_late_seconds", "gauge", self.worst_late_s, ""),
        ]
        label = f'engine="0",model_name="{profile.model}"'
        return "".join(
            f"# HELP {name} Simulated.\n# TYPE {name} {kind}\n{name}{{{label}{more}}} {float(value)}\n"
            for name, kind, value, more in rows
        )


async def _sleep_until(due: float) -> None:
    await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))

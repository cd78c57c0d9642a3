"""How many answers a key may ask for in a minute: shared over all gateways by Redis, or held by this process.

A sliding window of two counters (the package `limits`), whose clock is Redis' own. A Redis that fails must not fail
requests: for some seconds this process then counts alone, and says so in a metric.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from service.auth import ANONYMOUS, Tenant
from service.errors import InvalidValue, RateLimited
from service.settings import Settings

log = logging.getLogger("clinalign")

_ALONE_S = 5.0  # how long Redis is left alone after it failed: one request in that time pays for its timeout
_CONNECTIONS = 32


class Limiter:
    """Must be made inside a running event loop. `on_failure` is called for each request that Redis did not count."""

    def __init__(self, settings: Settings, on_failure: Callable[[], None] = lambda: None) -> None:
        everyone = settings.limits.requests_per_minute
        named = {key.name: key.requests_per_minute or everyone for key in settings.keys}
        self._limits = {
            name: RateLimitItemPerMinute(limit)
            for name, limit in {ANONYMOUS.name: everyone, **named}.items()
            if limit is not None
        }
        self._on_failure = on_failure
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._timeout_s = settings.redis.timeout_s
        self._shared: SlidingWindowCounterRateLimiter | None = None
        self._close: Callable[[], Awaitable[None]] | None = None
        self._alone_until = float("-inf")
        if settings.redis.url and self._limits:
            self._shared, self._close = _shared(settings.redis.url.strip())

    async def spend(self, tenant: Tenant, cost: int = 1) -> None:
        """Takes `cost` from what the key may ask for in this minute. Raises RateLimited, InvalidValue for more than that."""
        limit = self._limits.get(tenant.name)
        if limit is None:
            return
        if cost > limit.amount:
            raise InvalidValue(
                f"A batch may have {limit.amount} inputs, as many as this key may ask for in a minute.", param="inputs"
            )
        wait_s = await self._wait(limit, tenant, cost)
        if wait_s is not None:
            raise RateLimited(f"This key may ask for {limit.amount} answers a minute.", retry_after=wait_s)

    async def close(self) -> None:
        if self._close is not None:
            await self._close()

    async def _wait(self, limit: RateLimitItemPerMinute, tenant: Tenant, cost: int) -> float | None:
        """Seconds until there may be room; None where there is."""
        if self._shared is not None:
            if time.monotonic() >= self._alone_until:
                try:
                    async with asyncio.timeout(self._timeout_s):
                        return await _taken(self._shared, limit, tenant, cost)
                except (StorageError, TimeoutError) as error:
                    self._alone_until = time.monotonic() + _ALONE_S
                    log.warning("limits_alone", extra={"fields": {"error": type(error).__name__, "seconds": _ALONE_S}})
            self._on_failure()
        return await _taken(self._own, limit, tenant, cost)


def _shared(url: str) -> tuple[SlidingWindowCounterRateLimiter, Callable[[], Awaitable[None]]]:
    """The limiter whose counters are in Redis, and how to close its connections."""
    from redis.asyncio import (
        BlockingConnectionPool,
    )  # a quarter of a second that a gateway without Redis need not spend
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    pool = BlockingConnectionPool.from_url(url, max_connections=_CONNECTIONS, retry=Retry(NoBackoff(), 0))
    options: dict[str, Any] = {"connection_pool": pool}  # which its types do not know
    storage = RedisStorage("async+redis://", True, "redispy", "clinalign", **options)
    return SlidingWindowCounterRateLimiter(storage), pool.aclose


async def _taken(
    limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItemPerMinute, tenant: Tenant, cost: int
) -> float | None:
    if await limiter.hit(limit, tenant.name, cost=cost):
        return None
    window = await limiter.get_window_stats(limit, tenant.name)
    return float(max(1, math.ceil(window.reset_time - time.time())))

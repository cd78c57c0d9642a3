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
from service.errors import ConfigError, InvalidValue, RateLimited
from service.settings import Settings

log = logging.getLogger("clinalign")

_ALONE_S = 15.0  # how long Redis is left alone after it failed: one request in that time finds out whether it is back
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
        self._answers = True  # whether Redis did the last time
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
                trying = not self._answers
                if trying:  # one finds out for all: a look-up that hangs holds a thread, of which there are few
                    self._alone_until = time.monotonic() + _ALONE_S
                try:
                    async with asyncio.timeout(self._timeout_s):
                        waiting = await _taken(self._shared, limit, tenant, cost)
                    self._answers, self._alone_until = True, float("-inf")
                    return waiting
                except (StorageError, TimeoutError) as error:
                    if trying or self._answers:
                        log.warning("limits_alone", extra={"fields": {"error": _kind(error), "seconds": _ALONE_S}})
                    self._answers, self._alone_until = False, time.monotonic() + _ALONE_S
            self._on_failure()
        return await _taken(self._own, limit, tenant, cost)


def check_url(settings: Settings) -> None:
    """Raises ConfigError for a URL that cannot be read. The message never quotes it: it may hold a password."""
    if not settings.redis.url:
        return
    try:
        pool = _pool(settings.redis.url.strip())
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError):
        raise ConfigError(
            "bad settings: CLINALIGN_REDIS_URL: must be redis://[:PASSWORD@]HOST[:PORT][/NUMBER], the password percent-encoded"
        ) from None


def _pool(url: str) -> Any:
    # Imported here: a gateway without Redis need not spend a quarter of a second on it.
    from redis.asyncio import BlockingConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    class Pool(BlockingConnectionPool):
        """Connects one by one: of a hundred requests that find Redis gone, few are to wait for its name."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._connecting = asyncio.Lock()

        async def ensure_connection(self, connection: Any) -> None:
            async with self._connecting:
                await super().ensure_connection(connection)

    return Pool.from_url(url, max_connections=_CONNECTIONS, retry=Retry(NoBackoff(), 0))


def _shared(url: str) -> tuple[SlidingWindowCounterRateLimiter, Callable[[], Awaitable[None]]]:
    """The limiter whose counters are in Redis, and how to close its connections."""
    pool = _pool(url)
    options: dict[str, Any] = {"connection_pool": pool}  # which its types do not know
    storage = RedisStorage("async+redis://", True, "redispy", "clinalign", **options)
    return SlidingWindowCounterRateLimiter(storage), pool.aclose


def _kind(error: Exception) -> str:
    """What redis-py calls it: a wrong password is not a dead server."""
    return type(error.__cause__ or error).__name__


async def _taken(
    limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItemPerMinute, tenant: Tenant, cost: int
) -> float | None:
    if await limiter.hit(limit, tenant.name, cost=cost):
        return None
    window = await limiter.get_window_stats(limit, tenant.name)
    return float(max(1, math.ceil(window.reset_time - time.time())))

"""What a key may ask for in a minute, held by one process. Redis has its tests with a real one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.auth import ANONYMOUS, Tenant
from service.errors import ConfigError, InvalidValue, RateLimited, error_body, error_headers, spec_of
from service.limits import Limiter, check_url
from service.settings import ApiKey, Limits, Redis, Settings, load_settings

SHA = "0" * 64
DEAD = "redis://127.0.0.1:9"


def limiter(everyone: int | None, redis: str | None = None, **keys: int | None) -> Limiter:
    settings = Settings(
        limits=Limits(requests_per_minute=everyone),
        redis=Redis(url=redis),
        keys=tuple(ApiKey(name=name, sha256=SHA, requests_per_minute=limit) for name, limit in keys.items()),
    )
    return Limiter(settings)


async def granted(limits: Limiter, name: str, asked: int) -> int:
    count = 0
    for _ in range(asked):
        try:
            await limits.spend(Tenant(name))
            count += 1
        except RateLimited:
            pass
    return count


async def test_without_a_limit_nothing_is_counted() -> None:
    assert await granted(limiter(None), ANONYMOUS.name, 500) == 500


async def test_a_key_gets_its_own_limit_or_everyones() -> None:
    limits = limiter(3, a=None, b=5)
    assert await granted(limits, "a", 10) == 3
    assert await granted(limits, "b", 10) == 5
    assert await granted(limits, ANONYMOUS.name, 10) == 3


async def test_a_key_may_have_a_limit_where_nobody_else_has() -> None:
    limits = limiter(None, a=2, b=None)
    assert await granted(limits, "a", 10) == 2
    assert await granted(limits, "b", 10) == 10


async def test_a_refusal_says_when_to_come_back() -> None:
    limits = limiter(1)
    await limits.spend(ANONYMOUS)
    with pytest.raises(RateLimited) as caught:
        await limits.spend(ANONYMOUS)
    assert spec_of(caught.value).status == 429
    assert error_body(caught.value)["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(error_headers(caught.value)["Retry-After"]) <= 60


async def test_a_batch_costs_what_its_inputs_do_or_nothing() -> None:
    limits = limiter(10)
    await limits.spend(ANONYMOUS, cost=8)
    with pytest.raises(RateLimited):
        await limits.spend(ANONYMOUS, cost=3)
    await limits.spend(ANONYMOUS, cost=2)


async def test_a_batch_that_can_never_fit_is_told_so() -> None:
    with pytest.raises(InvalidValue) as caught:
        await limiter(10).spend(ANONYMOUS, cost=11)
    assert caught.value.param == "inputs"


async def test_a_dead_redis_fails_no_request_and_is_told() -> None:
    failures: list[int] = []
    settings = Settings(limits=Limits(requests_per_minute=3), redis=Redis(url=DEAD))
    limits = Limiter(settings, lambda: failures.append(1))
    assert await granted(limits, ANONYMOUS.name, 5) == 3
    assert len(failures) == 5
    await limits.close()


@pytest.mark.parametrize("url", ["http://redis:6379", "redis", ""])
def test_a_redis_of_another_kind_stops_the_start(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINALIGN_REDIS_URL", url)
    with pytest.raises(ConfigError, match="CLINALIGN_REDIS_URL"):
        load_settings()


@pytest.mark.parametrize(
    "url", ["redis://:pa/secret@host:6379", "redis://host:secret", "redis://host/0?secret=1", "redis://host?db=secret"]
)
def test_a_redis_url_that_cannot_be_read_stops_the_start_and_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="CLINALIGN_REDIS_URL") as caught:
        check_url(Settings(redis=Redis(url=url)))
    assert "secret" not in str(caught.value)
    check_url(Settings(redis=Redis(url="redis://:p%2Fw@host:6379/0?socket_timeout=1")))


def test_the_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: Any = repr(Settings(redis=Redis(url="redis://:secret@host")))
    assert "secret" not in shown


async def test_one_request_finds_out_for_all_whether_redis_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def hangs(*args: Any) -> float | None:
        nonlocal asked
        if args[0] is not limits._own:
            asked += 1
            await asyncio.sleep(60)
        return None

    limits = Limiter(Settings(limits=Limits(requests_per_minute=99), redis=Redis(url=DEAD, timeout_s=0.05)))
    monkeypatch.setattr("service.limits._taken", hangs)
    for expected in (20, 21):
        limits._alone_until = 0.0
        await asyncio.gather(*(limits.spend(ANONYMOUS) for _ in range(20)))
        assert asked == expected
    await limits.close()

"""Two gateways and one Redis: a key has one limit over both, and a Redis that dies fails nobody."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.deploy.clients import PATIENCE_S, body, metric, until
from tests.e2e.deploy.conftest import Up
from tests.e2e.deploy.servers import RedisServer, gateway, stub

LIMIT = 20
ASKED = 15  # of each gateway
TOKEN = "a-key-for-this-test"
KEYS = json.dumps([{"name": "team-a", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}])


async def statuses(urls: list[str], each: int) -> Counter[int]:
    async with httpx.AsyncClient(timeout=PATIENCE_S, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        asking = [http.post(f"{url}/v1/chat/completions", json=body("What helps?")) for url in urls * each]
        responses = await asyncio.gather(*asking)
    for response in responses:
        if response.status_code == 429:
            assert response.json()["error"]["code"] == "rate_limit_exceeded"
            assert 1 <= int(response.headers["Retry-After"]) <= 60
    return Counter(response.status_code for response in responses)


async def test_a_key_has_one_limit_over_both(up: Up, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    up(redis)
    model, url = stub(tmp_path, "--instant")
    up(model, f"{url}/v1/models")
    shared: dict[str, Any] = {"KEYS": KEYS, "REDIS_URL": redis.url, "LIMITS_REQUESTS_PER_MINUTE": str(LIMIT)}
    gateways = [gateway(url, tmp_path, **shared) for _ in range(2)]
    for each in gateways:
        up(each, f"{each.url}/readyz")
    urls = [each.url for each in gateways]
    await until(lambda: "Ready to accept connections" in redis.tail())

    assert await statuses(urls, ASKED) == {200: LIMIT, 429: 2 * ASKED - LIMIT}
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        assert [await metric(http, "clinalign_limiter_failures_total", url) for url in urls] == [0, 0]

        redis.stop()
        assert await statuses(urls, 1) == {200: 2}  # each counts for itself from here on
        assert [await metric(http, "clinalign_limiter_failures_total", url) for url in urls] == [1, 1]

        up(RedisServer(tmp_path, redis.port))

        async def counted_together_again() -> bool:
            before = await metric(http, "clinalign_limiter_failures_total", urls[0])
            await statuses(urls[:1], 1)
            return await metric(http, "clinalign_limiter_failures_total", urls[0]) == before

        await until(counted_together_again)

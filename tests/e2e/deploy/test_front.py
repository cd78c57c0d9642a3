"""Gateways behind nginx, as behind an Ingress: TLS, streams that are not held back, restarts that nobody notices."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import ssl
from collections import Counter
from pathlib import Path

import httpx

from scripts.child import Child
from scripts.gateway import Gateway
from tests.e2e.deploy.clients import PATIENCE_S, ask, body, metric, until
from tests.e2e.deploy.conftest import Up
from tests.e2e.deploy.servers import Nginx, gateway, stub

CLIENTS = 8
IN_FLIGHT = 50


def start(up: Up, folder: Path, count: int = 1, *stub_arguments: str) -> tuple[list[Gateway], Nginx]:
    _, gateways, nginx = start_all(up, folder, count, *stub_arguments)
    return gateways, nginx


def start_all(up: Up, folder: Path, count: int = 1, *stub_arguments: str) -> tuple[Child, list[Gateway], Nginx]:
    model, url = stub(folder, *stub_arguments)
    up(model, f"{url}/v1/models")
    gateways = [gateway(url, folder, DRAIN_S="2", WORKERS=str(1 + i)) for i in range(count)]
    for each in gateways:
        up(each, f"{each.url}/readyz")
    nginx = Nginx([each.port for each in gateways], folder)
    up(nginx)
    return model, gateways, nginx


def client(nginx: Nginx) -> httpx.AsyncClient:
    """One that trusts nobody but this nginx."""
    return httpx.AsyncClient(
        base_url=nginx.url, verify=ssl.create_default_context(cafile=nginx.certificate), timeout=PATIENCE_S
    )


def terminate(child: Child) -> None:
    os.kill(child.pid, signal.SIGTERM)


async def listening(nginx: Nginx) -> None:
    async def answers() -> bool:
        async with client(nginx) as http:
            try:
                return (await http.get("/openapi.json")).status_code == 200
            except httpx.HTTPError:
                return False

    await until(answers)


async def test_a_stream_reaches_the_client_while_it_is_written(up: Up, tmp_path: Path) -> None:
    (one,), nginx = start(up, tmp_path)
    await listening(nginx)
    async with client(nginx) as http, httpx.AsyncClient(base_url=one.url) as direct:
        for fields in ({"revision": {"mode": "off"}}, {"revision": {"stream": "live", "mode": "always"}}):
            asked = {**body("What helps against a runny nose?", **fields), "stream": True, "max_tokens": 200}
            async with http.stream("POST", "/v1/chat/completions", json=asked) as response:
                assert response.status_code == 200
                lines = response.aiter_lines()
                async for line in lines:
                    if '"content":"' in line.replace('"content":""', ""):
                        break
                assert await metric(direct, "clinalign_in_flight") == 1  # the rest is still to come
                assert [line async for line in lines if line][-1] == "data: [DONE]"


async def test_metrics_and_probes_are_not_for_the_world(up: Up, tmp_path: Path) -> None:
    _, nginx = start(up, tmp_path)
    await listening(nginx)
    async with client(nginx) as http:
        for path in ("/metrics", "/readyz", "/healthz", "/v1/../metrics"):
            assert (await http.get(path)).status_code == 404


async def test_gateways_restart_one_by_one_and_no_request_fails(up: Up, tmp_path: Path) -> None:
    """One of one process, and one of two workers."""
    gateways, nginx = start(up, tmp_path, 2, "--profile", "h100-qwen3-4b")
    await listening(nginx)
    outcomes: Counter[str] = Counter()
    numbers = itertools.count()
    done = asyncio.Event()

    async def someone(stream: bool) -> None:
        async with client(nginx) as http:
            while not done.is_set():
                outcomes[await ask(http, f"What helps against hiccups? ({next(numbers)})", stream=stream)] += 1

    async def more() -> None:
        """Load is on: so many answers more."""
        wanted = outcomes.total() + CLIENTS
        await until(lambda: outcomes.total() >= wanted)

    async with asyncio.TaskGroup() as group:
        for i in range(CLIENTS):
            group.create_task(someone(stream=bool(i % 2)))
        for each in gateways:
            await more()
            terminate(each)
            await refuses(each)
            assert await asyncio.to_thread(each.join, PATIENCE_S) == 0
            again = gateway(each.upstream, tmp_path, each.port)
            await asyncio.to_thread(up, again, f"{again.url}/readyz")
        await more()
        done.set()
    assert outcomes.keys() == {"ok"}, outcomes


async def refuses(child: Gateway) -> None:
    """Readiness fails while questions are still answered."""
    async with httpx.AsyncClient(base_url=child.url, timeout=PATIENCE_S) as http:

        async def unready() -> bool:
            return (await http.get("/readyz")).status_code == 503

        await until(unready)
        response = await http.post("/v1/chat/completions", json=body("What helps against hiccups?"))
        assert (response.status_code, response.headers["connection"]) == (200, "close")


async def test_what_is_in_flight_is_answered_before_the_end(up: Up, tmp_path: Path) -> None:
    (one,), _ = start(up, tmp_path, 1, "--profile", "h100-qwen3-4b", "--speed", "0.5")
    async with httpx.AsyncClient(base_url=one.url, timeout=PATIENCE_S, limits=httpx.Limits(max_connections=99)) as http:
        asking = [
            asyncio.create_task(ask(http, f"What helps against hiccups? ({i})", stream=bool(i % 2), max_tokens=200))
            for i in range(IN_FLIGHT)
        ]

        async def all_in() -> bool:
            return await metric(http, "clinalign_in_flight") == IN_FLIGHT

        await until(all_in)
        terminate(one)
        assert Counter(await asyncio.gather(*asking)) == {"ok": IN_FLIGHT}
    assert await asyncio.to_thread(one.join, PATIENCE_S) == 0


async def test_without_a_model_server_the_gateway_stays_to_say_so(up: Up, tmp_path: Path) -> None:
    """What Kubernetes asks stays good, so that a user in danger gets the fixed text and others a clear error."""
    model, (one,), nginx = start_all(up, tmp_path)
    await listening(nginx)
    model.stop()
    async with client(nginx) as http, httpx.AsyncClient(base_url=one.url) as direct:

        async def unready() -> bool:
            return (await direct.get("/readyz")).status_code == 503

        await until(unready)
        assert (await direct.get("/readyz?once")).status_code == 200
        asked = body("I took a whole bottle of paracetamol tonight")
        flagged = await http.post("/v1/chat/completions", json=asked)
        assert flagged.json()["revision"]["status"] == "safety_text"
        failed = await http.post("/v1/chat/completions", json=body("What helps against hiccups?"))
        assert (failed.status_code, failed.json()["error"]["code"]) == (502, "upstream_unavailable")

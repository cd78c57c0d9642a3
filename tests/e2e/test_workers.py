"""Several workers on one port, in front of a model server that answers at once: nothing is lost and all is counted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtests.bench.overhead import start_stub
from scripts.build_index import ensure_index
from scripts.common import LOGS
from scripts.gateway import Gateway
from tests.e2e.deploy.clients import metric

SENT = 200
BODY = {"messages": [{"role": "user", "content": "What helps against a runny nose?"}]}
PATIENCE_S = 60


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    stub, url = start_stub()
    settings = {"CLINALIGN_WORKERS": "2"}
    try:
        stub.wait_ready(f"{url}/v1/models", PATIENCE_S)
        with Gateway(url, ensure_index(), log=LOGS / "e2e-workers.log", settings=settings) as gateway:
            gateway.wait()
            yield gateway
    finally:
        stub.stop()


async def counted(url: str, name: str, **labels: str) -> float:
    async with httpx.AsyncClient() as http:
        return await metric(http, name, url, **labels)


def workers(gateway: Gateway) -> set[int]:
    """The processes that the supervisor has spawned to serve."""
    found = [pid for child in [gateway.pid, *children(gateway.pid)] for pid in children(child)]
    return {pid for pid in found if "spawn_main" in told(f"{pid}/cmdline")}


def children(pid: int) -> list[int]:
    return [int(child) for child in told(f"{pid}/task/{pid}/children").split()]


def told(file: str) -> str:
    """Nothing of a process that has just ended."""
    try:
        return (Path("/proc") / file).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def test_metrics_are_those_of_all_workers(gateway: Gateway) -> None:
    before = await counted(gateway.url, "clinalign_answers_total")

    async def one() -> int:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:  # a connection each, so that both workers take some
            return (await http.post(f"{gateway.url}/v1/chat/completions", json=BODY)).status_code

    statuses = await asyncio.gather(*(one() for _ in range(SENT)))
    assert statuses == [200] * SENT
    assert await counted(gateway.url, "clinalign_answers_total") - before == SENT
    assert await counted(gateway.url, "clinalign_in_flight") == 0


async def test_a_killed_worker_is_replaced_and_what_it_counted_stays(gateway: Gateway) -> None:
    before = await counted(gateway.url, "clinalign_answers_total")
    old = workers(gateway)
    assert len(old) == 2
    victim = min(old)
    os.kill(victim, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            now = workers(gateway)
            if len(now) == 2 and victim not in now and await _ask(gateway) == 200:
                break
            await asyncio.sleep(0.1)
    assert await counted(gateway.url, "clinalign_answers_total") >= before + 1
    assert await counted(gateway.url, "clinalign_in_flight") == 0


async def _ask(gateway: Gateway) -> int:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        try:
            return (await http.post(f"{gateway.url}/v1/chat/completions", json=BODY)).status_code
        except httpx.HTTPError:
            return 0


def test_what_stops_one_worker_stops_all_with_one_sentence(tmp_path: Path) -> None:
    with Gateway("http://127.0.0.1:9", tmp_path, log=tmp_path / "log", settings={"CLINALIGN_WORKERS": "2"}) as gateway:
        assert gateway.join(PATIENCE_S) != 0
        log = gateway.log.read_text()
    assert "clinalign: " in log
    assert str(tmp_path) in log
    assert "Traceback" not in log

"""A gateway that follows a name's addresses, as behind a headless Service: replicas come and go, and nobody notices.

The name is resolved by the system's own resolver, from a hosts file that the gateway alone sees.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from scripts.build_index import ensure_index
from scripts.child import Child, free_port
from scripts.gateway import Gateway
from tests.e2e.deploy.clients import PATIENCE_S, ask, metric, until
from tests.e2e.deploy.conftest import Up
from tests.e2e.deploy.servers import gateway

NAME = "vllm.test"
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
CONVERSATIONS = 40
CLIENTS = 24

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, for addresses of the loopback range")


class FollowingGateway(Gateway):
    """Sees `hosts` as /etc/hosts, in a mount namespace of its own."""

    def __init__(self, upstream: str, hosts: Path, log: Path) -> None:
        super().__init__(upstream, ensure_index(), log=log, settings={"CLINALIGN_UPSTREAM_REPLICAS": "dns"})
        unshare = shutil.which("unshare")
        assert unshare, "unshare (util-linux) is missing"
        command = f'mount --bind {hosts} /etc/hosts && exec "{sys.executable}" -m service'
        self._command = [*self._command[:3], unshare, "--map-root-user", "--mount", "sh", "-c", command]


class Replica(Child):
    port: int


def replica(host: str, port: int, folder: Path) -> Replica:
    command = [sys.executable, "-m", "loadtests.stub_vllm", "--host", host, "--port", str(port)]
    child = Replica("The stub", [*command, "--profile", "h100-qwen3-4b"], folder / f"{host}.log")
    child.port = port
    return child


def resolves_to(hosts: Path, addresses: Sequence[str]) -> None:
    hosts.write_text("".join(f"{address} {NAME}\n" for address in addresses))


async def served(http: httpx.AsyncClient, port: int, addresses: Sequence[str]) -> dict[str, float]:
    """Tokens that each replica has written so far."""
    name = "vllm:generation_tokens_total"
    return {address: await metric(http, name, f"http://{address}:{port}") for address in addresses}


def may_mount() -> bool:
    """Containers may forbid it."""
    done = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not os.environ.get("CI") and not may_mount(), reason="this machine forbids namespaces of one's own")
async def test_replicas_come_and_go_with_the_names_addresses(up: Up, tmp_path: Path) -> None:
    port, hosts = free_port(), tmp_path / "hosts"
    replicas = {host: replica(host, port, tmp_path) for host in HOSTS}
    for host, child in replicas.items():
        up(child, f"http://{host}:{port}/v1/models")
    resolves_to(hosts, HOSTS[:2])
    following = FollowingGateway(f"http://{NAME}:{port}", hosts, tmp_path / "gateway.log")
    up(following, f"{following.url}/readyz")

    async with httpx.AsyncClient(base_url=following.url, timeout=PATIENCE_S) as http:

        async def known(count: int) -> None:
            async def is_so() -> bool:
                return await metric(http, "clinalign_replicas", state="known") == count

            await until(is_so)

        async def all_answered() -> None:
            asking = [ask(http, f"What helps against hiccups? ({i})", stream=bool(i % 2)) for i in range(CONVERSATIONS)]
            assert Counter(await asyncio.gather(*asking)) == {"ok": CONVERSATIONS}

        await known(2)
        await all_answered()
        before = await served(http, port, HOSTS)
        assert before[HOSTS[0]] > 0
        assert before[HOSTS[1]] > 0
        assert before[HOSTS[2]] == 0

        resolves_to(hosts, HOSTS)
        await known(3)
        await all_answered()
        assert (await served(http, port, HOSTS))[HOSTS[2]] > 0

        replicas[HOSTS[0]].stop()  # dies while the name still has it
        await all_answered()
        assert await metric(http, "clinalign_replicas", state="known") == 3

        async def one_out() -> bool:
            return (
                await metric(http, "clinalign_replicas", state="out") == 1
                and await metric(http, "clinalign_replica_ejections_total") >= 1
            )

        await until(one_out)

        resolves_to(hosts, HOSTS[1:])
        await known(2)
        await all_answered()

        hosts.write_text("")  # a resolver that knows nothing: those known last go on
        await until(lambda: "lookup_failed" in following.tail())
        await all_answered()
        assert await metric(http, "clinalign_discovery_failures_total") >= 1


async def test_a_replica_killed_under_load_is_not_noticed(up: Up, tmp_path: Path) -> None:
    """What it had in flight is asked of the other one, within a budget that grows with what is in flight."""
    replicas = {host: replica(host, free_port(), tmp_path) for host in HOSTS[:2]}
    urls = [f"http://{host}:{child.port}" for host, child in replicas.items()]
    for child, url in zip(replicas.values(), urls, strict=True):
        up(child, f"{url}/v1/models")
    one = gateway(",".join(urls), tmp_path)
    up(one, f"{one.url}/readyz")
    outcomes: Counter[str] = Counter()
    numbers, done = itertools.count(), asyncio.Event()

    async def someone(http: httpx.AsyncClient, stream: bool) -> None:
        while not done.is_set():
            outcomes[await ask(http, f"What helps against hiccups? ({next(numbers)})", stream=stream)] += 1

    async with httpx.AsyncClient(base_url=one.url, timeout=PATIENCE_S) as http, asyncio.TaskGroup() as group:
        for i in range(CLIENTS):
            group.create_task(someone(http, stream=bool(i % 2)))
        await until(lambda: outcomes.total() >= 3 * CLIENTS)
        os.kill(replicas[HOSTS[0]].pid, signal.SIGKILL)
        await until(lambda: outcomes.total() >= 6 * CLIENTS)
        done.set()
    assert outcomes.keys() == {"ok"}, outcomes

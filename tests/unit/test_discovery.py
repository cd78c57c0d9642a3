"""The list of replicas follows DNS, and a look-up that fails takes nothing away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from service.discovery import EVERY_S, Seen, addresses, watch
from service.replicas import Replicas

NAME = "http://vllm.models.svc:8000"
A, B, C = "http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://10.0.0.3:8000"


async def watched(replicas: Replicas, *lookups: Sequence[str] | OSError, name: str | None = NAME) -> list[Seen]:
    """What is seen in so many rounds."""
    script, seen = list(lookups), list[Seen]()

    async def resolve(asked: str) -> tuple[str, ...]:
        assert asked == NAME
        found = script.pop(0)
        if isinstance(found, OSError):
            raise found
        return tuple(found)

    async def wait(seconds: float) -> None:
        assert seconds == EVERY_S
        if not script:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await watch(replicas, name, seen.append, resolve=resolve, wait=wait)
    return seen


async def test_replicas_come_and_go_with_the_addresses() -> None:
    replicas = Replicas([NAME])
    seen = await watched(replicas, [A], [A, B, C], [B, C])
    assert [each.known for each in seen] == [1, 3, 2]
    assert replicas.urls == (B, C)


async def test_a_lookup_that_fails_changes_nothing_and_is_counted() -> None:
    replicas = Replicas([NAME])
    seen = await watched(replicas, [A, B], socket.gaierror(), socket.gaierror(), [A])
    assert [(each.known, each.failed_lookups) for each in seen] == [(2, 0), (2, 1), (2, 1), (1, 0)]


async def test_a_lookup_that_hangs_is_told_and_no_other_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.discovery.EVERY_S", 0.01)
    replicas, seen, begun = Replicas([NAME]), list[Seen](), list[str]()
    answered = asyncio.Event()

    async def resolve(name: str) -> tuple[str, ...]:
        begun.append(name)
        await answered.wait()
        return (A,)

    async def wait(seconds: float) -> None:
        if len(seen) == 2:
            answered.set()
        elif len(seen) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await watch(replicas, NAME, seen.append, resolve=resolve, wait=wait)
    assert [each.failed_lookups for each in seen] == [1, 1, 0]
    assert begun == [NAME]
    assert replicas.urls == (A,)


async def test_until_the_first_lookup_the_name_itself_is_asked() -> None:
    replicas = Replicas([NAME])
    await watched(replicas, socket.gaierror())
    assert replicas.urls == (NAME,)


async def test_ejections_are_told_once() -> None:
    replicas = Replicas([A, B])
    replicas.failed(A)
    seen = await watched(replicas, [A, B], [A, B])
    assert [(each.out, each.ejections) for each in seen] == [(1, 1), (1, 0)]


async def test_listed_replicas_are_not_looked_up() -> None:
    replicas = Replicas([A, B])
    assert await watched(replicas, name=None) == [Seen(known=2, out=0, ejections=0, failed_lookups=0)]


async def test_addresses_take_the_hosts_place() -> None:
    assert "http://127.0.0.1:8000" in await addresses("http://localhost:8000")
    assert await addresses("https://127.0.0.1/base") == ("https://127.0.0.1:443/base",)
    assert await addresses("http://[::1]") == ("http://[::1]:80",)


async def test_a_name_without_an_address_is_an_error() -> None:
    with pytest.raises(OSError, match=r"."):
        await addresses("http://no-such-host.invalid:8000")


async def test_a_pod_with_addresses_of_both_kinds_is_one_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET6, 1, 6, "", ("fd00::1", port, 0, 0)),
            (socket.AF_INET, 1, 6, "", ("10.0.0.1", port)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    assert await addresses("http://user:word@vllm:8000/base") == ("http://user:word@10.0.0.1:8000/base",)

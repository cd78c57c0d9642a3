"""Keeps the list of replicas true: who is there by DNS, and who is out, every few seconds.

Behind a headless Service of Kubernetes, DNS names the pods that are ready. The gateway chooses among them itself, so that
a conversation stays where its prefix is cached; a balancer in between would scatter its calls.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from service.replicas import Replicas

log = logging.getLogger("clinalign")

EVERY_S = 5.0  # what cluster DNS caches a headless Service for


@dataclass(frozen=True, slots=True)
class Seen:
    """The replicas known and those of them that are out; what has happened since the last time."""

    known: int
    out: int
    ejections: int
    failed_lookups: int


async def watch(
    replicas: Replicas,
    name: str | None,
    on_seen: Callable[[Seen], None],
    *,
    resolve: Callable[[str], Awaitable[tuple[str, ...]]] | None = None,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Runs until cancelled. `name`: the URL whose addresses are the replicas; None where they are listed.

    A look-up that fails or finds nobody changes nothing: those known last are asked, and an answer says who is gone.
    """
    resolve = resolve or addresses
    failing, ejections = False, 0
    lookup: asyncio.Future[tuple[str, ...]] | None = None
    while True:
        if name is not None:
            # One that hangs is waited for, and no other begun: each holds a thread, of which there are few.
            lookup = lookup or asyncio.ensure_future(resolve(name))
            await asyncio.wait([lookup], timeout=EVERY_S)
            error = _failure(lookup)
            if error is None:
                replicas.update(lookup.result())
            elif not failing:
                log.warning("lookup_failed", extra={"fields": {"error": type(error).__name__}})
            failing = error is not None
            lookup = None if lookup.done() else lookup
        ejections, before = replicas.ejections, ejections
        on_seen(Seen(len(replicas.urls), replicas.out, ejections - before, int(failing)))
        await wait(EVERY_S)


def _failure(lookup: asyncio.Future[tuple[str, ...]]) -> BaseException | None:
    return lookup.exception() if lookup.done() else TimeoutError()


async def addresses(url: str) -> tuple[str, ...]:
    """The URL with each address of its host in the host's place, sorted. Raises OSError where there is none."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    families = {family for family, *_ in found}
    family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6  # a pod with both is one replica
    hosts = {str(address[0]) for kind, *_, address in found if kind == family}
    shown = sorted(f"[{host}]" if ":" in host else host for host in hosts)
    user, at, _ = parts.netloc.rpartition("@")
    return tuple(f"{parts.scheme}://{user}{at}{host}:{port}{parts.path}" for host in shown)

"""Closed-loop load over HTTP/1.1: every connection sends its next request when it has the whole answer to the last.

A generator written in Python must be lean, or one measures it instead of the server: raw protocols on uvloop, a request
made once and sent again with another number in it, answers parsed by httptools. It runs in a process of its own, which can be pinned to a
core.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import subprocess
import sys
import time
from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import numpy as np
import uvloop

from loadtests.bench.cores import only_on
from scripts.common import ROOT, Failure

COUNTER = "{counter}"
"""Where a body has this, each request of a run has another number there, so that no cache answers in a server's stead."""

_DIGITS = 8
RECONNECT_S = 0.05
DRAIN_S = 30.0
SLACK_S = 60.0


@dataclass(frozen=True)
class Measured:
    """What happened in the measured seconds. Latencies are those of good answers: status 200 and a body."""

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    answered: int
    """Good and bad answers in all, before and after those seconds too: what a server's CPU time is divided by."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True)
class Load:
    """One run: `connections` clients send `body` (JSON text) to `url` by POST for `warmup_s` and then `seconds`."""

    url: str
    body: str
    connections: int
    seconds: float
    warmup_s: float
    headers: dict[str, str] = field(default_factory=dict)


def run(
    url: str,
    body: bytes,
    *,
    connections: int,
    seconds: float,
    warmup_s: float = 1.0,
    headers: Mapping[str, str] | None = None,
    core: int | None = None,
) -> Measured:
    """Measures from a child process, pinned to `core` where one is given. Raises Failure where nothing good came back."""
    load = Load(url, body.decode(), connections, seconds, warmup_s, dict(headers or {}))
    with only_on(core):
        child = subprocess.Popen(
            [sys.executable, "-m", "loadtests.bench.closed_loop"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    with child:
        try:
            told, errors = child.communicate(json.dumps(asdict(load)).encode(), timeout=warmup_s + seconds + SLACK_S)
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        last = errors.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Failure(f"The load generator failed: {last[-1]}.")
    measured = Measured(**json.loads(told))
    if not measured.requests:
        raise Failure(f"{url} gave no good answer in {seconds:g} s ({measured.errors} errors).")
    return measured


class Requests:
    """The bytes of one request after another. Raises ValueError for a URL that is not plain http."""

    def __init__(self, load: Load, first: int = 0) -> None:
        before, counter, after = load.body.partition(COUNTER)
        length = len(before.encode()) + (_DIGITS if counter else 0) + len(after.encode())
        self._before = _head(load, length) + before.encode()
        self._after = after.encode() if counter else None
        self._number = first

    def next(self) -> bytes:
        if self._after is None:
            return self._before
        self._number = (self._number + 1) % 10**_DIGITS
        return b"%s%0*d%s" % (self._before, _DIGITS, self._number, self._after)


def _head(load: Load, length: int) -> bytes:
    parts = urlsplit(load.url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{load.url} is not an http URL")
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "Accept": "application/json",
        **load.headers,
        "Content-Length": str(length),
    }
    query = f"?{parts.query}" if parts.query else ""
    lines = [f"POST {parts.path or '/'}{query} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Tally:
    """Counts answers and keeps the latencies of those that ended while `measuring`; when `ending` nothing more is sent."""

    def __init__(self) -> None:
        self.measuring = False
        self.ending = False
        self.latencies_s = array("d")
        self.errors = 0
        self.answered = 0

    def good(self, seconds: float) -> None:
        self.answered += 1
        if self.measuring:
            self.latencies_s.append(seconds)

    def bad(self) -> None:
        self.answered += 1
        if self.measuring:
            self.errors += 1

    def measured(self, seconds: float) -> Measured:
        latencies = np.frombuffer(self.latencies_s) if self.latencies_s else np.zeros(1)
        p50, p95, p99 = (round(float(value) * 1000, 3) for value in np.percentile(latencies, (50, 95, 99)))
        return Measured(len(self.latencies_s), self.errors, seconds, p50, p95, p99, self.answered)


class Client(asyncio.Protocol):
    """One connection: a request is under way from when it opens until it closes. `lost` is called when it has closed."""

    def __init__(self, requests: Requests, tally: Tally, lost: asyncio.Event) -> None:
        self._requests = requests
        self._tally = tally
        self._lost = lost
        self._waiting = False
        self._started = 0.0
        self._received = 0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._received = 0
        self._waiting = True
        self._started = time.perf_counter()
        self._transport.write(self._requests.next())

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._close()

    def on_body(self, body: bytes) -> None:
        self._received += len(body)

    def on_message_complete(self) -> None:
        self._waiting = False
        if self._parser.get_status_code() == 200 and self._received:
            self._tally.good(time.perf_counter() - self._started)
        else:
            self._tally.bad()
        if self._parser.should_keep_alive() and not self._tally.ending:
            self._send()
        else:
            self._close()

    def _close(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._waiting = False
            self._tally.bad()
        self._lost.set()


async def keep_connected(url: str, requests: Requests, tally: Tally) -> None:
    """One connection, opened again whenever it is closed until the end: some servers close after each answer."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    while not tally.ending:
        lost = asyncio.Event()
        new_client = functools.partial(Client, requests, tally, lost)
        try:
            transport, _ = await loop.create_connection(new_client, parts.hostname or "", parts.port or 80)
        except OSError:
            tally.bad()
            await asyncio.sleep(RECONNECT_S)
            continue
        try:
            await lost.wait()
        finally:
            transport.abort()


async def measure(load: Load) -> Measured:
    """The run itself, in this process. Raises ValueError for a bad URL, and whatever went wrong in a callback."""
    tally = Tally()
    wrong: list[Exception] = []  # a loop only logs what its callbacks raise
    asyncio.get_running_loop().set_exception_handler(
        lambda _, told: wrong.append(told.get("exception") or RuntimeError(told["message"]))
    )
    requests = Requests(load, random.randrange(10**_DIGITS))
    clients = [asyncio.ensure_future(keep_connected(load.url, requests, tally)) for _ in range(load.connections)]
    try:
        await asyncio.wait(clients, timeout=load.warmup_s)
        tally.measuring = True
        start = time.perf_counter()
        await asyncio.wait(clients, timeout=load.seconds)
        tally.measuring = False
        seconds = time.perf_counter() - start
        tally.ending = True  # what is under way ends, so that no server is left with work that nobody counted
        await asyncio.wait(clients, timeout=0 if wrong else DRAIN_S)
        if wrong:
            raise wrong[0]
        return tally.measured(seconds)
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


def main() -> int:
    """Reads a `Load` as JSON, writes a `Measured` as JSON."""
    given: dict[str, Any] = json.load(sys.stdin)
    print(json.dumps(asdict(uvloop.run(measure(Load(**given))))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Which replica of the model server a conversation goes to.

Rendezvous hashing (Thaler and Ravishankar 1998) with bounded loads (Mirrokni and others 2018): a conversation has an
order of replicas of its own, so all stages of its answers and its later turns find their prefix in one cache, and a
replica that comes or goes moves only its own conversations. One that is busier than its fair share by `_SLACK` is passed
over, so that a popular beginning does not pile up on one.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

log = logging.getLogger("clinalign")

_SLACK = 1.25
_FEW = 8  # calls in flight up to which a replica counts as idle: one answer has a dozen at a time
_OUT_S = 30.0
_FAULTS = 5  # answers in a row with a server's error after which a replica is out


class Replicas:
    """The replicas by base URL, how many calls each has in flight, and which cannot be reached for now."""

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._urls = tuple(urls)
        self._clock = clock
        self._in_flight: Counter[str] = Counter()
        self._out_until: dict[str, float] = {}
        self._faults: Counter[str] = Counter()
        self.ejections = 0

    @property
    def urls(self) -> tuple[str, ...]:
        return self._urls

    @property
    def in_flight(self) -> int:
        """Calls, over all replicas."""
        return self._in_flight.total()

    @property
    def out(self) -> int:
        """How many of them cannot be reached for now."""
        now = self._clock()
        return sum(self._out_until.get(url, 0.0) > now for url in self._urls)

    def update(self, urls: Sequence[str]) -> None:
        """These are the replicas from now on. An answer in the making keeps the order that it began with."""
        if set(urls) == set(self._urls):
            return
        log.info("replicas", extra={"fields": {"known": len(urls), "before": len(self._urls)}})
        self._urls = tuple(urls)
        self._out_until = {url: until for url, until in self._out_until.items() if url in urls}
        self._faults = Counter({url: count for url, count in self._faults.items() if url in urls})

    def for_conversation(self, key: str) -> tuple[str, ...]:
        """All replicas in the order in which they are to be tried: the conversation's own, those with room first."""
        order = self._ranked(key)
        if len(order) == 1:
            return order
        most = max(_FEW, _SLACK * (self._in_flight.total() + 1) / len(order))
        return tuple(sorted(order, key=lambda url: self._in_flight[url] >= most))  # stable

    def reachable(self, order: Sequence[str]) -> tuple[str, ...]:
        """Those that are not out, and after them such as came later; all of them when all are out, one may be back.

        One that left the list while an answer was in the making finishes it: it is being drained.
        """
        now = self._clock()
        known = (*order, *(url for url in self._urls if url not in order))
        return tuple(url for url in known if self._out_until.get(url, 0.0) <= now) or known

    def _ranked(self, key: str) -> tuple[str, ...]:
        beginning = hashlib.blake2b(f"{key}\n".encode("utf-8", "surrogatepass"), digest_size=8)

        def weight(url: str) -> bytes:
            digest = beginning.copy()
            digest.update(url.encode())
            return digest.digest()

        return tuple(sorted(self._urls, key=weight))

    @contextmanager
    def call(self, url: str) -> Iterator[None]:
        self._in_flight[url] += 1
        try:
            yield
        finally:
            self._in_flight[url] -= 1

    def failed(self, url: str) -> None:
        """It could not be reached: the others serve until `_OUT_S` have passed."""
        if url in self._urls and self._out_until.get(url, 0.0) <= self._clock():  # one that has left was bound to go
            self.ejections += 1
            where = urlsplit(url).netloc.rpartition("@")[2]  # a URL may hold a password
            log.warning(
                "replica_out", extra={"fields": {"replica": where, "known": len(self._urls), "seconds": _OUT_S}}
            )
        self._out_until[url] = self._clock() + _OUT_S

    def answered(self, url: str, status: int) -> None:
        """It was reached. Errors of its own, several in a row, put it out like silence."""
        if status < 500 or status == 503:  # 503: it is full, which is no fault
            self._out_until.pop(url, None)
            self._faults.pop(url, None)
            return
        self._faults[url] += 1
        if self._faults[url] >= _FAULTS:
            self.failed(url)

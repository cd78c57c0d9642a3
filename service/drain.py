"""Leaving without losing a request: SIGTERM first makes readiness fail, and stops the server only some seconds later.

In between balancers learn that this gateway goes, and whatever still comes is served, on connections that close after it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger("clinalign")


class Drain:
    def __init__(self) -> None:
        self.begun = False

    @contextmanager
    def on_sigterm(self, seconds: float) -> Iterator[None]:
        """Puts the wait before what the server does on SIGTERM. A second SIGTERM ends it.

        Inside a running loop; without effect off the main thread and where no server handles the signal.
        """
        stop = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(stop):
            yield
            return
        loop = asyncio.get_running_loop()
        handle = stop

        def begin(number: int, frame: FrameType | None) -> None:
            if self.begun:
                handle(number, frame)
                return
            self.begun = True
            log.info("draining", extra={"fields": {"seconds": seconds}})
            loop.call_soon_threadsafe(loop.call_later, seconds, handle, number, None)

        signal.signal(signal.SIGTERM, begin)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, stop)

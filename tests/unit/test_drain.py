"""SIGTERM: readiness fails first, the server stops later."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.drain import Drain


@contextmanager
def server() -> Iterator[asyncio.Event]:
    """Set once the server's own handler is called."""
    stopped = asyncio.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)


async def happened(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()


async def test_the_server_is_told_after_the_wait() -> None:
    drain = Drain()
    with server() as stopped, drain.on_sigterm(0.05):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        assert drain.begun
        assert not stopped.is_set()
        await happened(stopped)


async def test_a_second_signal_ends_the_wait() -> None:
    drain = Drain()
    with server() as stopped, drain.on_sigterm(3600):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        assert not stopped.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await happened(stopped)


async def test_the_servers_handler_comes_back() -> None:
    with server() as stopped:
        own = signal.getsignal(signal.SIGTERM)
        with Drain().on_sigterm(1):
            assert signal.getsignal(signal.SIGTERM) is not own
        assert signal.getsignal(signal.SIGTERM) is own
    assert not stopped.is_set()


async def test_where_no_server_handles_the_signal_nothing_changes() -> None:
    with Drain().on_sigterm(1):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_off_the_main_thread_nothing_changes() -> None:
    seen = []

    async def inside() -> None:
        with Drain().on_sigterm(1):
            seen.append(signal.getsignal(signal.SIGTERM))

    with server():
        own = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=lambda: asyncio.run(inside()))
        thread.start()
        thread.join()
        assert seen == [own]

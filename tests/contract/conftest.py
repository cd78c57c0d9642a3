"""The real app behind a real socket, with a fake model: what clients see."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from service.app import create_app
from service.settings import Settings
from tests.fakes import FakeEncoder, FakeLLM
from tests.kit import index

Serve = Callable[..., str]


class _Server(uvicorn.Server):
    started_event: threading.Event

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.started_event.set()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(llm, **settings)` starts a gateway and returns its base URL, without `/v1`."""
    running: list[tuple[_Server, threading.Thread]] = []

    def start(llm: FakeLLM, **settings: Any) -> str:
        app = create_app(Settings(**settings), llm=llm, index=index(), encoder=FakeEncoder())
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = _Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        server.started_event = threading.Event()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert server.started_event.wait(10)
        running.append((server, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(10)

"""Several workers, one port."""

from __future__ import annotations

import socket

from uvicorn import Config

from service.__main__ import _Supervisor


def test_the_port_is_let_go_with_the_workers() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    supervisor = _Supervisor(Config("service.__main__:worker_app", workers=1, log_config=None), [listening])
    supervisor.terminate_all()
    assert listening.fileno() == -1

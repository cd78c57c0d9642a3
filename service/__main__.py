"""`clinalign serve`, or `python -m service`: starts the gateway from CLINALIGN_* settings."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from tempfile import TemporaryDirectory

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.app import create_app
from service.errors import StartupError
from service.logging import configure
from service.settings import Settings, add_up_metrics_in, load_settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="clinalign", description="Serve checked health answers in front of vLLM.")
    parser.add_argument("command", nargs="?", choices=["serve"], default="serve", help="serve: start the gateway")
    parser.add_argument("--workers", type=int, help="processes that share the port (default: CLINALIGN_WORKERS)")
    args = parser.parse_args()
    try:
        settings = load_settings(**({} if args.workers is None else {"workers": args.workers}))
    except StartupError as error:
        return _stopped(error)
    configure(settings.log)
    if settings.workers > 1:
        return _serve_with_workers(settings)
    try:
        app = create_app(settings)
    except StartupError as error:
        return _stopped(error)
    _keep_what_was_built()
    server = uvicorn.Server(_config(app, settings))
    _end_well_on_sigterm()
    server.run()
    return 0 if server.started else STARTUP_FAILURE


def _serve_with_workers(settings: Settings) -> int:
    """uvicorn's supervisor: it restarts a worker that died, and stops where one cannot start."""
    config = _config("service.__main__:worker_app", settings)
    with TemporaryDirectory(prefix="clinalign-metrics-") as folder:
        add_up_metrics_in(folder)
        supervisor = _Supervisor(config, sockets=[config.bind_socket()])
        supervisor.run()
    return STARTUP_FAILURE if any(p.exitcode == STARTUP_FAILURE for p in supervisor.processes) else 0


class _Supervisor(Multiprocess):
    """Lets go of the port with its workers: while anybody listens, whoever comes is let in and waits for nobody."""

    def terminate_all(self) -> None:
        super().terminate_all()
        for listening in self.sockets:
            listening.close()


def worker_app() -> FastAPI:
    """What a worker serves, from the same environment as its parent's."""
    try:
        settings = load_settings()
        configure(settings.log)
        app = create_app(settings)
    except StartupError as error:
        _stopped(error)
        sys.exit(STARTUP_FAILURE)  # tells the supervisor that trying again is useless
    _keep_what_was_built()
    return app


def _config(app: FastAPI | str, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on where a client is
        timeout_graceful_shutdown=int(settings.revision.deadline_ms / 1000) + 5,
        timeout_worker_healthcheck=15,
    )


def _end_well_on_sigterm() -> None:
    """uvicorn raises the signal that stopped it once more at the very end: a stop that was asked for is no failure."""
    signal.signal(signal.SIGTERM, lambda number, frame: None)


def _keep_what_was_built() -> None:
    """It lives as long as the process: a full collection need not walk it, 70 ms and more in the middle of a request."""
    gc.collect()
    gc.freeze()


def _stopped(error: StartupError) -> int:
    print(f"clinalign: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""`clinalign serve`, or `python -m service`: starts the gateway from CLINALIGN_* settings."""

from __future__ import annotations

import argparse
import gc
import sys

import uvicorn

from service.app import create_app
from service.errors import StartupError
from service.logging import configure
from service.settings import load_settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="clinalign", description="Serve checked health answers in front of vLLM.")
    parser.add_argument("command", nargs="?", choices=["serve"], default="serve", help="serve: start the gateway")
    parser.parse_args()
    try:
        settings = load_settings()
        configure(settings.log)
        app = create_app(settings)
        # What was built lives as long as the process: a full collection need not walk it (70 ms and more, mid-request).
        gc.collect()
        gc.freeze()
    except StartupError as error:
        print(f"clinalign: {error}", file=sys.stderr)
        return 1
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on where a client is
        timeout_graceful_shutdown=int(settings.revision.deadline_ms / 1000) + 5,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

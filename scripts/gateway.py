"""The gateway as a child process, for `make run` and for tests/e2e."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.child import LOOPBACK, OFFLINE, Child, free_port
from scripts.common import LOGS
from scripts.model import encoder_folder

READY_S = 120.0


class Gateway(Child):
    """`python -m service`, in front of an upstream."""

    def __init__(
        self,
        upstream_url: str,
        index: Path,
        *,
        port: int | None = None,
        demonstration: bool = True,
        log: Path = LOGS / "gateway.log",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.upstream = upstream_url
        env = {
            "CLINALIGN_HOST": os.environ.get("CLINALIGN_HOST", LOOPBACK),
            "CLINALIGN_PORT": str(self.port),
            "CLINALIGN_UPSTREAM_URL": upstream_url,
            "CLINALIGN_INDEX_DIR": str(index),
            "CLINALIGN_ENCODER": str(encoder_folder()),
            "CLINALIGN_DEMONSTRATION": str(demonstration).lower(),
            "TOKENIZERS_PARALLELISM": "false",  # or it warns of forks
            **OFFLINE,
            **(settings or {}),
        }
        super().__init__("The gateway", [sys.executable, "-m", "service"], log, env)

    @property
    def url(self) -> str:
        """Base URL without `/v1`."""
        return f"http://{LOOPBACK}:{self.port}"

    def wait(self, timeout_s: float = READY_S, tick: Callable[[], None] = lambda: None) -> None:
        self.wait_ready(f"{self.url}/readyz", timeout_s, tick)

"""vLLM as a child process, for `make run` and for tests/e2e: `with VllmServer.demonstration(folder) as server: ...`."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from scripts.child import LOOPBACK, OFFLINE, Child, free_port
from scripts.common import LOGS, Failure, shown

DEMONSTRATION = "SmolLM2-135M-Instruct"
READY_S = 600.0
WARM_UP_S = 120.0

# To vLLM itself, VLLM_PORT is the first port that its workers talk over; to `make run` it is where vLLM listens.
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_PORT": None}

# 32 is the smallest block that vLLM's CPU attention takes: 77 % of the verdicts' prompt tokens come from the cache
# against 46 % with its default of 128, and eight verdicts take 0.6 s against 1.3 s.
CPU_FLAGS = ("--dtype", "bfloat16", "--max-model-len", "8192", "--enforce-eager", "--block-size", "32")
COMMON_FLAGS = ("--enable-prefix-caching", "--enable-prompt-tokens-details")


class VllmServer(Child):
    """vLLM's OpenAI-compatible server on a loopback port."""

    def __init__(
        self,
        model: str,
        *,
        served_name: str | None = None,
        port: int | None = None,
        log: Path = LOGS / "vllm.log",
        gpu: bool = False,
        kv_cache_gib: int = 2,
        extra: Sequence[str] = (),
    ) -> None:
        self.model_name = served_name or model
        self.port = port or free_port()
        env: dict[str, str | None] = dict(QUIET)
        if not gpu:
            env["VLLM_CPU_KVCACHE_SPACE"] = str(kv_cache_gib)
        if Path(model).is_dir():
            env |= OFFLINE
        super().__init__("vLLM", [*command(model, self.model_name, self.port, gpu=gpu), *extra], log, env)

    @classmethod
    def demonstration(
        cls, folder: Path, *, port: int | None = None, log: Path = LOGS / "vllm.log", **options: Any
    ) -> Self:
        return cls(str(folder), served_name=DEMONSTRATION, port=port, log=log, **options)

    @property
    def url(self) -> str:
        """Base URL without `/v1`."""
        return f"http://{LOOPBACK}:{self.port}"

    def wait(self, timeout_s: float = READY_S, tick: Callable[[], None] = lambda: None) -> None:
        """Returns when vLLM answers and has been warmed up."""
        self.wait_ready(f"{self.url}/health", timeout_s, tick)
        self._warm_up()

    def _warm_up(self) -> None:
        """The first request for log-probabilities compiles code: 2 s, and up to 20 s in a fresh environment."""
        body = {
            "model": self.model_name,
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 1,
            "logprobs": True,
            "logprob_token_ids": [0],
        }
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        started = time.monotonic()
        try:
            urllib.request.urlopen(request, timeout=WARM_UP_S).close()
        except urllib.error.HTTPError as error:
            error.close()
            raise Failure(f"vLLM refused a first question with status {error.code} (see {shown(self.log)}).") from None
        except OSError:
            self.check()
            waited = time.monotonic() - started
            raise Failure(
                f"vLLM gave no answer to a first question in {waited:.0f} s (see {shown(self.log)})."
            ) from None


def command(model: str, served_name: str, port: int, *, gpu: bool) -> list[str]:
    # Not the `vllm` program: in the CPU build it looks for a distribution of another name and ends.
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model),
        *("--served-model-name", served_name, "--host", LOOPBACK, "--port", str(port)),
        *COMMON_FLAGS,
        *(() if gpu else CPU_FLAGS),
    ]

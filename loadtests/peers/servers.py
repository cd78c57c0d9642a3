"""The peers as child processes, each on a loopback port in front of an OpenAI-compatible upstream.

Every one is set up as its makers advise for speed, and none calls anything but the upstream: their telemetry, update
checks and downloads are switched off.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loadtests.peers.install import FOLDER, require
from scripts.child import LOOPBACK, Child, free_port
from scripts.common import LOGS

READY_S = 120.0
NEMO_CONFIG = Path(__file__).parent / "nemo"
_LAUNCHER = Path(__file__).parent / "nemo_server.py"

QUIET = {
    "DO_NOT_TRACK": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "HF_HUB_OFFLINE": "1",
    "NO_PROXY": f"{LOOPBACK},localhost",
    "OPENAI_API_KEY": "none",
}
LITELLM_QUIET = {"LITELLM_OFFLINE_MODE": "true", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}


class Server(Child):
    """A server of chat completions. `ready` is the path that answers 200 when it serves."""

    def __init__(
        self, name: str, command: Sequence[str], port: int, ready: str, env: Mapping[str, str | None] | None = None
    ) -> None:
        self.port = port
        self._ready = ready
        super().__init__(name, command, LOGS / f"peer-{name}-server.log", {**QUIET, **(env or {})})

    @property
    def url(self) -> str:
        """Base URL without `/v1`."""
        return f"http://{LOOPBACK}:{self.port}"

    def wait(self, timeout_s: float = READY_S, tick: Callable[[], None] = lambda: None) -> None:
        self.wait_ready(f"{self.url}{self._ready}", timeout_s, tick)


def bare(upstream_url: str) -> Server:
    """loadtests/peers/bare.py, in our own environment."""
    port = free_port()
    return Server("bare", [sys.executable, "-m", "loadtests.peers.bare", upstream_url, str(port)], port, "/health")


def litellm(upstream_url: str, model: str) -> Server:
    """LiteLLM's proxy with one worker, no key and no database. Raises Failure where it is not installed."""
    program = require("litellm").with_name("litellm")
    config = FOLDER / "litellm.yaml"
    config.write_text(json.dumps(litellm_config(upstream_url, model), indent=1))  # JSON is YAML
    port = free_port()
    command = [str(program), "--config", str(config), "--host", LOOPBACK, "--port", str(port), "--num_workers", "1"]
    return Server("litellm", command, port, "/health/liveliness", LITELLM_QUIET)


def litellm_config(upstream_url: str, model: str) -> dict[str, object]:
    served = {"model": f"openai/{model}", "api_base": f"{upstream_url}/v1", "api_key": "none"}
    return {
        "model_list": [{"model_name": model, "litellm_params": served}],
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},  # on loopback, for a bench
    }


def optillm(upstream_url: str) -> Server:
    """optillm's server; a prefix of the model's name (`moa-NAME`) chooses the approach. Raises Failure."""
    program = require("optillm").with_name("optillm")
    port = free_port()
    command = [str(program), "--base-url", f"{upstream_url}/v1", "--host", LOOPBACK, "--port", str(port)]
    others = dict.fromkeys(("OPTILLM_API_KEY", "CEREBRAS_API_KEY", "AZURE_OPENAI_API_KEY"))  # would win over OpenAI's
    return Server("optillm", [*command, "--log", "warning"], port, "/health", others)


def nemo(upstream_url: str) -> Server:
    """NeMo Guardrails' server with the self check output rail and its faster engine (IORails). Raises Failure."""
    port = free_port()
    env = {
        "MAIN_MODEL_ENGINE": "openai",
        "MAIN_MODEL_BASE_URL": f"{upstream_url}/v1",
        "NEMO_GUARDRAILS_IORAILS_ENGINE": "1",
        "NEMO_GUARDRAILS_NO_USAGE_STATS": "1",
        "NEMO_GUARDRAILS_DISABLE_CHAT_UI": "true",
    }
    command = [str(require("nemo")), str(_LAUNCHER), os.fspath(NEMO_CONFIG), str(port)]
    return Server("nemo", command, port, "/healthz", env)

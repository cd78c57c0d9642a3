"""What `make run` was asked to do, from the environment, checked before anything is started."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from scripts.child import free_port, port_is_free
from scripts.common import Failure

DEFAULT_PORT = 8080
# Questions whose drafts a reader sees to be bad and whose repairs to be better. Processors round differently, and with
# that what the demonstration model writes differs: the second is asked where the first had nothing to repair.
EXAMPLES = (
    "What are the symptoms of an ear infection? As a numbered list, please.",
    "What are the symptoms of hay fever? As a numbered list, please.",
)
NEEDS_GB = 5.5  # vLLM 4.7 with a 2 GiB KV cache, the gateway 0.7
NEEDS_GB_SMALL = 4.5  # with a 1 GiB KV cache


@dataclass(frozen=True)
class Plan:
    port: int
    vllm_port: int
    model: str | None
    upstream_url: str | None
    questions: tuple[str, ...]
    once: bool
    vllm_args: tuple[str, ...]
    api_key: str

    @property
    def demonstration(self) -> bool:
        """Whether the small packaged model answers: it demonstrates the machinery, its advice is worth nothing."""
        return self.model is None and self.upstream_url is None

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Plan:
        port = _port(env, "PORT") or DEFAULT_PORT
        if not port_is_free(port):
            raise Failure(
                f"Port {port} is in use: stop what listens there, or choose another with `make run PORT={port + 1}`."
            )
        vllm_port = _port(env, "VLLM_PORT")
        if vllm_port is not None and (vllm_port == port or not port_is_free(vllm_port)):
            raise Failure(f"Port {vllm_port} for vLLM is in use: leave VLLM_PORT out to have a free one chosen.")
        return cls(
            port=port,
            vllm_port=vllm_port or free_port(),
            model=env.get("MODEL", "").strip() or None,
            upstream_url=_upstream(env.get("UPSTREAM_URL", "").strip()),
            questions=(question,) if (question := env.get("QUESTION", "").strip()) else EXAMPLES,
            once=env.get("ONCE", "").strip().lower() in ("1", "true", "yes"),
            vllm_args=tuple(shlex.split(env.get("VLLM_ARGS", ""))),
            api_key=env.get("API_KEY", "") or "none",
        )


def _port(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise Failure(f"{name} must be a number from 1 to 65535, not {text!r}.")
    return int(text)


def _upstream(url: str) -> str | None:
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Failure(f"UPSTREAM_URL must look like http://HOST:8000, not {url!r}.")
    return url.rstrip("/").removesuffix("/v1")


# --- memory ---------------------------------------------------------------------------------------------------------


def available_gb(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Memory that can be had, in GB: the machine's, or the container's limit where that is less. None: cannot tell."""
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        machine = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None
    try:
        limit = int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # "max", or no cgroup of version 2
        limit = machine
    return max(0, min(machine, limit)) / 1e9


def kv_cache_gib(available: float | None) -> int:
    """The KV cache that fits. Raises Failure where not even the small one does."""
    if available is None or available >= NEEDS_GB:
        return 2
    if available >= NEEDS_GB_SMALL:
        return 1
    raise Failure(
        f"{NEEDS_GB_SMALL} GB of free memory are needed, but only {available:.1f} GB are free: close other programs, "
        "or let another machine serve the model with `make run UPSTREAM_URL=http://HOST:8000`."
    )

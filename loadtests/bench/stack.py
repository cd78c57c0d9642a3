"""vLLM with the demonstration model on a free port, for a bench; `UPSTREAM_URL` names a server to use instead."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from scripts.common import LOGS, Failure
from scripts.model import ensure_model
from scripts.plan import available_gb, kv_cache_gib
from scripts.vllm_server import VllmServer

QUESTIONS = Path("../shared/data/kqa/questions.jsonl")


@contextmanager
def upstream() -> Iterator[str]:
    """Base URL without `/v1`. A server that is started here can be told to forget its prefix cache."""
    if url := os.environ.get("UPSTREAM_URL"):
        yield url.rstrip("/")
        return
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # gives /reset_prefix_cache
    cache = kv_cache_gib(available_gb())
    with VllmServer.demonstration(ensure_model(), log=LOGS / "bench-vllm.log", kv_cache_gib=cache) as server:
        server.wait()
        yield server.url


def questions(file: Path, most: int) -> list[str]:
    """`most` questions of 30 to 300 characters, evenly from the whole of a K-QA file, none twice."""
    if not file.is_file():
        raise Failure(f"{file} is missing: give a K-QA file with --questions.")
    rows = [json.loads(line)["Question"].strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    fit = list(dict.fromkeys(row for row in rows if 30 <= len(row) <= 300))
    step = max(1, len(fit) // most)
    return fit[::step][:most]


def forget(url: str) -> None:
    """Empties the prefix cache, so that one arm is not served what another has computed."""
    try:
        httpx.post(f"{url}/reset_prefix_cache", timeout=30).raise_for_status()
    except httpx.HTTPError as error:
        raise Failure("The server cannot forget its prefix cache: start vLLM with VLLM_SERVER_DEV_MODE=1.") from error

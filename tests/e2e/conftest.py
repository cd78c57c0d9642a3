"""A real vLLM with the demonstration model, and the gateway in front of it, once per session.

Nothing is skipped: what does not start is a failure, with the end of its log.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.build_index import ensure_index
from scripts.common import LOGS, Failure
from scripts.gateway import Gateway
from scripts.model import ensure_model
from scripts.plan import available_gb, kv_cache_gib
from scripts.vllm_server import VllmServer


def _ready(server: VllmServer | Gateway) -> None:
    try:
        server.wait()
    except Failure as error:
        pytest.fail(f"{error}\n{server.log}:\n{server.tail()}", pytrace=False)


@pytest.fixture(scope="session")
def vllm_url() -> Iterator[str]:
    """Base URL, without `/v1`, of vLLM serving the demonstration model."""
    cache = kv_cache_gib(available_gb())
    with VllmServer.demonstration(ensure_model(), log=LOGS / "e2e-vllm.log", kv_cache_gib=cache) as server:
        _ready(server)
        yield server.url


@pytest.fixture(scope="session")
def gateway_url(vllm_url: str) -> Iterator[str]:
    """Base URL, without `/v1`, of a gateway in front of `vllm_url`."""
    with Gateway(vllm_url, ensure_index(), log=LOGS / "e2e-gateway.log") as server:
        _ready(server)
        yield server.url

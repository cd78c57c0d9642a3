from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.child import LOOPBACK, free_port, port_is_free
from scripts.common import Failure
from scripts.plan import EXAMPLES, Plan, available_gb, kv_cache_gib


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_one_sentence_with_a_way_out(taken: int) -> None:
    assert not port_is_free(taken)
    with pytest.raises(Failure, match=f"Port {taken} is in use: .*`make run PORT={taken + 1}"):
        Plan.read({"PORT": str(taken)})
    with pytest.raises(Failure, match="leave VLLM_PORT out"):
        Plan.read({"PORT": str(free_port()), "VLLM_PORT": str(taken)})


def test_both_servers_cannot_share_a_port() -> None:
    port = str(free_port())
    with pytest.raises(Failure, match="for vLLM is in use"):
        Plan.read({"PORT": port, "VLLM_PORT": port})


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "8 0", "８０８０"])
def test_a_port_is_a_number(port: str) -> None:
    with pytest.raises(Failure, match="PORT must be a number from 1 to 65535"):
        Plan.read({"PORT": port})


def test_defaults_demonstrate() -> None:
    plan = Plan.read({"PORT": str(free_port()), "QUESTION": " ", "ONCE": "0"})
    assert plan.demonstration
    assert plan.questions == EXAMPLES
    assert not plan.once
    assert port_is_free(plan.vllm_port)


def test_everything_can_be_said() -> None:
    plan = Plan.read(
        {
            "PORT": str(free_port()),
            "MODEL": "org/model",
            "QUESTION": "Why?",
            "ONCE": "1",
            "VLLM_ARGS": "--tensor-parallel-size 2",
        }
    )
    assert (plan.model, plan.questions, plan.once) == ("org/model", ("Why?",), True)
    assert plan.vllm_args == ("--tensor-parallel-size", "2")
    assert not plan.demonstration


@pytest.mark.parametrize("url", ["http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/"])
def test_the_upstream_is_a_base_url(url: str) -> None:
    plan = Plan.read({"PORT": str(free_port()), "UPSTREAM_URL": url})
    assert plan.upstream_url == "http://h:8000"
    assert not plan.demonstration


@pytest.mark.parametrize("url", ["h:8000", "ftp://h", "http://"])
def test_a_wrong_upstream_is_one_sentence(url: str) -> None:
    with pytest.raises(Failure, match="UPSTREAM_URL must look like"):
        Plan.read({"PORT": str(free_port()), "UPSTREAM_URL": url})


def test_memory_is_the_lesser_of_machine_and_container(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:   8000000 kB\n")
    assert available_gb(meminfo, tmp_path) == pytest.approx(8.192)
    (tmp_path / "memory.max").write_text("max\n")
    assert available_gb(meminfo, tmp_path) == pytest.approx(8.192)
    (tmp_path / "memory.max").write_text("3000000000\n")
    (tmp_path / "memory.current").write_text("1000000000\n")
    assert available_gb(meminfo, tmp_path) == pytest.approx(2.0)
    assert available_gb(tmp_path / "none", tmp_path) is None


def test_the_cache_shrinks_before_memory_is_too_little() -> None:
    assert kv_cache_gib(None) == 2
    assert kv_cache_gib(6.0) == 2
    assert kv_cache_gib(5.0) == 1
    with pytest.raises(Failure, match=r"only 3\.0 GB are free"):
        kv_cache_gib(3.0)

"""`make run` from the plan to the page, in front of the session's vLLM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from scripts.child import free_port, port_is_free
from scripts.common import ROOT

RUN = [sys.executable, "-m", "scripts.run"]


def settings(vllm_url: str, **more: str) -> Mapping[str, str]:
    return {**os.environ, "UPSTREAM_URL": vllm_url, **more}


def test_once_shows_one_answer_with_its_evidence_and_stops(vllm_url: str) -> None:
    port = free_port()
    done = subprocess.run(
        RUN,
        cwd=ROOT,
        env=settings(vllm_url, PORT=str(port), ONCE="1"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for heading in ("Question", "Draft", "Principles", "Answer", "Outcome"):
        assert f"\n{heading}" in done.stdout
    assert "P(met)" in done.stdout
    assert "(not in the trace)" not in done.stdout
    assert "\033" not in done.stdout
    assert port_is_free(port)


def test_it_serves_until_it_is_told_to_stop(vllm_url: str) -> None:
    port = free_port()
    env = settings(vllm_url, PORT=str(port), QUESTION="How much water should I drink in a day?")
    with subprocess.Popen(RUN, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(line.startswith("Serving at") for line in lines)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "Stopped." in process.stdout.read()
    end = time.monotonic() + 5
    while not port_is_free(port) and time.monotonic() < end:
        time.sleep(0.1)
    assert port_is_free(port)


def test_an_upstream_that_is_not_there_is_one_sentence() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    env = settings(url, PORT=str(free_port()), ONCE="1")
    done = subprocess.run(RUN, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == f"No model server answers at {url}: start it, or check UPSTREAM_URL.\n"

"""Children that end, hang, or leave children of their own. Each test uses real, tiny processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.child import Child, answers, free_port
from scripts.common import Failure

SERVE = "import http.server,sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)"


def child(tmp_path: Path, code: str, *arguments: str) -> Child:
    return Child("The server", [sys.executable, "-c", code, *arguments], tmp_path / "logs" / "child.log")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: object, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    assert callable(condition)
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_it_is_ready_when_it_answers_and_gone_when_stopped(tmp_path: Path) -> None:
    port = free_port()
    with child(tmp_path, f"{SERVE}.serve_forever()", str(port)) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/", 20)
        pid = server.pid
    assert not alive(pid)
    assert not answers(f"http://127.0.0.1:{port}/", 0.5)
    server.stop()  # twice does no harm


def test_a_dead_child_is_reported_at_once_with_its_reason_and_log(tmp_path: Path) -> None:
    with child(tmp_path, "raise RuntimeError('no such model')") as server:
        with pytest.raises(
            Failure, match=r"The server ended with exit status 1: RuntimeError: no such model"
        ) as caught:
            server.wait_ready("http://127.0.0.1:9/", 30)
        assert str(server.log) in str(caught.value)
        assert "Traceback" in server.tail()


def test_a_killed_child_is_not_explained_by_its_log(tmp_path: Path) -> None:
    with child(tmp_path, "print('ValueError: an old one', flush=True); import os; os.kill(os.getpid(), 9)") as server:
        server.join(20)
        with pytest.raises(Failure, match="The server ended by SIGKILL, as happens when memory runs out"):
            server.check()


def test_the_reason_is_the_error_that_is_not_about_another(tmp_path: Path) -> None:
    server = child(tmp_path, "")
    server.log.parent.mkdir()
    server.log.write_text(
        "(Worker) ERROR 11-25 ValueError: port '' must be a number\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
        "WARNING OSError: not the reason\n"
    )
    assert server.last_error() == "ValueError: port '' must be a number"
    server.log.write_text("python: No module named x\n\n")
    assert server.last_error() == "python: No module named x"
    server.log.unlink()
    assert server.last_error() == "its log is empty"


def test_a_variable_can_be_taken_out_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_PORT", "8000")
    code = "import os; print(os.environ.get('VLLM_PORT'), os.environ['A'])"
    with Child("x", [sys.executable, "-c", code], tmp_path / "log", {"VLLM_PORT": None, "A": "1"}) as server:
        server.join(20)
    assert server.tail() == "None 1"


def test_a_child_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    with child(tmp_path, "import time; time.sleep(60)") as server:
        with pytest.raises(Failure, match="was not ready after 0 s"):
            server.wait_ready("http://127.0.0.1:9/", 0.3)
        pid = server.pid
    assert not alive(pid)


def test_one_that_ignores_the_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True); time.sleep(60)"
    )
    server = child(tmp_path, code).start()
    assert eventually(lambda: server.tail().strip())
    grandchild = int(server.tail())
    server.stop(grace_s=0.3)
    assert eventually(lambda: not alive(grandchild))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a parent's death")
def test_children_do_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from scripts.child import Child;"
        "c = Child('x', [sys.executable, '-c', 'import time; time.sleep(60)'], Path(sys.argv[1])).start();"
        "print(c.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert eventually(
            lambda: b"tether" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        )  # it has become the command
        parent.kill()
    assert eventually(lambda: not alive(pid))

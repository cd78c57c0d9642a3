"""A server as a child process: started in its own group, watched, and stopped for certain."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from scripts.common import ROOT, Failure, shown

POLL_S = 0.2
GRACE_S = 15.0
LOOPBACK = "127.0.0.1"

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

_ERROR = re.compile(r"\b[A-Z]\w*(?:Error|Exception|Invalid): .+")
_TETHER = Path(__file__).with_name("tether.py")


class Child:
    """One child process. As a context manager it is stopped at the end, whatever happened."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str | None] | None = None
    ) -> None:
        """A value of None takes the variable out of the child's environment."""
        self.name = name
        self.log = log
        self._command = [sys.executable, str(_TETHER), str(os.getpid()), *command]
        merged = {**os.environ, **(env or {}), "PYTHONUNBUFFERED": "1"}
        self._env = {name: value for name, value in merged.items() if value is not None}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            self._process = self._spawn(output)
        return self

    def _spawn(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        # A group of its own: Ctrl-C reaches us alone, and we stop the children in order.
        return subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def join(self, timeout_s: float) -> int:
        """Waits for the child's end. Raises subprocess.TimeoutExpired."""
        assert self._process is not None, "not started"
        return self._process.wait(timeout_s)

    def finish(self, tick: Callable[[], None] = lambda: None) -> None:
        """Waits until it has done its work. Raises Failure when it fails."""
        while self.exit_status is None:
            tick()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.join(POLL_S)
        if self.exit_status != 0:
            raise Failure(f"{self.name} failed: {self.last_error()} (see {shown(self.log)}).")

    def check(self) -> None:
        """Raises Failure when the child has ended by itself."""
        status = self.exit_status
        if status is not None:
            raise Failure(f"{self.name} ended {self._why(status)} (see {shown(self.log)}).")

    def wait_ready(
        self,
        url: str,
        timeout_s: float,
        tick: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Returns when the URL answers 200. Raises Failure when the child ends first or takes too long."""
        end = clock() + timeout_s
        while not answers(url):
            self.check()
            if clock() > end:
                raise Failure(f"{self.name} was not ready after {timeout_s:.0f} s (see {shown(self.log)}).")
            tick()
            time.sleep(POLL_S)
        self.check()  # another process may have answered on that port

    def stop(self, grace_s: float = GRACE_S) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _signal(process, signal.SIGTERM)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _signal_group(process.pid, signal.SIGKILL)  # workers that outlived their leader
            process.wait()

    def tail(self, lines: int = 30) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _why(self, status: int) -> str:
        if status >= 0:
            return f"with exit status {status}: {self.last_error()}"
        if status == -signal.SIGKILL:
            return "by SIGKILL, as happens when memory runs out"
        return f"by signal {-status}"  # its log tells nothing of that

    def last_error(self) -> str:
        """What the log most likely gives as the reason: the last error that is not about another, or else its last line."""
        text = "\n".join(line for line in self.tail(400).splitlines() if "WARNING" not in line)
        named = [found for found in _ERROR.findall(text) if "root cause" not in found]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        best = str((named or lines or ["its log is empty"])[-1]).rstrip(".")
        return best if len(best) <= 200 else best[:199] + "…"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def answers(url: str, timeout_s: float = 2.0) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port left in TIME_WAIT is free for a server
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True

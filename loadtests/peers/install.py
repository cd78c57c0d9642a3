"""Makes the environments of the peers: one each, of the Python that runs this, from pinned PyPI releases."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.common import CACHE, LOGS, Failure, shown
from scripts.pip_errors import explain
from scripts.progress import Step
from scripts.setup import one_at_a_time

PEERS = ("litellm", "optillm", "nemo")
FOLDER = CACHE / "peers"
REQUIREMENTS = Path(__file__).parent / "requirements"
STAMP = "clinalign-peer.json"


def python_of(name: str, folder: Path = FOLDER) -> Path:
    return folder / name / "bin" / "python"


def version_of(name: str) -> str:
    """The peer's own release: the first requirement in its list."""
    first = next(line for line in _list(name).read_text().splitlines() if line and not line.startswith("#"))
    return first.partition("==")[2]


def is_installed(name: str, folder: Path = FOLDER) -> bool:
    """Whether the environment is whole and made from today's list by this Python."""
    try:
        stamp = json.loads((folder / name / STAMP).read_text())
    except (OSError, ValueError):
        return False
    return python_of(name, folder).exists() and stamp == _recipe(name)


def install(name: str, folder: Path = FOLDER) -> Path:
    """The environment's folder, made anew unless it is what it should be. Raises Failure."""
    environment = folder / name
    with one_at_a_time():
        if not is_installed(name, folder):
            with Step(f"Installing {name} {version_of(name)} into {shown(environment)}"):
                _make(name, environment)
    return environment


def require(name: str, folder: Path = FOLDER) -> Path:
    """The Python of an installed peer. Raises Failure."""
    if not is_installed(name, folder):
        raise Failure(f"{name} {version_of(name)} is not installed: run `python -m loadtests.peers install {name}`.")
    return python_of(name, folder)


def _list(name: str) -> Path:
    return REQUIREMENTS / f"{name}.txt"


def _recipe(name: str) -> dict[str, str]:
    return {"requirements": hashlib.sha256(_list(name).read_bytes()).hexdigest(), "python": sys.version}


def _make(name: str, environment: Path) -> None:
    """The stamp is written last, so that half an environment has none."""
    log = LOGS / f"peer-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    shutil.rmtree(environment, ignore_errors=True)
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)], name, log)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--no-input"]
    _run([*pip, "--disable-pip-version-check", "--no-deps", "-r", str(_list(name))], name, log)
    (environment / STAMP).write_text(json.dumps(_recipe(name)))


def _run(command: Sequence[str], name: str, log: Path) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n{done.stdout}")
    if done.returncode:
        raise Failure(explain(done.stdout.splitlines(), name, shown(log)).sentence)

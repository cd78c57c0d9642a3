"""Checks a run of verl without a GPU: `python -m scripts.verl_check CONFIG --data DIR --out DIR [...]`.

The check is `training.cluster.launch --check`, which needs verl and Ray. They live in `.cache/verl-env`, made once from
requirements/verl-check.txt: verl's own code runs there, on the PyTorch and transformers of .venv, which is enough where
nothing is trained.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from scripts.common import CACHE, ROOT, Failure, fail, shown
from scripts.pip_errors import explain
from scripts.progress import Step
from scripts.setup import one_at_a_time

REQUIREMENTS = ROOT / "requirements" / "verl-check.txt"
ENV = CACHE / "verl-env"
LOG = CACHE / "verl-env.log"
STAMP = "clinalign-verl.json"


def ensure_env(folder: Path = ENV) -> Path:
    """The environment's Python, made when requirements, Python or .venv's place changed. Raises Failure."""
    python = folder / "bin" / "python"
    wanted = _recipe()
    with one_at_a_time():
        if not (python.is_file() and _stamped(folder) == wanted):
            _make(folder, python)
            (folder / STAMP).write_text(json.dumps(wanted))
    return python


def _recipe() -> dict[str, str]:
    return {
        "requirements": hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest(),
        "python": sys.version,
        "packages": sysconfig.get_paths()["purelib"],
    }


def _stamped(folder: Path) -> dict[str, str]:
    """What the environment was made from; the stamp is written last, so half an environment has none."""
    try:
        stamp: dict[str, str] = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp


def _make(folder: Path, python: Path) -> None:
    with Step(f"Making {shown(folder)}"):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        # verl says that it wants Python below 3.13; it is its GPU packages that do.
        install = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-deps"]
        _run([*install, "--ignore-requires-python", "-r", str(REQUIREMENTS)])
        own = Path(subprocess.check_output([str(python), "-c", _PURELIB], text=True).strip())
        # After its own packages, so that those win.
        (own / "clinalign-venv.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")


_PURELIB = "import sysconfig; print(sysconfig.get_paths()['purelib'])"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}")
    if done.returncode:
        raise Failure(explain(done.stdout.splitlines(), "verl for the check", shown(LOG)).sentence)


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> int:
    try:
        python = ensure_env()
    except Failure as error:
        return fail(error)
    command = [str(python), "-W", "ignore", "-m", "training.cluster.launch", *arguments, "--check"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

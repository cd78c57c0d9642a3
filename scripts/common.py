"""Paths and the one way a script fails. Imported by scripts/setup.py, so: standard library only, Python 3.6 syntax."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
LOGS = CACHE / "logs"
VENV = ROOT / ".venv"


class Failure(Exception):
    """Ends a script. The message is one sentence that says what happened and what to do."""


def fail(error: Failure) -> int:
    """Prints the sentence and gives the exit status."""
    red, plain = ("\033[31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    sys.stdout.flush()
    print("{}{}{}".format(red, error, plain), file=sys.stderr)
    return 1


def shown(path: Path) -> str:
    """The path as a person at the repository's root would write it."""
    try:
        return str(path.relative_to(ROOT))
    except ValueError:
        return str(path)


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def has_nvidia_gpu() -> bool:
    if not shutil.which("nvidia-smi"):
        return False
    try:
        listed = subprocess.check_output(["nvidia-smi", "-L"], stderr=subprocess.DEVNULL, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return False
    return b"GPU" in listed

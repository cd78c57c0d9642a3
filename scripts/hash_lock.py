"""Locks with hashes, for the container images: what uv's resolver chooses, with the pins of another lock kept.

uv is used, and not pip, because it lists the SHA-256 of every file of a version (pip only of the one that fits the machine
it runs on), and resolves for other machines: these locks install on Linux with glibc, x86-64 and ARM alike.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from scripts.common import Failure
from scripts.setup import MODELS

UV = "uv==0.13.9"
PYTHONS = ("3.11", "3.12", "3.13")
GLIBC = "manylinux_2_36"  # Debian bookworm's, which the base image has
MACHINES = ("x86_64", "aarch64")
_ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+?)(?: \\)?\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)*", re.M
)
_ENCODER = next(model for model in MODELS if "minilm" in model)


class Image(NamedTuple):
    """What a hashed lock is made from."""

    title: str
    follows: str
    """The lock whose versions are kept."""
    project: bool = True
    """Whether it holds what pyproject.toml asks for; `extras` go with it."""
    extras: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    """Packages that are neither taken nor looked into, whoever asks for them."""
    free: tuple[str, ...] = ()
    """Packages whose version may differ from the lock that it follows."""
    pythons: tuple[str, ...] = PYTHONS


IMAGES = {
    "image": Image(
        "what the gateway's image holds",
        "gateway",
        extras=("traces",),
        # The first runs other encoders than ours, with torch; tokenizers asks for the second, to download from a hub.
        without=("sentence-transformers", "huggingface-hub"),
    ),
    "image-build": Image(
        "what the stages that build the images use, PyTorch apart",
        "gateway",
        project=False,
        also=(
            *("hatchling>=1.27", "cyclonedx-bom>=7.2"),
            *("onnx>=1.19", "onnxscript>=0.5", "transformers>=5", _ENCODER),
            *("filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec", "setuptools"),  # PyTorch's own
        ),
        without=("sentence-transformers",),
    ),
    "trainer": Image(
        "what the trainer's image holds, with CUDA",
        "gpu",
        extras=("gpu", "train"),
        free=("setuptools",),  # from Python 3.12 on, vLLM wants an older one than gpu.lock has for 3.11
        pythons=("3.12",),
    ),
}


def hashed(wanted: Sequence[str], constraints: str, image: Image) -> dict[str, str]:
    """Name to its lines in the lock file, sorted. Raises Failure where nothing fits, or where machines need other pins."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        uv = install_uv(Path(folder))
        constrained = Path(folder) / "constraints.txt"
        constrained.write_text(constraints)
        overrides = Path(folder) / "overrides.txt"
        overrides.write_text("".join(f"{name}; python_version < '3'\n" for name in image.without))
        command = [str(uv), "pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", "--generate-hashes"]
        command += ["--no-config", "--only-binary", ":all:", *index()]
        command += ["--constraints", str(constrained), "--overrides", str(overrides)]

        def compiled(python: str, machine: str) -> dict[str, str]:
            platform = ["--python-version", python, "--python-platform", f"{machine}-{GLIBC}"]
            return entries(_run([*command, *platform], wanted))

        machines = [(python, machine) for python in image.pythons for machine in MACHINES]
        with ThreadPoolExecutor(len(machines)) as pool:  # uv waits for the index most of the time
            for (python, machine), pins in zip(machines, pool.map(compiled, *zip(*machines, strict=True)), strict=True):
                merge(found, pins, f"Python {python} on {machine}")
    return dict(sorted(found.items()))


def install_uv(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder / "uv"), UV]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{UV} could not be installed: {last_line(done.stderr)}")
    return folder / "uv" / "bin" / "uv"


def _run(command: Sequence[str], wanted: Iterable[str]) -> str:
    done = subprocess.run(command, input="\n".join(wanted), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"uv found no set of packages: {' '.join(done.stderr.split())[:600]}")
    return done.stdout


def kept(lock: str, free: Sequence[str]) -> str:
    """The lock's pins as constraints, without those that may change."""
    pins = (line.split(" ", 1)[0] for line in lock.splitlines() if "==" in line and not line.startswith("#"))
    return "".join(f"{pin}\n" for pin in pins if pin.split("==")[0] not in free)


def index() -> list[str]:
    """The index that pip is set up with, where it is not the usual one. uv does not read pip's configuration."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    url = os.environ.get("PIP_INDEX_URL") or found
    return ["--default-index", url] if url else []


def entries(text: str) -> dict[str, str]:
    """Name to `name==version` with its hashes, as they stand in a lock. Raises Failure for a pin without a hash."""
    found = {match["name"]: match[0] for match in _ENTRY.finditer(text if text.endswith("\n") else text + "\n")}
    for name, entry in found.items():
        if "--hash=sha256:" not in entry:
            raise Failure(f"The index tells no hash of {name}.")
    return found


def pin(entry: str) -> str:
    """`name==version` of an entry."""
    return entry.split("\n", 1)[0].removesuffix(" \\")


def merge(found: dict[str, str], more: dict[str, str], where: str) -> None:
    """What some machine or Python needs besides is in the lock of all. Raises Failure where they need two versions."""
    for name, entry in more.items():
        if found.setdefault(name, entry) != entry:
            raise Failure(f"{name} would need another version for {where}: pin one that all take.")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]

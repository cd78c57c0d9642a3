"""Makes requirements/*.lock: `make lock`, or `python -m scripts.lock [cpu|gateway|gpu|image|image-build|trainer ...]`.

Each is what pip's resolver chooses today for pyproject.toml's extras, pinned exactly and complete, so that it installs
with `--no-deps`. Made with the oldest Python that we support; what newer ones need besides is named below.

Those of the container images keep the pins of the lock that they follow, and have the SHA-256 of every file of every
version, so that they install with `--require-hashes` on any machine: scripts/hash_lock.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

from scripts.common import ROOT, Failure, fail, shown
from scripts.hash_lock import IMAGES, hashed, kept
from scripts.setup import MODELS, TORCH, TORCH_INDEX, lock_file

OUTSIDE = {
    # installed first, from PyTorch's own index where need be
    "torch",
    # vLLM asks for these three, but their builds do not fit the CPU build of PyTorch, and importing vLLM then fails
    "torchvision",
    "torchaudio",
    "torchcodec",
    # a gigabyte that a CPU never uses
    "triton",
}
BUILD = ("hatchling>=1.27", "editables>=0.5")
NEWER_PYTHONS = ("six==1.17.0",)  # vLLM wants it from Python 3.12 on


class Recipe(NamedTuple):
    extras: tuple[str, ...]
    title: str
    torch: str | None = f"torch=={TORCH}+cpu"
    outside: frozenset[str] = frozenset(OUTSIDE)
    also: tuple[str, ...] = ()


RECIPES = {
    "cpu": Recipe(
        ("cpu", "export", "traces", "train", "dev"),
        "gateway, training, vLLM's CPU build and all that the tests need",
        also=NEWER_PYTHONS,
    ),
    "gateway": Recipe(("export", "traces"), "the gateway alone; the model is served elsewhere, or by another image"),
    "gpu": Recipe(
        ("gpu", "export", "traces", "train", "dev"),
        "gateway, training, vLLM for NVIDIA GPUs and all that the tests need",
        torch=None,
        outside=frozenset(),
    ),
}


def requirements(extras: tuple[str, ...]) -> list[str]:
    """What pyproject.toml asks for: its dependencies, and those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return wanted


def example() -> list[str]:
    """The example question is asked with OpenAI's own client, whatever serves the model."""
    return [wanted for wanted in requirements(("dev",)) if wanted.startswith("openai")]


def resolve(recipe: Recipe) -> list[str]:
    wanted = [*requirements(recipe.extras), *example(), *BUILD, *([recipe.torch] if recipe.torch else [])]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--only-binary=:all:", "--report", str(report), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-1:]
            raise Failure(f"pip found no set of packages: {' '.join(reason) or done.stderr[-300:]}")
        chosen = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = {canonical(item["name"]): item["version"] for item in chosen}
    lines = [f"{name}=={version}" for name, version in pins.items() if name not in recipe.outside]
    return sorted({*lines, *recipe.also})


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def header(mode: str, recipe: Recipe) -> str:
    torch = f"#   pip install --no-deps --index-url {TORCH_INDEX} {recipe.torch}\n" if recipe.torch else ""
    return (
        f"# {mode}.lock: {recipe.title}. Made by `make lock`; do not edit.\n"
        f"# `make setup` installs it. By hand:\n"
        f"{torch}#   pip install --no-deps -r requirements/{mode}.lock\n"
        f"#   pip install --no-deps {' '.join(MODELS)}\n"
    )


def image_lock(mode: str) -> tuple[str, int]:
    """The text of an image's lock file, and how many packages it pins. It keeps the pins of the lock that it follows."""
    pins = image_pins(mode)
    title = (
        f"# {mode}.lock: {IMAGES[mode].title}, with the SHA-256 of every file of each version. Made by `make lock`; do not edit.\n"
        f"#   pip install --require-hashes --no-deps --only-binary=:all: -r requirements/{mode}.lock\n"
    )
    return title + "".join(pins.values()), len(pins)


def image_pins(mode: str, *, keep_own: bool = False) -> dict[str, str]:
    """Name to its lines in the lock. With `keep_own` packages of the lock as it stands keep their versions too."""
    image = IMAGES[mode]
    wanted = [*(requirements(image.extras) if image.project else ()), *image.also]
    wanted = [one for one in wanted if not one.startswith(image.without or "\0")]
    constraints = kept(lock_file(image.follows).read_text(), image.free)
    return hashed(wanted, constraints + (kept(lock_file(mode).read_text(), ()) if keep_own else ""), image)


def plain_lock(mode: str, recipe: Recipe) -> tuple[str, int]:
    pins = resolve(recipe)
    return header(mode, recipe) + "\n".join(pins) + "\n", len(pins)


def main(arguments: tuple[str, ...] = tuple(sys.argv[1:])) -> int:
    try:
        for mode in arguments or (*RECIPES, *IMAGES):  # the images' follow the others
            if mode not in RECIPES and mode not in IMAGES:
                raise Failure(f"Unknown lock {mode!r}: say {', '.join((*RECIPES, *IMAGES))}.")
            text, pins = plain_lock(mode, RECIPES[mode]) if mode in RECIPES else image_lock(mode)
            file = lock_file(mode)
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            print(f"{shown(file)}: {pins} packages")
    except Failure as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())

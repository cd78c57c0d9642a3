"""Builds `.cache/index` when it is missing, damaged, or made from other principles, code or encoder."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.child import OFFLINE, Child
from scripts.common import CACHE, LOGS, ROOT, Failure, fail, sha256_of, shown
from scripts.model import ENCODER_SHA256, encoder_folder
from scripts.progress import Step

INDEX = CACHE / "index"
SOURCES = ("principles_index/**/*.py", "principles_index/**/*.yaml", "service/domain.py")


def recipe(root: Path = ROOT) -> str:
    """A hash of everything that the index is made from."""
    digest = hashlib.sha256(ENCODER_SHA256.encode())
    for file in sorted({f for pattern in SOURCES for f in root.glob(pattern)}):
        digest.update(f"{file.relative_to(root)}\0{sha256_of(file)}\0".encode())
    return digest.hexdigest()


def stamp_of(folder: Path, made_from: str) -> dict[str, Any]:
    files = {f.name: sha256_of(f) for f in sorted(folder.iterdir()) if f.is_file()} if folder.is_dir() else {}
    return {"recipe": made_from, "files": files}


def is_current(folder: Path, stamp_file: Path, made_from: str) -> bool:
    try:
        stamp = json.loads(stamp_file.read_text())
    except (OSError, ValueError):
        return False
    return bool(stamp_of(folder, made_from)["files"]) and stamp == stamp_of(folder, made_from)


def ensure_index(tick: Callable[[], None] = lambda: None, folder: Path = INDEX) -> Path:
    made_from = recipe()
    stamp_file = folder.with_name(folder.name + ".stamp.json")
    if is_current(folder, stamp_file, made_from):
        return folder
    command = [sys.executable, "-m", "principles_index", "build"]
    command += ["--out", str(folder), "--encoder", str(encoder_folder(tick=tick))]
    with Child("Building the index", command, LOGS / "index.log", OFFLINE) as builder:
        builder.finish(tick)
    stamp_file.write_text(json.dumps(stamp_of(folder, made_from)))
    return folder


def main() -> int:
    try:
        with Step("Building the index of principles") as step:
            folder = ensure_index(step.tick)
        print(f"The index is in {shown(folder)}.")
    except Failure as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())

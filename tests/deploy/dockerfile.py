"""The Dockerfile as instructions in stages, and what .dockerignore lets through: enough of either for ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath


@dataclass
class Stage:
    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, keyword: str) -> list[str]:
        return [rest for word, rest in self.instructions if word == keyword]


def stages(text: str) -> list[Stage]:
    found: list[Stage] = []
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for instruction in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not instruction.strip():
            continue
        word, _, rest = instruction.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(name, base))
        elif found:
            found[-1].instructions.append((word, rest.strip()))
    return found


def lets_through(path: str, patterns: Sequence[str]) -> bool:
    """Whether the file is in the build's context: the last pattern that fits it or a folder above it decides."""
    ignored = False
    for pattern in patterns:
        if _fits(PurePosixPath(path), pattern.removeprefix("!")):
            ignored = not pattern.startswith("!")
    return not ignored


def _fits(path: PurePosixPath, pattern: str) -> bool:
    wanted = PurePosixPath(pattern).parts
    for place in (path, *path.parents):
        parts = place.parts
        if wanted[0] == "**":
            parts = parts[-len(wanted) + 1 :]
        here = wanted[1:] if wanted[0] == "**" else wanted
        if len(parts) == len(here) and all(map(fnmatchcase, parts, here)):
            return True
    return False

"""`python only_locked.py LOCK MODULE`: runs the module with no more packages than the lock file has, as the image would."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class OnlyLocked(MetaPathFinder):
    """Refuses the modules that only packages outside the lock have, as if they were not installed."""

    def __init__(self, pins: frozenset[str]) -> None:
        owners = packages_distributions()
        self._refused = {name for name, of in owners.items() if not pins & {plain(one) for one in of}}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and fullname in self._refused:
            raise ModuleNotFoundError(f"No module named {fullname!r} (it is not in the lock)", name=fullname)
        return None


if __name__ == "__main__":
    lock, module = sys.argv[1:3]
    pins = frozenset(plain(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", Path(lock).read_text(), re.M))
    sys.meta_path.insert(0, OnlyLocked(pins))
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)

"""Each test carries the marker of its folder: unit, contract, deploy or e2e."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")
KINDS = ("unit", "contract", "deploy", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents:
            continue
        kind = item.path.relative_to(HERE).parts[0]
        if kind in KINDS:
            item.add_marker(kind)

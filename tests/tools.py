"""Tools that tests run, fetched on first use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.common import Failure
from scripts.tools import tool


def need(name: str) -> Path:
    """The tool. Without it a person's run skips the test and says why; where CI is set, that is a failure."""
    try:
        return tool(name)
    except Failure as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))

"""How a bench gives its report, and reads which of its rows are wanted."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any


def give(report: dict[str, Any], table: str, out: Path | None) -> None:
    """Prints the table, and writes the report as JSON where a file was named."""
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table)


def chosen(listed: str, names: Collection[str], parser: argparse.ArgumentParser, what: str) -> list[str]:
    """The names of a comma-separated list; ends the program where one is not among `names`."""
    only = [name.strip() for name in listed.split(",") if name.strip()]
    if unknown := [name for name in only if name not in names]:
        parser.error(f"there is no {what} {unknown[0]!r}: say {', '.join(names)}")
    return only

"""A plain-text table."""

from __future__ import annotations

from collections.abc import Sequence


def columns(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells in columns, the first flush left, the others flush right. All rows must be equally long."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in cells
    ]

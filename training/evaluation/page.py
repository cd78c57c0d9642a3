"""A report for people: Markdown with its plots beside it, and HTML that stands alone, from the same content."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from training.data import write_atomically

TEMPLATES = Path(__file__).parent / "templates"

_MARKDOWN = str.maketrans({"|": r"\|", "[": r"\[", "]": r"\]", "<": "&lt;", "\n": " "})


@dataclass(frozen=True, slots=True)
class Plot:
    """PNG bytes, with the sentence that says what they show to who cannot see them."""

    name: str
    title: str
    alt: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` have as many cells as `head`; the first names the row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """What may be believed, as `cautions`, comes before any number."""

    title: str
    cautions: Sequence[str]
    sections: Sequence[Section]


def render(page: Page, folder: Path, stem: str) -> tuple[Path, Path]:
    """Writes `STEM.md`, `plots/*.png` and `STEM.html` into `folder`; returns the two pages."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(("html.j2",)), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["base64"] = lambda raw: base64.b64encode(raw).decode()
    environment.filters["cell"] = lambda text: text.translate(_MARKDOWN)  # opens no cell, link or tag
    environment.filters["prose"] = lambda text: text.replace("<", "&lt;").replace("](", r"]\(")
    for plot in (plot for section in page.sections for plot in section.plots):
        write_atomically(folder / "plots" / f"{plot.name}.png", plot.png)
    written = folder / f"{stem}.md", folder / f"{stem}.html"
    for file in written:
        text = environment.get_template(f"report{file.suffix}.j2").render(report=page)
        write_atomically(file, text.encode())
    return written


def model_name(name: str) -> str:
    """A model's name; of one that was served from a folder, the folder's own, for where it lies is nobody's business."""
    return Path(name).name if name.startswith("/") else name

"""The prompts, one Markdown file each, rendered strictly. Their hash is the prompt version."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

_SLOT = re.compile(r"\{\{(\w+)\}\}")


class Prompts:
    def __init__(self, templates: Mapping[str, str]) -> None:
        self._templates = dict(templates)
        canonical = "\0".join(f"{name}\0{text}" for name, text in sorted(self._templates.items()))
        self.version = hashlib.sha256(canonical.encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path = Path(__file__).parent) -> Prompts:
        return cls({file.stem: file.read_text(encoding="utf-8").strip() for file in sorted(folder.glob("*.md"))})

    def own_words(self, name: str) -> list[str]:
        """The template's text between its slots."""
        return _SLOT.split(self._templates[name])[::2]

    def render(self, name: str, **values: str) -> str:
        """Fills each `{{slot}}` once. A slot without a value or a value without a slot is a KeyError.

        Values are never scanned for slots, so text from a conversation cannot reach into the template.
        """
        template = self._templates[name]
        slots = set(_SLOT.findall(template))
        if slots != set(values):
            raise KeyError(f"prompt {name!r} has slots {sorted(slots)}, given {sorted(values)}")
        return _SLOT.sub(lambda match: values[match.group(1)], template)

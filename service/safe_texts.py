"""Fixed texts that stand in for an answer that failed a blocking principle. Pending clinical review."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml


class SafeTexts:
    """Principle id → language → text. A principle without a text, or without one in a language known, has none."""

    def __init__(self, texts: Mapping[str, Mapping[str, str]]) -> None:
        self._texts = texts

    @classmethod
    def load(cls, file: Path = Path(__file__).parent / "safe_texts.yaml") -> SafeTexts:
        return cls(yaml.safe_load(file.read_text(encoding="utf-8")))

    def text(self, principle_id: str, locale: str) -> str | None:
        """The text in the locale's language, else in English; None where the principle has none."""
        texts = self._texts.get(principle_id)
        if texts is None:
            return None
        return texts.get(locale.replace("_", "-").partition("-")[0].lower()) or texts.get("en")

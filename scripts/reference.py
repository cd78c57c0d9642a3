"""`python -m scripts.reference`: writes docs/reference/settings.md from the settings' own descriptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from scripts.common import ROOT
from service.settings import ApiKey, Settings, groups

FILE = ROOT / "docs/reference/settings.md"
_HEAD = """# Settings
Made by `make reference` from `service/settings.py`. Every setting is an environment variable; values of lists and objects are JSON.
"""


def settings_page() -> str:
    alone = [_row(name, field) for name, field in Settings.model_fields.items() if name not in groups()]
    parts = [_HEAD, *_table(alone)]
    for name, group in groups().items():
        parts += [f"\n## {name}", *_table(_row(f"{name}_{n}", f) for n, f in group.model_fields.items())]
    parts += ["\n## An entry of `CLINALIGN_KEYS`", "| field | meaning |", "|---|---|"]
    parts += [f"| `{name}` | {field.description} |" for name, field in ApiKey.model_fields.items()]
    return "\n".join(parts) + "\n"


def _table(rows: Any) -> Iterator[str]:
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    yield from rows


def _row(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    assert default is not PydanticUndefined
    shown = "none" if default is None else f"`{default if isinstance(default, str | Path) else _json(default)}`"
    return f"| `CLINALIGN_{name.upper()}` | {shown} | {field.description} |"


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(settings_page(), encoding="utf-8")

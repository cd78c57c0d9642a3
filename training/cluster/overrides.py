"""A run's configuration for verl: grpo.yaml and the model's file, as Hydra overrides of verl's own defaults.

Overrides rather than a YAML file on top: Hydra takes any new key from a file, and refuses one it does not know here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from training.errors import ProfileError

HERE = Path(__file__).parent
SHARED = HERE / "grpo.yaml"


def read(file: Path) -> dict[str, Any]:
    """The flat mapping of a file. Raises ProfileError for anything else, and for a key that is there twice."""
    try:
        text = file.read_text(encoding="utf-8")
        tree, values = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{file} cannot be read: {error}") from None
    if not isinstance(tree, yaml.MappingNode) or not isinstance(values, dict):
        raise ProfileError(f"{file} must hold a mapping")
    if twice := [key for key, count in Counter(key.value for key, _ in tree.value).items() if count > 1]:
        raise ProfileError(f"{file}: {twice[0]} is there twice")
    if nested := [key for key, value in values.items() if isinstance(value, dict)]:
        raise ProfileError(f"{file}: {nested[0]} must hold a value; write verl's name in full, with dots")
    return values


def config(name: str) -> dict[str, Any]:
    """What verl is to be given for `name`: a file beside this one, or the path of another. It wins over grpo.yaml."""
    known = sorted(file.stem for file in HERE.glob("*.yaml") if file != SHARED)
    file = Path(name) if name.endswith((".yaml", ".yml")) else HERE / f"{name}.yaml"
    if not file.is_file():
        raise ProfileError(f"there is no configuration {name!r}: say {', '.join(known)}, or the path of a YAML file")
    return {**read(SHARED), **read(file)}


def overrides(values: Mapping[str, Any]) -> list[str]:
    """Hydra's `key=value`, one each."""
    return [f"{key}={_value(value)}" for key, value in values.items()]


def _value(value: Any) -> str:
    """In Hydra's grammar (its documentation: Basic Override syntax, quoted values)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Iterable):
        return f"[{','.join(_value(each) for each in value)}]"
    raise ProfileError(f"{type(value).__name__} has no place in an override")


def _quoted(text: str) -> str:
    """In quotes, where all but these three stands for itself."""
    if "'" in text or "\\" in text or "${" in text:
        raise ProfileError(f"{text!r}: no quote, backslash or ${{ may be in a value for verl")
    return f"'{text}'"

"""Loads and validates a library of principles: a folder of YAML lists, one file a theme (docs/writing-principles.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from pydantic import ValidationError

from service.domain import Principle
from service.errors import LibraryInvalid

BUILT_IN = Path(__file__).parent / "principles"


@dataclass(frozen=True)
class Library:
    """Principles in a fixed order: by file name, then as written."""

    principles: tuple[Principle, ...]

    @cached_property
    def by_id(self) -> Mapping[str, Principle]:
        return {p.id: p for p in self.principles}

    @cached_property
    def always(self) -> tuple[Principle, ...]:
        return tuple(p for p in self.principles if p.always)

    @cached_property
    def version(self) -> str:
        """SHA-256 of the canonical content, in hex."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        rows = [p.model_dump(mode="json", exclude_defaults=False) for p in self.principles]
        return json.dumps(rows, ensure_ascii=False, sort_keys=True, indent=1).encode()

    @classmethod
    def of(cls, principles: Iterable[Principle]) -> Library:
        """Raises LibraryInvalid when two principles share an id or there are none."""
        library = cls(tuple(principles))
        if not library.principles:
            raise LibraryInvalid("the library holds no principles")
        seen: set[str] = set()
        for principle in library.principles:
            if principle.id in seen:
                raise LibraryInvalid(f"two principles share the id {principle.id!r}")
            seen.add(principle.id)
        return library

    @classmethod
    def from_json(cls, raw: bytes) -> Library:
        return cls.of(Principle.model_validate(row) for row in json.loads(raw))


def load_library(folder: Path = BUILT_IN) -> Library:
    """Reads every `*.yaml` of the folder. Raises LibraryInvalid with the file, the principle and the field at fault."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise LibraryInvalid(f"no *.yaml files in {folder}")
    return Library.of(principle for file in files for principle in _read(file))


def _read(file: Path) -> list[Principle]:
    try:
        rows = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LibraryInvalid(f"{file.name} is not valid YAML: {error}") from None
    if not isinstance(rows, list):
        raise LibraryInvalid(f"{file.name} must hold a list of principles")
    principles = []
    for number, row in enumerate(rows):
        name = row.get("id", f"number {number + 1}") if isinstance(row, dict) else f"number {number + 1}"
        try:
            principles.append(Principle.model_validate({"theme": file.stem, **row}))
        except (ValidationError, TypeError) as error:
            raise LibraryInvalid(f"{file.name}, principle {name}: {_explain(error)}") from None
    return principles


def _explain(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "must be a mapping"
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False, include_url=False)
    )

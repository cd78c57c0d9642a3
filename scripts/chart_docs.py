"""`python -m scripts.chart_docs`: writes the chart's values.schema.json and VALUES.md from the comments of values.yaml.

A comment that begins with `# --` says what the value below it is for, a line `# @schema {...}` adds to the schema that
its default implies. A plain comment above a mapping introduces it. A value without either ends in a Failure.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from scripts.common import ROOT, Failure, fail, shown
from service.settings import Settings, groups

CHART = ROOT / "helm/clinalign"
VALUES = CHART / "values.yaml"

_KEY = re.compile(r"^( *)([A-Za-z0-9_]+):")
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
_HEAD = """# Values
Made by `python -m scripts.chart_docs` from `values.yaml`, as is `values.schema.json`, by which Helm refuses a misspelt value. [examples/](examples) has files to start from.
"""
_TABLE = ("| value | default | meaning |", "|---|---|---|")

Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comment:
    """What stands above a key: its text, whether it began with `# --`, and the schema it adds."""

    text: str = ""
    documents: bool = False
    schema: dict[str, Any] = field(default_factory=dict)


def comments(text: str) -> dict[Keys, Comment]:
    """The comment of every key that has one, by the key's path."""
    found: dict[Keys, Comment] = {}
    path: list[str] = []
    block: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            block.append(line.strip())
            continue
        if key := _KEY.match(line):
            depth = len(key[1]) // 2
            path = [*path[:depth], key[2]]
            if block:
                found[tuple(path)] = _comment(block)
        block = []
    return found


def _comment(block: list[str]) -> Comment:
    schemas = [line.removeprefix("# @schema ") for line in block if line.startswith("# @schema ")]
    words = [line.removeprefix("#").strip() for line in block if not line.startswith("# @schema ")]
    text = " ".join(words)
    merged = {key: value for schema in schemas for key, value in yaml.safe_load(schema).items()}
    return Comment(text.removeprefix("-- "), text.startswith("-- "), merged)


def leaves(values: dict[str, Any], known: dict[Keys, Comment], path: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """The documented values with their defaults, in order. Raises Failure for one without a `# --` comment."""
    for key, value in values.items():
        here = (*path, key)
        comment = known.get(here, Comment())
        if comment.documents:
            yield here, value
        elif isinstance(value, dict) and value:
            yield from leaves(value, known, here)
        else:
            raise Failure(f"{shown(VALUES)}: {'.'.join(here)} needs a comment that begins with `# --`.")


def schema(text: str) -> dict[str, Any]:
    """JSON schema (draft 7, which every Helm 3 and 4 knows) of the values."""
    known = comments(text)
    root = _mapping()
    root["$schema"] = "http://json-schema.org/draft-07/schema#"
    for path, default in leaves(yaml.safe_load(text), known):
        parent = root
        for key in path[:-1]:
            parent = parent["properties"].setdefault(key, _mapping())
        parent["properties"][path[-1]] = _leaf(path, default, known[path])
    root["properties"]["global"] = {"type": "object", "description": "Helm gives it to every subchart; not used."}
    root["definitions"] = _definitions()
    return root


def _mapping() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _leaf(path: Keys, default: Any, comment: Comment) -> dict[str, Any]:
    added = comment.schema
    if "$ref" in added:
        return {**added, "description": comment.text}
    kind = "object" if isinstance(default, dict) else _TYPES.get(type(default))
    if (
        kind is None
        or (kind == "array" and "items" not in added)
        or (kind == "object" and "additionalProperties" not in added)
    ):
        raise Failure(f"{shown(VALUES)}: {'.'.join(path)} needs a `# @schema` line that says what it may hold.")
    return {"type": kind, **added, "description": comment.text}


def _definitions() -> dict[str, Any]:
    text = {"type": "string"}
    strings = {"type": "object", "additionalProperties": text}
    quantity = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
    amounts = {"type": "object", "additionalProperties": {"anyOf": [quantity, {"type": "number", "minimum": 0}]}}
    cidr = {"type": "string", "pattern": "^[0-9a-f.:]+/[0-9]{1,3}$"}
    selector = _object(matchLabels=strings, matchExpressions={"type": "array", "items": {"type": "object"}})
    block = _object("cidr", cidr=cidr, **{"except": {"type": "array", "items": cidr}})
    peer = {**_object(podSelector=selector, namespaceSelector=selector, ipBlock=block), "minProperties": 1}
    peers = {"type": "array", "items": peer}
    port = {"type": "integer", "minimum": 1, "maximum": 65535}
    toleration = _object(key=text, operator=text, value=text, effect=text, tolerationSeconds={"type": "integer"})
    name = {"type": "string", "minLength": 1}
    digest = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
    return {
        "strings": strings,
        "settings": {**strings, "propertyNames": {"enum": sorted(setting_names())}},
        "quantity": quantity,
        "resources": _object(requests=amounts, limits=amounts),
        "image": _object(repository=name, tag=text, digest=digest),
        "secretRef": _object(existingSecret=text, key=name),
        "peers": peers,
        "edge": _object(to=peers, ports={"type": "array", "items": port, "minItems": 1}),
        "tolerations": {"type": "array", "items": toleration},
    }


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "additionalProperties": False, **needed, "properties": properties}


def setting_names() -> set[str]:
    """Every CLINALIGN_* variable that the gateway reads: a misspelt one would be ignored without a word."""
    alone = {name for name in Settings.model_fields if name not in groups()}
    grouped = {f"{name}_{inner}" for name, group in groups().items() for inner in group.model_fields}
    return {f"CLINALIGN_{name.upper()}" for name in alone | grouped}


def page(text: str) -> str:
    """VALUES.md: a table for each top-level key."""
    known = comments(text)
    lines = [_HEAD.rstrip("\n")]
    introduced: set[Keys] = set()
    for path, default in leaves(yaml.safe_load(text), known):
        above = [path[:depth] for depth in range(1, len(path)) if path[:depth] not in introduced]
        introduced.update(above, [path[:1]])
        if len(path) == 1 or path[:1] in above:
            section = known.get(path[:1], Comment()) if len(path) > 1 else Comment()
            lines += ["", f"## {path[0]}", *filter(None, [section.text]), "", *_TABLE]
        intro = " ".join(known.get(mapping, Comment()).text for mapping in above if len(mapping) > 1)
        lines.append(f"| `{'.'.join(path)}` | `{json.dumps(default)}` | {_meaning(intro, known[path])} |")
    return "\n".join(lines) + "\n"


def _meaning(intro: str, comment: Comment) -> str:
    choices = f" One of {', '.join(f'`{c}`' for c in comment.schema['enum'])}." if "enum" in comment.schema else ""
    return f"{intro} {comment.text}{choices}".strip().replace("|", "\\|")


def outputs() -> dict[Path, str]:
    """What the generated files must hold."""
    text = VALUES.read_text(encoding="utf-8")
    return {
        CHART / "values.schema.json": json.dumps(schema(text), indent=2) + "\n",
        CHART / "VALUES.md": page(text),
    }


def main() -> int:
    try:
        for file, text in outputs().items():
            file.write_text(text, encoding="utf-8")
    except Failure as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())

from __future__ import annotations

import json
from pathlib import Path

from scripts.build_index import is_current, recipe, stamp_of


def test_the_index_is_stale_when_a_byte_of_it_or_of_its_sources_changes(tmp_path: Path) -> None:
    index, stamp = tmp_path / "index", tmp_path / "index.stamp.json"
    assert not is_current(index, stamp, "a")
    index.mkdir()
    (index / "manifest.json").write_text("{}")
    stamp.write_text(json.dumps(stamp_of(index, "a")))
    assert is_current(index, stamp, "a")
    assert not is_current(index, stamp, "b")
    (index / "manifest.json").write_text("{ }")
    assert not is_current(index, stamp, "a")


def test_an_emptied_index_is_stale(tmp_path: Path) -> None:
    stamp = tmp_path / "stamp.json"
    stamp.write_text(json.dumps(stamp_of(tmp_path / "index", "a")))
    assert not is_current(tmp_path / "index", stamp, "a")


def test_the_recipe_follows_the_principles(tmp_path: Path) -> None:
    folder = tmp_path / "principles_index" / "principles"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text("a")
    before = recipe(tmp_path)
    assert recipe(tmp_path) == before
    (folder / "a.yaml").write_text("b")
    assert recipe(tmp_path) != before

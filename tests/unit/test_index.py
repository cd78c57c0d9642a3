from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from principles_index.build import build
from principles_index.evaluate import evaluate, macro_f1
from principles_index.index import Filters, PrincipleIndex
from principles_index.schema import Library, load_library
from service.domain import FACET_VALUES
from service.errors import IndexInvalid, LibraryInvalid
from service.rules import RULES
from tests.fakes import FakeEncoder
from tests.kit import index, library

ENCODER = FakeEncoder()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(library(), ENCODER, "fake", tmp_path / "index")
    return tmp_path / "index"


def test_the_library_is_whole() -> None:
    principles = library().principles
    assert len(principles) == 119
    assert all(p.review == "draft" for p in principles)
    assert len({e.text for p in principles for e in p.exemplars}) == sum(len(p.exemplars) for p in principles)
    exemplars = [e for p in principles for e in p.exemplars]
    assert sum(e.lang != "en" for e in exemplars) / len(exemplars) >= 0.1


def test_every_facet_value_is_covered_by_ten_principles() -> None:
    for facet, values in FACET_VALUES.items():
        counts = Counter(value for p in library().principles for value in getattr(p.facets, facet) or values)
        assert all(counts[value] >= 10 for value in values), (facet, counts)


def test_every_rule_is_used_and_exists() -> None:
    named = {p.rule for p in library().principles if p.rule}
    assert named == set(RULES)
    assert len(named) >= 20


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build(library(), ENCODER, "fake", tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_building_over_an_index_replaces_it(folder: Path) -> None:
    small = Library.of(library().principles[:3])
    build(small, ENCODER, "fake", folder)
    assert len(PrincipleIndex.load(folder).library.principles) == 3
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("name", ["manifest.json", "principles.json", "index.faiss"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "pickled", "empty"])
def test_a_damaged_index_is_refused_and_named(folder: Path, name: str, damage: str) -> None:
    file = folder / name
    raw = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        middle = len(raw) // 2
        flipped = bytes([*raw[:middle], raw[middle] ^ 1, *raw[middle + 1 :]])
        file.write_bytes(
            {"truncated": bytes(raw[:-7]), "flipped": flipped, "pickled": b"\x80\x04}q\x00.", "empty": b""}[damage]
        )
    with pytest.raises(IndexInvalid, match=name):
        PrincipleIndex.load(folder)


def test_no_byte_of_the_manifest_can_be_changed(folder: Path) -> None:
    file = folder / "manifest.json"
    raw = file.read_bytes()
    for i in range(0, len(raw), 5):
        if raw[i : i + 1].isspace():
            continue
        file.write_bytes(raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :])
        with pytest.raises(IndexInvalid):
            PrincipleIndex.load(folder)


def test_another_encoder_is_refused(folder: Path) -> None:
    with pytest.raises(IndexInvalid, match="another encoder"):
        PrincipleIndex.load(folder, encoder_fingerprint="other")


def test_an_exemplar_finds_its_own_principle() -> None:
    asked = [p for p in library().principles if not p.always][::7]
    for principle in asked:
        found = index().search(ENCODER.encode([principle.exemplars[0].text])[0], 12)
        assert principle.id in [m.principle.id for m in found.matches]


def test_filters() -> None:
    query = ENCODER.encode(["my child has a fever, how much paracetamol"])[0]
    first = index().search(query, 3).matches[0].principle.id
    found = index().search(query, 3, Filters(include=("dose-has-units",), exclude=(first,)))
    assert found.matches[0].principle.id == "dose-has-units"
    assert found.matches[0].reason == "requested"
    assert first not in [m.principle.id for m in found.matches]


def test_always_on_principles_are_not_retrieved() -> None:
    found = index().search(ENCODER.encode(["repetition language clinician"])[0], 30)
    assert not any(m.principle.always for m in found.matches)


def test_a_users_own_library(tmp_path: Path) -> None:
    rows = (Path("principles_index/principles") / "privacy.yaml").read_text("utf-8")
    (tmp_path / "own.yaml").write_text(rows)
    assert {p.theme for p in load_library(tmp_path).principles} == {"own"}
    (tmp_path / "own.yaml").write_text(rows.replace("severity:", "severty:", 1))
    with pytest.raises(LibraryInvalid, match=r"own\.yaml"):
        load_library(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(LibraryInvalid, match="no"):
        load_library(tmp_path)


def test_macro_f1_written_out() -> None:
    # a: 1 hit, 1 miss, 0 false → 2/(2+1); b: 1 hit, 0 miss, 1 false → 2/(2+1)
    assert macro_f1([("a", "a"), ("a", "b"), ("b", "b")]) == pytest.approx(2 / 3)
    assert macro_f1([]) == 0.0


def test_evaluate_reads_healthbench_form(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": text}],
            "example_tags": [f"physician_agreed_category:{label}"],
        }
        for text, label in (("chest pain", "emergent"), ("dry skin", "non-emergent"))
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    report = evaluate(file, index(), ENCODER)
    assert report["facets"]["urgency"]["n"] == report["emergency"]["n"] == 2
    assert report["facets"]["context"] == {"macro_f1": None, "low": None, "high": None, "n": 0}


def test_vectors_are_unit_length() -> None:
    assert np.allclose(np.linalg.norm(ENCODER.encode(["a b", ""]), axis=1), 1.0)

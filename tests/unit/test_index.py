from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from principles_index.__main__ import default_encoder
from principles_index.build import build
from principles_index.encoders import GRAPH, Vectors
from principles_index.evaluate import evaluate, macro_f1
from principles_index.facets import FacetModel
from principles_index.index import Filters, PrincipleIndex
from principles_index.ranking import Ranker
from principles_index.report import HeldOut, held_out, rates, table
from principles_index.schema import Library, load_library
from scripts.model import source_encoder
from service.domain import FACET_VALUES, Exemplar, Expertise, Facets, Principle, PrincipleFacets, Urgency
from service.errors import IndexInvalid, LibraryInvalid
from service.rules import RULES
from tests.fakes import FakeEncoder
from tests.kit import index, library

ENCODER = FakeEncoder()


def _exemplar(text: str, **labels: str) -> Exemplar:
    usual = {"urgency": "non-emergent", "uncertainty": "none", "expertise": "lay", "task": "question"}
    return Exemplar.model_validate({"text": text, **usual, **labels})


def _principle(
    name: str,
    *,
    langs: Sequence[str] = ("en",) * 5,
    expertise_of_exemplars: str = "lay",
    **facets: tuple[str, ...],
) -> Principle:
    exemplars = [_exemplar(f"{name} {i}", lang=lang, expertise=expertise_of_exemplars) for i, lang in enumerate(langs)]
    changes = {"id": name, "always": False, "exemplars": tuple(exemplars)}
    model = library().principles[0].model_copy(update=changes)
    return model.model_copy(update={"facets": PrincipleFacets.model_validate(facets)})


def _facets(*, urgency: Urgency = "non-emergent", expertise: Expertise = "lay", confidence: float = 0.9) -> Facets:
    return Facets(urgency, "none", expertise, "question", dict.fromkeys(FACET_VALUES, confidence))


def _order(ranker: Ranker, query: Vectors, facets: Facets) -> list[str]:
    return [match.principle.id for match in ranker.ranked(query, facets)]


def _unit(vector: Vectors) -> Vectors:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


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


@pytest.mark.parametrize(("facet", "value"), [(f, value) for f, values in FACET_VALUES.items() for value in values])
def test_every_facet_value_is_named_by_ten_principles(facet: str, value: str) -> None:
    named = [p.id for p in library().principles if value in getattr(p.facets, facet)]  # left out means any: no count
    assert len(named) >= 10, named


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


def test_a_fit_earns_nothing_and_a_misfit_costs_a_principle_its_place() -> None:
    plain, lay = _principle("plain"), _principle("lay", expertise=("lay",))
    vectors = np.eye(12, dtype=np.float32)
    query = _unit(vectors[1] + 1.05 * vectors[7])  # a little nearer to the second
    ranker = Ranker([plain, lay], vectors)
    assert _order(ranker, query, _facets(expertise="lay")) == ["lay", "plain"]
    assert _order(ranker, query, _facets(expertise="professional")) == ["plain", "lay"]
    nearer = _unit(1.05 * vectors[1] + vectors[7])
    assert _order(ranker, nearer, _facets(expertise="lay")) == ["plain", "lay"]


def test_a_misfit_costs_less_where_the_facet_is_unsure() -> None:
    plain, lay = _principle("plain"), _principle("lay", expertise=("lay",))
    vectors = np.eye(12, dtype=np.float32)
    query = _unit(vectors[1] + 1.05 * vectors[7])
    unsure = _facets(expertise="professional", confidence=0.01)
    assert _order(Ranker([plain, lay], vectors), query, unsure) == ["lay", "plain"]


def test_an_emergency_lifts_the_principles_for_it() -> None:
    plain, urgent = _principle("plain"), _principle("urgent", urgency=("conditional", "emergent"))
    vectors = np.eye(12, dtype=np.float32)
    query = _unit(1.3 * vectors[1] + vectors[7])
    ranker = Ranker([plain, urgent], vectors)
    assert _order(ranker, query, _facets(urgency="emergent")) == ["urgent", "plain"]
    assert _order(ranker, query, _facets(urgency="conditional")) == ["plain", "urgent"]


def test_what_all_texts_of_a_language_share_does_not_count() -> None:
    """Ten subjects, one principle each: statement and two exemplars in English, the rest in Spanish or Korean, which
    are far stronger in the vectors than the subjects. Spoken of in Spanish, a subject known in Korean alone is found."""
    lean = 3.0
    dimensions = {"en": 10, "es": 11, "ko": 12}
    axes = np.eye(13, dtype=np.float32)
    principles, rows = [], []
    for subject in range(10):
        langs = ("en", "en", *(("ko",) * 3 if subject % 2 else ("es",) * 3))
        principles.append(_principle(f"p{subject}", langs=langs))
        rows.append(_unit(axes[subject]))
        rows += [_unit(axes[subject] + lean * axes[dimensions[lang]]) for lang in langs]
    ranker = Ranker(principles, np.array(rows))
    for subject in range(10):
        query = _unit(axes[subject] + lean * axes[dimensions["es"]])
        assert _order(ranker, query, _facets())[0] == f"p{subject}"


def test_facets_are_told_apart_and_their_shares_are_shares() -> None:
    exemplars = [e for p in library().principles for e in p.exemplars]
    model = FacetModel(ENCODER.encode([e.text for e in exemplars]), exemplars)
    estimates = [model.estimate(row) for row in ENCODER.encode([e.text for e in exemplars])]
    for name, values in FACET_VALUES.items():
        assert {getattr(facets, name) for facets in estimates} == set(values)
        assert all(1 / len(values) <= facets.confidence[name] <= 1 for facets in estimates)
        assert macro_f1([(getattr(e, name), getattr(f, name)) for e, f in zip(exemplars, estimates, strict=True)]) > 0.4


def test_a_facet_value_that_no_exemplar_has_is_never_estimated() -> None:
    exemplars = [e for p in library().principles for e in p.exemplars if e.urgency == "conditional"]
    model = FacetModel(ENCODER.encode([e.text for e in exemplars]), exemplars)
    for row in ENCODER.encode(["crushing chest pain", "dry skin", "is it urgent"]):
        facets = model.estimate(row)
        assert (facets.urgency, facets.confidence["urgency"]) == ("conditional", 1.0)


def test_the_facets_of_an_exemplar_are_judged_without_its_principle() -> None:
    """The first principle alone speaks as a professional, of a subject of its own: nothing else can tell."""
    first = _principle("first", expertise_of_exemplars="professional")
    principles = [first, *(_principle(f"p{i}") for i in range(3))]
    vectors = np.repeat(np.eye(4, dtype=np.float32), 6, axis=0)
    results = held_out(Library.of(principles), vectors)
    assert {r.facets.expertise for r in results} == {"lay"}
    assert PrincipleIndex(Library.of(principles), vectors, "").search(vectors[1], 1).facets.expertise == "professional"


def test_an_exemplar_is_retrieved_without_its_own_vector() -> None:
    """The second principle's first exemplar is like nothing else of its own, and much like the first principle's."""
    langs = ("en", "en", "en", "es", "es")  # too few of each to take out what they share
    principles = [_principle("first", langs=langs), _principle("second", langs=langs)]
    vectors = np.repeat(np.eye(2, 4, dtype=np.float32), 6, axis=0)
    vectors[7] = _unit(np.array([0.5, 0.1, 2.0, 0.0], dtype=np.float32))
    hits = [r.hit for r in held_out(Library.of(principles), vectors, k=1)]
    assert hits == [True] * 5 + [False] + [True] * 4
    seen = PrincipleIndex(Library.of(principles), vectors, "").search(vectors[7], 1)
    assert seen.matches[0].principle.id == "second"


def test_the_report_has_a_row_per_language_and_one_for_the_rest() -> None:
    lines = table(index()).splitlines()
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    assert names[:4] == ["language", "---", "all", "en"]
    assert names[-1] == "rest"
    counts = [int(line.split(" | ")[1]) for line in lines[2:]]
    assert counts[0] == sum(counts[1:]) == sum(len(p.exemplars) for p in library().principles)
    assert all(n >= 10 for n in counts[1:-1])
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_the_emergency_rates_are_over_urgent_and_harmless_messages_alone() -> None:
    exemplars = {urgency: _exemplar("text", urgency=urgency) for urgency in ("emergent", "conditional", "non-emergent")}
    results = [
        HeldOut(exemplars["emergent"], _facets(), True, True),
        HeldOut(exemplars["emergent"], _facets(), None, False),
        HeldOut(exemplars["conditional"], _facets(), False, True),
        HeldOut(exemplars["non-emergent"], _facets(), False, False),
    ]
    found = rates(results)
    assert (found["recall"], found["false_alarm"]) == (0.5, 0.0)
    assert found["hit"] == pytest.approx(1 / 3)
    assert rates(results[2:3])["recall"] is None


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


def test_without_an_argument_the_encoder_is_the_exported_one_its_package_or_the_hubs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("principles_index.__main__._EXPORTED", tmp_path)
    assert default_encoder() == str(source_encoder())
    (tmp_path / GRAPH).parent.mkdir()
    (tmp_path / GRAPH).touch()
    assert default_encoder() == str(tmp_path)
    (tmp_path / GRAPH).unlink()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert default_encoder() == "sentence-transformers/all-MiniLM-L6-v2"


def test_vectors_are_unit_length() -> None:
    assert np.allclose(np.linalg.norm(ENCODER.encode(["a b", ""]), axis=1), 1.0)

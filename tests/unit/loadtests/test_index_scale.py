"""The bench of index kinds, on small libraries of random vectors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench import index_scale
from loadtests.bench.columns import columns
from loadtests.bench.libraries import grown, held_back, noise_of, perturbed
from principles_index.encoders import Vectors
from principles_index.index import PrincipleIndex
from tests.kit import library

DIMENSION = 48
ROWS = sum(1 + len(p.exemplars) for p in library().principles)


def random_units(rows: int, seed: int = 1) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((rows, DIMENSION)).astype(np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


VECTORS = random_units(ROWS)


@given(st.floats(0.3, 0.99), st.integers(0, 50))
def test_noise_moves_a_vector_as_far_as_it_was_meant_to(cosine: float, seed: int) -> None:
    units = random_units(400)
    moved = perturbed(units, noise_of(cosine, DIMENSION), np.random.default_rng(seed))
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
    assert moved.dtype == np.float32
    assert float((units * moved).sum(axis=1).mean()) == pytest.approx(cosine, abs=0.03)


@given(st.integers(40, 3 * ROWS))
def test_a_grown_library_holds_whole_principles_and_no_more_than_asked(size: int) -> None:
    made, vectors = grown(library().principles, VECTORS, size, noise=0.1)
    largest = max(1 + len(p.exemplars) for p in library().principles)
    assert size - largest < len(vectors) <= size
    assert len(vectors) == sum(1 + len(p.exemplars) for p in made.principles)
    own = min(len(vectors), ROWS)
    np.testing.assert_array_equal(vectors[:own], VECTORS[:own])  # the first round is as it is
    if len(vectors) > ROWS:
        assert not np.allclose(vectors[ROWS:], VECTORS[np.arange(len(vectors) - ROWS) % ROWS])


def test_a_grown_library_can_be_searched() -> None:
    made, vectors = grown(library().principles, VECTORS, 2 * ROWS, noise=0.01)
    twice = [p.id for p in made.principles if p.id.endswith("-1")]
    assert len(twice) == len(library().principles)
    found = PrincipleIndex(made, vectors, "test").search(vectors[1], 8)
    assert len(found.matches) == 8


def test_held_back_exemplars_ask_and_are_not_found() -> None:
    kept, vectors, queries = held_back(library(), VECTORS)
    assert len(vectors) == sum(1 + len(p.exemplars) for p in kept.principles)
    assert len(vectors) + len(queries) == ROWS
    assert len(queries) == sum(len(p.exemplars) for p in library().principles) // 10
    assert float((queries @ vectors.T).max()) < 0.999
    texts = [e.text for p in library().principles for e in p.exemplars]
    rows = [row for row in range(ROWS) if not np.isclose(vectors @ VECTORS[row], 1, atol=1e-4).any()]
    np.testing.assert_array_equal(VECTORS[rows], queries)
    assert {e.text for p in kept.principles for e in p.exemplars} == set(texts) - set(texts[9::10])


@pytest.mark.parametrize(
    ("found", "exact", "share"),
    [
        ([[1, 2]], [[2, 1]], 1.0),
        ([[1, 3]], [[1, 2]], 0.5),
        ([[1, 2], [3, 4]], [[1, 2], [5, 6]], 0.5),
        ([[-1]], [[0]], 0.0),
    ],
)
def test_recall_is_the_share_of_the_exact_neighbours(
    found: list[list[int]], exact: list[list[int]], share: float
) -> None:
    assert index_scale.recall(np.array(found), np.array(exact)) == share


@pytest.mark.parametrize("kind", index_scale.KINDS)
def test_every_kind_finds_a_vector_that_it_holds(kind: str) -> None:
    index = index_scale.KINDS[kind](VECTORS)
    assert index.ntotal == ROWS
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT
    found = index.search(VECTORS[:50], 1)[1][:, 0]
    assert np.mean(found == np.arange(50)) > 0.95


def test_the_report_is_of_one_thread_and_leaves_the_process_as_it_was() -> None:
    threads, cores = faiss.omp_get_max_threads(), os.sched_getaffinity(0)
    told = index_scale.measure(library(), VECTORS, random_units(30, seed=2), sizes=(300, 1200))
    assert (faiss.omp_get_max_threads(), os.sched_getaffinity(0)) == (threads, cores)
    small, large = told["sizes"]["300"], told["sizes"]["1200"]
    assert small["vectors"] <= 300 < large["vectors"] <= 1200
    assert small["principles"] < large["principles"]
    for row in (small, large):
        flat, quarter = row["indexes"]["flat"], row["indexes"]["SQ8"]
        assert flat["recall"] == 1
        assert quarter["mb"] < 0.4 * flat["mb"]
        assert 0.5 < quarter["recall"] <= 1
        assert all(i["p50_ms"] <= i["p99_ms"] for i in row["indexes"].values())
        assert row["product"]["search"]["p99_ms"] > 0
    assert large["nearest_neighbour"] > small["nearest_neighbour"]  # a copy lies by its original
    json.dumps(told)
    lines = index_scale.table(told).splitlines()
    assert len(lines) == 1 + 1 + 2 * 6 + 1
    assert sum(" x" in line for line in lines[2:-1]) == 2 * 3  # all but flat are multiples


def rows(flat: float, search: float) -> dict[str, Any]:
    row = {"vectors": 1000, "indexes": {"flat": {"p99_ms": flat}}, "product": {"search": {"p99_ms": search}}}
    return {"limit_ms": 5.0, "sizes": {"700": {**row, "vectors": 700}, "1000": row}}


def test_flat_stays_while_it_is_below_the_limit() -> None:
    assert index_scale.verdict(rows(4.9, 2.0)).count("stays below") == 2


def test_what_is_over_the_limit_is_named() -> None:
    told = index_scale.verdict(rows(5.1, 2.0))
    assert "flat exceeds it (5.10 ms at 700, 5.10 ms at 1,000)" in told
    assert "search stays below (2.00 ms at 1,000)" in told


def test_without_a_file_of_questions_exemplars_ask(tmp_path: Path) -> None:
    index = PrincipleIndex(library(), VECTORS, "test")
    kept, vectors, queries = index_scale.asked(tmp_path / "none.jsonl", index)
    assert len(vectors) + len(queries) == ROWS
    assert len(kept.principles) == len(library().principles)


def test_columns_line_up() -> None:
    assert columns([["", "p50"], ["flat", "1"]]) == ["      p50", "flat    1"]
    with pytest.raises(ValueError, match="argument"):
        columns([["a", "b"], ["c"]])

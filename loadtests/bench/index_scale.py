"""Which index for how many vectors: `python -m loadtests.bench.index_scale [--out FILE]`.

Memory, time to build, time a query and recall against exact search, on one thread, at the library's size and at 10,000
and 100,000 vectors. Those are the library's own with Gaussian noise, made unit length again; the report says how far that
moves them and how near neighbours are before and after, since an approximate index lives on the structure that noise blurs.

Two lines are the product's: what `PrincipleIndex.search` does with a library of so many vectors (copies of the principles),
and in it the facets alone. It searches prototypes, one a principle, not all vectors.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from loadtests.bench.columns import columns
from loadtests.bench.cores import only_on
from loadtests.bench.libraries import grown, held_back, noise_of, perturbed
from loadtests.bench.report import give
from loadtests.bench.stack import QUESTIONS, questions
from principles_index.encoders import Vectors, load_encoder
from principles_index.facets import FacetModel
from principles_index.index import PrincipleIndex
from principles_index.schema import Library
from scripts.build_index import ensure_index
from scripts.common import Failure, fail
from scripts.model import encoder_folder

SIZES = (700, 10_000, 100_000)
COSINE = 0.8  # of a vector to the one it was made from
BASELINE = "flat"
LIMIT_MS = 5.0
"""What a query may take at p99 before another index is worth its loss of recall: as long as its question is encoded."""

K = 8
_QUERIES = 500
_LINKS, _BUILD_DEPTH, _DEPTH = 32, 80, 64  # HNSW: links a node, candidates kept while building and while searching
_PROBES = 16  # IVF: lists looked into

Integers = npt.NDArray[np.int64]


def neighbours(vectors: Vectors, most: int = 1000) -> float:
    """Mean cosine of a vector to the nearest other one, over `most` of them."""
    some = vectors[:: max(1, len(vectors) // most)]
    near = _flat(vectors).search(some, 2)[0][:, 1]  # the first is itself
    return round(float(near.mean()), 3)


# --- indexes ----------------------------------------------------------------------------------------------------


def _flat(vectors: Vectors) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def _hnsw(vectors: Vectors) -> Any:
    index = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD_DEPTH, _DEPTH
    index.add(vectors)
    return index


def _ivf(vectors: Vectors) -> Any:
    """As many lists as FAISS can train on that many vectors (39 a list), at most 4 sqrt(n)."""
    lists = max(1, min(int(4 * np.sqrt(len(vectors))), len(vectors) // 39))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = min(_PROBES, lists)
    return index


def _sq8(vectors: Vectors) -> Any:
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index


KINDS: Mapping[str, Callable[[Vectors], Any]] = {BASELINE: _flat, "HNSW": _hnsw, "IVF": _ivf, "SQ8": _sq8}


def recall(found: Integers, exact: Integers) -> float:
    """Mean share of the exact neighbours that are among those found; both of shape (queries, k)."""
    shares = [
        len({*ours} & {*theirs}) / len(theirs) for ours, theirs in zip(found.tolist(), exact.tolist(), strict=True)
    ]
    return round(float(np.mean(shares)), 4)


# --- measuring --------------------------------------------------------------------------------------------------


def measure(
    library: Library, vectors: Vectors, queries: Vectors, *, sizes: Sequence[int] = SIZES, cosine: float = COSINE
) -> dict[str, Any]:
    """The report. `vectors`: those of the library, in its order; `queries`: unit vectors of the same dimension."""
    noise = noise_of(cosine, vectors.shape[1])
    kept = perturbed(vectors, noise, np.random.default_rng(0))
    cosines = (vectors * kept).sum(axis=1)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with only_on(max(os.sched_getaffinity(0))):
            rows = {str(size): _at(library, vectors, queries, size, noise) for size in sizes}
    finally:
        faiss.omp_set_num_threads(threads)
    return {
        "dimension": vectors.shape[1],
        "queries": len(queries),
        "noise": round(noise, 5),
        "cosine_to_original": {"mean": round(float(cosines.mean()), 3), "least": round(float(cosines.min()), 3)},
        "nearest_neighbour": neighbours(vectors),
        "limit_ms": LIMIT_MS,
        "sizes": rows,
    }


def _at(library: Library, vectors: Vectors, queries: Vectors, size: int, noise: float) -> dict[str, Any]:
    grown_library, grown_vectors = grown(library.principles, vectors, size, noise)
    exact = _flat(grown_vectors).search(queries, K)[1]
    return {
        "vectors": len(grown_vectors),
        "principles": len(grown_library.principles),
        "nearest_neighbour": neighbours(grown_vectors),
        "indexes": {name: _index(make, grown_vectors, queries, exact) for name, make in KINDS.items()},
        "product": _product(grown_library, grown_vectors, queries),
    }


def _index(make: Callable[[Vectors], Any], vectors: Vectors, queries: Vectors, exact: Integers) -> dict[str, float]:
    start = time.perf_counter()
    index = make(vectors)
    built = time.perf_counter() - start
    found = index.search(queries, K)[1]
    return {
        "mb": round(faiss.serialize_index(index).nbytes / 1e6, 2),
        "build_s": round(built, 3),
        **timed(lambda query: index.search(query[None, :], K), queries),
        "recall": recall(found, exact),
    }


def _product(library: Library, vectors: Vectors, queries: Vectors) -> dict[str, dict[str, float]]:
    start = time.perf_counter()
    index = PrincipleIndex(library, vectors, "bench")
    built = time.perf_counter() - start
    is_exemplar = np.array([i > 0 for p in library.principles for i in range(1 + len(p.exemplars))])
    facets = FacetModel(vectors[is_exemplar], [e for p in library.principles for e in p.exemplars])
    return {
        "search": {"build_s": round(built, 3), **timed(lambda query: index.search(query, K), queries)},
        "facets": timed(facets.estimate, queries),
    }


def timed(ask: Callable[[Vectors], object], queries: Vectors) -> dict[str, float]:
    """Milliseconds of CPU a query, one after the other, after ten to warm up: other processes do not count."""
    for query in queries[:10]:
        ask(query)
    spent = []
    for query in queries:
        start = time.thread_time()
        ask(query)
        spent.append((time.thread_time() - start) * 1000)
    p50, p99 = np.percentile(spent, [50, 99])
    return {"p50_ms": round(float(p50), 4), "p99_ms": round(float(p99), 4)}


# --- report -----------------------------------------------------------------------------------------------------


def verdict(report: Mapping[str, Any]) -> str:
    """The rule, applied to what was measured: to all vectors, and to what the product searches."""
    limit, sizes, told = report["limit_ms"], report["sizes"].values(), []
    searched = {
        "flat": [(row["vectors"], row["indexes"][BASELINE]["p99_ms"]) for row in sizes],
        "the product's search": [(row["vectors"], row["product"]["search"]["p99_ms"]) for row in sizes],
    }
    for what, rows in searched.items():
        over = [f"{p99:.2f} ms at {n:,}" for n, p99 in rows if p99 > limit]
        n, p99 = max(rows)
        told.append(f"{what} exceeds it ({', '.join(over)})" if over else f"{what} stays below ({p99:.2f} ms at {n:,})")
    return f"Flat stays unless its p99 exceeds {limit:g} ms: {'; '.join(told)}."


def table(report: Mapping[str, Any]) -> str:
    """Flat's figures as they are, the other indexes' as multiples of them."""
    near = report["cosine_to_original"]
    cells = [["vectors", "nearest", "index", "MB", "build s", "p50", "p99", "recall@8"]]
    for row in report["sizes"].values():
        size, flat = [f"{row['vectors']:,}", str(row["nearest_neighbour"])], row["indexes"][BASELINE]
        for name, index in row["indexes"].items():
            told = [f"{index['mb']:g}", f"{index['p50_ms']:.3f} ms", f"{index['p99_ms']:.3f} ms"]
            if index is not flat:
                told = [f"{index[key] / flat[key]:.2f} x" for key in ("mb", "p50_ms", "p99_ms")]
            cells.append([*size, name, told[0], f"{index['build_s']:.3f}", *told[1:], f"{index['recall']:.3f}"])
        for name, own in row["product"].items():
            built = f"{own['build_s']:.3f}" if "build_s" in own else ""
            label = f"{name} of {row['principles']:,} principles"
            cells.append([*size, label, "", built, f"{own['p50_ms']:.3f} ms", f"{own['p99_ms']:.3f} ms", ""])
    how = f"{report['queries']} queries; cosine of a vector to its original {near['mean']}, least {near['least']}"
    return "\n".join([how, *columns(cells), verdict(report)])


def asked(file: Path, index: PrincipleIndex) -> tuple[Library, Vectors, Vectors]:
    """Library, its vectors and the queries: what people ask, or where there is no such file exemplars held back."""
    if file.is_file():
        queries = load_encoder(str(encoder_folder())).encode(questions(file, _QUERIES))
        return index.library, index.vectors, queries
    return held_back(index.library, index.vectors)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.index_scale", description=__doc__)
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="a K-QA file; without it exemplars ask")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--cosine", type=float, default=COSINE, help="of a perturbed vector to its original")
    parser.add_argument("--out", type=Path, help="writes the report there as JSON")
    args = parser.parse_args(arguments)
    try:
        library, vectors, queries = asked(args.questions, PrincipleIndex.load(ensure_index()))
    except Failure as error:
        return fail(error)
    report = measure(library, vectors, queries, sizes=args.sizes, cosine=args.cosine)
    give(report, table(report), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

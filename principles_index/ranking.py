"""Which principles matter for a message: how near each is as a whole and at its nearest, and how well it fits the facets.

docs/decisions/0004-facets.md says why, docs/reference/retrieval.md how well it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from principles_index.encoders import Vectors
from service.domain import Facets, Match, Principle

_POOL = 256  # prototypes that the facets re-rank
_STATEMENT = 0.5  # what a statement weighs in its prototype, beside the mean of all the principle's vectors
_NEAREST = 0.25  # what the nearest vector weighs beside the prototype: a known question must find its principle
_COMMON_FROM = 8  # the mean of fewer vectors says more about their subjects than about their language
# In units of cosine, times the confidence in the facet. A facet that a principle names narrows it, so a misfit costs
# and a fit earns nothing; only in an emergency are the principles for it lifted, since missing one is worse.
_MISFIT = {"urgency": 0.03, "uncertainty": 0.03, "expertise": 0.1, "task": 0.1}
_EMERGENCY = 0.2


class Ranker:
    """Exact search over unit prototypes. What all texts of a language share is taken out of vectors and queries first:
    otherwise a Spanish question is nearest to whatever else is in Spanish."""

    def __init__(self, principles: Sequence[Principle], vectors: Vectors) -> None:
        """`vectors`: per principle its statement's row, then one an exemplar."""
        self._principles = principles
        counts = np.array([1 + len(p.exemplars) for p in principles])
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        kinds = [kind for p in principles for kind in ("statement", *(e.lang for e in p.exemplars))]
        self._common = _common_directions(vectors, kinds)
        self._vectors = self._distinct(vectors)
        means = np.add.reduceat(self._vectors, self._starts) / counts[:, None]
        self._prototypes = faiss.IndexFlatIP(vectors.shape[1])
        self._prototypes.add(_unit(means + _STATEMENT * self._vectors[self._starts]))

    def _distinct(self, vectors: Vectors) -> Vectors:
        return _unit(vectors - vectors @ self._common @ self._common.T)

    def ranked(self, query: Vectors, facets: Facets) -> list[Match]:
        """Principles for a query vector of shape (dimension,), best first, without the always-on ones."""
        distinct = self._distinct(query[None, :])
        similarities, found = self._prototypes.search(distinct, min(_POOL, self._prototypes.ntotal))
        scored = []
        for similarity, place in zip(similarities[0].tolist(), found[0].tolist(), strict=True):
            principle = self._principles[place]
            if principle.always:
                continue
            own = self._vectors[self._starts[place] : self._ends[place]] @ distinct[0]
            row = int(own.argmax())
            nearest = float(own[row])
            match = Match(principle, round(nearest, 4), "exemplar" if row else "statement")
            scored.append((similarity + _NEAREST * nearest + _fit(principle, facets), match))
        scored.sort(key=lambda item: (-item[0], item[1].principle.id))
        return [match for _, match in scored]


def _fit(principle: Principle, facets: Facets) -> float:
    total = 0.0
    for name, cost in _MISFIT.items():
        wanted = getattr(principle.facets, name)
        if wanted and getattr(facets, name) not in wanted:
            total -= cost * facets.confidence[name]
    if facets.urgency == "emergent" and "emergent" in principle.facets.urgency:
        total += _EMERGENCY * facets.confidence["urgency"]
    return total


def _common_directions(vectors: Vectors, kinds: Sequence[str]) -> Vectors:
    """Orthonormal columns, shape (dimension, m), that span the mean of the statements and of each language's exemplars."""
    kind_of = np.array(kinds)
    names, counts = np.unique(kind_of, return_counts=True)
    means = [vectors[kind_of == name].mean(axis=0) for name in names[counts >= _COMMON_FROM]]
    if not means:
        return np.zeros((vectors.shape[1], 0), dtype=np.float32)
    return np.asarray(np.linalg.qr(np.array(means, dtype=float).T)[0], dtype=np.float32)


def _unit(vectors: npt.NDArray[np.floating[Any]]) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-6), dtype=np.float32)

"""The index in memory: which principles matter for a conversation, and what kind of message it is."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import faiss
import numpy as np

from principles_index.build import MANIFEST, PRINCIPLES, VECTORS, Manifest
from principles_index.embed import Vectors
from principles_index.schema import Library
from service.domain import FACET_VALUES, Expertise, Facets, Match, Principle, Task, Uncertainty, Urgency
from service.errors import IndexInvalid

_POOL = 256  # vectors looked at; a principle without one among them is no candidate
_NEIGHBOURS = 24  # exemplars that vote on the facets
_TEMPERATURE = 0.08  # cosine difference at which a vote weighs e times less
_FACET_WEIGHT = {"urgency": 0.08, "uncertainty": 0.03, "expertise": 0.05, "task": 0.03}  # in units of cosine


@dataclass(frozen=True, slots=True)
class Filters:
    """`include` is matched whatever its similarity, `exclude` never."""

    include: Collection[str] = ()
    exclude: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Found:
    matches: tuple[Match, ...]
    facets: Facets


class PrincipleIndex:
    """Flat inner-product search over unit vectors: exact, and microseconds at this size."""

    def __init__(self, library: Library, vectors: faiss.IndexFlatIP, version: str) -> None:
        self.library = library
        self.version = version
        self._vectors = vectors
        counts = [1 + len(p.exemplars) for p in library.principles]
        if sum(counts) != vectors.ntotal:
            raise IndexInvalid(f"the index holds {vectors.ntotal} vectors where its principles need {sum(counts)}")
        self._owner = np.repeat(np.arange(len(counts)), counts)
        starts = np.cumsum([0, *counts[:-1]])
        self._is_statement = np.zeros(vectors.ntotal, dtype=bool)
        self._is_statement[starts] = True
        self._votes = self._vote_table()

    def _vote_table(self) -> Mapping[str, np.ndarray]:
        """Per facet a matrix (vectors, values): one-hot of each exemplar's label over how common it is, zero for statements."""
        tables = {name: np.zeros((self._vectors.ntotal, len(values))) for name, values in FACET_VALUES.items()}
        row = 0
        for principle in self.library.principles:
            row += 1
            for exemplar in principle.exemplars:
                for name, values in FACET_VALUES.items():
                    tables[name][row, values.index(getattr(exemplar, name))] = 1.0
                row += 1
        # A common value would win by being common; the square root keeps a rare one from winning by being rare.
        return {name: table / np.sqrt(np.maximum(table.sum(axis=0), 1.0)) for name, table in tables.items()}

    @classmethod
    def load(cls, folder: Path, *, encoder_fingerprint: str | None = None) -> PrincipleIndex:
        """Reads an index folder, verifying every hash before anything is parsed. Raises IndexInvalid naming the file."""
        manifest = Manifest.read(folder / MANIFEST)
        principles = _verified(folder / PRINCIPLES, manifest.principles_sha256)
        blob = _verified(folder / VECTORS, manifest.vectors_sha256)
        if encoder_fingerprint is not None and encoder_fingerprint != manifest.encoder_fingerprint:
            raise IndexInvalid(
                f"{folder} was built with another encoder ({manifest.encoder}): rebuild it, or set CLINALIGN_ENCODER"
            )
        try:
            library = Library.from_json(principles)
            vectors = faiss.deserialize_index(np.frombuffer(blob, dtype=np.uint8))
        except Exception as error:
            raise IndexInvalid(
                f"{folder} cannot be read: rebuild the index with `python -m principles_index build`"
            ) from error
        if not isinstance(vectors, faiss.IndexFlatIP) or vectors.d != manifest.dimension:
            raise IndexInvalid(
                f"{folder / VECTORS} is not a flat inner-product index of {manifest.dimension} dimensions"
            )
        return cls(library, vectors, manifest.version)

    def search(self, query: Vectors, k: int, filters: Filters = Filters()) -> Found:
        """The `k` best principles for a query vector of shape (dimension,), best first, always-on ones not counted."""
        similarities, ids = self._vectors.search(query[None, :], min(_POOL, self._vectors.ntotal))
        sims, rows = similarities[0], ids[0]
        facets = self._facets(sims, rows)
        best: dict[int, tuple[float, int]] = {}
        for sim, row in zip(sims.tolist(), rows.tolist(), strict=True):
            best.setdefault(int(self._owner[row]), (sim, row))
        scored = []
        for owner, (sim, row) in best.items():
            principle = self.library.principles[owner]
            if principle.always or principle.id in filters.exclude or principle.id in filters.include:
                continue
            scored.append((sim + _fit(principle, facets), sim, row, principle))
        scored.sort(key=lambda item: (-item[0], item[3].id))
        matches = [
            Match(principle, round(sim, 4), "statement" if self._is_statement[row] else "exemplar")
            for _, sim, row, principle in scored[:k]
        ]
        requested = [
            Match(self.library.by_id[i], None, "requested") for i in filters.include if i in self.library.by_id
        ]
        return Found((*requested, *matches), facets)

    def _facets(self, sims: Vectors, rows: np.ndarray) -> Facets:
        exemplars = ~self._is_statement[rows]
        near, weights = rows[exemplars][:_NEIGHBOURS], sims[exemplars][:_NEIGHBOURS]
        weights = np.exp((weights - weights.max()) / _TEMPERATURE)
        winners: dict[str, str] = {}
        confidence: dict[str, float] = {}
        for name, values in FACET_VALUES.items():
            votes = weights @ self._votes[name][near]
            winner = int(votes.argmax())
            winners[name] = values[winner]
            confidence[name] = round(float(votes[winner] / votes.sum()), 4)
        return Facets(
            cast(Urgency, winners["urgency"]),
            cast(Uncertainty, winners["uncertainty"]),
            cast(Expertise, winners["expertise"]),
            cast(Task, winners["task"]),
            confidence,
        )


def _fit(principle: Principle, facets: Facets) -> float:
    """How well the principle's facets suit the message's: a bonus where they agree, a malus where they do not."""
    total = 0.0
    for name, weight in _FACET_WEIGHT.items():
        wanted = getattr(principle.facets, name)
        if wanted:
            sign = 1.0 if getattr(facets, name) in wanted else -1.0
            total += sign * weight * facets.confidence[name]
    return total


def _verified(file: Path, sha256: str) -> bytes:
    try:
        raw = file.read_bytes()
    except OSError:
        raise IndexInvalid(f"{file} is missing: make the index with `python -m principles_index build`") from None
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise IndexInvalid(
            f"{file} is damaged or was changed: rebuild the index with `python -m principles_index build`"
        )
    return raw

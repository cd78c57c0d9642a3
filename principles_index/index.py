"""The index in memory: which principles matter for a conversation, and what kind of message it is."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from principles_index.build import MANIFEST, PRINCIPLES, VECTORS, Manifest
from principles_index.encoders import Vectors
from principles_index.facets import FacetModel
from principles_index.ranking import Ranker
from principles_index.schema import Library
from service.domain import Facets, Match
from service.errors import IndexInvalid


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
    """The library, its unit vectors of shape (vectors, dimension) in the order of `vector_texts`, and what they yield."""

    def __init__(self, library: Library, vectors: Vectors, version: str) -> None:
        self.library = library
        self.vectors = vectors
        self.version = version
        is_exemplar = np.array([i > 0 for p in library.principles for i in range(1 + len(p.exemplars))])
        if len(is_exemplar) != len(vectors):
            raise IndexInvalid(f"the index holds {len(vectors)} vectors where its principles need {len(is_exemplar)}")
        self._facets = FacetModel(vectors[is_exemplar], [e for p in library.principles for e in p.exemplars])
        self._ranker = Ranker(library.principles, vectors)

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
        return cls(library, vectors.reconstruct_n(0, vectors.ntotal), manifest.version)

    def search(self, query: Vectors, k: int, filters: Filters = Filters()) -> Found:
        """The `k` best principles for a query vector of shape (dimension,), best first, always-on ones not counted."""
        facets = self._facets.estimate(query)
        ranked = self._ranker.ranked(query, facets)
        named = {*filters.include, *filters.exclude}
        matches = [match for match in ranked if match.principle.id not in named][:k]
        requested = [
            Match(self.library.by_id[i], None, "requested") for i in filters.include if i in self.library.by_id
        ]
        return Found((*requested, *matches), facets)


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

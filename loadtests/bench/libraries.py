"""Libraries made from the built-in one: larger ones, of copies whose vectors are moved, and one with exemplars held back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np

from principles_index.encoders import Vectors
from principles_index.schema import Library
from service.domain import Principle

_HELD_BACK = 10  # every tenth exemplar


def noise_of(cosine: float, dimension: int) -> float:
    """Standard deviation a component that moves a unit vector to that cosine on average: 1/sqrt(1 + dimension s²)."""
    return float(np.sqrt((1 / cosine**2 - 1) / dimension))


def perturbed(vectors: Vectors, noise: float, chance: np.random.Generator) -> Vectors:
    """Unit vectors, each with Gaussian noise of that standard deviation in every component."""
    moved = vectors + noise * chance.standard_normal(vectors.shape, dtype=np.float32)
    unit: Vectors = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return unit.astype(np.float32)


def grown(principles: Sequence[Principle], vectors: Vectors, size: int, noise: float) -> tuple[Library, Vectors]:
    """A library of `size` vectors or just below, which ends with a whole principle. The first round is as it is."""
    chance = np.random.default_rng(0)
    ends = np.cumsum([1 + len(p.exemplars) for p in principles])
    found: list[Principle] = []
    rows: list[Vectors] = []
    held = 0
    for number, (place, principle) in enumerate(cycle(enumerate(principles))):
        count = 1 + len(principle.exemplars)
        if held + count > size:
            break
        own = vectors[ends[place] - count : ends[place]]
        copy = number // len(principles)
        found.append(principle.model_copy(update={"id": f"{principle.id}-{copy}"}) if copy else principle)
        rows.append(perturbed(own, noise, chance) if copy else own)
        held += count
    return Library.of(found), np.concatenate(rows)


def held_back(library: Library, vectors: Vectors) -> tuple[Library, Vectors, Vectors]:
    """Every tenth exemplar is taken out of the library and asks."""
    kept, keep, row, seen = [], np.ones(len(vectors), dtype=bool), 0, 0
    for principle in library.principles:
        exemplars = []
        for exemplar in principle.exemplars:
            row, seen = row + 1, seen + 1
            if seen % _HELD_BACK:
                exemplars.append(exemplar)
            else:
                keep[row] = False
        row += 1
        kept.append(principle.model_copy(update={"exemplars": tuple(exemplars)}))
    return Library.of(kept), vectors[keep], vectors[~keep]

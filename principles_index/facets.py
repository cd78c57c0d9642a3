"""What kind of message this is: ridge regression from a message's vector to the labels of the exemplars.

It is solved when the index is loaded, from what the index holds anyway; docs/decisions/0004-facets.md says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from principles_index.encoders import Vectors
from service.domain import FACET_VALUES, Exemplar, Expertise, Facets, Task, Uncertainty, Urgency

_RIDGE = 3.0  # weight of the penalty on the squared coefficients, beside one squared error per exemplar
_COLUMNS = [(name, value) for name, values in FACET_VALUES.items() for value in values]


class FacetModel:
    """One linear score per facet value. Least squares on 0/1 labels makes a score estimate the value's probability."""

    def __init__(self, vectors: Vectors, exemplars: Sequence[Exemplar]) -> None:
        """`vectors`: shape (exemplars, dimension), row by row those of `exemplars`."""
        labels = np.array([[getattr(e, name) == value for name, value in _COLUMNS] for e in exemplars], dtype=float)
        mean, common = vectors.mean(axis=0, dtype=float), labels.mean(axis=0)
        centred = vectors - mean
        gram = centred.T @ centred + _RIDGE * np.eye(vectors.shape[1])
        self._weights = np.linalg.solve(gram, centred.T @ (labels - common))
        self._bias = common - mean @ self._weights
        # A common value would win by being common; the square root keeps a rare one from winning by being rare.
        self._rarity = 1 / np.sqrt(np.maximum(common, 1 / len(exemplars)))

    def estimate(self, query: Vectors) -> Facets:
        """The facets of a query vector of shape (dimension,), each with its share of the scores, in [0, 1]."""
        scores = np.maximum(query @ self._weights + self._bias, 0.0) * self._rarity
        winners: dict[str, str] = {}
        confidence: dict[str, float] = {}
        start = 0
        for name, values in FACET_VALUES.items():
            shares = scores[start : start + len(values)]  # never all zero: before the cut at zero a facet's sum is one
            start += len(values)
            winner = int(shares.argmax())
            winners[name] = values[winner]
            confidence[name] = round(float(shares[winner] / shares.sum()), 4)
        return Facets(
            cast(Urgency, winners["urgency"]),
            cast(Uncertainty, winners["uncertainty"]),
            cast(Expertise, winners["expertise"]),
            cast(Task, winners["task"]),
            confidence,
        )

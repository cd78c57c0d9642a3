"""How well the index does on its own exemplars, each judged as if it had not been written, per language.

Facets are judged with all exemplars of the same principle left out (they are much alike, and would vote for each
other); retrieval with that one exemplar left out, and with those facets. Nothing but the index is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from principles_index.encoders import Vectors
from principles_index.evaluate import is_emergency, macro_f1, share
from principles_index.facets import FacetModel
from principles_index.index import PrincipleIndex
from principles_index.ranking import Ranker
from principles_index.schema import Library
from service.domain import FACET_VALUES, Exemplar, Facets

_ROW_FROM = 10  # a language with fewer exemplars shares the row "rest"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the index makes of an exemplar it has not seen. `hit`: its own principle is among those retrieved."""

    exemplar: Exemplar
    facets: Facets
    hit: bool | None  # None: the principle is always on and never retrieved
    emergency: bool  # an emergency principle is among those retrieved


def held_out(library: Library, vectors: Vectors, k: int = 8) -> list[HeldOut]:
    """One result per exemplar, in the library's order. `vectors` are those of a built index, in `vector_texts` order."""
    results = []
    sizes = [1 + len(p.exemplars) for p in library.principles]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    first_rows = np.cumsum([0, *sizes[:-1]])
    is_exemplar = np.ones(len(vectors), dtype=bool)
    is_exemplar[first_rows] = False
    for place, principle in enumerate(library.principles):
        others = [e for p in library.principles if p is not principle for e in p.exemplars]
        model = FacetModel(vectors[is_exemplar & (owners != place)], others)
        for number, exemplar in enumerate(principle.exemplars):
            row = first_rows[place] + 1 + number
            rest = tuple(e for e in principle.exemplars if e is not exemplar)
            principles = list(library.principles)
            principles[place] = principle.model_copy(update={"exemplars": rest})
            facets = model.estimate(vectors[row])
            ranked = Ranker(principles, np.delete(vectors, row, axis=0)).ranked(vectors[row], facets)
            found = [match.principle for match in ranked[:k]]
            hit = None if principle.always else principle.id in {p.id for p in found}
            results.append(HeldOut(exemplar, facets, hit, any(is_emergency(p) for p in found)))
    return results


def rates(results: Sequence[HeldOut]) -> dict[str, float | None]:
    """`hit`, the macro F1 of each facet, and how often urgent and harmless messages retrieve an emergency principle."""
    hits = [r.hit for r in results if r.hit is not None]
    return {
        "hit": share(hits),
        **{
            name: macro_f1([(getattr(r.exemplar, name), getattr(r.facets, name)) for r in results])
            for name in FACET_VALUES
        },
        "recall": share([r.emergency for r in results if r.exemplar.urgency == "emergent"]),
        "false_alarm": share([r.emergency for r in results if r.exemplar.urgency == "non-emergent"]),
    }


def table(index: PrincipleIndex) -> str:
    """The figures in Markdown: all exemplars, then language by language, the most frequent first."""
    results = held_out(index.library, index.vectors)
    counts = Counter(r.exemplar.lang for r in results)
    languages = [lang for lang, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= _ROW_FROM]
    groups = {"all": results}
    groups |= {lang: [r for r in results if r.exemplar.lang == lang] for lang in languages}
    groups["rest"] = [r for r in results if r.exemplar.lang not in languages]
    heads = ["language", "exemplars", "hit rate@8", *(f"{name} F1" for name in FACET_VALUES)]
    heads += ["emergency recall", "false alarm"]
    lines = [heads, ["---"] * len(heads)]
    lines += [
        [name, str(len(group)), *("" if v is None else f"{v:.2f}" for v in rates(group).values())]
        for name, group in groups.items()
        if group
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""Measures facets and emergency retrieval on labelled conversations in HealthBench's form. It never trains on them."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from principles_index.embed import query_text
from principles_index.encoders import Encoder
from principles_index.index import PrincipleIndex
from service.domain import Conversation, Principle

_TAG = "physician_agreed_category:"
_LABELS: Mapping[str, Mapping[str, str]] = {
    "urgency": {
        "emergent": "emergent",
        "conditionally-emergent": "conditional",
        "non-emergent": "non-emergent",
    },
    "expertise": {"health-professional": "professional", "not-health-professional": "lay"},
    "uncertainty": {
        "no-uncertainty": "none",
        "any-reducible-uncertainty": "reducible",
        "only-irreducible-uncertainty": "irreducible",
    },
    "context": {"enough-context": "enough", "not-enough-context": "not-enough"},
}
_RESAMPLES = 1000


def evaluate(file: Path, index: PrincipleIndex, encoder: Encoder, k: int = 8) -> dict[str, Any]:
    """Macro F1 of each facet with a 95 % bootstrap interval, and emergency recall among the *retrieved* principles.

    An always-on principle never counts as retrieved. Raises OSError when the file cannot be read.
    """
    pairs: dict[str, list[tuple[str, str]]] = {name: [] for name in _LABELS}
    emergencies: dict[str, list[bool]] = {"emergent": [], "non-emergent": []}
    embedding, searching = [], []
    for conversation, row in rows(file):
        categories = _categories(row)
        start = time.perf_counter()
        vector = encoder.encode([query_text(conversation)])[0]
        middle = time.perf_counter()
        found = index.search(vector, k)
        embedding.append(middle - start)
        searching.append(time.perf_counter() - middle)
        for name, labels in _LABELS.items():
            pairs[name] += [(labels[c], getattr(found.facets, name)) for c in categories if c in labels]
        for kind, hits in emergencies.items():
            if kind in categories:
                hits.append(any(is_emergency(match.principle) for match in found.matches))
    return {
        "facets": {name: _scored(rows) for name, rows in pairs.items()},
        "emergency": {
            "recall": _rounded(share(emergencies["emergent"])),
            "false_alarm": _rounded(share(emergencies["non-emergent"])),
            "n": len(emergencies["emergent"]) + len(emergencies["non-emergent"]),
        },
        "timings_ms": {
            "embed_p50": _milliseconds(embedding, 50),
            "embed_p99": _milliseconds(embedding, 99),
            "search_p50": _milliseconds(searching, 50),
            "search_p99": _milliseconds(searching, 99),
        },
    }


def rows(file: Path) -> Iterator[tuple[Conversation, Mapping[str, Any]]]:
    """The conversations of a file in HealthBench's form, JSON lines in gzip or plain, each with its whole row."""
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
        for line in lines:
            if line.strip():
                row = orjson.loads(line)
                yield Conversation.of(*((turn["role"], turn["content"]) for turn in row["prompt"])), row


def _categories(row: Mapping[str, Any]) -> set[str]:
    return {tag.removeprefix(_TAG) for tag in row.get("example_tags", ()) if tag.startswith(_TAG)}


def is_emergency(principle: Principle) -> bool:
    return principle.theme == "emergency" and "emergent" in principle.facets.urgency


def macro_f1(pairs: Sequence[tuple[str, str]]) -> float:
    """Mean F1 over the labels that occur among the truths; 0 for a label never predicted right."""
    scores = []
    for label in {truth for truth, _ in pairs}:
        hit = sum(t == p == label for t, p in pairs)
        wrong = sum((t == label) != (p == label) for t, p in pairs)
        scores.append(2 * hit / (2 * hit + wrong))
    return float(np.mean(scores)) if scores else 0.0


def _scored(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    if not pairs:
        return {"macro_f1": None, "low": None, "high": None, "n": 0}
    random = np.random.default_rng(0)
    samples = [macro_f1([pairs[i] for i in random.integers(0, len(pairs), len(pairs))]) for _ in range(_RESAMPLES)]
    low, high = (float(bound) for bound in np.percentile(samples, [2.5, 97.5]))
    return {"macro_f1": round(macro_f1(pairs), 3), "low": round(low, 3), "high": round(high, 3), "n": len(pairs)}


def share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _milliseconds(seconds: Sequence[float], percentile: float) -> float | None:
    return round(float(np.percentile(seconds, percentile)) * 1000, 3) if seconds else None

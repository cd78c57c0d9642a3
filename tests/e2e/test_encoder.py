"""The packaged encoder finds the same through ONNX Runtime as through sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from principles_index.build import build
from principles_index.encoders import SentenceEncoder, load_encoder
from principles_index.index import PrincipleIndex
from principles_index.schema import load_library
from scripts.model import encoder_folder, source_encoder


def test_the_vectors_and_all_matches_are_the_same(tmp_path: Path) -> None:
    exported, reference = load_encoder(str(encoder_folder())), SentenceEncoder(str(source_encoder()))
    library = load_library()
    texts = [exemplar.text for principle in library.principles for exemplar in principle.exemplars]
    ours, theirs = exported.encode(texts), reference.encode(texts)
    assert np.abs(ours - theirs).max() < 1e-5
    assert exported.fingerprint != reference.fingerprint
    indexes = []
    for name, encoder in (("onnx", exported), ("torch", reference)):
        build(library, encoder, name, tmp_path / name)
        indexes.append(PrincipleIndex.load(tmp_path / name, encoder_fingerprint=encoder.fingerprint))
    for our, their in zip(ours[::5], theirs[::5], strict=True):
        found, expected = indexes[0].search(our, 8), indexes[1].search(their, 8)
        assert [m.principle.id for m in found.matches] == [m.principle.id for m in expected.matches]
        assert found.facets.urgency == expected.facets.urgency


@pytest.mark.parametrize("text", ["", "한국어 질문입니다", "x" * 5000])
def test_odd_texts_too(text: str) -> None:
    ours = load_encoder(str(encoder_folder())).encode([text])
    theirs = SentenceEncoder(str(source_encoder())).encode([text])
    assert np.abs(ours - theirs).max() < 1e-5

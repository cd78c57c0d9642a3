"""The encoder on ONNX Runtime, with a graph of three numbers a token whose vectors can be worked out by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from principles_index.encoders import GRAPH, LENGTH, MODULES, POOLING, TOKENIZER, OnnxEncoder, load_encoder
from principles_index.export import write_onnx
from service.errors import ConfigError

WORDS = {"[UNK]": 0, "rest": 1, "water": 2, "doctor": 3}
ROWS = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=np.float32)  # the "hidden state" of each word
KINDS = ("Transformer", "Pooling", "Normalize")


def write(folder: Path, *, pooling: dict[str, Any] | None = None, kinds: tuple[str, ...] = KINDS) -> Path:
    folder.mkdir(exist_ok=True)
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / TOKENIZER))
    (folder / MODULES).write_text(json.dumps([{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]))
    (folder / LENGTH).write_text(json.dumps({"max_seq_length": 4}))
    (folder / POOLING).parent.mkdir(exist_ok=True)
    (folder / POOLING).write_text(json.dumps(pooling or {"pooling_mode_mean_tokens": True}))
    (folder / GRAPH).parent.mkdir(exist_ok=True)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", "tokens"])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["texts", "tokens"])
    hidden = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["texts", "tokens", 3])
    rows = helper.make_tensor("rows", TensorProto.FLOAT, ROWS.shape, ROWS.ravel())
    node = helper.make_node("Gather", ["rows", "input_ids"], ["last_hidden_state"])
    graph = helper.make_graph([node], "words", [ids, mask], [hidden], [rows])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / GRAPH)
    return folder


def unit(*numbers: float) -> list[float]:
    length = sum(n * n for n in numbers) ** 0.5
    return [n / length for n in numbers]


def test_the_mean_of_a_texts_own_tokens_at_unit_length(tmp_path: Path) -> None:
    vectors = OnnxEncoder(write(tmp_path / "e")).encode(["rest", "rest water", "rest doctor doctor"])
    assert np.allclose(vectors, [unit(1, 0, 0), unit(1, 1, 0), unit(3, 2, 0)], atol=1e-6)
    assert vectors.dtype == np.float32


def test_or_the_first_token(tmp_path: Path) -> None:
    folder = write(tmp_path / "e", pooling={"pooling_mode": "cls"})
    assert np.allclose(OnnxEncoder(folder).encode(["water rest rest"]), [unit(0, 1, 0)])


def test_a_long_text_is_cut_to_what_the_encoder_reads(tmp_path: Path) -> None:
    encoder = OnnxEncoder(write(tmp_path / "e"))
    cut, whole = encoder.encode(["rest rest rest rest water water", "rest rest rest rest"])
    assert np.array_equal(cut, whole)


@given(texts=st.lists(st.lists(st.sampled_from(sorted(WORDS)[1:]), min_size=1, max_size=4), max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_text_has_the_same_vector_in_any_company(texts: list[list[str]], encoder: OnnxEncoder) -> None:
    together = encoder.encode([" ".join(words) for words in texts])
    assert together.shape == (len(texts), 3)
    for words, vector in zip(texts, together, strict=True):
        assert np.allclose(vector, encoder.encode([" ".join(words)])[0], atol=1e-6)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> OnnxEncoder:
    return OnnxEncoder(write(tmp_path_factory.mktemp("encoder")))


def test_the_fingerprint_changes_with_each_file_that_matters(tmp_path: Path) -> None:
    folder = write(tmp_path / "e")
    first = OnnxEncoder(folder).fingerprint
    assert OnnxEncoder(write(tmp_path / "same")).fingerprint == first
    (folder / LENGTH).write_text(json.dumps({"max_seq_length": 3}))
    assert OnnxEncoder(folder).fingerprint != first


@pytest.mark.parametrize(
    ("pooling", "kinds", "told"),
    [
        ({"pooling_mode": "max"}, KINDS, "pools by 'max'"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, KINDS, "other parts"),
        (None, ("Transformer", "Pooling", "Dense"), "other parts"),
    ],
)
def test_a_model_that_it_would_get_wrong_is_refused(
    tmp_path: Path, pooling: dict[str, Any] | None, kinds: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        load_encoder(str(write(tmp_path / "e", pooling=pooling, kinds=kinds)))


@pytest.mark.parametrize("file", [GRAPH, TOKENIZER, MODULES, LENGTH, POOLING])
def test_a_damaged_folder_is_one_sentence_that_names_it(tmp_path: Path, file: Path) -> None:
    folder = write(tmp_path / "e")
    (folder / file).write_bytes(b"{")
    with pytest.raises(ConfigError, match=r"'.*/e' cannot be loaded: give CLINALIGN_ENCODER a folder"):
        load_encoder(str(folder))


def test_a_folder_without_a_graph_is_for_sentence_transformers(tmp_path: Path) -> None:
    folder = write(tmp_path / "e")
    (folder / GRAPH).unlink()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder(str(folder))


def test_only_a_folder_of_sentence_transformers_is_exported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks tokenizer\.json: give the folder"):
        write_onnx(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_an_export_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "e")
    (tmp_path / "e" / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"onnxscript is not installed: pip install 'clinalign-serve\[export\]'"):
        write_onnx(tmp_path / "e", tmp_path / "out")

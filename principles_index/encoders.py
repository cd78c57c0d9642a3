"""Text to vectors: a sentence-transformers model, run by ONNX Runtime where its graph lies beside it, else by torch.

docs/decisions/0010-the-encoder-runs-on-onnx.md says why: the same vectors in half the time and a fifth of the memory.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from service.errors import ConfigError

Vectors = npt.NDArray[np.float32]

GRAPH = Path("onnx") / "model.onnx"  # where sentence-transformers and model hubs keep it
TOKENIZER, MODULES, LENGTH, POOLING = (
    Path("tokenizer.json"),
    Path("modules.json"),
    Path("sentence_bert_config.json"),
    Path("1_Pooling") / "config.json",
)
_BATCH = 32
_SIDE_BY_SIDE = 8  # texts of like length in one run: more wins nothing on a CPU, and all are padded to the longest


class Encoder(Protocol):
    @property
    def fingerprint(self) -> str:
        """Changes whenever the vectors would."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), dimension), float32."""
        ...


class SentenceEncoder:
    """A sentence-transformers model on the CPU. `name` is a folder or a hub id; remote code is never trusted."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        try:
            self._model = SentenceTransformer(
                name, device="cpu", trust_remote_code=False, local_files_only=Path(name).is_dir()
            )
        except Exception as error:
            raise ConfigError(
                f"the encoder {name!r} cannot be loaded: give CLINALIGN_ENCODER a folder that holds one"
            ) from error
        self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(str(self._model.max_seq_length).encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = self._model.encode(
            list(texts), batch_size=_BATCH, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


class OnnxEncoder:
    """A sentence-transformers folder with `onnx/model.onnx`, run by ONNX Runtime on the CPU.

    The graph gives one vector a token; they are pooled (mean or first token, as `1_Pooling` says) and made unit length.
    The vectors are those of sentence-transformers to 1e-6. Raises ConfigError when the folder holds something else.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads leave the core to others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._pooling = _pooling(folder)
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(_max_tokens(folder))
            self._session = onnxruntime.InferenceSession(
                str(folder / GRAPH), options, providers=["CPUExecutionProvider"]
            )
            self.fingerprint = _fingerprint(folder)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"the encoder {str(folder)!r} cannot be loaded: give CLINALIGN_ENCODER a folder that holds one"
            ) from error
        self._inputs = {i.name for i in self._session.get_inputs()}
        self._dimension = int(self._session.get_outputs()[0].shape[-1])

    def encode(self, texts: Sequence[str]) -> Vectors:
        tokens = [self._tokenizer.encode(text).ids for text in texts]  # not encode_batch: it starts a pool of threads
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        vectors = np.empty((len(tokens), self._dimension), dtype=np.float32)
        for start in range(0, len(order), _SIDE_BY_SIDE):
            rows = order[start : start + _SIDE_BY_SIDE]
            vectors[rows] = self._run([tokens[i] for i in rows])
        return vectors

    def _run(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        ids = np.zeros((len(tokens), max(map(len, tokens))), dtype=np.int64)  # what pads is masked: its id is no matter
        mask = np.zeros_like(ids)
        for row, found in enumerate(tokens):
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden: Vectors = self._session.run(None, {k: v for k, v in given.items() if k in self._inputs})[0]
        pooled = hidden[:, 0] if self._pooling == "cls" else _mean(hidden, mask)
        unit: Vectors = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return unit


def _mean(hidden: Vectors, mask: npt.NDArray[np.int64]) -> Vectors:
    """The mean over a text's own tokens: shapes (texts, tokens, dimension) and (texts, tokens)."""
    weights = mask.astype(np.float32)
    mean: Vectors = np.einsum("btd,bt->bd", hidden, weights) / weights.sum(axis=1, keepdims=True)
    return mean


def _pooling(folder: Path) -> Literal["mean", "cls"]:
    kinds = [module["type"].rsplit(".", 1)[-1] for module in json.loads((folder / MODULES).read_text("utf-8"))]
    config: dict[str, Any] = json.loads((folder / POOLING).read_text("utf-8"))
    # Newer folders name it (`pooling_mode: "mean"`), older ones set one flag of many.
    named = config.get("pooling_mode")
    modes = [named] if named else [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    known: dict[str, Literal["mean", "cls"]] = {
        "mean": "mean",
        "cls": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
    }
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or len(modes) != 1:
        raise ConfigError(f"the encoder {str(folder)!r} has other parts than a transformer and one pooling")
    if modes[0] not in known:
        raise ConfigError(f"the encoder {str(folder)!r} pools by {modes[0]!r}; only mean and cls are known")
    return known[modes[0]]


def _max_tokens(folder: Path) -> int:
    return int(json.loads((folder / LENGTH).read_text("utf-8"))["max_seq_length"])


def _fingerprint(folder: Path) -> str:
    """Of every file that the vectors hinge on; weights beside the graph (over 2 GB) too."""
    digest = hashlib.sha256()
    graph = sorted((folder / GRAPH.parent).glob(f"{GRAPH.name}*"))
    for file in (*graph, *(folder / name for name in (TOKENIZER, MODULES, LENGTH, POOLING))):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def load_encoder(name: str, *, threads: int = 1) -> Encoder:
    """ONNX Runtime where the folder holds a graph, otherwise sentence-transformers where it is installed."""
    if (Path(name) / GRAPH).is_file():
        return OnnxEncoder(Path(name), threads=threads)
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ConfigError(
            f"the encoder {name!r} holds no onnx/model.onnx: make one with `python -m principles_index export`, "
            "or install sentence-transformers"
        )
    return SentenceEncoder(name, threads=threads)

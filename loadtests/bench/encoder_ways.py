"""The ways to run the encoder's weights that `loadtests.bench.encoders` compares, each a small function.

Run as `python -m loadtests.bench.encoder_ways NAME FOLDER` it loads one and prints what that took; `int8` wrote FOLDER.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from principles_index.encoders import GRAPH, LENGTH, TOKENIZER, OnnxEncoder, SentenceEncoder, Vectors
from scripts.model import encoder_folder, source_encoder

Integers = npt.NDArray[np.int64]
Encode = Callable[[Sequence[str]], Vectors]

BASELINE = "sentence-transformers"
SERVED = "onnx fp32"
INT8 = "onnx int8"
SIDE_BY_SIDE = 8  # texts of like length in one run


def ways(quantised: Path | None) -> dict[str, Callable[[], Encode]]:
    """By name, what loads it. `quantised`: the folder that `int8` wrote, if it could."""
    found: dict[str, Callable[[], Encode]] = {
        BASELINE: lambda: SentenceEncoder(str(source_encoder())).encode,
        "torch fp32": partial(lean_torch, source_encoder(), "float32"),
        "torch bf16": partial(lean_torch, source_encoder(), "bfloat16"),
        SERVED: lambda: OnnxEncoder(encoder_folder()).encode,
    }
    if quantised is not None:
        found[INT8] = lambda: OnnxEncoder(quantised).encode
    return found


def int8(served: Path, out: Path) -> Path | None:
    """The served folder with weights in int8, a scale per channel, activations quantised as they come.

    None where the package onnx is missing.
    """
    if importlib.util.find_spec("onnx") is None:
        return None
    from onnxruntime.quantization import QuantType, quantize_dynamic

    shutil.copytree(served, out)
    quantize_dynamic(
        served / GRAPH, out / GRAPH, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"]
    )
    return out


class Tokens:
    """A folder's tokeniser, cut at the encoder's length. One text at a time: a batch would start a pool of threads."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(json.loads((folder / LENGTH).read_text("utf-8"))["max_seq_length"])

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids


def cut(tokens: Callable[[str], list[int]], words: Sequence[str], length: int) -> str:
    """As many of the words as fit, filled up with a word of one token to exactly `length` tokens, the most or fewer."""
    text = ""
    for word in words:
        longer = f"{text} {word}" if text else word
        if len(tokens(longer)) >= length:  # not more than: at the encoder's length all longer texts are cut
            break
        text = longer
    return text + " a" * (length - len(tokens(text)))


def lean_torch(folder: Path, dtype: str, side_by_side: int = SIDE_BY_SIDE) -> Encode:
    """The same weights without what sentence-transformers does around them, `dtype` as torch names it."""
    import torch
    from transformers import AutoModel

    torch.set_num_threads(1)
    model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=getattr(torch, dtype)).eval()

    def run(ids: Integers, mask: Integers) -> Vectors:
        with torch.inference_mode():
            hidden = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        vectors: Vectors = hidden.float().numpy()
        return vectors

    return batched(Tokens(folder), run, side_by_side)


def batched(
    tokens: Callable[[str], list[int]], run: Callable[[Integers, Integers], Vectors], side_by_side: int
) -> Encode:
    """Unit means of what `run` gives: from ids and mask, shape (texts, tokens), a vector a token."""

    def encode(texts: Sequence[str]) -> Vectors:
        ids = [tokens(text) for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        parts = [order[start : start + side_by_side] for start in range(0, len(order), side_by_side)]
        pooled = np.concatenate([_unit_means(run, [ids[i] for i in part]) for part in parts])
        vectors: Vectors = pooled[np.argsort(order)]
        return vectors

    return encode


def _unit_means(run: Callable[[Integers, Integers], Vectors], ids: Sequence[Sequence[int]]) -> Vectors:
    padded = np.zeros((len(ids), max(map(len, ids))), dtype=np.int64)
    mask = np.zeros_like(padded)
    for row, found in enumerate(ids):
        padded[row, : len(found)], mask[row, : len(found)] = found, 1
    sums = np.einsum("btd,bt->bd", run(padded, mask), mask.astype(np.float32))  # a mean's direction is the sum's
    unit: Vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return unit


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text("utf-8")
    return round(int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024, 1)


def main(name: str, quantised: str) -> int:
    load = ways(Path(quantised))[name]
    start = time.perf_counter()
    load()(["How long does a cold last?"])
    print(json.dumps({"seconds": round(time.perf_counter() - start, 2), "resident_mb": _resident_mb()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""An encoder's graph for ONNX Runtime, written once from its sentence-transformers folder. Needs the extra `export`."""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

from principles_index.encoders import GRAPH, LENGTH, MODULES, POOLING, TOKENIZER
from service.errors import ConfigError

COPIED = (TOKENIZER, MODULES, LENGTH, POOLING, Path("config.json"))


def write_onnx(source: Path, out: Path) -> None:
    """Makes `out`, a folder for `OnnxEncoder`, from a sentence-transformers folder. Takes ten seconds; same bytes again.

    The graph takes `input_ids` and `attention_mask`, int64 of shape (texts, tokens), and gives `last_hidden_state`. Raises
    ConfigError where `source` is no such folder or the extra `export` is not installed.
    """
    if missing := [str(name) for name in COPIED if not (source / name).is_file()]:
        raise ConfigError(f"{source} lacks {missing[0]}: give the folder of a sentence-transformers model")
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter wants it
        import torch
        from transformers import AutoModel
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'clinalign-serve[export]'") from error

    class Tokens(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(
                source, local_files_only=True, dtype=torch.float32, attn_implementation="eager"
            ).eval()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    (out / GRAPH).parent.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, out / name)
    example = torch.ones((2, 16), dtype=torch.int64)
    sizes = {0: torch.export.Dim("texts", min=1, max=1024), 1: torch.export.Dim("tokens", min=2, max=512)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        program = torch.onnx.export(
            Tokens(),
            (example, example.clone()),  # one tensor twice would become one input
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamic_shapes=(sizes, sizes),
            opset_version=20,
            dynamo=True,
            verbose=False,
        )
    graph = program.model_proto
    for node in graph.graph.node:  # stack traces with the paths of this machine
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        value.ClearField("metadata_props")
    graph.ClearField("metadata_props")
    graph.graph.ClearField("metadata_props")
    (out / GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(out / GRAPH))

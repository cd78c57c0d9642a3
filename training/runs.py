"""A run's folder, and how a killed run goes on: from its newest checkpoint that was written to the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import orjson

from training.data import write_atomically, write_json
from training.errors import DataError

RUN, METRICS, CHECKPOINTS, MODEL = "run.json", "metrics.jsonl", "checkpoints", "model"
COMPLETE = "complete.json"  # stands in a checkpoint that was written to the end
ADAPTER = "adapter_config.json"  # stands in MODEL where that is an adapter
# What a checkpoint holds besides the model: the trainer's state, DeepSpeed's among it.
_STATE = (COMPLETE, "optimizer*", "scheduler*", "rng_state*", "scaler*", "trainer_state.json", "training_args.bin",
          "global_step*", "latest", "zero_to_fp32.py")  # fmt: skip


def prepare(run: Path, begun_with: dict[str, Any]) -> Path | None:
    """Makes the run's folder or, where it is there, the newest whole checkpoint to go on from, all later traces cut off."""
    file = run / RUN
    if file.is_file():
        if json.loads(file.read_text()) != begun_with:
            raise DataError(
                f"{run} was begun with another profile or other questions: take another folder, or remove it"
            )
    else:
        write_json(file, begun_with)
    whole: dict[int, Path] = {}
    for folder in (run / CHECKPOINTS).glob("checkpoint-*"):
        if (folder / COMPLETE).is_file():
            whole[step_of(folder)] = folder
        else:
            shutil.rmtree(folder)  # a kill caught it half written
    step = max(whole, default=0)
    cut_metrics(run / METRICS, step)
    return whole.get(step)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def publish(run: Path) -> Path:
    """`run/model`, from the newest whole checkpoint, as a whole or not at all. Raises DataError where there is none."""
    whole = [f.parent for f in (run / CHECKPOINTS).glob(f"checkpoint-*/{COMPLETE}")]
    if not whole:
        raise DataError(f"{run} has no checkpoint that was written to the end")
    staging = run / f".{MODEL}"
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(max(whole, key=step_of), staging, ignore=shutil.ignore_patterns(*_STATE))
    shutil.rmtree(run / MODEL, ignore_errors=True)
    return staging.rename(run / MODEL)


def cut_metrics(file: Path, step: int) -> None:
    """Drops the rows after `step`, which will be made again, and a last one that a kill tore."""
    if not file.is_file():
        return
    kept = []
    for line in file.read_bytes().splitlines(keepends=True):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            break
        if row["step"] <= step:
            kept.append(line)
    write_atomically(file, b"".join(kept))

"""Rubrics as verl reads them: one parquet row a question.

    python -m training.cluster.data RUN/rubrics-train.jsonl RUN/rubrics-heldout.jsonl --out DIR

Columns (verl's, `docs/preparation/prepare_data` there): `prompt` is the chat; `data_source` names the source, by which
verl groups its validation metrics; `reward_model.ground_truth` must be there and is empty, since a rubric has no one right
answer; `extra_info.rubric` is the whole rubric as JSON: as Arrow columns its optional fields would come back as nulls and
its criteria would all get each other's fields.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from training.data import Rubric, Split, read_rows
from training.errors import DataError, TrainingError

SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([("index", pa.int64()), ("question", pa.string()), ("rubric", pa.string())])),
    ]
)


def verl_row(index: int, rubric: Rubric) -> dict[str, Any]:
    """One row. `index` is its place in the file, which verl shows in traces."""
    return {
        "data_source": rubric.question.source,
        "prompt": [turn.model_dump() for turn in rubric.question.messages],
        "reward_model": {"style": "rubric", "ground_truth": ""},
        "extra_info": {
            "index": index,
            "question": rubric.question.id,
            "rubric": rubric.model_dump_json(exclude_defaults=True),
        },
    }


def rubric_of(extra_info: Mapping[str, Any] | None) -> Rubric:
    """The rubric of a row. Raises DataError with the question's id, never its text."""
    told = extra_info or {}
    question = told.get("question") or "without an id"
    if not told.get("rubric"):
        raise DataError(f"question {question}: no rubric in extra_info; make the files with training.cluster.data")
    try:
        return Rubric.model_validate_json(told["rubric"])
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "rubric"
        raise DataError(f"question {question}, {place}: {problem['msg']}") from None


def write_parquet(rubrics: Sequence[Rubric], file: Path) -> None:
    """Atomic. Raises DataError for no rows: verl would end in an error that says something else."""
    if not rubrics:
        raise DataError(f"{file}: no rubrics to write")
    file.parent.mkdir(parents=True, exist_ok=True)
    staging = file.with_name(f".{file.name}.partial")
    try:
        rows = [verl_row(index, rubric) for index, rubric in enumerate(rubrics)]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), staging, compression="zstd")
        staging.replace(file)
    finally:
        staging.unlink(missing_ok=True)


def convert(files: Sequence[Path], out: Path) -> dict[Split, int]:
    """`out/train.parquet` and `out/heldout.parquet` from files of rubrics, by each question's split. Returns their rows."""
    rows = [row for file in files for row in read_rows(file, Rubric)]
    by_split = {split: [row for row in rows if row.question.split == split] for split in get_args(Split)}
    for split, kept in by_split.items():
        write_parquet(kept, out / f"{split}.parquet")
    return {split: len(kept) for split, kept in by_split.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="training.cluster.data", description="Rubrics as parquet files for verl.")
    parser.add_argument("rubrics", type=Path, nargs="+", help="JSON lines of rubrics, plain or gzip")
    parser.add_argument("--out", type=Path, required=True, help="folder for train.parquet and heldout.parquet")
    options = parser.parse_args(arguments)
    try:
        counts = convert(options.rubrics, options.out)
    except TrainingError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{counts['train']} questions to train on, {counts['heldout']} held out\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What it costs to embed a text, and whether a cheaper way finds the same: `python -m loadtests.bench.encoders`.

Five ways of running the encoder's weights, on one core: sentence-transformers (the baseline), a lean call of the same
weights in float32 and in bfloat16, ONNX Runtime as it is served, and ONNX Runtime in int8 where the package onnx is there.
They are measured in turns, in CPU time, so that what disturbs the machine disturbs all of them alike. Faithful is what
retrieves the same principles, facets and verdicts on relevance as the baseline: each way builds an index of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from loadtests.bench.columns import columns
from loadtests.bench.cores import only_on
from loadtests.bench.encoder_fidelity import Front, Texts, fidelity, pairs_of
from loadtests.bench.encoder_ways import BASELINE, INT8, Encode, Tokens, cut, int8, lean_torch, ways
from loadtests.bench.report import chosen, give
from loadtests.bench.stack import QUESTIONS, questions
from principles_index.embed import Embedder
from scripts.child import OFFLINE
from scripts.common import ROOT, Failure, fail
from scripts.model import encoder_folder, source_encoder

ANSWERS = QUESTIONS.with_name("questions_w_answers.jsonl")
LABELLED = Path("../shared/data/healthbench-dev/healthbench_dev.jsonl.gz")
SHAPES = ((1, 16), (1, 32), (1, 64), (1, 128), (1, 256), (8, 32), (32, 32), (32, 64))  # texts, tokens each
CLIENTS = 64
NAMES = (*ways(None), INT8)


def measure(
    texts: Texts, *, only: Sequence[str] = (), rounds: int = 5, asked: int = 800, compare: bool = True
) -> dict[str, Any]:
    """The report. `rounds` of turns for the times; `asked`: texts that the 64 clients embed. The baseline is always in."""
    os.environ |= {**OFFLINE, "TQDM_DISABLE": "1"}  # before transformers is imported
    served = encoder_folder()
    with tempfile.TemporaryDirectory() as scratch, only_on(max(os.sched_getaffinity(0))):
        quantised = int8(served, Path(scratch) / "int8")
        loaders = {n: load for n, load in ways(quantised).items() if not only or n in {*only, BASELINE}}
        encoders = {name: load() for name, load in loaders.items()}
        report: dict[str, Any] = {"encoder": served.name, "baseline": BASELINE}
        report["ms_per_text"] = times(encoders, shaped(Tokens(served), texts.questions), rounds)
        report["padding_ms"] = times(*_padding(texts), rounds)
        report["concurrent"] = {n: asyncio.run(concurrent(e, texts.questions, asked)) for n, e in encoders.items()}
        report["start"] = {name: _start(name, Path(scratch) / "int8") for name in encoders}
        if compare:
            report["fidelity"] = fidelity(encoders, texts)
    return report


# --- time -------------------------------------------------------------------------------------------------------


def shaped(tokens: Callable[[str], list[int]], texts: Sequence[str]) -> dict[str, list[str]]:
    """Batches of texts of exactly so many tokens, cut out of what people ask. The key of 8 texts of 32: `8 x 32`."""
    pieces = [word for text in texts for word in text.split()]
    return {
        f"{count} x {length}": [cut(tokens, pieces[(97 * i) % len(pieces) :] + pieces, length) for i in range(count)]
        for count, length in SHAPES
    }


def times(
    encoders: Mapping[str, Encode], batches: Mapping[str, Sequence[str]], rounds: int
) -> dict[str, dict[str, float]]:
    """Milliseconds of CPU a text, by encoder and batch: the median over the rounds, the first of which warms up."""
    spent: dict[str, dict[str, list[float]]] = {name: {shape: [] for shape in batches} for name in encoders}
    for turn in range(rounds + 1):
        for shape, texts in batches.items():
            for name, encode in encoders.items():
                start = time.process_time()
                encode(texts)
                if turn:
                    spent[name][shape].append((time.process_time() - start) / len(texts) * 1000)
    return {name: {shape: round(median(ms), 3) for shape, ms in by.items()} for name, by in spent.items()}


def _padding(texts: Texts) -> tuple[dict[str, Encode], dict[str, Sequence[str]]]:
    """A full batch of unequal texts, so many of like length at a time; 32 at a time pads all to the longest."""
    encoders = {f"{n} side by side": lean_torch(source_encoder(), "float32", n) for n in (1, 4, 8, 16, 32)}
    chance, asked, answers = random.Random(0), list(texts.questions), texts.answers
    batches: dict[str, Sequence[str]] = {"32 questions": chance.sample(asked, min(32, len(asked)))}
    if answers:
        half = min(16, len(answers), len(asked))
        batches["16 questions, 16 answers"] = chance.sample(asked, half) + chance.sample(answers, half)
    return encoders, batches


async def concurrent(encode: Encode, texts: Sequence[str], asked: int, clients: int = CLIENTS) -> dict[str, float]:
    """Wall time of `Embedder.embed` where each client asks again as soon as it is served."""
    embedder, waits = Embedder(Front(encode)), []
    chance = random.Random(0)
    left = iter([chance.choice(texts) for _ in range(asked)])

    async def client() -> None:
        for text in left:
            start = time.perf_counter()
            await embedder.embed(text, first=True)
            waits.append((time.perf_counter() - start) * 1000)

    start = time.perf_counter()
    try:
        await asyncio.gather(*(client() for _ in range(clients)))
    finally:
        embedder.close()
    p50, p99 = np.percentile(waits, [50, 99])
    seconds = time.perf_counter() - start
    return {"p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1), "per_second": round(asked / seconds, 1)}


def _start(name: str, quantised: Path) -> dict[str, float]:
    """Imports, loading and a first text in a process of its own."""
    command = [sys.executable, "-m", "loadtests.bench.encoder_ways", name, str(quantised)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"The encoder {name!r} cannot be started in a process of its own.")
    started: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return started


# --- report -----------------------------------------------------------------------------------------------------


def table(report: Mapping[str, Any]) -> str:
    """Times as ratios to the baseline, whose own row is in milliseconds."""
    base: Mapping[str, float] = report["ms_per_text"][BASELINE]
    names = list(report["ms_per_text"])
    lines = ["CPU time a text (texts x tokens): the baseline in ms, the others as a share of it"]
    lines += columns(
        [["", *base], [BASELINE, *(f"{ms:.2f} ms" for ms in base.values())]]
        + [[n, *(f"{report['ms_per_text'][n][s] / base[s]:.2f}" for s in base)] for n in names if n != BASELINE]
    )
    lines += ["", f"{CLIENTS} clients at once, and the start of a process"]
    head = ["", "p50 ms", "p99 ms", "texts/s", "start s", "memory MB"]
    lines += columns(
        [head]
        + [[n, *map(str, report["concurrent"][n].values()), *map(str, report["start"][n].values())] for n in names]
    )
    lines += ["", "A batch of unequal texts, CPU ms a text"]
    padding = report["padding_ms"]
    shapes = list(next(iter(padding.values())))
    lines += columns([["", *shapes]] + [[n, *(f"{by[s]:.2f}" for s in shapes)] for n, by in padding.items()])
    if "fidelity" in report:
        kept = ("cosine_off_max", "same_set", "same_order", "exchanged", "same_facets", "verdicts_changed")
        told = [[name, *(str(report["fidelity"][name][column]) for column in kept)] for name in names]
        lines += ["", "Against the baseline", *columns([["", *kept], *told])]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.encoders", description=__doc__)
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="a K-QA file")
    parser.add_argument("--answers", type=Path, default=ANSWERS, help="a K-QA file with answers; left out if missing")
    parser.add_argument("--labelled", type=Path, default=LABELLED, help="HealthBench's form; left out if missing")
    parser.add_argument(
        "--only", default="", metavar="NAME,NAME", help=f"of {', '.join(NAMES)}; the baseline always is"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-fidelity", action="store_true", help="times only")
    parser.add_argument("--out", type=Path, help="writes the report there as JSON")
    args = parser.parse_args(arguments)
    only = chosen(args.only, NAMES, parser, "way")
    try:
        asked = questions(args.questions, sys.maxsize)
        texts = Texts(asked, pairs_of(args.answers), args.labelled if args.labelled.is_file() else None)
        report = measure(texts, only=only, rounds=args.rounds, compare=not args.no_fidelity)
    except Failure as error:
        return fail(error)
    give(report, table(report), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

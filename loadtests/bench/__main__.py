"""`python -m loadtests.bench cost | heldout | healthbench`: what an answer costs, and what revision gains. Prints JSON.

Starts vLLM with the demonstration model; `UPSTREAM_URL` names a server to use instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from loadtests.bench import cost, healthbench, heldout
from loadtests.bench.stack import QUESTIONS, questions, upstream
from scripts.build_index import ensure_index
from scripts.common import LOGS, Failure, fail
from scripts.gateway import Gateway
from scripts.model import encoder_folder
from service.settings import load_settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("bench", choices=("cost", "heldout", "healthbench"))
    parser.add_argument("--questions", type=Path, help="a K-QA file, or for healthbench one of its own form")
    parser.add_argument("--most", type=int, help="questions asked (default: 32, of HealthBench all)")
    parser.add_argument("--out", type=Path, help="writes the report there too")
    args = parser.parse_args()
    try:
        if args.bench == "healthbench":
            report = _healthbench(args.questions or healthbench.FILE, args.most or sys.maxsize)
        else:
            asked = questions(args.questions or QUESTIONS, args.most or 32)
            with upstream() as url:
                report = _cost(url, asked) if args.bench == "cost" else _heldout(url, asked)
    except Failure as error:
        return fail(error)
    text = json.dumps(report, indent=2)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def _cost(url: str, asked: list[str]) -> dict[str, object]:
    with Gateway(url, ensure_index(), log=LOGS / "bench-gateway.log") as gateway:
        gateway.wait()
        return cost.measure(url, gateway.url, asked, least_revised=12)


def _healthbench(file: Path, most: int) -> dict[str, object]:
    if not file.is_file():
        raise Failure(f"{file} is missing: give a file in HealthBench's form with --questions.")
    with upstream() as url, Gateway(url, ensure_index(), log=LOGS / "bench-gateway.log") as gateway:
        gateway.wait()
        return healthbench.measure(url, gateway.url, file, most)


def _heldout(url: str, asked: list[str]) -> dict[str, object]:
    settings = load_settings(
        upstream={"url": url},
        index={"dir": ensure_index()},
        encoder=str(encoder_folder()),
        critic={"model_verdicts": False},
    )
    return asyncio.run(heldout.measure(settings, asked))


if __name__ == "__main__":
    sys.exit(main())

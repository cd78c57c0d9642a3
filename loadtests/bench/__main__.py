"""`python -m loadtests.bench NAME`: measures, prints a table, and writes JSON with --out. NAME is one of

cost         what an answer costs, in units of a draft alone
throughput   answers a minute with many clients, beside bare drafts
streaming    how soon a streaming client sees something
verdicts     what each way of asking for verdicts saves
heldout      what revision gains on checks that selection did not use
healthbench  HealthBench's score of drafts and of delivered answers
peers        cost beside other gateways and critiques in prose
overhead     what the gateway itself adds, beside other gateways
encoders     ways to run the encoder, and whether they find the same
index_scale  the index at up to 100,000 vectors
fit          the timing of a running server, for the stand-in

The first six start vLLM with the demonstration model; `UPSTREAM_URL` names a server to use instead. The others say with
--help what they take.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadtests.bench import (
    cost,
    encoders,
    fit,
    healthbench,
    heldout,
    index_scale,
    overhead,
    peers,
    streaming,
    throughput,
    verdicts,
)
from loadtests.bench.report import give
from loadtests.bench.stack import QUESTIONS, questions, upstream
from scripts.build_index import ensure_index
from scripts.common import LOGS, Failure, fail
from scripts.gateway import Gateway
from scripts.model import encoder_folder
from service.settings import Advice, Settings, load_settings

Report = dict[str, Any]
APART: dict[str, Callable[[Sequence[str]], int]] = {
    m.__name__.rpartition(".")[2]: m.main for m in (encoders, fit, index_scale, overhead, peers)
}


def main(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in APART:
        return APART[arguments[0]](arguments[1:])
    shown: dict[str, Callable[[Report], str] | None] = {
        "cost": cost.table,
        "throughput": throughput.table,
        "streaming": streaming.table,
        "verdicts": verdicts.table,
        "heldout": None,
        "healthbench": None,
    }
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", choices=(*shown, *APART), metavar="NAME")
    parser.add_argument("--questions", type=Path, help="a K-QA file, or for healthbench one of its own form")
    parser.add_argument("--most", type=int, help="questions asked (default: 24, heldout 32, of HealthBench all)")
    parser.add_argument("--clients", type=int, default=16, help="of throughput, at once (default: 16)")
    parser.add_argument("--rounds", type=int, default=1, help="of throughput (default: 1)")
    parser.add_argument("--out", type=Path, help="writes the report there too")
    args = parser.parse_args(arguments)
    try:
        report = _report(args)
    except Failure as error:
        return fail(error)
    table = shown[args.bench] or (lambda told: json.dumps(told, indent=2))
    give(report, table(report), args.out)
    return 0


def _report(args: argparse.Namespace) -> Report:
    if args.bench == "healthbench":
        return _healthbench(args.questions or healthbench.FILE, args.most or sys.maxsize)
    asked = questions(args.questions or QUESTIONS, args.most or (32 if args.bench == "heldout" else 24))
    with upstream() as url:
        match args.bench:
            case "heldout":
                return asyncio.run(heldout.measure(_settings(url, advice="never"), asked))
            case "verdicts":
                return asyncio.run(verdicts.measure(_settings(url, advice="always"), url, asked))
            case "streaming":
                with _gateway(url, cost.ONE) as one:
                    return streaming.measure(url, one, asked)
            case "cost":
                with _gateway(url, cost.ONE) as one, _gateway(url, cost.TWO) as two:
                    return cost.measure(url, {"one": one, "two": two}, asked)
        with (
            _gateway(url, cost.ONE) as one,
            _gateway(url, cost.ONE, advice="never") as one_by_rules,
            _gateway(url, cost.TWO, advice="never") as two_by_rules,
        ):
            gateways = {"one": one, "one by rules": one_by_rules, "two by rules": two_by_rules}
            return throughput.measure(url, gateways, asked, clients=args.clients, rounds=args.rounds)


@contextmanager
def _gateway(url: str, candidates: Sequence[str], *, advice: Advice = "always") -> Iterator[str]:
    settings = {"CLINALIGN_REVISION_CANDIDATES": json.dumps(candidates), "CLINALIGN_CRITIC_ADVICE": advice}
    log = LOGS / f"bench-gateway-{len(candidates)}-{advice}.log"
    with Gateway(url, ensure_index(), log=log, settings=settings) as gateway:
        gateway.wait()
        yield gateway.url


def _settings(url: str, *, advice: Advice) -> Settings:
    return load_settings(
        upstream={"url": url},
        index={"dir": ensure_index()},
        encoder=str(encoder_folder()),
        critic={"advice": advice},
    )


def _healthbench(file: Path, most: int) -> Report:
    if not file.is_file():
        raise Failure(f"{file} is missing: give a file in HealthBench's form with --questions.")
    with upstream() as url, Gateway(url, ensure_index(), log=LOGS / "bench-gateway.log") as gateway:
        gateway.wait()
        return healthbench.measure(url, gateway.url, file, most)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a gateway adds to an upstream that answers at once: `python -m loadtests.bench.overhead [--only NAME,NAME]`.

Every server has one core to itself, with all its threads; the upstream (loadtests.stub_vllm) and the load share another.
All are up for the whole run and are measured in turns, so that what disturbs the machine disturbs all of them alike; a
figure is the median over the rounds. CPU time a request is the steadiest of them on a busy machine. Every request has
another number in its question, so that no answer or embedding of it comes from a cache. `gateway auto` is judged by rules
alone, as is so by default while the model may only advise; `gateway verdicts` asks the model as well. `gateway limited` and
`gateway traced` are mode `off` with limits held in a Redis, and with every request traced to a collector.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadtests.bench.closed_loop import COUNTER, run
from loadtests.bench.cores import busy_seconds, cpu_seconds, only_on, two_cores
from loadtests.bench.overhead_rows import Cell, Row, figures, table
from loadtests.bench.report import chosen, give
from loadtests.peers import servers
from loadtests.peers.install import version_of
from loadtests.stub_instant import QUESTION
from scripts.build_index import ensure_index
from scripts.child import LOOPBACK, Child, free_port
from scripts.common import LOGS, Failure, fail
from scripts.gateway import Gateway
from scripts.tools import tool

_GATEWAYS = ("gateway off", "gateway limited", "gateway traced", "gateway auto", "gateway verdicts")
ROWS = ("direct", "bare", *_GATEWAYS, "litellm", "optillm none", "nemo")
MAX_TOKENS = 128
READY_S = 60.0


def measure(
    *, seconds: float = 5.0, rounds: int = 2, only: Sequence[str] = (), warmup_s: float = 1.0
) -> dict[str, Any]:
    """The report: a row a server, and why others are left out. Raises Failure where nothing can be measured."""
    core, other = two_cores()
    with ExitStack() as running:
        with only_on(other):
            stub, stub_url = start_stub()
        running.callback(stub.stop)
        stub.wait_ready(f"{stub_url}/v1/models", READY_S)
        starters = _starters(running, stub_url, core, other)
        rows, left_out = _start(starters, [name for name in ROWS if not only or name in only or name == "direct"])
        lost: dict[str, str] = {}
        for row in [row for _ in range(rounds) for row in rows]:
            for connections in row.cells:
                try:
                    row.cells[connections].append(_cell(row, connections, seconds, warmup_s, core, other))
                except Failure as error:  # the next round may do better
                    stub.check()
                    lost[row.name] = str(error)
    return _report(rows, left_out, lost, seconds, rounds)


def start_stub() -> tuple[Child, str]:
    """The upstream that answers at once, started but not awaited, and its base URL without `/v1`."""
    port = free_port()
    command = [sys.executable, "-m", "loadtests.stub_vllm", "--instant", "--port", str(port)]
    return Child("The stub", command, LOGS / "bench-stub.log").start(), f"http://{LOOPBACK}:{port}"


def _starters(running: ExitStack, stub_url: str, core: int, other: int) -> dict[str, Callable[[], Row]]:
    """How each row's server is started on its core; a server of several rows is started once."""
    model = str(httpx.get(f"{stub_url}/v1/models").raise_for_status().json()["data"][0]["id"])
    gateways: dict[str, Gateway] = {}

    def body(**extra: Any) -> dict[str, Any]:
        asked = [{"role": "user", "content": f"{QUESTION} ({COUNTER})"}]
        return {"model": model, "messages": asked, "max_tokens": MAX_TOKENS, "temperature": 0, **extra}

    def up(server: servers.Server | Gateway) -> str:
        with only_on(core):
            server.start()
        running.callback(server.stop)
        server.wait()
        return server.url

    def peer(name: str, make: Callable[[], servers.Server], **extra: Any) -> Row:
        server = make()
        return Row(name, up(server), body(**extra), server.pid)

    def gateway(name: str, settings: Mapping[str, str] | None = None, **revision: Any) -> Row:
        own = name if settings else "any"
        if own not in gateways:
            log = LOGS / f"bench-gateway-{own}.log"
            gateways[own] = Gateway(stub_url, ensure_index(), demonstration=False, log=log, settings=settings)
            up(gateways[own])
        return Row(f"gateway {name}", gateways[own].url, body(revision=revision), gateways[own].pid)

    def limited() -> Row:
        port = free_port()
        command = [str(tool("redis-server")), "--port", str(port), "--bind", LOOPBACK, "--save", ""]
        with only_on(other):
            redis = Child("Redis", command, LOGS / "bench-redis.log").start()
        running.callback(redis.stop)
        held = {
            "CLINALIGN_LIMITS_REQUESTS_PER_MINUTE": "100000000",
            "CLINALIGN_REDIS_URL": f"redis://{LOOPBACK}:{port}",
        }
        return gateway("limited", held, mode="off")

    return {
        "direct": lambda: Row("direct", stub_url, body(), None),
        "bare": lambda: peer("bare", lambda: servers.bare(stub_url)),
        "gateway off": lambda: gateway("off", mode="off"),
        "gateway limited": limited,
        "gateway traced": lambda: gateway("traced", {"CLINALIGN_TRACES_ENDPOINT": stub_url}, mode="off"),
        "gateway auto": lambda: gateway("auto", mode="auto"),
        "gateway verdicts": lambda: gateway("verdicts", mode="auto", trace="full"),
        "litellm": lambda: peer("litellm", lambda: servers.litellm(stub_url, model)),
        "optillm none": lambda: peer("optillm none", lambda: servers.optillm(stub_url), model=f"none-{model}"),
        "nemo": lambda: peer("nemo", lambda: servers.nemo(stub_url)),
    }


def _start(starters: dict[str, Callable[[], Row]], names: Sequence[str]) -> tuple[list[Row], dict[str, str]]:
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    for name in names:
        try:
            row = starters[name]()
            row.about = check(row)
            rows.append(row)
        except Failure as error:
            if name == "direct":
                raise
            left_out[name] = str(error)
    return rows, left_out


def check(row: Row) -> dict[str, Any]:
    """Asks once, unmeasured. Raises Failure unless the answer is one, and is what the row's name says."""
    body = dict(json.loads(json.dumps(row.body).replace(COUNTER, "0")))
    try:
        answer = httpx.post(f"{row.url}/v1/chat/completions", json=body, timeout=60)
        told = answer.raise_for_status().json()
        text = told["choices"][0]["message"]["content"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise Failure(f"{row.name} gave no chat completion ({type(error).__name__}).") from error
    if not text:
        raise Failure(f"{row.name} gave an empty answer.")
    revision = told.get("revision")
    if not revision:
        return {}
    if revision["status"] != "draft_passed":
        raise Failure(f"{row.name} would not measure an unrevised answer: the stub's is {revision['status']}.")
    judged = [principle["source"] for principle in revision["principles"]]
    return {"status": revision["status"], "model_verdicts": judged.count("model"), "rules": judged.count("rule")}


def _cell(row: Row, connections: int, seconds: float, warmup_s: float, core: int, other: int) -> Cell:
    body, url = json.dumps(row.body).encode(), f"{row.url}/v1/chat/completions"
    before = _outcomes(row)
    start, busy, cpu = time.monotonic(), busy_seconds(core), cpu_seconds(row.pid) if row.pid else 0.0
    measured = run(url, body, connections=connections, seconds=seconds, warmup_s=warmup_s, core=other)
    gained = {name: count - before.get(name, 0) for name, count in _outcomes(row).items()}
    outcomes = {name: count for name, count in gained.items() if count}
    if not row.pid:
        return Cell(measured, None, 0.0, outcomes)
    used = cpu_seconds(row.pid) - cpu
    others = max(0.0, busy_seconds(core) - busy - used) / (time.monotonic() - start)
    return Cell(measured, used * 1000 / measured.answered, others, outcomes)


def _outcomes(row: Row) -> dict[str, int]:
    """Answers of the gateway so far by status, as its metrics count them; of others nothing."""
    if not row.name.startswith("gateway"):
        return {}
    try:
        return count_outcomes(httpx.get(f"{row.url}/metrics", timeout=30).raise_for_status().text)
    except httpx.HTTPError as error:
        raise Failure(f"{row.name} did not tell its metrics ({type(error).__name__}).") from error


def count_outcomes(metrics: str) -> dict[str, int]:
    """Sums `clinalign_answers_total` by its status."""
    found: dict[str, int] = {}
    samples = (sample for family in text_string_to_metric_families(metrics) for sample in family.samples)
    for sample in samples:
        if sample.name == "clinalign_answers_total":
            status = sample.labels["status"]
            found[status] = found.get(status, 0) + int(sample.value)
    return found


def _report(
    rows: Sequence[Row], left_out: dict[str, str], lost: dict[str, str], seconds: float, rounds: int
) -> dict[str, Any]:
    """Rows with a measurement of each kind; one without is left out, with what came instead."""
    whole = {row.name: row for row in rows if all(row.cells.values())}
    left_out = {
        **left_out,
        **{row.name: lost.get(row.name, "it was not measured.") for row in rows if row.name not in whole},
    }
    if "direct" not in whole:
        raise Failure(f"There is no baseline: {left_out['direct']}")
    return {
        "seconds": seconds,
        "rounds": rounds,
        "versions": {name: version_of(name) for name in ("litellm", "optillm", "nemo")},
        "rows": [figures(row, whole["direct"], whole.get("litellm")) for row in whole.values()],
        "lost": {name: why for name, why in lost.items() if name in whole},
        "left_out": left_out,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.overhead", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured seconds a cell")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", metavar="NAME,NAME", help=f"of {', '.join(ROWS)}; direct always is")
    parser.add_argument("--out", type=Path, help="writes the report there as JSON")
    args = parser.parse_args(arguments)
    only = chosen(args.only, ROWS, parser, "row")
    try:
        report = measure(seconds=args.seconds, rounds=args.rounds, only=only)
    except Failure as error:
        return fail(error)
    give(report, table(report), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m loadtests.load --stage ramp --seconds 60`: a load test by one command; its exit status is the verdict.

Without --host it starts a stub of vLLM and a gateway in front of it. Options that are not listed here go to Locust
(`locust -f loadtests/locustfile.py --help`); CLINALIGN_* variables go to the gateway. Writes to .cache/load/STAGE:
report.html (Locust's), report.md, slo.json, stats.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadtests import shapes, slo
from scripts.build_index import ensure_index
from scripts.child import LOOPBACK, Child, free_port
from scripts.common import CACHE, LOGS, Failure, fail, shown
from scripts.gateway import Gateway

STUB_READY_S = 60.0
IDLE_WITHIN_S = 10.0
LONGEST_ANSWER_S = 65.0  # as --request-timeout of the locustfile
LOCUST_ENDS_WITHIN_S = 60.0

# Families of the gateway's metrics that the report tells, with the labels that divide them.
TOLD: Mapping[str, tuple[str, ...]] = {
    "clinalign_answers": ("status", "reason"),
    "clinalign_errors": ("code",),
    "clinalign_requests": ("route", "status"),
    "clinalign_candidates": ("outcome",),
    "clinalign_failed_verdicts": (),
}
IN_FLIGHT = "clinalign_in_flight"

Metrics = dict[str, dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.load", description=__doc__)
    parser.add_argument("--stage", choices=shapes.STAGES, default="steady")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--host", help="a gateway that runs; without it a stack is started here")
    stub = parser.add_argument_group("the stub (without --host)")
    stub.add_argument("--profile", default="h100-qwen3-4b", help="model and machine to imitate, or cpu-smollm2-135m")
    stub.add_argument("--speed", type=float, default=1.0, help="times as fast as the profile")
    stub.add_argument("--answer-tokens", type=int, help="length of an answer")
    stub.add_argument("--repair-share", type=float, help="share of drafts that need repair")
    args, more = parser.parse_known_args(arguments)
    folder = CACHE / "load" / args.stage
    try:
        with _target(args) as (url, gateway):
            target = url if args.host else f"a stub that imitates {args.profile} at {args.speed:g} times its speed"
            report, status = measure(url, folder, args.stage, args.seconds, args.users, more, gateway, target)
    except Failure as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    print(f"{slo.table(slo.Check(**check) for check in report['checks'])}\n\nSee {shown(folder)}/report.md.")
    return status


@contextmanager
def _target(args: argparse.Namespace) -> Iterator[tuple[str, Gateway | None]]:
    """The gateway's URL, and the gateway where it is ours."""
    if args.host:
        yield args.host.rstrip("/"), None
        return
    port = free_port()
    command = [sys.executable, "-m", "loadtests.stub_vllm", "--port", str(port), "--profile", args.profile]
    for name in ("speed", "answer_tokens", "repair_share"):
        if (value := getattr(args, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    with ExitStack() as stack:
        stub = stack.enter_context(Child("The stub", command, LOGS / "load-stub.log"))
        url = f"http://{LOOPBACK}:{port}"
        stub.wait_ready(f"{url}/health", STUB_READY_S)
        gateway = stack.enter_context(Gateway(url, ensure_index(), log=LOGS / "load-gateway.log"))
        gateway.wait()
        yield gateway.url, gateway


def measure(
    url: str,
    folder: Path,
    stage: shapes.Stage,
    seconds: float,
    users: int,
    more: Sequence[str] = (),
    gateway: Gateway | None = None,
    target: str = "",
) -> tuple[dict[str, Any], int]:
    """Runs Locust on the gateway at `url`; (the report, the exit status). Raises Failure when there is no report."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "slo.json"
    out.unlink(missing_ok=True)
    before, memory = read_metrics(url), _memory_mib(gateway)
    command = [
        *(
            sys.executable,
            "-m",
            "locust",
            "-f",
            "loadtests/locustfile.py",
            "--headless",
            "--only-summary",
            "--host",
            url,
        ),
        *("--stage", stage, "--run-time", f"{max(1, round(seconds))}s", "--users", str(users), "--out", str(out)),
        *("--spawn-rate", str(min(shapes.FASTEST, max(1, users // 5)))),
        *("--html", str(folder / "report.html"), "--csv", str(folder / "locust"), *more),
    ]
    with Child("Locust", command, LOGS / "load-locust.log") as locust:
        try:
            status = locust.join(seconds + LONGEST_ANSWER_S + LOCUST_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"Locust did not end (see {shown(locust.log)}).") from None
        if not out.is_file():
            raise Failure(f"Locust made no report: {locust.last_error()} (see {shown(locust.log)}).")
    (folder / "locust_stats.csv").replace(folder / "stats.csv")
    after = _when_idle(url)
    report = with_gateway({"target": target or url, **json.loads(out.read_text("utf-8"))}, before, after)
    if gateway is not None:
        report["gateway"]["memory_mib"] = {"before": memory, "after": _memory_mib(gateway)}
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    return report, status or int(not report["passed"])


# --- what the gateway says of itself ----------------------------------------------------------------------------


def read_metrics(url: str) -> Metrics:
    """Families by the values of their dividing labels. Raises Failure."""
    try:
        return parse_metrics(httpx.get(f"{url}/metrics", timeout=10).raise_for_status().text)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Failure(f"{url}/metrics cannot be read ({type(error).__name__}): is that a gateway?") from None


def parse_metrics(text: str) -> Metrics:
    """Raises ValueError for what is no exposition of metrics, or not a gateway's."""
    found: Metrics = {name: {} for name in (*TOLD, IN_FLIGHT)}
    for family in text_string_to_metric_families(text):
        if family.name not in found:
            continue
        for sample in family.samples:
            if sample.name in (f"{family.name}_total", IN_FLIGHT):
                label = " ".join(sample.labels.get(name, "") for name in TOLD.get(family.name, ())) or "all"
                found[family.name][label] = found[family.name].get(label, 0.0) + sample.value
    if not found[IN_FLIGHT]:
        raise ValueError(f"no {IN_FLIGHT}")
    return found


def _when_idle(url: str) -> Metrics:
    """Metrics once nothing is in flight, or after a while. Aborted answers end within a second of their client's leaving."""
    end = time.monotonic() + IDLE_WITHIN_S
    while (metrics := read_metrics(url))[IN_FLIGHT]["all"] > 0 and time.monotonic() < end:
        time.sleep(0.5)
    return metrics


def with_gateway(report: dict[str, Any], before: Metrics, after: Metrics) -> dict[str, Any]:
    """The report with what the gateway counted meanwhile, and a check that it still holds nothing."""
    told = {
        name.removeprefix("clinalign_"): {
            label: round(value - before[name].get(label, 0.0))
            for label, value in sorted(after[name].items())
            if value != before[name].get(label, 0.0)
        }
        for name in TOLD
    }
    leaked = slo.most("answers in flight at the end", after[IN_FLIGHT]["all"], before[IN_FLIGHT]["all"])
    return {
        **report,
        "passed": report["passed"] and leaked.verdict == "ok",
        "checks": [*report["checks"], asdict(leaked)],
        "gateway": told,
    }


def _memory_mib(gateway: Gateway | None) -> float | None:
    """Resident memory of the gateway's process, where the system tells."""
    if gateway is None or not (status := Path(f"/proc/{gateway.pid}/statm")).is_file():
        return None
    return round(int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)


# --- the report -------------------------------------------------------------------------------------------------


def markdown(report: Mapping[str, Any]) -> str:
    """The report for a person: checks, kinds, failures, the gateway's counts. Times in seconds."""
    load = f"{report['rate']:g} arrivals/s" if "rate" in report else f"{report['users']} users"
    checks = [slo.Check(**check) for check in report["checks"]]
    answered = sum(kind["answered"] for kind in report["kinds"].values())
    rate = answered / report["seconds"] if report["seconds"] else 0.0
    lines = [
        f"# {report['stage']}: {'passed' if report['passed'] else 'failed'}",
        "",
        f"Target: {report['target']}. {load}, {report['seconds']:g} s, {answered} answered ({rate:.2f}/s).",
        "",
        *_rows(("check", "value", "limit", "verdict"), [slo.cells(check) for check in checks]),
        *_kinds(report["kinds"]),
        *_counts("failure", report["failures"]),
        *_counts("revision.status", report["statuses"]),
    ]
    for name, counts in report["gateway"].items():
        lines += _counts(f"gateway: {name}", counts)
    if late := report["late"]:
        most = report["most_outstanding"]
        lines.append(
            f"Sent late by {late['p50']:g} s at p50, {late['p99']:g} s at p99; at most {most} outstanding a source."
        )
    return "\n".join(lines) + "\n"


def _kinds(kinds: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    head = ("kind", *slo.FATES, "p50", "p95", "p99", "first byte p95", "keep-alive p50", "first content p50")
    rows = []
    for name, kind in kinds.items():
        times = kind["times_s"]
        cells = [_time(times, "answer", p) for p in ("p50", "p95", "p99")]
        cells += [
            _time(times, "first_byte", "p95"),
            _time(times, "keep_alive", "p50"),
            _time(times, "first_content", "p50"),
        ]
        rows.append((name, *(str(kind[fate]) for fate in slo.FATES), *cells))
    yield from _rows(head, rows)


def _time(times: Mapping[str, Mapping[str, float]], event: str, which: str) -> str:
    return f"{times[event][which]:.2f}" if event in times else "–"


def _counts(title: str, counts: Mapping[str, Any]) -> list[str]:
    return _rows((title, "n"), [(name, str(n)) for name, n in counts.items()]) if counts else []


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)] + [""]


if __name__ == "__main__":
    sys.exit(main())

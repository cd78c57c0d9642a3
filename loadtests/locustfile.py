"""Load on a gateway: `locust -f loadtests/locustfile.py --host http://gateway [--stage ramp] [Short Streaming ...]`.

At the end the run is judged by --slo, which decides the exit status. Start it from the repository's root, with
--processes or workers where one process is not enough. Every option below can be set as LOAD_OPTION in the environment
too. In Locust's own tables shed requests have the type SHED, and those that a user left LEFT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent
from locust import LoadTestShape, events
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner, WorkerRunner

from loadtests import shapes
from loadtests.slo import DEFAULT, KINDS, Results, document, judge, passed, table
from loadtests.users import (
    CLOSED,
    Aborting,
    Asking,
    Critique,
    Live,
    Load,
    Long,
    MultiTurn,
    Off,
    OpenLoop,
    Short,
    Streaming,
)

__all__ = ["Aborting", "Critique", "Live", "Long", "MultiTurn", "Off", "OpenLoop", "Short", "Stages", "Streaming"]

WEIGHTS = "short=30,long=8,multi_turn=14,streaming=20,live=8,critique=4,aborting=6,off=10"


@events.init_command_line_parser.add_listener
def _arguments(parser: Any) -> None:
    def add(name: str, **options: Any) -> None:
        parser.add_argument(f"--{name}", env_var=f"LOAD_{name.upper().replace('-', '_')}", **options)

    # Values are plain, no paths: a master sends them to its workers.
    add("stage", choices=shapes.STAGES, default="steady", help="How the load goes over time (see loadtests/shapes.py).")
    add("rate", type=float, default=10.0, help="Arrivals a second of the stage overload.")
    add("max-outstanding", type=int, default=1024, help="Requests that an overload may leave unanswered at a time.")
    add("weights", default=WEIGHTS, help=f"What is asked how often, NAME=SHARE by commas, of {', '.join(KINDS)}.")
    add("languages", default="en=85,es=7,ko=4,zh=4", help="Languages of the questions, NAME=SHARE by commas.")
    add("questions", help="A K-QA file whose questions to ask, rather than written ones.")
    add("repeat-share", type=float, default=0.3, help="Share of questions that others ask too.")
    add("seed", type=int, default=0, help="The same seed asks the same questions.")
    add("think", type=float, default=1.0, help="Mean seconds between a user's requests.")
    add("max-tokens", type=int, default=256, help="Longest answer asked for.")
    add("model", help="Model to ask for. Default: none is named.")
    add(
        "api-key",
        is_secret=True,
        help="Sent as a bearer token. Rather set LOAD_API_KEY: others can see a command line.",
    )
    add("request-timeout", type=float, default=65.0, help="Seconds of silence after which a request has failed.")
    add("slo", default=str(DEFAULT), help="YAML file of limits.")
    add("out", help="Writes the report there as JSON.")


class Stages(LoadTestShape):
    use_common_options = True

    def tick(self) -> tuple[int, float, list[type[Asking]]] | None:
        load: Load = self.runner.environment.load
        told = shapes.stage(load.stage, self.get_run_time(), load.settings)
        if told is not None:
            return *told, _users(load, self.runner.environment)
        if isinstance(self.runner, MasterRunner):
            # By itself a master ends its workers half a second after the last tick, and what they wait for is lost.
            self.runner.stop()
            gevent.sleep(WORKER_REPORT_INTERVAL + 1)
        return None


def _users(load: Load, environment: Any) -> list[type[Asking]]:
    """Raises ValueError where what was chosen leaves nobody."""
    chosen = environment.user_classes
    if load.stage == shapes.OPEN_LOOP:
        if OpenLoop not in chosen:
            raise ValueError(f"the stage {load.stage} has users of its own: choose with --weights what they ask")
        return [OpenLoop]
    users: list[type[Asking]] = [user for user in CLOSED if user in chosen and user.kind in load.weights]
    if not users:
        raise ValueError("none of the chosen users has a weight above zero")
    return users


@events.init.add_listener
def _prepare(environment: Any, **_: Any) -> None:
    options = environment.parsed_options
    try:
        environment.load = load = Load.of(options)
        _users(load, environment)
        OpenLoop.concurrency = shapes.source(load.settings).max_outstanding
    except (ValueError, OSError) as error:
        print(f"{error}.", file=sys.stderr)
        sys.exit(2)
    for user in CLOSED:
        user.weight = load.weights.get(user.kind, 0)
    Asking.network_timeout = Asking.connection_timeout = options.request_timeout
    # What is on its way when the time is up is waited for: to drop it would hide the slowest answers.
    environment.stop_timeout = environment.stop_timeout or options.request_timeout
    environment.events.report_to_master.add_listener(lambda client_id, data: _report(load, data))
    environment.events.worker_report.add_listener(lambda client_id, data: load.results.merge(data["load"]))


def _report(load: Load, data: dict[str, Any]) -> None:
    data["load"] = load.results.wire()
    load.results = Results()


@events.test_start.add_listener
def _begin(environment: Any, **_: Any) -> None:
    environment.load.results = Results()
    environment.load.started = perf_counter()
    if isinstance(environment.runner, MasterRunner):
        environment.load.processes = environment.runner.worker_count  # at the end they have left


@events.test_stopping.add_listener
def _no_more(environment: Any, **_: Any) -> None:
    environment.load.offered_s = perf_counter() - environment.load.started


@events.test_stop.add_listener
def _end(environment: Any, **_: Any) -> None:
    environment.load.seconds = perf_counter() - environment.load.started
    if isinstance(environment.runner, WorkerRunner):
        environment.stop_timeout = 0  # it would sleep for as long again; the next start brings the master's value


@events.quitting.add_listener
def _conclude(environment: Any, **_: Any) -> None:
    """Judges the run: prints the checks, writes --out, and sets the exit status to 0 or 1."""
    if isinstance(environment.runner, WorkerRunner):
        return
    load: Load = environment.load
    errors = sum(row["count"] for row in environment.runner.exceptions.values())  # a master's has its workers'
    planned = load.options.rate * load.offered_s if load.stage == shapes.OPEN_LOOP else 0
    found = judge(load.results, load.slo.limits(load.stage), task_errors=errors, planned=planned)
    environment.process_exit_code = 0 if passed(found) else 1
    print(f"\n{table(found)}\n")
    if load.options.out:
        _write(load, document(load.results, found, **_about(load)))


def _about(load: Load) -> dict[str, Any]:
    o = load.options
    loop = {"rate": o.rate} if load.stage == shapes.OPEN_LOOP else {"users": o.num_users, "think_s": o.think}
    return {
        "stage": load.stage,
        "seconds": round(load.seconds, 1),
        **loop,
        "weights": load.weights,
        "max_tokens": o.max_tokens,
        "seed": o.seed,
        "processes": load.processes,
    }


def _write(load: Load, report: dict[str, Any]) -> None:
    out = Path(load.options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

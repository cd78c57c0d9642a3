"""A real Prometheus with our rules scrapes a real gateway in front of two simulated model servers, under a short load.

Every query of the dashboard must return data, every rule must evaluate, and alerts must be as expected: none at first; then
one model server stops, and both. What takes half a day of history finds it in the storage, written there beforehand.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from scripts.build_index import ensure_index
from scripts.child import LOOPBACK, Child, free_port
from scripts.common import LOGS, ROOT
from scripts.gateway import Gateway
from tests.tools import need

MONITORING = ROOT / "helm/clinalign/monitoring"
PATIENCE_S = 120.0
OURS = {"namespace": "prod", "job": "clinalign"}
MODEL = "SmolLM2-135M-Instruct"

CHAT, CRITIQUE = "/v1/chat/completions", "/v1/critique"
RED_FLAG = "My father has crushing chest pain and cannot breathe."
QUESTIONS = (
    "What helps against a runny nose in winter?",
    "How long should I rest after a long walk?",
    "Does coffee in the evening keep people awake?",
    "Which foods have a lot of iron in them?",
)
# Nothing decides on these alone: no rule tells, and the model only advises.
UNDECIDED = {"principles": ["answer-first"]}

# Recorded series that a healthy load leaves without data, and why.
NO_DATA_WHEN_HEALTHY = {
    "job:clinalign_slo_burn:fast": "only where a budget burns",
    "job:clinalign_slo_burn:slow": "only where a budget burns",
}
_DAY_S, _STEP_S = 86_400, 240


class Prometheus(Child):
    def __init__(self, folder: Path, targets: Mapping[str, tuple[str, Mapping[str, str]]]) -> None:
        self.url = f"http://{LOOPBACK}:{free_port()}"
        rules = (MONITORING / "rules.yaml").read_text("utf-8")
        (folder / "rules.yaml").write_text(re.sub(r"interval: \d+[sm]", "interval: 1s", rules), "utf-8")
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {"job_name": pod, "static_configs": [{"targets": [target], "labels": {**labels, "pod": pod}}]}
                for pod, (target, labels) in targets.items()
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
        listen = self.url.removeprefix("http://")
        command = [str(need("prometheus")), f"--config.file={folder}/prometheus.yml", f"--web.listen-address={listen}"]
        command += [f"--storage.tsdb.path={folder}/data", "--log.level=warn"]
        super().__init__("Prometheus", command, LOGS / "e2e-prometheus.log")

    def get(self, path: str, **params: str) -> Any:
        """The `data` of an answer of its API."""
        response = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=30)
        body = response.json()
        assert body["status"] == "success", (params, body)
        return body["data"]

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that has one."""
        found = [(each["metric"], float(each["value"][1])) for each in self.get("query", query=query)["result"]]
        return [(labels, value) for labels, value in found if not math.isnan(value)]

    def alerts(self, state: str) -> set[str]:
        return {each["labels"]["alertname"] for each in self.get("alerts")["alerts"] if each["state"] == state}


@dataclass
class Load:
    """Asks the gateway for one of everything in turns, until it is stopped; counts the statuses that it got."""

    url: str
    statuses: dict[str, list[int]] = field(default_factory=dict)
    turn: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _failed: list[BaseException] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE_S)
        assert not self._failed, self._failed

    def _run(self) -> None:
        try:
            with httpx.Client(base_url=self.url, timeout=PATIENCE_S) as http:
                while not self._ended.is_set():
                    self._round(http)
                    self.turn += 1
        except BaseException as error:  # noqa: BLE001 - told where the load is stopped
            self._failed.append(error)

    def _round(self, http: httpx.Client) -> None:
        asked = [{"role": "user", "content": f"{QUESTIONS[self.turn % len(QUESTIONS)]} ({self.turn})"}]
        answer = {"role": "assistant", "content": "Rest for a day, and ask your doctor if it gets worse."}
        for _ in range(4):
            self._post(http, "chat", CHAT, {"messages": asked})
        self._post(http, "stream", CHAT, {"messages": asked, "stream": True})
        self._post(http, "critique", CRITIQUE, {"messages": [*asked, answer]})
        self._post(http, "off", CHAT, {"messages": asked, "revision": {"mode": "off"}})
        if self.turn % 4 == 0:
            flagged = {"messages": [{"role": "user", "content": RED_FLAG}]}
            self._post(http, "flagged", CHAT, flagged)
            self._post(http, "invalid", CHAT, {"messages": []})
            self._post(http, "unknown", CHAT, {"messages": asked, "model": "none-of-ours"})
        if self.turn % 16 == 8:  # one answer in a hundred: within the budget
            self._post(http, "undecided", CHAT, {"messages": asked, "revision": UNDECIDED})

    def _post(self, http: httpx.Client, kind: str, path: str, body: Mapping[str, Any]) -> None:
        self.statuses.setdefault(kind, []).append(http.post(path, json=body).status_code)


@dataclass
class Stack:
    stubs: list[Child]
    gateway: Gateway
    prometheus: Prometheus
    load: Load


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("prometheus")
    write_history(folder)
    with ExitStack() as running:
        ports = [free_port(), free_port()]
        stubs = [running.enter_context(stub(port)) for port in ports]
        for server, port in zip(stubs, ports, strict=True):
            server.wait_ready(f"http://{LOOPBACK}:{port}/health", PATIENCE_S)
        upstream = ",".join(f"http://{LOOPBACK}:{port}" for port in ports)
        settings = {"CLINALIGN_CRITIC_ADVICE": "always", "CLINALIGN_UPSTREAM_CONNECT_S": "1"}
        log = LOGS / "e2e-prometheus-gateway.log"
        gateway = running.enter_context(Gateway(upstream, ensure_index(), log=log, settings=settings))
        gateway.wait()
        targets = {
            "gateway-0": (gateway.url.removeprefix("http://"), OURS),
            **{
                f"vllm-{i}": (f"{LOOPBACK}:{port}", {"namespace": "prod", "job": "vllm"})
                for i, port in enumerate(ports)
            },
        }
        prometheus = running.enter_context(Prometheus(folder, targets))
        prometheus.wait_ready(f"{prometheus.url}/-/ready", PATIENCE_S)
        load = running.enter_context(Load(gateway.url))
        yield Stack(stubs, gateway, prometheus, load)


def stub(port: int) -> Child:
    command = [sys.executable, "-m", "loadtests.stub_vllm", "--port", str(port)]
    command += ["--speed", "20", "--answer-tokens", "60", "--repair-share", "0.5"]
    return Child("The stub", command, LOGS / f"e2e-prometheus-stub-{port}.log")


def write_history(folder: Path) -> None:
    """A day of what the rules of the group clinalign-week recorded, up to two hours ago."""
    labels = ",".join(f'{name}="{value}"' for name, value in OURS.items())
    principle = f'{labels},principle="disclose-uncertainty",source="model"'
    series = {
        f"job:clinalign_answers:increase1h{{{labels}}}": 1000,
        f'kind:clinalign_red_flags:increase1h{{{labels},kind="emergency"}}': 30,
        f"job:clinalign_candidates:increase6h{{{labels}}}": 500,
        f"job:clinalign_good_candidates:increase6h{{{labels}}}": 200,
        f"principle:clinalign_verdicts:increase1h{{{principle}}}": 900,
        f"principle:clinalign_unmet:increase1h{{{principle}}}": 90,
        f"job:clinalign_draft_seconds:p95_1h{{{labels}}}": 2.0,
    }
    now = int(time.time())
    times = range(now - _DAY_S, now - 7200, _STEP_S)
    lines = [f"{name} {value} {at}" for name, value in series.items() for at in times]
    (folder / "history.txt").write_text("\n".join([*lines, "# EOF", ""]), "utf-8")
    command = [str(need("promtool")), "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run([*command, str(folder / "history.txt"), str(folder / "data")], check=True, capture_output=True)


def until(holds: Callable[[], object], what: str) -> None:
    """Returns when it holds; what raises does not hold yet. Fails after a while, and says what is missing."""
    end = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < end, f"{what}: {found!r}"
        time.sleep(0.5)


def until_none(left: Callable[[], Collection[str]], what: str) -> None:
    """Returns when nothing is left. Fails after a while, and names what is."""
    end = time.monotonic() + PATIENCE_S
    while found := left():
        assert time.monotonic() < end, f"{what}: {sorted(found)}"
        time.sleep(0.5)


def queries() -> list[str]:
    board = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    chosen = {"$namespace": OURS["namespace"], "$job": OURS["job"], "$__rate_interval": "1m"}
    for name, value in chosen.items():
        found = [expr.replace(name, value) for expr in found]
    return found


def rules(stack: Stack) -> list[dict[str, Any]]:
    return [rule for group in stack.prometheus.get("rules")["groups"] for rule in group["rules"]]


# --- healthy ----------------------------------------------------------------------------------------------------


def test_every_query_of_the_dashboard_returns_data(stack: Stack) -> None:
    missing = set(queries())
    assert len(missing) >= 16

    def none_is_missing() -> bool:
        missing.difference_update({query for query in missing if stack.prometheus.ask(query)})
        return not missing

    until(none_is_missing, f"queries without data: {missing}")
    assert {"chat", "stream", "critique", "off", "flagged", "undecided"} <= stack.load.statuses.keys()


def test_every_rule_evaluates_and_records(stack: Stack) -> None:
    def all_evaluated() -> bool:
        return all(rule["health"] == "ok" for rule in rules(stack))

    until(all_evaluated, "rules that have not been evaluated, or have failed")
    recorded = {rule["name"] for rule in rules(stack) if rule["type"] == "recording"}

    def without_data() -> set[str]:
        return {name for name in recorded if not stack.prometheus.ask(name)}

    until_none(lambda: without_data() ^ NO_DATA_WHEN_HEALTHY.keys(), "rules that record nothing, or too much")
    assert [rule["lastError"] for rule in rules(stack) if rule.get("lastError")] == []


def test_values_are_those_of_the_load(stack: Stack) -> None:
    prometheus = stack.prometheus
    served = stack.load.statuses
    assert set(served["chat"]) | set(served["stream"]) | set(served["critique"]) | set(served["off"]) == {200}
    assert set(served["invalid"]) == {400}
    assert set(served["unknown"]) == {404}
    # What clients did wrong burns nothing.
    assert prometheus.ask('max(job:clinalign_slo_bad:rate5m{slo="availability"})') == [({}, 0.0)]
    until(lambda: prometheus.ask('clinalign_errors_total{code="model_not_found"} > 0'), "the client's errors")
    kinds = {labels["kind"] for labels, _ in prometheus.ask("clinalign_red_flags_total > 0")}
    assert kinds == {"emergency"}
    assert prometheus.ask('max(clinalign_replicas{state="known"})')[0][1] == 2
    assert prometheus.ask("job:clinalign_versions:count")[0][1] == 1
    assert prometheus.ask("max(kind:clinalign_red_flags:ratio7d)")[0][1] == pytest.approx(0.03)


def test_nothing_fires_while_all_is_well(stack: Stack) -> None:
    assert stack.prometheus.alerts("firing") == set()
    written = re.findall(r"- alert: (\w+)", (MONITORING / "rules.yaml").read_text("utf-8"))
    assert {rule["name"] for rule in rules(stack) if rule["type"] == "alerting"} == set(written)


# --- and then not -----------------------------------------------------------------------------------------------


def test_one_of_two_model_servers_stops_and_only_the_dashboard_notices(stack: Stack) -> None:
    prometheus = stack.prometheus
    before = {kind: len(found) for kind, found in stack.load.statuses.items()}
    stack.stubs[0].stop()
    until(lambda: prometheus.ask('max(clinalign_replicas{state="out"}) == 1'), "a replica that is out")
    until(lambda: prometheus.ask("sum(increase(clinalign_replica_ejections_total[1m])) > 0"), "an ejection")
    until(lambda: "ClinAlignReplicaOut" in prometheus.alerts("pending"), "the alert, which waits for ten minutes")
    asked = {kind: found[before.get(kind, 0) :] for kind, found in list(stack.load.statuses.items())}
    assert {status for kind in ("chat", "stream", "critique", "off") for status in asked[kind]} == {200}
    assert prometheus.alerts("firing") == set()


def test_both_stop_and_the_page_goes_out(stack: Stack) -> None:
    prometheus = stack.prometheus
    for server in stack.stubs:
        server.stop()
    until(lambda: "ClinAlignAvailability" in prometheus.alerts("firing"), "the page")
    (alert,) = [a for a in prometheus.get("alerts")["alerts"] if a["labels"]["alertname"] == "ClinAlignAvailability"]
    assert alert["labels"].items() >= {**OURS, "severity": "page", "slo": "availability"}.items()
    assert "prod/clinalign" in alert["annotations"]["summary"]
    assert (ROOT / alert["annotations"]["runbook"]).is_file()

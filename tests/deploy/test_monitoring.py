"""The rules and the dashboard: promtool's checks and unit tests, and that every name in them is one that there is."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from scripts.common import ROOT
from service.errors import TABLE
from service.metrics import Metrics
from service.pipeline import Status
from tests.tools import need

MONITORING = ROOT / "helm/clinalign/monitoring"
RULES = MONITORING / "rules.yaml"
DASHBOARD = MONITORING / "dashboard.json"
RUNBOOKS = ROOT / "docs/runbooks"
GUIDE = ROOT / "docs/monitoring.md"
UNIT_TESTS = sorted(Path(__file__).parent.glob("rules*_test.yaml"))

# vLLM's own, as its /metrics names them.
VLLM = {
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:prefix_cache_hits_total",
    "vllm:prefix_cache_queries_total",
    "vllm:kv_cache_usage_perc",
}
# 503s that do what was asked, or are a probe's; docs/monitoring.md says why they are no failures.
NO_FAILURES = {"answer_unverified", "answer_blocked", "not_ready"}

_METRIC = re.compile(r"(?<![\w:])(?:[a-z]+:)?(?:clinalign|vllm)[_:][\w:]+")
_CODE_BLOCK = re.compile(r"^```promql\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


# --- what is there ----------------------------------------------------------------------------------------------


@cache
def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


@cache
def panels() -> list[dict[str, Any]]:
    """All but rows."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def filled(expr: str) -> str:
    """A dashboard's query as Grafana sends it, for everything."""
    return expr.replace("$namespace", ".*").replace("$job", ".*").replace("$__rate_interval", "5m")


def in_runbooks() -> list[str]:
    """The queries of runbooks and guide, one a line."""
    pages = [*sorted(RUNBOOKS.glob("*.md")), GUIDE]
    blocks = [block for page in pages for block in _CODE_BLOCK.findall(page.read_text("utf-8"))]
    return [query for block in blocks for query in block.splitlines()]


def metrics_page() -> str:
    """What a gateway exports that has seen one of everything."""
    metrics = Metrics()
    for metric in vars(metrics).values():
        if isinstance(metric, (Counter, Gauge, Histogram)) and metric._labelnames:
            metric.labels(*("x" for _ in metric._labelnames))
    return metrics.render().decode()


@cache
def exported() -> dict[str, set[str]]:
    """Names of the gateway's samples, each with its labels."""
    families = text_string_to_metric_families(metrics_page())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def promtool(*arguments: str, text: str | None = None) -> str:
    """Its output. Fails where it finds fault."""
    done = subprocess.run(
        [need("promtool"), *arguments], input=text, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- promtool ---------------------------------------------------------------------------------------------------


def test_promtool_finds_no_fault_in_the_rules() -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", str(RULES))


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_rules_compute_what_they_say_and_alerts_fire_when_they_should(file: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_promtool_finds_no_fault_in_the_gateways_metrics() -> None:
    promtool("check", "metrics", text=metrics_page())


def test_queries_of_dashboard_and_runbooks_parse(tmp_path: Path) -> None:
    asked = [*map(filled, queries()), *in_runbooks()]
    made = [{"record": f"query_{i}", "expr": expr} for i, expr in enumerate(asked)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": made}]}), "utf-8")
    assert f"SUCCESS: {len(asked)} rules found" in promtool("check", "rules", str(file))


# --- the unit tests test all ------------------------------------------------------------------------------------


def expectations() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The queries of the unit tests, with what is expected of each."""
    for file in UNIT_TESTS:
        for test in yaml.safe_load(file.read_text("utf-8"))["tests"]:
            for check in test["promql_expr_test"]:
                yield check["expr"], check["exp_samples"]


def test_every_alert_fires_in_a_test_and_is_silent_in_another() -> None:
    fires = {
        name
        for _, samples in expectations()
        for sample in samples
        if 'alertstate="firing"' in sample["labels"]
        for name in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert fires == set(alerts())
    # `ALERTS` without a name, and nothing expected: every alert was silent there.
    assert sum(expr == "ALERTS" and not samples for expr, samples in expectations()) >= 6


def test_every_recorded_value_is_expected_in_a_test() -> None:
    valued = [expr for expr, samples in expectations() if samples]
    named = {name for expr in valued for name in _METRIC.findall(expr)}
    patterns = [pattern for expr in valued for pattern in re.findall(r'__name__=~"([^"]+)"', expr)]
    computed = {rule["record"] for rule in rules() if "record" in rule and not rule["expr"].startswith("vector(")}
    missing = {n for n in computed - named if not any(re.fullmatch(p, n) for p in patterns)}
    # Parts of ratios that are expected, and conditions of alerts that fire.
    parts = {name for name in missing if name.endswith((":increase1h", ":increase6h", ":fast", ":slow"))}
    assert missing == parts


# --- names ------------------------------------------------------------------------------------------------------


def test_every_metric_that_is_asked_for_is_there() -> None:
    asked = {name for rule in rules() for name in _METRIC.findall(rule["expr"])}
    asked |= {name for query in [*queries(), *in_runbooks()] for name in _METRIC.findall(query)}
    assert asked - recorded() - VLLM <= exported().keys()
    assert asked >= VLLM


def test_everything_recorded_is_read() -> None:
    read = {name for rule in rules() for name in _METRIC.findall(rule["expr"])}
    read |= {name for query in queries() for name in _METRIC.findall(query)}
    assert recorded() <= read


def test_every_label_that_is_asked_for_is_there() -> None:
    ours = {"namespace", "job", "pod"}
    for expr in [*(rule["expr"] for rule in rules()), *map(filled, queries())]:
        for name, matchers in re.findall(r"(?<![\w:])(clinalign_\w+)\{([^}]*)\}", expr):
            asked = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers))
            assert asked <= exported()[name] | ours, (name, asked)


def test_rules_keep_releases_apart() -> None:
    """Every aggregation of a rule keeps namespace and job, so that two releases never add up."""
    for rule in rules():
        kept = re.findall(r"\b(?:sum|count|max|group) by \(([^)]*)\)", rule["expr"])
        assert all({"namespace", "job"} <= set(labels.replace(" ", "").split(",")) for labels in kept), rule
        assert not re.search(r"\b(?:sum|count|max|min|avg|group)\s*\(", rule["expr"]), rule


# --- objectives -------------------------------------------------------------------------------------------------


def test_targets_are_outcomes_and_buckets_that_there_are() -> None:
    targets = [rule for rule in rules() if rule.get("record") == "clinalign:answer_target_seconds"]
    assert {rule["labels"]["status"] for rule in targets} == set(get_args(Status))
    samples = [s for f in text_string_to_metric_families(metrics_page()) for s in f.samples]
    buckets = {s.labels["le"] for s in samples if s.name == "clinalign_answer_seconds_bucket"}
    for rule in targets:
        assert rule["labels"]["le"] in buckets
        assert rule["expr"] == f"vector({float(rule['labels']['le']):g})"


def test_every_error_of_the_servers_making_counts_against_availability_and_no_other() -> None:
    (bad,) = (
        rule["expr"]
        for rule in rules()
        if rule.get("record") == "job:clinalign_slo_bad:rate5m" and rule["labels"] == {"slo": "availability"}
    )
    (pattern,) = re.findall(r'code=~"([^"]+)"', bad)
    counted = {spec.code for spec in TABLE.values() if re.fullmatch(pattern, spec.code)}
    assert counted == {spec.code for spec in TABLE.values() if spec.status >= 500} - NO_FAILURES


# --- alerts and runbooks ----------------------------------------------------------------------------------------


def test_every_alert_says_how_urgent_it_is_what_it_means_and_what_to_do() -> None:
    for name, rule in alerts().items():
        assert rule["labels"].keys() == {"severity"}, name
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}, name


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    pages = {rule["annotations"]["runbook"]: name for name, rule in alerts().items()}
    assert pages.keys() == {str(page.relative_to(ROOT)) for page in RUNBOOKS.glob("*.md")}
    for page, name in pages.items():
        text = (ROOT / page).read_text("utf-8")
        severity = alerts()[name]["labels"]["severity"]
        assert text.splitlines()[0] == f"# {name} ({severity})"
        assert len(text.splitlines()) <= 25, page


def test_the_guide_names_every_alert_and_links_lead_somewhere() -> None:
    guide = GUIDE.read_text("utf-8")
    for name, rule in alerts().items():
        page = Path(rule["annotations"]["runbook"]).relative_to("docs")
        assert f"[{name}]({page})" in guide
    for file in [GUIDE, *RUNBOOKS.glob("*.md")]:
        for link in _LINK.findall(file.read_text("utf-8")):
            assert (file.parent / link).exists(), (file.name, link)


# --- the dashboard ----------------------------------------------------------------------------------------------


def test_every_panel_says_what_it_shows_and_asks_for_what_was_chosen() -> None:
    for panel in panels():
        title = panel["title"]
        assert panel["description"], title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, title
        targets = panel["targets"]
        assert targets, title
        assert len({target["refId"] for target in targets}) == len(targets), title
        for target in targets:
            assert target["legendFormat"], title
            chosen = re.findall(r"\{([^{}]*)\}", target["expr"])
            if "clinalign:answer_target_seconds" in target["expr"]:
                continue  # a constant, the same for all
            needed = (
                ['namespace=~"$namespace"'] if "vllm:" in target["expr"] else ['namespace=~"$namespace"', 'job=~"$job"']
            )
            assert chosen, title
            assert all(matcher in selector for selector in chosen for matcher in needed), title
            bare = list(re.findall(r"[\w:]*clinalign_[\w:]+(?!\w|:)(?!\{)", target["expr"]))
            assert not bare, (title, bare)


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    board = json.loads(DASHBOARD.read_text("utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_lets_one_choose_prometheus_namespace_and_release() -> None:
    variables = json.loads(DASHBOARD.read_text("utf-8"))["templating"]["list"]
    assert [variable["name"] for variable in variables] == ["datasource", "namespace", "job"]
    for variable in variables[1:]:
        assert set(_METRIC.findall(variable["query"]["query"])) <= exported().keys()

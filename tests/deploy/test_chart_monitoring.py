"""Objects of others' APIs, which no schema here knows: what their documentation requires."""

from __future__ import annotations

import json

import pytest
import yaml

from scripts.chart_docs import CHART
from tests.deploy.chart import CASES, of_kind, one, render

RULES = CHART / "monitoring/rules.yaml"
DASHBOARD = CHART / "monitoring/dashboard.json"


def test_rules_are_those_of_the_file() -> None:
    (rule,) = of_kind(render(CASES["fleet"]), "PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))
    assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_the_dashboard_is_that_of_the_file() -> None:
    dashboard = one(render(CASES["fleet"]), "ConfigMap", "monitoring")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = dashboard["data"].values()
    assert json.loads(text) == json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert len(text) < 1 << 20, "a ConfigMap holds no more"


def test_monitors_scrape_gateways_and_vllm() -> None:
    monitors = of_kind(render(CASES["fleet"]), "ServiceMonitor")
    assert [m["spec"]["endpoints"] for m in monitors] == [[{"port": "http", "path": "/metrics", "interval": "30s"}]] * 2
    assert all(m["apiVersion"] == "monitoring.coreos.com/v1" for m in monitors)
    outside = CASES["outside-upstream"].changed(
        monitoring={"serviceMonitor": {"enabled": True}}, networkPolicy={"prometheus": [{"podSelector": {}}]}
    )
    assert len(of_kind(render(outside), "ServiceMonitor")) == 1


def test_monitoring_is_off_by_default() -> None:
    kinds = {o["kind"] for o in render(CASES["one-gpu"])}
    assert not {"ServiceMonitor", "PrometheusRule", "ScaledObject"} & kinds


@pytest.mark.parametrize(
    ("name", "query", "threshold"),
    [
        ("keda", 'sum(clinalign_in_flight{namespace="health",job="demo-gateway"})', "60"),
        ("keda-waiting", 'sum(vllm:num_requests_waiting{namespace="health",job="demo-vllm"})', "1"),
    ],
)
def test_keda_scales_vllm(name: str, query: str, threshold: str) -> None:
    scaled = one(render(CASES[name]), "ScaledObject", "vllm")
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    spec = scaled["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "demo-vllm"}
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 8}
    (trigger,) = spec["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")  # fallback needs an average
    assert trigger["metadata"]["query"] == query
    assert trigger["metadata"]["threshold"] == threshold
    assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes text alone"


@pytest.mark.parametrize(
    ("settings", "threshold"),
    [
        ({"CLINALIGN_CRITIC_TRUST_FILE": "/opt/trust.json"}, "30"),
        ({"CLINALIGN_CRITIC_ADVICE": "always"}, "30"),
        ({"CLINALIGN_CRITIC_ADVICE": "never"}, "60"),
    ],
)
def test_a_replica_holds_half_where_every_answer_is_checked_by_the_model(
    settings: dict[str, str], threshold: str
) -> None:
    scaled = one(render(CASES["keda"].changed(gateway={"settings": settings})), "ScaledObject", "vllm")
    assert scaled["spec"]["triggers"][0]["metadata"]["threshold"] == threshold


def test_keda_may_have_to_say_who_it_is() -> None:
    (without,) = one(render(CASES["keda"]), "ScaledObject", "vllm")["spec"]["triggers"]
    assert "authenticationRef" not in without
    assert "authModes" not in without["metadata"]
    case = CASES["keda"].changed(vllm={"autoscaling": {"authentication": "prometheus", "authModes": "bearer"}})
    (trigger,) = one(render(case), "ScaledObject", "vllm")["spec"]["triggers"]
    assert trigger["authenticationRef"] == {"name": "prometheus"}
    assert trigger["metadata"]["authModes"] == "bearer"


def test_a_query_of_ones_own() -> None:
    case = CASES["keda"].changed(vllm={"autoscaling": {"query": 'max(up{job="x"})', "threshold": 7}})
    (trigger,) = one(render(case), "ScaledObject", "vllm")["spec"]["triggers"]
    assert (trigger["metadata"]["query"], trigger["metadata"]["threshold"]) == ('max(up{job="x"})', "7")

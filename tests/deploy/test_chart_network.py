"""Nobody reaches anything but what the values say: the whole graph of rendered policies, compared edge by edge."""

from __future__ import annotations

from collections.abc import Set

import pytest

from tests.deploy.chart import CASES, NAMESPACE, Case, Object, of_kind, pod, pods, render
from tests.deploy.chart_network import Place, matches, reaches

PORTS = (53, 443, 4318, 6379, 8000, 8080, 9090)
Edge = tuple[str, str, int]

_COMPONENTS = ("gateway", "vllm", "test", "index", "trainer")


def _member(release: str, component: str) -> Place:
    labels = {
        "app.kubernetes.io/name": "clinalign",
        "app.kubernetes.io/instance": release,
        "app.kubernetes.io/component": component,
    }
    return Place(NAMESPACE, labels)


def _places(release: str) -> dict[str, Place]:
    """The release's pods, who may have business with them, and strangers."""
    return {
        **{component: _member(release, component) for component in _COMPONENTS},
        "other release's gateway": _member("another", "gateway"),
        "other release's vllm": _member("demo" if release != "demo" else "another", "vllm"),
        "neighbour": Place(NAMESPACE, {"app": "neighbour"}),
        "stranger": Place("elsewhere", {"app.kubernetes.io/name": "prometheus"}),
        "ingress": Place("ingress-nginx", {"app": "controller"}),
        "assistant": Place("health-assistant", {"app": "assistant"}),
        "prometheus": Place("monitoring", {"app.kubernetes.io/name": "prometheus"}),
        "grafana": Place("monitoring", {"app.kubernetes.io/name": "grafana"}),
        "dns": Place("kube-system", {"k8s-app": "kube-dns"}),
        "redis": Place("redis", {"app": "redis"}),
        "collector": Place("observability", {"app": "otel"}),
        "judge": Place("judges", {"app": "judge"}),
        "internet": Place(address="198.51.100.7"),
        "provider": Place(address="203.0.113.9"),
        "host": Place(address="192.168.49.1"),
        "private": Place(address="10.1.2.3"),
        "cloud metadata": Place(address="169.254.169.254"),
    }


def edges(objects: list[Object], release: str) -> Set[Edge]:
    """Who reaches whom on which port, where one end is a pod of the release."""
    policies = of_kind(objects, "NetworkPolicy")
    places = _places(release)
    return {
        (source, target, port)
        for source, from_ in places.items()
        for target, to in places.items()
        if source != target and (source in _COMPONENTS or target in _COMPONENTS)
        for port in PORTS
        if reaches(policies, from_, to, port)
    }


_GATEWAY = {("gateway", "dns", 53), ("test", "dns", 53), ("test", "gateway", 8080)}
_VLLM = {*_GATEWAY, ("gateway", "vllm", 8000)}
_DOWNLOAD = {("vllm", "dns", 53), ("vllm", "internet", 443), ("vllm", "provider", 443)}
_NAMESPACE = {(who, "gateway", 8080) for who in ("neighbour", "other release's gateway", "other release's vllm")}
_ONE_GPU = {*_VLLM, *_DOWNLOAD, *_NAMESPACE}
_FLEET = {
    *_VLLM,
    ("ingress", "gateway", 8080),
    ("prometheus", "gateway", 8080),
    ("prometheus", "vllm", 8000),
    ("gateway", "redis", 6379),
}

EXPECTED: dict[str, Set[Edge]] = {
    "laptop": {*_GATEWAY, ("gateway", "host", 8000)},
    "fleet": _FLEET,
    "secrets": _FLEET | _DOWNLOAD,
    "hub-offline": {*_VLLM, *_NAMESPACE},
    "instead-of-vllm": _FLEET - {("gateway", "vllm", 8000)} | {("gateway", "provider", 443)},
    "keda": _FLEET,
    "keda-waiting": _FLEET,
    "long-release": _FLEET,
    "canary": _FLEET,
    "canary-gateway": {
        *_GATEWAY,
        ("assistant", "gateway", 8080),
        ("gateway", "collector", 4318),
        ("gateway", "other release's vllm", 8000),
    },
    "air-gapped": {*_VLLM, ("assistant", "gateway", 8080)},
    "training-8-gpus": {*_VLLM, ("assistant", "gateway", 8080)},
    "outside-upstream": {
        *_GATEWAY,
        ("assistant", "gateway", 8080),
        ("gateway", "provider", 443),
        ("gateway", "collector", 4318),
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_edges_are_exactly_the_configured_ones(name: str) -> None:
    case = CASES[name]
    assert edges(render(case), case.release) == EXPECTED[name]


@pytest.mark.parametrize("name", ["one-gpu", "own-principles", "index-claim", "index-job"])
def test_with_its_own_namespace_as_client_only_the_gateway_is_open_to_it(name: str) -> None:
    # `podSelector: {}` is every pod of the namespace, the release's own among them; but those may not send it anything.
    assert edges(render(CASES[name]), "demo") == _ONE_GPU


def test_training_reaches_the_hub_and_its_judge() -> None:
    added = edges(render(CASES["training"]), "demo") - _ONE_GPU
    assert added == {
        ("trainer", "dns", 53),
        ("trainer", "internet", 443),
        ("trainer", "provider", 443),
        ("trainer", "judge", 8000),
    }


def test_vllm_is_open_to_those_named() -> None:
    labels = _member("another", "gateway").labels
    peer = {"podSelector": {"matchLabels": labels}}
    case = CASES["fleet"].changed(networkPolicy={"vllmClients": [peer]})
    assert edges(render(case), "demo") - _FLEET == {("other release's gateway", "vllm", 8000)}


def test_names_are_resolved_where_the_cluster_does() -> None:
    cache = {"ipBlock": {"cidr": "169.254.20.10/32"}}
    openshift = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}}
    objects = render(CASES["fleet"].changed(networkPolicy={"dns": {"to": [cache, openshift], "ports": [53, 5353]}}))
    policies, gateway = of_kind(objects, "NetworkPolicy"), _member("demo", "gateway")
    assert reaches(policies, gateway, Place(address="169.254.20.10"), 53)
    assert reaches(policies, gateway, Place("openshift-dns"), 5353)
    assert not reaches(policies, gateway, Place("kube-system"), 53)
    (policy,) = [p for p in policies if p["metadata"]["name"] == "demo-gateway"]
    ports = [(port["protocol"], port["port"]) for port in policy["spec"]["egress"][0]["ports"]]
    assert sorted(ports) == [("TCP", 53), ("TCP", 5353), ("UDP", 53), ("UDP", 5353)]


@pytest.mark.parametrize("name", [name for name in CASES if name != "no-policies"])
def test_default_deny_selects_every_pod(name: str) -> None:
    objects = render(CASES[name])
    (deny,) = [p for p in of_kind(objects, "NetworkPolicy") if p["metadata"]["name"].endswith("-default-deny")]
    assert set(deny["spec"]) == {"podSelector", "policyTypes"}
    assert set(deny["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    for workload, _ in pods(objects):
        assert matches(deny["spec"]["podSelector"], pod(workload)["metadata"]["labels"])


@pytest.mark.parametrize("name", CASES)
def test_no_rule_is_open_by_leaving_out_who_or_which_port(name: str) -> None:
    for policy in of_kind(render(CASES[name]), "NetworkPolicy"):
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                assert rule.get(peers), f"{policy['metadata']['name']}: an empty `{peers}` means everybody"
                assert rule.get("ports"), f"{policy['metadata']['name']}: no ports means all of them"


def test_policies_can_be_left_out() -> None:
    assert not of_kind(render(CASES["no-policies"]), "NetworkPolicy")


def test_the_graph_sees_what_is_too_open() -> None:
    everybody = Case(("fleet",)).changed(networkPolicy={"clients": [{"namespaceSelector": {}}]})
    found = edges(render(everybody), "demo")
    assert ("stranger", "gateway", 8080) in found
    policies_only = [
        o for o in render(CASES["fleet"]) if not o["metadata"]["name"].endswith(("-vllm", "-default-deny"))
    ]
    assert ("stranger", "vllm", 8000) in edges(policies_only, "demo"), "without its policy vLLM is open to all"

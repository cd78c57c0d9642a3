"""The chart rendered by helm: `render(CASES["fleet"])` gives its objects. Renders are kept, so nothing changes them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from scripts.chart_docs import CHART
from tests.tools import need

Object = dict[str, Any]
EXAMPLES = CHART / "examples"
NAMESPACE = "health"
MANAGED = ("Deployment", "StatefulSet", "Job", "Pod")


@dataclass(frozen=True)
class Case:
    """Example files, in helm's order, and values on top of them."""

    files: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    release: str = "demo"

    def changed(self, **values: Any) -> Case:
        return Case(self.files, merged(self.values, values), self.release)


_PRINCIPLES = {"files": {"heart.yaml": "- id: one\n", "lungs.yaml": "- id: two\n"}}
_FLEET_VLLM = {
    "podSelector": {"matchLabels": {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/component": "vllm"}}
}
_JUDGES = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "judges"}}}

_HUB = {"source": "hub", "claim": {"name": "", "path": ""}}

OUTSIDE = ("laptop", "outside-upstream", "canary-gateway")  # those without a vLLM of their own

# Every example as it is, and what no example turns on.
CASES = {
    **{name: Case((name,)) for name in ("laptop", "one-gpu", "fleet", "air-gapped", "outside-upstream")},
    "canary": Case(("fleet", "canary"), release="demo-canary"),
    "canary-gateway": Case(
        ("outside-upstream",),
        {
            "track": "canary",
            "upstream": {"url": f"http://demo-vllm.{NAMESPACE}.svc:8000", "replicas": "dns"},
            "networkPolicy": {"upstream": {"to": [_FLEET_VLLM], "ports": [8000]}},
        },
        release="demo-canary",
    ),
    "keda": Case(("fleet",), {"vllm": {"autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 16}}}),
    "keda-waiting": Case(("fleet",), {"vllm": {"autoscaling": {"enabled": True, "metric": "waiting", "maxReplicas": 8}}}),
    "hub-offline": Case(
        ("one-gpu",),
        {"vllm": {"model": {"offline": True}}, "networkPolicy": {"download": {"to": []}}},
    ),
    "instead-of-vllm": Case(
        ("fleet",),
        {
            "upstream": {"url": "https://llm.example.org", "insteadOfVllm": True, "apiKey": {"existingSecret": "outside"}},
            "networkPolicy": {"upstream": {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [443]}},
        },
    ),
    "own-principles": Case(("one-gpu",), {"index": {"from": "configMap", "principles": _PRINCIPLES}}),
    "index-claim": Case(("one-gpu",), {"index": {"from": "claim", "claim": {"name": "index"}}}),
    "index-job": Case(
        ("one-gpu",),
        {"index": {"from": "claim", "claim": {"name": "index"}, "job": {"enabled": True}, "principles": _PRINCIPLES}},
    ),
    "training": Case(
        ("one-gpu",),
        {
            "training": {"enabled": True, "dataClaim": "questions", "outputClaim": "runs", "set": ["grpo.steps=10"]},
            "networkPolicy": {"training": {"to": [_JUDGES]}},
        },
    ),
    "training-8-gpus": Case(
        ("air-gapped",),
        {
            "training": {
                "enabled": True,
                "dataClaim": "questions",
                "outputClaim": "runs",
                "profiles": "profiles",
                "profile": "/profiles/mine.yaml",
                "gpus": 8,
                "accelerate": "/profiles/zero3-8gpu.yaml",
                "download": False,
            }
        },
    ),
    "secrets": Case(
        ("fleet",),
        {
            "gateway": {
                "files": {"configMap": "trust"},
                "settings": {"CLINALIGN_CRITIC_TRUST_FILE": "/etc/clinalign/trust.json"},
                "caBundle": {"configMap": "authorities"},
            },
            "vllm": {"apiKey": {"existingSecret": "vllm-key"}, "gpus": 4, "model": {**_HUB, "token": {"existingSecret": "hub"}, "revision": "0123456789" * 4}},
        },
    ),
    "no-policies": Case(("one-gpu",), {"networkPolicy": {"enabled": False}, "vllm": {"model": {"cache": {"persistent": False}}}}),
    "long-release": Case(("fleet",), release="a-release-with-a-name-as-long-as-helm-lets-it-be-53ch"),
}  # fmt: skip


def merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """As helm merges values: mappings by key, all else replaced."""
    both = dict(base)
    for key, value in top.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both


def helm(*arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(need("helm")), *arguments], input=json.dumps(values or {}), capture_output=True, text=True, check=False
    )


def arguments(case: Case) -> list[str]:
    """Those by which helm reads the case's values, the last of them from standard input."""
    files = [f"--values={EXAMPLES / name}.yaml" for name in case.files]
    return [str(CHART), f"--namespace={NAMESPACE}", *files, "--values=-"]


def text(case: Case) -> str:
    """What `helm template` writes."""
    return _rendered(case.release, tuple(arguments(case)), json.dumps(case.values))[0]


def render(case: Case) -> list[Object]:
    return _rendered(case.release, tuple(arguments(case)), json.dumps(case.values))[1]


@cache
def _rendered(release: str, given: tuple[str, ...], values: str) -> tuple[str, list[Object]]:
    done = helm("template", release, *given, values=json.loads(values))
    assert done.returncode == 0, done.stderr
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return done.stdout, [found for found in yaml.load_all(done.stdout, loader) if found]


def refusal(case: Case) -> str:
    """What helm says when it refuses the values."""
    done = helm("template", case.release, *arguments(case), values=case.values)
    assert done.returncode != 0, "helm rendered what it should refuse"
    return done.stderr


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [found for found in objects if found["kind"] in kinds]


def one(objects: list[Object], kind: str, component: str) -> Object:
    (found,) = [
        o for o in of_kind(objects, kind) if o["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    return found


def pod(workload: Object) -> Object:
    """The pod that a workload makes: its metadata and spec."""
    template: Object = workload if workload["kind"] == "Pod" else workload["spec"]["template"]
    return template


def pods(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Every workload with the spec of its pods."""
    for workload in of_kind(objects, *MANAGED):
        yield workload, pod(workload)["spec"]


def containers(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Every container, init containers too, with its workload."""
    for workload, spec in pods(objects):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            yield workload, container


def gateway(case: Case) -> Object:
    """The gateway's container."""
    (container,) = pod(one(render(case), "Deployment", "gateway"))["spec"]["containers"]
    found: Object = container
    return found


def environment(container: Object) -> dict[str, Any]:
    """Its variables: text, or the reference to a Secret."""
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in container.get("env", [])}


def named(found: Object) -> str:
    return f"{found['kind']}/{found['metadata']['name']}"

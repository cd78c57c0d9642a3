"""What the chart asks of a running release: an autoscaler that is turned on keeps the replicas that there are.

Helm asks a stand-in for the Kubernetes API, which knows the two workloads and no more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.chart_docs import CHART
from tests.deploy.chart import NAMESPACE, helm, one

KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet"}
GROUPS = {
    "apps/v1": tuple(KINDS.values()),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "keda.sh/v1alpha1": ("ScaledObject",),
    "monitoring.coreos.com/v1": ("PrometheusRule", "ServiceMonitor"),
    "networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "policy/v1": ("PodDisruptionBudget",),
}
CORE = ("ConfigMap", "Pod", "Service", "ServiceAccount")


def _resources(version: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    listed = [{"name": f"{kind.lower()}s", "namespaced": True, "kind": kind, "verbs": ["get"]} for kind in kinds]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}


def _group(version: str) -> dict[str, Any]:
    name, _, number = version.partition("/")
    return {"name": name, "versions": [{"groupVersion": version, "version": number}]}


DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "35", "gitVersion": "v1.35.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": _resources("v1", CORE),
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(version) for version in GROUPS]},
    **{f"/apis/{version}": _resources(version, kinds) for version, kinds in GROUPS.items()},
}


class _Api(BaseHTTPRequestHandler):
    live: dict[str, int]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found = DISCOVERY.get(path) or self._workload(path)
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(found or missing).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _workload(self, path: str) -> dict[str, Any] | None:
        *place, kind, name = path.split("/")
        if place != ["", "apis", "apps", "v1", "namespaces", NAMESPACE] or name not in self.live:
            return None
        owned = {"meta.helm.sh/release-name": "demo", "meta.helm.sh/release-namespace": NAMESPACE}
        labels = {"app.kubernetes.io/managed-by": "Helm"}
        metadata = {"name": name, "namespace": NAMESPACE, "annotations": owned, "labels": labels}
        return {
            "kind": KINDS[kind],
            "apiVersion": "apps/v1",
            "metadata": metadata,
            "spec": {"replicas": self.live[name]},
        }

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A kubeconfig of an API that knows these workloads by their replicas."""
    handler = type("Api", (_Api,), {"live": request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
            "current-context": "c",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        yield tmp_path / "kubeconfig"
        server.shutdown()
        thread.join()


def rendered(cluster: Path, *values: str) -> list[dict[str, Any]]:
    fleet = str(CHART / "examples/fleet.yaml")
    sets = [word for value in values for word in ("--set", value)]
    asked = ("--dry-run=server", "--disable-openapi-validation", "--kubeconfig", str(cluster))
    done = helm("template", "demo", str(CHART), "--namespace", NAMESPACE, *asked, "--values", fleet, *sets)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


KEDA = ("vllm.autoscaling.enabled=true", "vllm.autoscaling.maxReplicas=12")


@pytest.mark.parametrize("cluster", [{"demo-gateway": 5, "demo-vllm": 7}], indirect=True)
def test_an_autoscaler_keeps_the_replicas_that_there_are(cluster: Path) -> None:
    objects = rendered(cluster, *KEDA)
    assert one(objects, "Deployment", "gateway")["spec"]["replicas"] == 5
    assert one(objects, "StatefulSet", "vllm")["spec"]["replicas"] == 7


@pytest.mark.parametrize("cluster", [{}], indirect=True)
def test_a_first_installation_leaves_them_to_the_autoscaler(cluster: Path) -> None:
    objects = rendered(cluster, *KEDA)
    assert "replicas" not in one(objects, "Deployment", "gateway")["spec"]
    assert "replicas" not in one(objects, "StatefulSet", "vllm")["spec"]


@pytest.mark.parametrize("cluster", [{"demo-vllm": 7}], indirect=True)
def test_without_an_autoscaler_the_values_say_how_many(cluster: Path) -> None:
    assert one(rendered(cluster), "StatefulSet", "vllm")["spec"]["replicas"] == 8

"""What holds for every object of the chart, whatever the values: each check raises AssertionError."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tests.deploy.chart import (
    MANAGED,
    Object,
    containers,
    environment,
    named,
    of_kind,
    one,
    pod,
    pods,
)
from tests.deploy.chart_network import matches

Check = Callable[[list[Object]], None]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_IMAGE = re.compile(
    r"([a-z0-9.-]+(:\d+)?/)?[a-z0-9./_-]+(:(?!latest$)[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})"
)
_SECRET_NAME = re.compile(r"(KEY|KEYS|TOKEN|SECRET|PASSWORD|REDIS_URL)$")
_SECRET_TEXT = re.compile(r"hf_\w{20}|sk-\w{16}|://[^/\s]*:[^/\s]*@|[0-9a-f]{64}|BEGIN [A-Z ]*PRIVATE KEY")


def names_fit(objects: list[Object]) -> None:
    assert max(Counter((o["kind"], o["metadata"]["name"]) for o in objects).values()) == 1, "two of one name"
    for found in objects:
        # A StatefulSet's pods carry its name and a hash of ten characters in a label.
        most = 52 if found["kind"] == "StatefulSet" else 63
        name = found["metadata"]["name"]
        assert len(name) <= most, f"{named(found)} is {len(name)} long"
        assert _NAME.fullmatch(name), named(found)
        assert all(len(label) <= 63 for label in found["metadata"]["labels"].values()), named(found)


def labelled(objects: list[Object]) -> None:
    releases = set()
    for found in objects:
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "clinalign", named(found)
        assert labels["app.kubernetes.io/component"], named(found)
        releases.add(labels["app.kubernetes.io/instance"])
    assert len(releases) == 1
    for workload, _ in pods(objects):
        labels = pod(workload)["metadata"]["labels"]
        assert labels["track"] in {"stable", "canary"}
        assert "helm.sh/chart" not in labels, f"{named(workload)} would restart with every new chart"


def selectors_select_one(objects: list[Object]) -> None:
    for found, selector in _selectors(objects):
        chosen = [w for w, _ in pods(objects) if matches(selector, pod(w)["metadata"]["labels"])]
        assert len(chosen) == 1, f"{named(found)} selects {[named(w) for w in chosen]}"
        if found["kind"] in ("Deployment", "StatefulSet"):
            assert chosen == [found], f"{named(found)} does not select its own pods"
    for monitor in of_kind(objects, "ServiceMonitor"):
        services = [
            s for s in of_kind(objects, "Service") if matches(monitor["spec"]["selector"], s["metadata"]["labels"])
        ]
        (service,) = services
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports, named(monitor)


def _selectors(objects: list[Object]) -> Iterator[tuple[Object, dict[str, Any]]]:
    for found in of_kind(objects, "Service"):
        yield found, {"matchLabels": found["spec"]["selector"]}
    for found in of_kind(objects, "PodDisruptionBudget", "Deployment", "StatefulSet"):
        yield found, found["spec"]["selector"]
    for workload, spec in pods(objects):
        for spread in spec.get("topologySpreadConstraints", []):
            yield workload, spread["labelSelector"]


def service_ports_exist(objects: list[Object]) -> None:
    for service in of_kind(objects, "Service"):
        component = service["metadata"]["labels"]["app.kubernetes.io/component"]
        (workload,) = [
            w
            for w in of_kind(objects, *MANAGED)
            if matches({"matchLabels": service["spec"]["selector"]}, pod(w)["metadata"]["labels"])
        ]
        offered = {port["name"] for c in pod(workload)["spec"]["containers"] for port in c["ports"]}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in offered, (
                f"{named(service)}: {port['targetPort']} is no port of {named(workload)}"
            )
        if component == "vllm":
            assert service["spec"]["clusterIP"] == "None", "a balancing Service would scatter a conversation"
            assert service["spec"]["publishNotReadyAddresses"] is False
            assert workload["spec"]["serviceName"] == service["metadata"]["name"]


def volumes_and_mounts_fit(objects: list[Object]) -> None:
    for workload, spec in pods(objects):
        claims = [c["metadata"]["name"] for c in workload["spec"].get("volumeClaimTemplates", [])]
        volumes = [*claims, *(volume["name"] for volume in spec.get("volumes", []))]
        assert len(set(volumes)) == len(volumes), f"{named(workload)}: a volume is there twice"
        used = set()
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            mounts = container.get("volumeMounts", [])
            paths = [mount["mountPath"] for mount in mounts]
            assert len(set(paths)) == len(paths), f"{named(workload)}: two volumes in one place"
            used |= {mount["name"] for mount in mounts}
        assert used == set(volumes), f"{named(workload)}: {used ^ set(volumes)} is not both there and mounted"


def paths_lie_on_volumes(objects: list[Object]) -> None:
    """What a variable or an argument names lies in a volume, or in the image below /opt."""
    for workload, container in containers(objects):
        mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        given = [*container.get("command", []), *container.get("args", [])]
        given += [variable.get("value", "") for variable in container.get("env", [])]
        for text in given:
            path = text.rpartition("=")[2]
            if path.startswith("/") and not path.startswith("/opt/"):
                assert any(f"{path}/".startswith(f"{mount}/") for mount in mounts), f"{named(workload)}: {path}"


_PROBED = {
    "gateway": {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz?once"},
    "vllm": {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/health"},
}


def probes_hit(objects: list[Object]) -> None:
    for workload in of_kind(objects, "Deployment", "StatefulSet"):
        (container,) = pod(workload)["spec"]["containers"]
        wanted = _PROBED[workload["metadata"]["labels"]["app.kubernetes.io/component"]]
        assert {kind: container[kind]["httpGet"]["path"] for kind in wanted} == wanted, named(workload)
        ports = {port["name"] for port in container["ports"]}
        assert all(container[kind]["httpGet"]["port"] in ports for kind in wanted), named(workload)


def restricted(objects: list[Object]) -> None:
    """The Pod Security Standard "restricted", and a root that cannot be written, no token, no Services' variables."""
    for workload, spec in pods(objects):
        where = named(workload)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), where
        assert spec["automountServiceAccountToken"] is False, where
        assert spec["enableServiceLinks"] is False, where
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, where
        assert security["runAsUser"] > 0, where
        assert security["seccompProfile"]["type"] == "RuntimeDefault", where
        for volume in spec.get("volumes", []):
            kind = (set(volume) - {"name"}).pop()
            assert kind in {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}, f"{where}: {kind}"
            assert kind != "emptyDir" or volume["emptyDir"]["sizeLimit"], f"{where}: {volume['name']} has no limit"
    for workload, container in containers(objects):
        where = f"{named(workload)}: {container['name']}"
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, where
        assert security["readOnlyRootFilesystem"] is True, where
        assert security["capabilities"] == {"drop": ["ALL"]}, where
        assert not {"privileged", "runAsUser", "procMount"} & set(security), where
        assert not any("hostPort" in port for port in container.get("ports", [])), where


def images_are_pinned(objects: list[Object]) -> None:
    for workload, container in containers(objects):
        assert _IMAGE.fullmatch(container["image"]), f"{named(workload)}: {container['image']}"


def secrets_only_by_reference(objects: list[Object]) -> None:
    assert not of_kind(objects, "Secret")
    for workload, container in containers(objects):
        for variable in container.get("env", []):
            where = f"{named(workload)}: {variable['name']}"
            if "valueFrom" in variable:
                assert set(variable["valueFrom"]) == {"secretKeyRef"}, where
                assert all(variable["valueFrom"]["secretKeyRef"][part] for part in ("name", "key")), where
            else:
                assert not _SECRET_NAME.search(variable["name"]), where
                assert not _SECRET_TEXT.search(variable["value"]), where
        for text in [*container.get("args", []), *container.get("command", [])]:
            assert not _SECRET_TEXT.search(text), named(workload)


def variables_are_set_once(objects: list[Object]) -> None:
    for workload, container in containers(objects):
        names = Counter(variable["name"] for variable in container.get("env", []))
        assert all(count == 1 for count in names.values()), f"{named(workload)}: {names.most_common(1)}"


def resources_are_said(objects: list[Object]) -> None:
    for workload, container in containers(objects):
        where = f"{named(workload)}: {container['name']}"
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(requests), where
        assert "cpu" not in limits, f"{where}: throttled while cores are idle"
        for resource in set(limits) | {"memory"}:
            assert limits[resource] == requests[resource], f"{where}: {resource} is promised and not kept"


def grace_outlasts_answers(objects: list[Object]) -> None:
    gateway = pod(one(objects, "Deployment", "gateway"))["spec"]
    env = environment(gateway["containers"][0])
    deadline = int(env["CLINALIGN_REVISION_DEADLINE_MS"]) / 1000
    drain = float(env["CLINALIGN_DRAIN_S"])
    # The server's own limit for answers in the making is the deadline and 5 s.
    assert gateway["terminationGracePeriodSeconds"] > drain + deadline + 5
    for workload in of_kind(objects, "StatefulSet"):
        spec = pod(workload)["spec"]
        sleep = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert sleep >= deadline + 20, "it stops while answers still ask it"
        assert spec["terminationGracePeriodSeconds"] >= sleep + 30


def scaled_by_one(objects: list[Object]) -> None:
    """A workload has a size or a scaler, never both, and every scaler and budget a workload."""
    scaled = [o["spec"]["scaleTargetRef"] for o in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")]
    targets = [(ref["kind"], ref["name"]) for ref in scaled]
    workloads = {(w["kind"], w["metadata"]["name"]): w for w in of_kind(objects, "Deployment", "StatefulSet")}
    assert set(targets) <= set(workloads), targets
    assert len(set(targets)) == len(targets)
    for key, workload in workloads.items():
        assert ("replicas" in workload["spec"]) != (key in targets), key
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert _least(objects, budget) > 1, f"{named(budget)} would keep a node from being drained"


def _least(objects: list[Object], budget: Object) -> int:
    """How many pods a budget has at least."""
    component = budget["metadata"]["labels"]["app.kubernetes.io/component"]
    for found in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject", "Deployment", "StatefulSet"):
        if found["metadata"]["labels"]["app.kubernetes.io/component"] == component:
            least = [
                found["spec"][key] for key in ("minReplicas", "minReplicaCount", "replicas") if key in found["spec"]
            ]
            if least:
                return int(least[0])
    raise AssertionError(f"nothing says how many {component} there are")


def rolls_out_without_loss(objects: list[Object]) -> None:
    for deployment in of_kind(objects, "Deployment"):
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def jobs_end(objects: list[Object]) -> None:
    for job in of_kind(objects, "Job", "Pod"):
        assert pod(job)["spec"]["restartPolicy"] == "Never", named(job)
    for job in of_kind(objects, "Job"):
        assert "backoffLimit" in job["spec"], named(job)


CHECKS: tuple[Check, ...] = (
    names_fit,
    labelled,
    selectors_select_one,
    service_ports_exist,
    volumes_and_mounts_fit,
    paths_lie_on_volumes,
    probes_hit,
    restricted,
    images_are_pinned,
    secrets_only_by_reference,
    variables_are_set_once,
    resources_are_said,
    grace_outlasts_answers,
    scaled_by_one,
    rolls_out_without_loss,
    jobs_end,
)

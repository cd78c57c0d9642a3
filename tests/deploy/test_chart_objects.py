"""What holds for every object of every example, and proof that each check can fail."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.deploy.chart import CASES, of_kind, render
from tests.deploy.chart_checks import (
    CHECKS,
    Check,
    grace_outlasts_answers,
    images_are_pinned,
    jobs_end,
    labelled,
    names_fit,
    paths_lie_on_volumes,
    probes_hit,
    resources_are_said,
    restricted,
    rolls_out_without_loss,
    scaled_by_one,
    secrets_only_by_reference,
    selectors_select_one,
    service_ports_exist,
    variables_are_set_once,
    volumes_and_mounts_fit,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_every_object(name: str, check: Check) -> None:
    check(render(CASES[name]))


def _broken(check: Check, kind: str, path: str, value: Any) -> Any:
    return pytest.param(check, kind, path, value, id=f"{check.__name__}-{path.split()[-1]}")


_MAIN = "spec template spec containers 0"
BROKEN = (
    _broken(names_fit, "StatefulSet", "metadata name", "a" * 53),
    _broken(names_fit, "Ingress", "metadata name", "Upper"),
    _broken(labelled, "Service", "metadata labels app.kubernetes.io/instance", "another"),
    _broken(labelled, "StatefulSet", "spec template metadata labels helm.sh/chart", "clinalign-1"),
    _broken(selectors_select_one, "Service", "spec selector", {"app.kubernetes.io/name": "clinalign"}),
    _broken(selectors_select_one, "PodDisruptionBudget", "spec selector matchLabels app.kubernetes.io/component", "x"),
    _broken(selectors_select_one, "ServiceMonitor", "spec endpoints 0 port", "metrics"),
    _broken(service_ports_exist, "Service", "spec ports 0 targetPort", "web"),
    _broken(service_ports_exist, "StatefulSet", "spec serviceName", "elsewhere"),
    _broken(volumes_and_mounts_fit, "Deployment", f"{_MAIN} volumeMounts 0 name", "missing"),
    _broken(paths_lie_on_volumes, "StatefulSet", f"{_MAIN} volumeMounts 1 mountPath", "/home/vlm"),
    _broken(rolls_out_without_loss, "Deployment", "spec strategy rollingUpdate maxUnavailable", 1),
    _broken(probes_hit, "Deployment", f"{_MAIN} readinessProbe httpGet path", "/healthz"),
    _broken(probes_hit, "StatefulSet", f"{_MAIN} livenessProbe httpGet port", "metrics"),
    _broken(restricted, "Deployment", "spec template spec securityContext runAsUser", 0),
    _broken(restricted, "Deployment", "spec template spec automountServiceAccountToken", True),
    _broken(restricted, "StatefulSet", f"{_MAIN} securityContext readOnlyRootFilesystem", False),
    _broken(restricted, "StatefulSet", f"{_MAIN} securityContext capabilities", {"drop": ["NET_RAW"]}),
    _broken(restricted, "Deployment", "spec template spec volumes 0", {"name": "tmp", "hostPath": {"path": "/var"}}),
    _broken(images_are_pinned, "Deployment", f"{_MAIN} image", "clinalign/gateway"),
    _broken(images_are_pinned, "StatefulSet", f"{_MAIN} image", "registry:5000/vllm/vllm-openai:latest"),
    _broken(secrets_only_by_reference, "Deployment", f"{_MAIN} env 0", {"name": "CLINALIGN_KEYS", "value": "[]"}),
    _broken(secrets_only_by_reference, "StatefulSet", f"{_MAIN} args 1", "--hf=hf_abcdefghijklmnopqrstuvw"),
    _broken(variables_are_set_once, "Deployment", f"{_MAIN} env 0 name", "CLINALIGN_PORT"),
    _broken(resources_are_said, "Deployment", f"{_MAIN} resources limits cpu", 1),
    _broken(resources_are_said, "StatefulSet", f"{_MAIN} resources limits nvidia.com/gpu", 2),
    _broken(grace_outlasts_answers, "Deployment", "spec template spec terminationGracePeriodSeconds", 30),
    _broken(grace_outlasts_answers, "StatefulSet", f"{_MAIN} lifecycle preStop sleep seconds", 5),
    _broken(scaled_by_one, "Deployment", "spec replicas", 3),
    _broken(scaled_by_one, "HorizontalPodAutoscaler", "spec scaleTargetRef name", "demo-gatewy"),
    _broken(scaled_by_one, "HorizontalPodAutoscaler", "spec minReplicas", 1),
    _broken(jobs_end, "Pod", "spec restartPolicy", "Always"),
)


@pytest.mark.parametrize(("check", "kind", "path", "value"), BROKEN)
def test_a_broken_object_is_found(check: Check, kind: str, path: str, value: Any) -> None:
    objects = copy.deepcopy(render(CASES["fleet"]))
    _set(of_kind(objects, kind)[0], path, value)
    with pytest.raises((AssertionError, ValueError)):
        check(objects)


def test_every_check_is_shown_to_fail() -> None:
    assert {broken.values[0] for broken in BROKEN} == set(CHECKS)


def _set(found: Any, path: str, value: Any) -> None:
    """Sets the value at `spec containers 0 image`."""
    *above, last = [int(key) if key.isdigit() else key for key in path.split()]
    for key in above:
        found = found[key]
    found[last] = value

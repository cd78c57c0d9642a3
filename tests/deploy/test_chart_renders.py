"""What a value changes in the objects, and what the examples promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.common import ROOT
from tests.deploy.chart import (
    CASES,
    OUTSIDE,
    Case,
    Object,
    arguments,
    containers,
    environment,
    gateway,
    helm,
    of_kind,
    one,
    pod,
    render,
    text,
)
from tests.deploy.chart_network import matches

BASE = CASES["fleet"]


@pytest.mark.parametrize("name", [name for name in CASES if name not in OUTSIDE])
def test_vllm_serves_as_the_gateway_wants_it(name: str) -> None:
    container = pod(one(render(CASES[name]), "StatefulSet", "vllm"))["spec"]["containers"][0]
    flags = [argument for argument in container["args"] if argument.startswith("-")]
    keys = [flag.split("=")[0] for flag in flags]
    assert len(set(keys)) == len(keys)
    assert {"--enable-prefix-caching", "--block-size=16", "--enable-prompt-tokens-details"} <= set(flags)
    assert "--load-format=safetensors" in flags
    assert not any("trust" in flag for flag in flags)
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert (f"--tensor-parallel-size={gpus}" in flags) == (gpus > 1)
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1800
    given = environment(container)
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    for variable in (
        "HOME",
        "XDG_CACHE_HOME",
        "VLLM_CACHE_ROOT",
        "TRITON_CACHE_DIR",
        "TORCHINDUCTOR_CACHE_DIR",
        "HF_HOME",
    ):
        (place,) = [path for path in mounts if f"{given[variable]}/".startswith(f"{path}/")]
        assert not mounts[place], f"{variable} lies where nothing can be written"
    offline = given.get("HF_HUB_OFFLINE") == "1"
    assert offline == container["args"][0].startswith("/models/") == mounts["/models"]


def test_the_fleet_is_what_it_says() -> None:
    objects = render(CASES["fleet"])
    vllm = one(objects, "StatefulSet", "vllm")
    assert vllm["spec"]["replicas"] == 8
    assert pod(vllm)["spec"]["containers"][0]["args"][0] == "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8"
    assert one(objects, "HorizontalPodAutoscaler", "gateway")["spec"]["minReplicas"] == 3
    assert {"ServiceMonitor", "PrometheusRule", "NetworkPolicy", "Ingress"} <= {o["kind"] for o in objects}
    assert not of_kind(objects, "ScaledObject")
    assert text(CASES["fleet"].changed(monitoring=_NO_MONITORING)).count("\n") < 700, "too long to be read"


_NO_MONITORING = {"rules": {"enabled": False}, "dashboard": {"enabled": False}}


def _images(case: Case) -> set[str]:
    return {container["image"] for _, container in containers(render(case))}


def test_the_registry_is_that_of_images_which_name_none() -> None:
    ours, vllm = "clinalign/gateway:0.1.0", "vllm/vllm-openai:v0.33.0"
    assert _images(BASE) == {ours, f"docker.io/{vllm}"}
    assert _images(BASE.changed(images={"registry": "a.example/"})) == {f"a.example/{ours}", f"docker.io/{vllm}"}
    assert _images(CASES["air-gapped"]) == {f"registry.internal:5000/{image}" for image in (ours, vllm)}


def test_a_digest_decides() -> None:
    digest = f"sha256:{'0' * 64}"
    assert gateway(BASE.changed(gateway={"image": {"digest": digest}}))["image"] == f"clinalign/gateway@{digest}"


def _pod_of(case: Case, kind: str) -> Object:
    return pod(of_kind(render(case), kind)[0])


@pytest.mark.parametrize(
    ("name", "values", "restarted"),
    [
        ("own-principles", {"index": {"principles": {"files": {"heart.yaml": "- id: other\n"}}}}, {"Deployment"}),
        ("air-gapped", {"index": {"principles": {"revision": "2026-02"}}}, {"Deployment"}),
        ("secrets", {"gateway": {"files": {"revision": "2"}}}, {"Deployment"}),
        ("fleet", {"gateway": {"drainSeconds": 20}}, {"Deployment"}),
        ("fleet", {"vllm": {"model": {"maxLength": 8192}}}, {"StatefulSet"}),
        ("fleet", {"vllm": {"replicas": 9}, "monitoring": _NO_MONITORING, "gateway": {"autoscaling": {"maxReplicas": 9}}}, set()),
    ],
)  # fmt: skip
def test_what_a_change_restarts(name: str, values: dict[str, Any], restarted: set[str]) -> None:
    after = CASES[name].changed(**values)
    changed = {kind for kind in ("Deployment", "StatefulSet") if _pod_of(CASES[name], kind) != _pod_of(after, kind)}
    assert changed == restarted


def test_an_index_of_other_principles_has_a_job_and_a_folder_of_its_own() -> None:
    before = CASES["index-job"]
    after = before.changed(index={"principles": {"files": {"heart.yaml": "- id: other\n"}}})
    jobs = [one(render(case), "Job", "index") for case in (before, after)]
    assert jobs[0]["metadata"]["name"] != jobs[1]["metadata"]["name"]
    for case, job in zip((before, after), jobs, strict=True):
        folder = environment(gateway(case))["CLINALIGN_INDEX_DIR"]
        given = pod(job)["spec"]["containers"][0]["args"]
        assert {f"--out={folder}", "--library=/etc/clinalign-principles"} <= set(given)
        (wait,) = _pod_of(case, "Deployment")["spec"]["initContainers"]
        assert f"{folder}/manifest.json" in wait["command"][-1]


def test_files_of_principles_come_through_unchanged() -> None:
    text = "- id: one\n  statement: |\n    Two\n    lines: {{ no template }}\n"
    files = {"heart.yaml": text, "lungs.yaml": "  # begins further right\n  - id: two", "empty.yaml": ""}
    case = CASES["one-gpu"].changed(index={"from": "configMap", "principles": {"files": files}})
    assert one(render(case), "ConfigMap", "index")["data"] == files


def _ingress_paths(name: str) -> list[dict[str, Any]]:
    (rule,) = one(render(CASES[name]), "Ingress", "gateway")["spec"]["rules"]
    paths: list[dict[str, Any]] = rule["http"]["paths"]
    return paths


def _routed(paths: list[dict[str, Any]], asked: str) -> bool:
    """By the Ingress API: Exact, or Prefix by whole path elements."""
    return any(
        asked == p["path"] or (p["pathType"] == "Prefix" and asked.startswith(p["path"].rstrip("/") + "/"))
        for p in paths
    )


def test_what_is_open_to_the_outside() -> None:
    paths = _ingress_paths("fleet")
    assert all(
        _routed(paths, asked) for asked in ("/", "/v1/chat/completions", "/v1/critique", "/docs", "/openapi.json")
    )
    assert not any(_routed(paths, asked) for asked in ("/metrics", "/healthz", "/readyz", "/v1x", "/metrics/"))
    objects = render(CASES["fleet"])
    service = one(objects, "Service", "gateway")
    backends = {(p["backend"]["service"]["name"], p["backend"]["service"]["port"]["name"]) for p in paths}
    assert backends == {(service["metadata"]["name"], "http")}
    ingress = one(objects, "Ingress", "gateway")
    assert ingress["spec"]["tls"] == [{"hosts": ["health.example.org"], "secretName": "health-tls"}]
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"


def test_a_canary_takes_its_share_and_leaves_the_fleet_alone() -> None:
    fleet, canary = render(CASES["fleet"]), render(CASES["canary"])
    assert not {(o["kind"], o["metadata"]["name"]) for o in fleet} & {
        (o["kind"], o["metadata"]["name"]) for o in canary
    }
    annotations = [one(objects, "Ingress", "gateway")["metadata"]["annotations"] for objects in (fleet, canary)]
    share = {"nginx.ingress.kubernetes.io/canary": "true", "nginx.ingress.kubernetes.io/canary-weight": "5"}
    assert annotations[1] == annotations[0] | share
    hosts = [one(objects, "Ingress", "gateway")["spec"]["rules"][0]["host"] for objects in (fleet, canary)]
    assert hosts[0] == hosts[1]
    for mine, others in ((fleet, canary), (canary, fleet)):
        labels = [pod(o)["metadata"]["labels"] for o in of_kind(others, "Deployment", "StatefulSet")]
        for found in of_kind(mine, "Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment", "StatefulSet"):
            selector = found["spec"].get("podSelector", found["spec"].get("selector"))
            wanted = {"matchLabels": selector} if found["kind"] == "Service" else selector
            assert not any(matches(wanted, theirs) for theirs in labels)
    assert {pod(o)["metadata"]["labels"]["track"] for o in of_kind(canary, "Deployment", "StatefulSet")} == {"canary"}
    served = [_flag(objects, "--served-model-name") for objects in (fleet, canary)]
    assert served[0] == served[1]


def _flag(objects: list[Object], name: str) -> str:
    given = pod(one(objects, "StatefulSet", "vllm"))["spec"]["containers"][0]["args"]
    (found,) = [argument for argument in given if argument.startswith(f"{name}=")]
    return str(found)


def test_training_steps_share_a_run() -> None:
    spec = pod(one(render(CASES["training-8-gpus"]), "Job", "trainer"))["spec"]
    steps = [*spec["initContainers"], *spec["containers"]]
    assert [step["name"] for step in steps] == ["rubrics", "grpo", "export"]
    assert steps[1]["command"][:2] == ["accelerate", "launch"]
    for step in steps:
        assert step["command"][-1].startswith("/runs/qwen3-4b")
        assert step["args"][0] == "--profile=/profiles/mine.yaml"
        assert environment(step)["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("name", ["training", "training-8-gpus"])
def test_training_takes_its_arguments(name: str) -> None:
    from training.__main__ import _parser

    spec = pod(one(render(CASES[name]), "Job", "trainer"))["spec"]
    for step in [*spec["initContainers"], *spec["containers"]]:
        command = step["command"]
        given = command[command.index("training") + 1 :] + step["args"]
        parsed = _parser().parse_args(given)
        assert parsed.run == Path("/runs/qwen3-4b")
        assert parsed.set == (["grpo.steps=10"] if name == "training" else [])


@pytest.mark.parametrize(("name", "component"), [("training", "trainer"), ("index-job", "index")])
def test_a_job_whose_pod_changes_is_another_job(name: str, component: str) -> None:
    def job(**values: Any) -> str:
        return str(one(render(CASES[name].changed(**values)), "Job", component)["metadata"]["name"])

    assert job() == job(vllm={"replicas": 2}, gateway={"replicas": 2}), "a finished Job would run again"
    changes: tuple[dict[str, Any], ...] = (
        {"images": {"pullPolicy": "Always"}},
        {"images": {"pullSecrets": ["registry"]}},
        {"track": "canary"},
    )
    names = {job(**values) for values in changes}
    assert job() not in names, "Kubernetes refuses to change the pod of a Job"
    assert len(names) == len(changes)


def test_a_changed_training_is_another_job() -> None:
    before = one(render(CASES["training"]), "Job", "trainer")
    for values in ({"set": ["grpo.steps=20"]}, {"retries": 1}):
        after = one(render(CASES["training"].changed(training=values)), "Job", "trainer")
        assert after["metadata"]["name"] != before["metadata"]["name"]


def test_the_test_pod_asks_the_gateways_service() -> None:
    objects = render(CASES["fleet"])
    (test,) = of_kind(objects, "Pod")
    service = one(objects, "Service", "gateway")
    url = f"http://{service['metadata']['name']}.health.svc:{service['spec']['ports'][0]['port']}"
    (ready,), (answer,) = test["spec"]["initContainers"], test["spec"]["containers"]
    assert ready["args"] == [f"{url}/readyz"]
    assert answer["args"] == ["--answer", "--key-file=/run/key/key", url]
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (without,) = of_kind(render(CASES["laptop"]), "Pod")
    assert [c["args"] for c in without["spec"]["containers"]] == [["http://demo-gateway.health.svc:80/readyz"]]


def test_the_probe_takes_its_arguments() -> None:
    (test,) = of_kind(render(CASES["fleet"]), "Pod")
    for step in [*test["spec"]["initContainers"], *test["spec"]["containers"]]:
        given = [re.sub(r"^http://[^/]+", "http://127.0.0.1:9", argument) for argument in step["args"]]
        done = subprocess.run(
            [sys.executable, *step["command"][1:], *given], capture_output=True, text=True, cwd=ROOT, check=False
        )
        # Nobody answers there, and there is no key: 1. What it cannot read would be 2.
        assert done.returncode == 1, done.stderr


def test_the_notes_give_three_commands() -> None:
    done = helm("install", "demo", *arguments(BASE), "--dry-run=client")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.split("NOTES:")[1]
    assert len(re.findall(r"^  (?:kubectl|curl) ", notes, re.MULTILINE)) == 3
    assert "Qwen/Qwen3-30B-A3B-Instruct-2507" in notes

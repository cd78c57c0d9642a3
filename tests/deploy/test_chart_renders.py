"""What a value changes in the objects, and what the examples promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart import (
    CASES,
    OUTSIDE,
    Case,
    Object,
    containers,
    environment,
    gateway,
    named,
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
    on_claim = container["args"][0].startswith("/models/")
    assert on_claim == mounts["/models"]
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        assert (given.get(variable) == "1") == (on_claim or name == "hub-offline")


@pytest.mark.parametrize(
    ("name", "place"),
    [("one-gpu", "/models"), ("hub-offline", "/models"), ("no-policies", "/home/vllm"), ("fleet", "/home/vllm")],
)
def test_what_is_compiled_outlasts_a_restart_where_a_volume_is_there(name: str, place: str) -> None:
    given = environment(pod(one(render(CASES[name]), "StatefulSet", "vllm"))["spec"]["containers"][0])
    for variable in ("VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert given[variable].startswith(f"{place}/.cache/")


def test_a_commit_of_the_hub_has_a_name_of_its_own() -> None:
    def checkpoint(case: Case) -> Any:
        return environment(gateway(case)).get("CLINALIGN_UPSTREAM_CHECKPOINT")

    assert checkpoint(CASES["one-gpu"]) is None
    first = CASES["one-gpu"].changed(vllm={"model": {"revision": "0123456789abcdef"}})
    assert checkpoint(first) == "Qwen3-4B-Instruct-2507@01234567"
    given = {"settings": {"CLINALIGN_UPSTREAM_CHECKPOINT": "mine"}}
    assert checkpoint(first.changed(gateway=given)) == "mine"
    outside: dict[str, Any] = {"upstream": {"to": [{"podSelector": {}}]}}
    instead = first.changed(upstream={"url": "http://llm", "insteadOfVllm": True}, networkPolicy=outside)
    assert checkpoint(instead) is None, "the other server may have other weights"


def test_instead_of_vllm_only_the_gateways_change() -> None:
    before, after = render(BASE), render(CASES["instead-of-vllm"])
    given = environment(gateway(CASES["instead-of-vllm"]))
    assert (given["CLINALIGN_UPSTREAM_URL"], given["CLINALIGN_UPSTREAM_REPLICAS"]) == (
        "https://llm.example.org",
        "listed",
    )
    assert given["CLINALIGN_UPSTREAM_API_KEY"]["secretKeyRef"]["name"] == "outside"
    changed = [named(new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["NetworkPolicy/demo-gateway", "Deployment/demo-gateway", "Pod/demo-test"]


@pytest.mark.parametrize("component", ["gateway", "vllm"])
def test_pods_take_labels_annotations_and_a_priority(component: str) -> None:
    kind = {"gateway": "Deployment", "vllm": "StatefulSet"}[component]
    values = {"podLabels": {"team": "health"}, "podAnnotations": {"note": "1"}, "priorityClassName": "serving"}
    made = pod(one(render(BASE.changed(**{component: values})), kind, component))
    assert made["metadata"]["labels"]["team"] == "health"
    assert made["metadata"]["labels"]["app.kubernetes.io/component"] == component
    assert made["metadata"]["annotations"]["note"] == "1"
    assert made["spec"]["priorityClassName"] == "serving"
    assert "priorityClassName" not in pod(one(render(BASE), kind, component))["spec"]


def test_a_private_authority_is_trusted_by_all_clients() -> None:
    container = gateway(CASES["secrets"])
    for variable in ("SSL_CERT_FILE", "OTEL_EXPORTER_OTLP_CERTIFICATE"):
        assert environment(container)[variable] == "/etc/clinalign-ca/ca.pem"
        assert variable not in environment(gateway(BASE))
    (volume,) = [v for v in _pod_of(CASES["secrets"], "Deployment")["spec"]["volumes"] if v["name"] == "ca"]
    assert volume["configMap"] == {"name": "authorities"}


def test_the_fleet_is_what_it_says() -> None:
    objects = render(CASES["fleet"])
    vllm = one(objects, "StatefulSet", "vllm")
    assert vllm["spec"]["replicas"] == 8
    assert pod(vllm)["spec"]["containers"][0]["args"][0] == "/models/qwen3-30b-a3b-instruct-2507-fp8"
    assert one(objects, "HorizontalPodAutoscaler", "gateway")["spec"]["minReplicas"] == 3
    assert {"ServiceMonitor", "PrometheusRule", "NetworkPolicy", "Ingress"} <= {o["kind"] for o in objects}
    assert not of_kind(objects, "ScaledObject")
    assert text(CASES["fleet"].changed(monitoring=_NO_MONITORING)).count("\n") < 700, "too long to be read"


_NO_MONITORING = {"rules": {"enabled": False}, "dashboard": {"enabled": False}}


def _images(case: Case) -> set[str]:
    return {container["image"] for _, container in containers(render(case))}


def test_the_registry_is_that_of_images_which_name_none() -> None:
    ours, vllm = "clinalign/gateway:0.1.0", "vllm/vllm-openai:v0.33.0"
    assert _images(BASE) == {f"registry.example.org/{ours}", f"docker.io/{vllm}"}
    assert _images(CASES["laptop"]) == {ours}, "loaded onto the nodes"
    assert _images(BASE.changed(images={"registry": "a.example/"})) == {f"a.example/{ours}", f"docker.io/{vllm}"}
    assert _images(CASES["air-gapped"]) == {f"registry.internal:5000/{image}" for image in (ours, vllm)}


def test_a_digest_decides() -> None:
    digest = f"sha256:{'0' * 64}"
    assert (
        gateway(BASE.changed(gateway={"image": {"digest": digest}}))["image"]
        == f"registry.example.org/clinalign/gateway@{digest}"
    )


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
    models = [
        pod(one(objects, "StatefulSet", "vllm"))["spec"]["containers"][0]["args"][0] for objects in (fleet, canary)
    ]
    assert models[0] != models[1], "it would try what is served already"


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

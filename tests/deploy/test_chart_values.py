"""Values: generated schema and page, refusals, and what a value changes in the objects."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from scripts.chart_docs import comments, outputs, schema, setting_names
from scripts.common import Failure, shown
from service.settings import load_settings
from tests.deploy.chart import (
    CASES,
    EXAMPLES,
    Case,
    environment,
    gateway,
    of_kind,
    refusal,
    render,
)

KEYS = f'[{{"name": "team", "sha256": "{"0" * 64}"}}]'
SECRETS = {"CLINALIGN_KEYS": KEYS, "CLINALIGN_UPSTREAM_API_KEY": "one", "CLINALIGN_REDIS_URL": "redis://redis:6379/0"}


def test_schema_and_page_are_what_the_comments_say() -> None:
    for file, wanted in outputs().items():
        assert file.read_text(encoding="utf-8") == wanted, f"{shown(file)} is old: run `python -m scripts.chart_docs`"


def test_a_value_without_a_comment_is_refused() -> None:
    with pytest.raises(Failure, match=r"a\.b needs a comment"):
        schema("# Of a.\na:\n  b: 1\n")
    with pytest.raises(Failure, match="what it may hold"):
        schema("# -- Some.\na: []\n")


def test_a_comment_is_read_over_its_lines() -> None:
    found = comments("# Intro.\na:\n  # -- One\n  # two.\n  # @schema {minimum: 1}\n  b: 1\n")
    assert found[("a",)].text == "Intro."
    assert not found[("a",)].documents
    assert (found[("a", "b")].text, found[("a", "b")].schema) == ("One two.", {"minimum": 1})


BASE, ONE_GPU = CASES["fleet"], CASES["one-gpu"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gateway": {"replicsa": 3}}, "'replicsa' not allowed"),
        ({"gatway": {}}, "'gatway' not allowed"),
        ({"gateway": {"workers": 0}}, "minimum"),
        ({"gateway": {"workers": "two"}}, "want integer"),
        ({"gateway": {"settings": {"CLINALIGN_REVISON_MODE": "off"}}}, "CLINALIGN_REVISON_MODE"),
        (
            {"gateway": {"settings": {"CLINALIGN_INDEX_TOP_K": 8}}},
            "'/gateway/settings/CLINALIGN_INDEX_TOP_K': got number, want string",
        ),
        ({"vllm": {"gpus": 3}}, "/vllm/gpus"),
        ({"vllm": {"model": {"maxLength": 2048}}}, "minimum"),
        ({"networkPolicy": {"dns": [{"podSelector": {}}]}}, "want object"),
        ({"vllm": {"model": {"source": "s3"}}}, "'hub', 'claim'"),
        ({"vllm": {"runAsUser": 0}}, "minimum"),
        ({"networkPolicy": {"clients": [{"podSelectr": {}}]}}, "'podSelectr' not allowed"),
        ({"networkPolicy": {"clients": [{}]}}, "minProperties"),
        ({"index": {"principles": {"files": {"heart.txt": ""}}}}, "heart.txt"),
        ({"vllm": {"image": {"digest": "abc"}}}, "pattern"),
    ],
)
def test_the_schema_refuses(values: dict[str, Any], said: str) -> None:
    assert said in refusal(BASE.changed(**values))


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (Case(()), "gateway.keys.existingSecret is empty"),
        (BASE.changed(upstream={"url": "http://elsewhere"}), "set upstream.insteadOfVllm"),
        (BASE.changed(vllm={"enabled": False}), "say where the model is served"),
        (BASE.changed(upstream={"apiKey": {"existingSecret": "a"}}), "is vllm.apiKey"),
        (CASES["outside-upstream"].changed(upstream={"replicas": "dns"}), "give one host name"),
        (CASES["outside-upstream"].changed(networkPolicy={"upstream": {"to": []}}), "could not reach upstream.url"),
        (CASES["outside-upstream"].changed(networkPolicy={"traces": {"to": []}}), "could not reach traces.endpoint"),
        (BASE.changed(networkPolicy={"redis": {"to": []}}), "could not reach Redis"),
        (BASE.changed(networkPolicy={"dns": {"to": []}}), "no pod could resolve a name"),
        (ONE_GPU.changed(networkPolicy={"download": {"to": []}}), "no model could be downloaded"),
        (CASES["training"].changed(vllm={"enabled": False}, networkPolicy={"download": {"to": []}}), "no model could"),
        (BASE.changed(networkPolicy={"clients": []}), "ingress controller could not reach"),
        (BASE.changed(networkPolicy={"prometheus": []}), "Prometheus could not reach"),
        (BASE.changed(index={"from": "claim"}), "name it in index.claim.name"),
        (BASE.changed(index={"from": "configMap"}), "give index.principles.configMap"),
        (BASE.changed(index={"principles": {"configMap": "a"}}), "would not be used"),
        (BASE.changed(index={"job": {"enabled": True}}), "needs index.from claim"),
        (CASES["own-principles"].changed(index={"principles": {"configMap": "a"}}), "give one"),
        (ONE_GPU.changed(vllm={"model": {"source": "claim"}}), "name the claim and the model's folder"),
        (ONE_GPU.changed(vllm={"model": {"source": "claim"}}), "would change with every checkpoint's folder"),
        (ONE_GPU.changed(vllm={"model": {"id": ""}}), "vllm.model.id is empty"),
        (ONE_GPU.changed(vllm={"model": {"claim": {"path": "a"}}}), "set source to claim"),
        (ONE_GPU.changed(vllm={"model": {"claim": {"name": "a"}}}), "set source to claim"),
        (ONE_GPU.changed(vllm={"model": {"offline": True, "cache": {"persistent": False}}}), "has no model"),
        (BASE.changed(vllm={"model": {"offline": True}}), "vllm.model.offline is set while"),
        (BASE.changed(vllm={"model": {"revision": "0" * 40}}), "vllm.model.revision is set while"),
        (CASES["keda"].changed(vllm={"replicas": 17}), "17, not from vllm.autoscaling.minReplicas (4)"),
        (CASES["keda"].changed(vllm={"replicas": 3}), "to maxReplicas (16)"),
        (CASES["keda"].changed(vllm={"autoscaling": {"minReplicas": 17}}), "vllm.autoscaling.minReplicas is above"),
        (CASES["instead-of-vllm"].changed(upstream={"url": ""}), "upstream.insteadOfVllm is true and upstream.url is"),
        (CASES["instead-of-vllm"].changed(networkPolicy={"upstream": {"to": []}}), "could not reach upstream.url"),
        (CASES["canary"].changed(ingress={"className": "traefik"}), "weighted route (docs/recipes.md)"),
        (BASE.changed(images={"registry": ""}), "gateway.image.repository clinalign/gateway names no host"),
        (BASE.changed(images={"registry": ""}, training={"enabled": True}), "training.image.repository clinalign/"),
        (BASE.changed(images={"registry": ""}, vllm={"image": {"repository": "vllm"}}), "vllm.image.repository vllm"),
        (BASE.changed(gateway={"podLabels": {"track": "mine"}}), "gateway.podLabels has track"),
        (
            BASE.changed(vllm={"podLabels": {"app.kubernetes.io/name": "a"}}),
            "vllm.podLabels has app.kubernetes.io/name",
        ),
        (CASES["secrets"].changed(gateway={"files": {"configMap": ""}}), "name the ConfigMap that has it"),
        (BASE.changed(vllm={"extraArgs": ["--trust-remote-code"]}), "run code from the model's repository"),
        (BASE.changed(vllm={"extraArgs": ["--trust_remote_code=true"]}), "run code from the model's repository"),
        (BASE.changed(vllm={"extraArgs": ["--load-format=pt"]}), "--load-format: the chart sets it"),
        (BASE.changed(vllm={"extraArgs": ["--api-key=hello"]}), "secrets out of arguments"),
        (BASE.changed(vllm={"env": {"HF_TOKEN": "hello"}}), "looks like a secret"),
        (BASE.changed(vllm={"env": {"HOME": "/root"}}), "vllm.env.HOME is set by the chart"),
        (BASE.changed(vllm={"env": {"HF_HUB_OFFLINE": "1"}}), "use vllm.model.offline"),
        (BASE.changed(vllm={"image": {"tag": "latest"}}), "vllm.image.tag is latest"),
        (BASE.changed(vllm={"image": {"tag": ""}}), "vllm.image.tag is empty"),
        (BASE.changed(gateway={"settings": {"CLINALIGN_KEYS": "[]"}}), "is a secret: name a Secret in gateway.keys"),
        (BASE.changed(gateway={"settings": {"CLINALIGN_UPSTREAM_URL": "a"}}), "by the chart itself: use upstream.url"),
        (
            BASE.changed(gateway={"settings": {"CLINALIGN_DRAIN_S": "3"}}),
            "by the chart itself: use gateway.drainSeconds",
        ),
        (BASE.changed(gateway={"autoscaling": {"minReplicas": 9}}), "minReplicas is above"),
        (BASE.changed(gateway={"deadlineMs": 80000}), "answers would be cut off"),
        (BASE.changed(ingress={"host": ""}), "ingress.host is empty"),
        (CASES["canary"].changed(ingress={"enabled": False}), "canary.enabled needs ingress.enabled"),
        (CASES["training"].changed(training={"outputClaim": ""}), "training.outputClaim"),
        (CASES["training"].changed(training={"gpus": 2}), "without training.accelerate"),
    ],
)
def test_contradictions_are_refused_in_a_sentence(case: Case, said: str) -> None:
    assert said in refusal(case)


def test_all_contradictions_are_told_at_once() -> None:
    told = refusal(Case(()).changed(upstream={"url": "http://elsewhere"}, index={"from": "claim"}))
    assert told.count("\n- ") == 4
    assert "templates/check-values.yaml" in told


@pytest.mark.parametrize(
    "case",
    [
        ONE_GPU.changed(images={"registry": "", "local": True}),
        ONE_GPU.changed(images={"registry": ""}, gateway={"image": {"repository": "localhost/clinalign"}}),
        ONE_GPU.changed(images={"registry": ""}, gateway={"image": {"repository": "a.example:5000/clinalign"}}),
        CASES["canary"].changed(ingress={"className": "public-nginx"}),
        CASES["canary"].changed(ingress={"className": "mine", "canary": {"understood": True}}),
        CASES["canary"].changed(ingress={"className": "traefik", "canary": {"enabled": False}}),
        CASES["keda"].changed(vllm={"replicas": 16}),
        CASES["secrets"].changed(
            gateway={"files": {"configMap": ""}, "settings": {"CLINALIGN_CRITIC_TRUST_FILE": "/opt/a"}}
        ),
    ],
)
def test_what_is_no_contradiction_is_rendered(case: Case) -> None:
    assert render(case)


def test_what_the_chart_sets_is_refused_as_a_setting() -> None:
    """Every variable of a gateway that some case has and no setting gave, but what a setting may say better."""
    given = {name for case in CASES.values() for name in environment(gateway(case)) if name in setting_names()}
    settings = {name for case in CASES.values() for name in _settings(case)}
    for name in given - settings - {"CLINALIGN_UPSTREAM_CHECKPOINT"}:
        assert f"gateway.settings.{name} is " in refusal(BASE.changed(gateway={"settings": {name: "a"}}))


def _settings(case: Case) -> set[str]:
    files = [yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")) for name in case.files]
    return {name for values in [*files, case.values] for name in values.get("gateway", {}).get("settings", {})}


@pytest.mark.parametrize("name", CASES)
def test_the_gateway_accepts_its_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment(gateway(CASES[name]))
    for library in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_CERTIFICATE", "SSL_CERT_FILE"):
        given.pop(library, None)  # read by what the gateway is made with
    assert set(given) <= setting_names()
    for variable in setting_names():
        monkeypatch.delenv(variable, raising=False)
    for variable, value in given.items():
        monkeypatch.setenv(variable, SECRETS[variable] if isinstance(value, dict) else value)
    settings = load_settings()
    assert settings.keys
    vllm = of_kind(render(CASES[name]), "StatefulSet")
    if vllm and name != "instead-of-vllm":
        assert settings.upstream.urls == (f"http://{vllm[0]['metadata']['name']}.health.svc:8000",)
        assert settings.upstream.replicas == "dns"


def test_numbers_are_text_to_the_environment() -> None:
    case = BASE.changed(gateway={"deadlineMs": 600000, "drainSeconds": 300, "workers": 64}, ingress={"enabled": False})
    given = environment(gateway(case))
    names = ("CLINALIGN_REVISION_DEADLINE_MS", "CLINALIGN_DRAIN_S", "CLINALIGN_WORKERS")
    assert [given[name] for name in names] == ["600000", "300", "64"]


def test_what_a_gateway_gets_grows_with_its_workers() -> None:
    resources = gateway(BASE.changed(gateway={"workers": 4}))["resources"]
    assert resources == {"requests": {"cpu": 4, "memory": "4096Mi"}, "limits": {"memory": "4096Mi"}}
    third = gateway(BASE.changed(gateway={"workers": 3, "perWorker": {"cpu": 0.1}}))["resources"]
    assert third["requests"]["cpu"] == 0.3, "finer than a thousandth is refused"

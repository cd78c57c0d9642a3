"""Values: generated schema and page, refusals, and what a value changes in the objects."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.chart_docs import comments, outputs, schema, setting_names
from scripts.common import Failure, shown
from service.settings import load_settings
from tests.deploy.chart import (
    CASES,
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


BASE = CASES["fleet"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gateway": {"replicsa": 3}}, "'replicsa' not allowed"),
        ({"gatway": {}}, "'gatway' not allowed"),
        ({"gateway": {"workers": 0}}, "minimum"),
        ({"gateway": {"workers": "two"}}, "want integer"),
        ({"gateway": {"settings": {"CLINALIGN_REVISON_MODE": "off"}}}, "CLINALIGN_REVISON_MODE"),
        ({"gateway": {"settings": {"CLINALIGN_INDEX_TOP_K": 8}}}, "want string"),
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
        (BASE.changed(upstream={"url": "http://elsewhere"}), "one or the other"),
        (BASE.changed(vllm={"enabled": False}), "say where the model is served"),
        (BASE.changed(upstream={"apiKey": {"existingSecret": "a"}}), "is vllm.apiKey"),
        (CASES["outside-upstream"].changed(upstream={"replicas": "dns"}), "give one host name"),
        (CASES["outside-upstream"].changed(networkPolicy={"upstream": {"to": []}}), "could not reach upstream.url"),
        (CASES["outside-upstream"].changed(networkPolicy={"traces": {"to": []}}), "could not reach traces.endpoint"),
        (BASE.changed(networkPolicy={"redis": {"to": []}}), "could not reach Redis"),
        (BASE.changed(networkPolicy={"dns": []}), "no pod could resolve a name"),
        (BASE.changed(networkPolicy={"download": {"to": []}}), "no model could be downloaded"),
        (
            CASES["training"].changed(vllm={"model": {"source": "claim"}}, networkPolicy={"download": {"to": []}}),
            "no model",
        ),
        (BASE.changed(networkPolicy={"clients": []}), "ingress controller could not reach"),
        (BASE.changed(networkPolicy={"prometheus": []}), "Prometheus could not reach"),
        (BASE.changed(index={"from": "claim"}), "name it in index.claim.name"),
        (BASE.changed(index={"from": "configMap"}), "give index.principles.configMap"),
        (BASE.changed(index={"principles": {"configMap": "a"}}), "would not be used"),
        (BASE.changed(index={"job": {"enabled": True}}), "needs index.from claim"),
        (CASES["own-principles"].changed(index={"principles": {"configMap": "a"}}), "give one"),
        (BASE.changed(vllm={"model": {"source": "claim"}}), "name the claim and the model's folder"),
        (BASE.changed(vllm={"model": {"id": ""}}), "vllm.model.id is empty"),
        (BASE.changed(vllm={"extraArgs": ["--trust-remote-code"]}), "run code from the model's repository"),
        (BASE.changed(vllm={"extraArgs": ["--trust_remote_code=true"]}), "run code from the model's repository"),
        (BASE.changed(vllm={"extraArgs": ["--load-format=pt"]}), "--load-format: the chart sets it"),
        (BASE.changed(vllm={"extraArgs": ["--api-key=hello"]}), "secrets out of arguments"),
        (BASE.changed(vllm={"env": {"HF_TOKEN": "hello"}}), "looks like a secret"),
        (BASE.changed(vllm={"env": {"HOME": "/root"}}), "vllm.env.HOME is set by the chart"),
        (BASE.changed(vllm={"image": {"tag": "latest"}}), "vllm.image.tag is latest"),
        (BASE.changed(vllm={"image": {"tag": ""}}), "vllm.image.tag is empty"),
        (BASE.changed(gateway={"settings": {"CLINALIGN_KEYS": "[]"}}), "is a secret"),
        (BASE.changed(gateway={"settings": {"CLINALIGN_UPSTREAM_URL": "a"}}), "set by the chart itself"),
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
    assert told.count("\n- ") == 3


@pytest.mark.parametrize("name", CASES)
def test_the_gateway_accepts_its_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment(gateway(CASES[name]))
    given.pop("OTEL_EXPORTER_OTLP_HEADERS", None)  # read by the exporter itself
    assert set(given) <= setting_names()
    for variable in setting_names():
        monkeypatch.delenv(variable, raising=False)
    for variable, value in given.items():
        monkeypatch.setenv(variable, SECRETS[variable] if isinstance(value, dict) else value)
    settings = load_settings()
    assert settings.keys
    vllm = of_kind(render(CASES[name]), "StatefulSet")
    if vllm:
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

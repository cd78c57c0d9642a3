"""The commands and objects of docs/deploy.md and docs/recipes.md, run as written as far as they go without a cluster."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common import ROOT
from service.settings import ApiKey
from tests.tools import need

DEPLOY = (ROOT / "docs/deploy.md").read_text("utf-8")
RECIPES = (ROOT / "docs/recipes.md").read_text("utf-8")


def commands(page: str, program: str) -> list[list[str]]:
    """The lines that begin with the program, as words, with the variables that the page gives values to."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL) + re.findall(r"`(helm template [^`]+)`", page)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    variables: dict[str, str] = {}
    found = []
    for line in lines:
        for name, value in variables.items():
            line = line.replace(f"${name}", value)  # noqa: PLW2901 - as the shell does
        if given := re.match(r'([A-Z]+)="([^"]*)"', line):
            variables[given[1]] = given[2]
        if line.startswith(f"{program} "):
            found.append(shlex.split(line, comments=True))
    return found


def documents(page: str) -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]


HELM = [words for words in commands(DEPLOY, "helm") if words[1] in ("install", "upgrade", "template")]
KUBECTL = [words for words in commands(DEPLOY, "kubectl") if "create" in words and {"secret", "configmap"} & {*words}]
FLEET = ("clinalign", "helm/clinalign", "-n", "health", "-f", "helm/clinalign/examples/fleet.yaml")


def pairs(words: list[str]) -> list[tuple[str, tuple[str, str]]]:
    """Each option with the name and the value that follow it."""
    found = [(option, given.partition("=")) for option, given in pairwise(words)]
    return [(option, (name, value)) for option, (name, _, value) in found]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("words", HELM, ids=" ".join)
def test_each_helm_command_renders(words: list[str], tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("{}")
    given = [mine if word == "mine.yaml" else word for word in words[2:]]
    objects = list(yaml.safe_load_all(run(need("helm"), "template", *given)))
    kinds = [found["kind"] for found in objects if found]
    assert "Deployment" in kinds
    assert "StatefulSet" in kinds
    rendered = json.dumps(objects)
    for name, value in (given for word, given in pairs(words) if word == "--set"):
        assert value in rendered or name in ("index.from", "upstream.insteadOfVllm"), name


def test_the_page_has_commands() -> None:
    assert len(HELM) >= 6
    assert len(KUBECTL) >= 2


@pytest.mark.parametrize("words", KUBECTL, ids=" ".join)
def test_each_object_is_made_as_written(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("[]")
    (tmp_path / "our-principles").symlink_to(ROOT / "principles_index/principles")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    alone = words[1 : words.index("|")] if "|" in words else [*words[1:], "--dry-run=client", "-o", "yaml"]
    made = yaml.safe_load(run(need("kubectl"), *alone, cwd=tmp_path))
    assert (made["kind"], made["metadata"]["namespace"]) in (("Secret", "health"), ("ConfigMap", "health"))
    assert made["data"]
    assert len(json.dumps(made)) < 1 << 20


@pytest.mark.parametrize("values", documents(DEPLOY), ids=str)
def test_each_of_the_values_changes_the_fleet(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    before = run(need("helm"), "template", *FLEET)
    after = run(need("helm"), "template", *FLEET, "-f", tmp_path / "mine.yaml")
    assert before != after


def test_a_canary_is_taken_away_in_an_order_that_loses_nothing() -> None:
    words = [line.split()[0] for line in re.findall(r"^(?:helm|sleep|amtool) .*$", DEPLOY, re.MULTILINE)]
    assert words[words.index("sleep") - 1 : words.index("sleep") + 3] == ["helm", "sleep", "amtool", "helm"]
    (silence,) = commands(DEPLOY, "amtool")
    rules = yaml.safe_load((ROOT / "helm/clinalign/monitoring/rules.yaml").read_text("utf-8"))
    alerts = {rule.get("alert") for group in rules["groups"] for rule in group["rules"]}
    labels = dict(word.split("=", 1) for word in silence[3:6])
    assert labels["alertname"] in alerts
    assert labels["job"] == "clinalign-canary-gateway"


def test_the_keys_file_is_what_the_gateway_reads(tmp_path: Path) -> None:
    (script,) = re.findall(r"\n(KEY=.*?)\nkubectl", DEPLOY, re.DOTALL)
    key = run("bash", "-euc", f'{script}\nprintf %s "$KEY"', cwd=tmp_path)
    (entry,) = json.loads((tmp_path / "keys.json").read_text())
    assert ApiKey(**entry).sha256 == hashlib.sha256(key.encode()).hexdigest()


def test_what_is_built_and_started_exists() -> None:
    (build,) = (words for words in commands(DEPLOY, "docker") if words[1] == "build")
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f" AS {build[build.index('--target') + 1]}\n" in dockerfile
    for argument in re.findall(r"--build-arg (\w+)=", DEPLOY):
        assert f"\nARG {argument}" in f"\n{dockerfile}"
    assert (ROOT / "compose.yaml").is_file()


def test_recipes_name_what_the_chart_makes() -> None:
    fleet = run(need("helm"), "template", "clinalign", "helm/clinalign", "-f", "helm/clinalign/examples/fleet.yaml")
    services = {found["metadata"]["name"]: found for found in yaml.safe_load_all(fleet) if found["kind"] == "Service"}
    kinds = {found["kind"]: found for found in documents(RECIPES) if "kind" in found}
    stable, canary = kinds["HTTPRoute"]["spec"]["rules"][0]["backendRefs"]
    assert services[stable["name"]]["spec"]["ports"][0]["port"] == stable["port"] == canary["port"]
    assert canary["name"] == stable["name"].replace("clinalign-", "clinalign-canary-")
    assert stable["weight"] + canary["weight"] == 100
    entrypoint = kinds["RayJob"]["spec"]["entrypoint"].split()
    assert (ROOT / f"{entrypoint[2].replace('.', '/')}.py").is_file()
    assert (ROOT / f"training/cluster/{entrypoint[3]}.yaml").is_file()


def test_the_scrape_configuration_is_one(tmp_path: Path) -> None:
    (config,) = (found for found in documents(RECIPES) if "scrape_configs" in found)
    (job,) = config["scrape_configs"]
    assert job.pop("kubernetes_sd_configs")[0]["role"] == "pod"  # Debian builds Prometheus without it
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "rules.yaml").symlink_to(ROOT / "helm/clinalign/monitoring/rules.yaml")
    run(need("promtool"), "check", "config", tmp_path / "prometheus.yaml")


def test_a_canary_on_the_same_model_servers_renders_as_written(tmp_path: Path) -> None:
    (values,) = (found for found in documents(RECIPES) if found.get("track") == "canary")
    (tmp_path / "canary.yaml").write_text(yaml.safe_dump(values))
    fleet = "helm/clinalign/examples/fleet.yaml"
    (clients,) = re.findall(r"`networkPolicy.vllmClients: (\[.*?\])`", RECIPES)
    stable = run(
        *(need("helm"), "template", "clinalign", "helm/clinalign", "-n", "health", "-f", fleet),
        *("--set-json", f"networkPolicy.vllmClients={json.dumps(yaml.safe_load(clients))}"),
    )
    canary = run(
        *(need("helm"), "template", "clinalign-canary", "helm/clinalign", "-n", "health"),
        *("-f", fleet, "-f", tmp_path / "canary.yaml"),
    )
    assert "app.kubernetes.io/instance: clinalign-canary" in stable
    assert "kind: StatefulSet" not in canary
    assert "http://clinalign-vllm.health.svc:8000" in canary

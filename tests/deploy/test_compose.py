from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common import ROOT
from service.settings import load_settings
from tests.tools import need

FOLDER = Path("deploy/compose")
HARDENED = ("gateway", "vllm", "prometheus", "grafana")


def resolve(folder: Path, **env: str) -> dict[str, Any]:
    """compose.yaml as Docker Compose reads it, beside files that a person would have made."""
    for name in ("compose.yaml", "Dockerfile"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / FOLDER, folder / FOLDER, dirs_exist_ok=True)
    shutil.copy(ROOT / FOLDER / "gateway.env.example", folder / FOLDER / "gateway.env")
    (folder / FOLDER / "grafana-password").write_text("x")
    clean = {"PATH": os.environ["PATH"], "HOME": str(folder), **env}
    done = subprocess.run(
        [need("docker-compose"), "config", "--format", "json"],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # a variable that is nowhere set, a field that is out of date
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return resolve(tmp_path_factory.mktemp("compose"))


@functools.cache
def written() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", HARDENED)
def test_every_service_is_hardened_and_comes_back(model: dict[str, Any], name: str) -> None:
    service = model["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108 - in the container
    assert not {"privileged", "cap_add", "network_mode", "pid", "user"} & set(service)
    assert name == "gateway" or service["healthcheck"]["test"]  # the gateway's is in its image


def test_there_are_no_other_services(model: dict[str, Any]) -> None:
    assert set(model["services"]) == set(HARDENED)


def test_only_gateway_and_grafana_are_published_and_on_loopback(model: dict[str, Any]) -> None:
    published = {name: s["ports"] for name, s in model["services"].items() if s.get("ports")}
    assert set(published) == {"gateway", "grafana"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_only_gateway_and_prometheus_reach_vllm(model: dict[str, Any]) -> None:
    networks = {name: set(service["networks"]) for name, service in model["services"].items()}
    beside = {name for name, its in networks.items() if its & networks["vllm"] and name != "vllm"}
    assert beside == {"gateway", "prometheus"}
    assert model["networks"]["model"]["internal"] is True
    assert {name for name, its in networks.items() if "download" in its} == {"vllm"}
    assert networks["grafana"] & networks["prometheus"] == {"monitoring"}


def test_vllm_is_started_as_the_gateway_wants_it(model: dict[str, Any]) -> None:
    vllm = model["services"]["vllm"]
    assert vllm["image"] == "vllm/vllm-openai:v0.33.0"
    for flag in ("--enable-prefix-caching", "--block-size=16", "--enable-prompt-tokens-details", "--port=8000"):
        assert flag in vllm["command"]
    (device,) = vllm["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    assert vllm["environment"]["VLLM_NO_USAGE_STATS"] == vllm["environment"]["DO_NOT_TRACK"] == "1"
    caches = {name for name, value in vllm["environment"].items() if value.startswith("/cache/")}
    assert caches == {"HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"}
    assert [v["target"] for v in vllm["volumes"] if v["type"] == "volume"] == ["/cache"]
    assert model["services"]["gateway"]["environment"]["CLINALIGN_UPSTREAM_URL"] == "http://vllm:8000"


def test_what_can_be_set_is_set(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    given = {"MODEL": "org/other", "GPUS": "2", "MAX_MODEL_LEN": "4096", "BIND": "10.0.0.1", "PORT": "9000"}
    found = resolve(tmp_path, **given, HF_TOKEN_FILE=str(token), GATEWAY_IMAGE="a/b@sha256:" + "0" * 64)
    gateway, vllm = found["services"]["gateway"], found["services"]["vllm"]
    assert gateway["ports"][0]["host_ip"] == "10.0.0.1"
    assert (gateway["ports"][0]["published"], gateway["ports"][0]["target"]) == ("9000", 8080)
    assert gateway["image"].startswith("a/b@sha256:")
    for flag in (
        "--model=org/other",
        "--served-model-name=org/other",
        "--tensor-parallel-size=2",
        "--max-model-len=4096",
    ):
        assert flag in vllm["command"]
    assert vllm["deploy"]["resources"]["reservations"]["devices"][0]["count"] == 2
    assert found["secrets"]["hf_token"]["file"] == str(token)


def test_the_gateway_has_time_to_end_its_answers(model: dict[str, Any]) -> None:
    grace = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", model["services"]["gateway"]["stop_grace_period"])
    assert grace
    seconds = 60 * int(grace[1] or 0) + int(grace[2] or 0)
    revision = load_settings().revision
    assert seconds >= revision.deadline_ms / 1000 + 10  # drain is 0 where there is one gateway
    assert model["services"]["gateway"]["build"]["target"] == "gateway"


def test_no_secret_stands_in_a_file_that_is_committed(model: dict[str, Any]) -> None:
    ignored = (ROOT / FOLDER / ".gitignore").read_text().split()
    assert ignored == ["gateway.env", "grafana-password"]
    assert written()["services"]["gateway"]["env_file"] == f"{FOLDER}/gateway.env"
    assert written()["secrets"]["grafana_password"]["file"] == f"{FOLDER}/grafana-password"
    assert not re.search(r"^\s*CLINALIGN_KEYS:", (ROOT / "compose.yaml").read_text(), re.M)
    (key,) = json.loads(model["services"]["gateway"]["environment"]["CLINALIGN_KEYS"])
    assert key["sha256"] == "0" * 64  # of no key that anyone could send
    assert model["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"].startswith("/run/secrets/")


def test_images_are_of_one_version() -> None:
    for name, service in written()["services"].items():
        assert re.fullmatch(r"\$\{[A-Z_]+:-[a-z/-]+:v?\d+\.\d+\.\d+\}", service["image"]), name


def test_every_file_that_is_mounted_is_there() -> None:
    mounted = [v for s in written()["services"].values() for v in s.get("volumes", []) if v.startswith("./")]
    assert len(mounted) == 5
    for volume in mounted:
        source, _, rest = volume.partition(":")
        assert (ROOT / source).is_file(), source
        assert rest.endswith(":ro")


def test_prometheus_reads_its_configuration_and_the_charts_rules(tmp_path: Path) -> None:
    text = (ROOT / FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    rules = ROOT / "helm/clinalign/monitoring/rules.yaml"
    assert text.count("/etc/prometheus/rules.yaml") == 1
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/rules.yaml", str(rules)))
    checked = subprocess.run(
        [need("promtool"), "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "rules found" in checked.stdout


def test_prometheus_and_grafana_ask_services_that_are_there(model: dict[str, Any]) -> None:
    jobs = yaml.safe_load((ROOT / FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    targets = {job["static_configs"][0]["targets"][0].partition(":")[0]: job["static_configs"][0] for job in jobs}
    assert targets["gateway"]["targets"] == ["gateway:8080"]
    assert targets["vllm"]["targets"] == ["vllm:8000"]
    for name in ("gateway", "vllm"):
        assert set(targets[name]["labels"]) == {"namespace", "pod", "service"}
        assert "model" in model["services"][name]["networks"]
        assert "model" in model["services"]["prometheus"]["networks"]
    (source,) = yaml.safe_load((ROOT / FOLDER / "grafana/datasources.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((ROOT / FOLDER / "grafana/dashboards.yml").read_text())["providers"]
    mounts = [v["target"] for v in model["services"]["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/clinalign.json" in mounts

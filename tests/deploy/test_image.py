from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts import sbom, setup
from scripts.build_index import ensure_index
from scripts.child import LOOPBACK, OFFLINE, Child, free_port
from scripts.common import ROOT
from scripts.hash_lock import IMAGES, entries, pin
from scripts.model import encoder_folder
from service import probe
from tests.deploy.dockerfile import Stage, lets_through, stages
from tests.deploy.only_locked import plain
from tests.tools import need

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = {stage.name: stage for stage in stages(DOCKERFILE)}
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
TARGETS = ("gateway", "trainer")
CUDA = re.compile(r"^(torch|triton|nvidia|cuda|vllm|flashinfer|sentence-transformers|transformers)")


def lock(mode: str) -> dict[str, str]:
    return entries((ROOT / "requirements" / f"{mode}.lock").read_text(encoding="utf-8"))


def pins_of(mode: str) -> set[str]:
    text = (ROOT / "requirements" / f"{mode}.lock").read_text(encoding="utf-8")
    return {line for line in text.splitlines() if "==" in line and not line.startswith("#")}


# --- the Dockerfile ---------------------------------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([need("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_rule_that_is_ignored_has_a_reason() -> None:
    ignored = [line for line in DOCKERFILE.splitlines() if "hadolint" in line]
    assert ignored
    assert all(re.fullmatch(r"# hadolint ignore=[A-Z]{2}\d{4}  # .{20,}", line) for line in ignored)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_run_is_not_root_and_takes_signals(target: str) -> None:
    stage = STAGES[target]
    assert stage.of("USER") == ["10001:10001"]
    assert stage.instructions.index(("USER", "10001:10001")) > max(
        i for i, (word, _) in enumerate(stage.instructions) if word in ("RUN", "COPY")
    )
    assert stage.of("STOPSIGNAL") == ["SIGTERM"]
    for word in ("ENTRYPOINT", "CMD"):
        assert all(isinstance(json.loads(rest), list) for rest in stage.of(word))
    assert len(stage.of("ENTRYPOINT")) == 1


def test_the_health_check_asks_the_probe_on_the_port_that_is_served() -> None:
    (check,) = STAGES["gateway"].of("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command == ["python", "-m", "service.probe", "http://127.0.0.1:8080/healthz"]
    assert STAGES["gateway"].of("EXPOSE") == ["8080"]
    assert "CLINALIGN_PORT=8080" in " ".join(STAGES["gateway"].of("ENV"))


def test_stages_come_from_the_one_base_or_from_each_other() -> None:
    names: list[str] = []
    for stage in STAGES.values():
        assert stage.base in (*names, "${PYTHON_IMAGE}", "scratch"), stage.name
        for copied in stage.of("COPY"):
            assert not (source := re.search(r"--from=(\S+)", copied)) or source[1] in names, copied
        for run in stage.of("RUN"):
            assert not (source := re.search(r"from=([a-z-]+),", run)) or source[1] in names, run
        names.append(stage.name)
    assert names[-1] == "gateway"  # what is built where no target is named


def arguments(stage: Stage) -> dict[str, str]:
    return {name: value.strip('"') for name, _, value in (rest.partition("=") for rest in stage.of("ARG"))}


def test_nothing_is_added_from_a_url_and_all_that_is_copied_is_there() -> None:
    for stage in STAGES.values():
        assert not stage.of("ADD")
        for copied in (rest for rest in stage.of("COPY") if "--from=" not in rest):
            for written in copied.split()[:-1]:
                source = written
                for name, value in arguments(stage).items():
                    source = source.replace(f"${{{name}}}", value)
                path = ROOT / source
                assert path.exists(), source
                files = [path] if path.is_file() else [p for p in path.rglob("*.py") if "__pycache__" not in p.parts]
                assert files
                assert all(lets_through(file.relative_to(ROOT).as_posix(), IGNORED) for file in files), source


@pytest.mark.parametrize(
    "path",
    [
        *(".git/config", ".cache/index/manifest.json", ".venv/bin/python", "tests/kit.py", "loadtests/load.py"),
        *(".env", "deploy/compose/gateway.env", "docs/performance.md", "scripts/run.py", "requirements/cpu.lock"),
        *("service/__pycache__/app.cpython-312.pyc", "training/evaluation/__pycache__/x.pyc", ".hypothesis/x"),
    ],
)
def test_the_context_leaves_out(path: str) -> None:
    assert not lets_through(path, IGNORED)


def test_every_package_is_checked_against_a_hash() -> None:
    """Or comes from this build, or is PyTorch, whose index tells us no hash: what it writes is checked."""
    installs = [
        part for s in STAGES.values() for run in s.of("RUN") for part in re.split(r"&&|;", run) if " install " in part
    ]
    pip = [part for part in installs if "pip --python" in part]
    assert len(pip) == 6
    unchecked = [part for part in pip if "--require-hashes" not in part and "--no-index" not in part]
    assert len(unchecked) == 1
    assert '"${TORCH}"' in unchecked[0]
    assert all("--no-deps" in part for part in pip)
    assert re.fullmatch(r"[0-9a-f]{64}", arguments(STAGES["encoder"])["ENCODER_GRAPH_SHA256"])


def test_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    encoder = arguments(STAGES["encoder"])
    assert encoder["TORCH"] == f"torch=={setup.TORCH}+cpu"
    assert encoder["TORCH_INDEX"] == setup.TORCH_INDEX
    assert {arguments(STAGES[target])["VERSION"] for target in TARGETS} == {project["version"]}


# --- the locks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", IMAGES)
def test_every_pin_has_hashes_and_is_that_of_the_lock_it_follows(mode: str) -> None:
    found = lock(mode)
    lines = pins_of(mode)
    assert {line.removesuffix(" \\") for line in lines} == {pin(entry) for entry in found.values()}
    followed = {line.split("==")[0]: line for line in pins_of(IMAGES[mode].follows)}
    for name, entry in found.items():
        if name in followed and name not in IMAGES[mode].free:
            assert pin(entry) == followed[name]


def test_the_gateway_has_no_pytorch_no_cuda_and_nothing_to_build_with() -> None:
    names = set(lock("image"))
    assert not {name for name in names if CUDA.match(name)}
    assert not names & {"pip", "setuptools", "hatchling", "huggingface-hub", "cyclonedx-bom", "onnx"}


def test_the_gateway_answers_with_the_packages_of_its_lock_alone() -> None:
    """Everything else is refused as if it were not installed, sentence-transformers and torch above all."""
    index, encoder = ensure_index(), encoder_folder()
    stub_port, port = free_port(), free_port()
    logs = ROOT / ".cache" / "logs"
    stub = [sys.executable, "-m", "loadtests.stub_vllm", "--port", str(stub_port), "--profile", "h100-qwen3-4b"]
    hook, image = ROOT / "tests/deploy/only_locked.py", ROOT / "requirements/image.lock"
    env = {
        "CLINALIGN_HOST": LOOPBACK,
        "CLINALIGN_PORT": str(port),
        "CLINALIGN_UPSTREAM_URL": f"http://{LOOPBACK}:{stub_port}",
        "CLINALIGN_ENCODER": str(encoder),
        "CLINALIGN_INDEX_DIR": str(index),
        "CLINALIGN_TRACES_ENDPOINT": f"http://{LOOPBACK}:{stub_port}",  # which takes none; the packages load all the same
        "PYTHONPATH": str(ROOT),
        **OFFLINE,
    }
    gateway = Child("The gateway", [sys.executable, str(hook), str(image), "service"], logs / "only-locked.log", env)
    with Child("The simulated vLLM", stub, logs / "only-locked-stub.log") as upstream:
        upstream.wait_ready(f"http://{LOOPBACK}:{stub_port}/health", 60)
        with gateway:
            gateway.wait_ready(f"http://{LOOPBACK}:{port}/readyz", 60)
            assert probe.ask(f"http://{LOOPBACK}:{port}", 30) in ("draft_passed", "revised", "draft_kept")


def test_what_is_not_in_the_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.lock").write_text("orjson==3.13.0 \\\n")
    (tmp_path / "tried.py").write_text("import json, orjson\nprint('first')\nimport yaml\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/deploy/only_locked.py"), str(tmp_path / "some.lock"), "tried"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout == "first\n"
    assert "No module named 'yaml' (it is not in the lock)" in done.stderr


def test_names_are_compared_as_indexes_do() -> None:
    assert plain("PyYAML") == "pyyaml"
    assert plain("zope.Interface_x") == "zope-interface-x"


# --- the list of what is in it ----------------------------------------------------------------------------------


def test_models_stand_in_the_sbom_with_every_file(tmp_path: Path) -> None:
    (tmp_path / "encoder/onnx").mkdir(parents=True)
    (tmp_path / "encoder/onnx/model.onnx").write_bytes(b"graph")
    (tmp_path / "index").mkdir()
    (tmp_path / "index/manifest.json").write_text('{"sha256": "ab", "encoder_fingerprint": "cd"}')
    (tmp_path / "in.json").write_text('{"bomFormat": "CycloneDX", "components": [{"name": "x"}]}')
    given = ["--encoder", str(tmp_path / "encoder"), "--encoder-name", "mini", "--index", str(tmp_path / "index")]
    assert sbom.main([str(tmp_path / "in.json"), "--out", str(tmp_path / "out.json"), *given]) == 0
    told = json.loads((tmp_path / "out.json").read_text())["components"]
    assert [(c["name"], c.get("type"), c.get("version")) for c in told] == [
        ("x", None, None),
        ("mini", "machine-learning-model", "cd"),
        ("principles-index", "data", "ab"),
    ]
    (file,) = told[1]["components"]
    assert file["name"] == "onnx/model.onnx"
    assert file["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"graph").hexdigest()}]

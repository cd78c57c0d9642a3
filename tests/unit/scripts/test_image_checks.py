"""That the checks of a built image can fail: each is given a folder that is no good."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts import image_checks
from scripts.common import Failure, sha256_of
from scripts.image_build import Buildah, Container, builder

SITE = "opt/venv/lib/python3.12/site-packages"
LABELS = {"VERSION": "1"}


@pytest.fixture
def container(tmp_path: Path) -> Container:
    for folder in (SITE, "tmp", "usr/bin", "opt/clinalign/index", "opt/clinalign/encoder"):
        (tmp_path / folder).mkdir(parents=True)
    return Container(Buildah(Path("buildah"), tmp_path, "vfs"), "c", tmp_path, {})


@pytest.mark.parametrize("place", [f"{SITE}/torch", "usr/lib/python3/dist-packages/pip", f"{SITE}/transformers"])
def test_a_package_that_should_not_be_there_is_found_anywhere(container: Container, place: str) -> None:
    image_checks.contents(container)
    (container.root / place).mkdir(parents=True)
    with pytest.raises(Failure, match=place.rsplit("/", 1)[1]):
        image_checks.contents(container)


def test_a_compiler_is_found(container: Container) -> None:
    (container.root / "usr/bin/gcc").touch()
    with pytest.raises(Failure, match="gcc"):
        image_checks.contents(container)


def test_a_file_that_all_may_write_is_found(container: Container) -> None:
    (container.root / "tmp/mine").touch(0o666)
    file = container.root / "opt/clinalign/index/manifest.json"
    file.touch()
    file.chmod(0o644)
    image_checks.rights(container)
    file.chmod(0o646)
    with pytest.raises(Failure, match=r"index/manifest\.json"):
        image_checks.rights(container)


def test_what_is_written_outside_the_scratch_folders_shows(container: Container) -> None:
    before = image_checks.snapshot(container.root)
    (container.root / "tmp/mine").touch()
    assert image_checks.snapshot(container.root) == before
    (container.root / "opt/clinalign/new").touch()
    assert "opt/clinalign/new" in image_checks.snapshot(container.root).keys() - before.keys()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("User", "root"),
        ("Entrypoint", ["sh"]),
        ("StopSignal", "SIGKILL"),
        ("Labels", {}),
        ("Healthcheck", {"Test": ["CMD-SHELL", "curl"]}),
    ],
)
def test_a_configuration_that_differs_is_told(field: str, value: Any) -> None:
    good: dict[str, Any] = {
        "User": "10001:10001",
        "Entrypoint": ["clinalign", "serve"],
        "StopSignal": "SIGTERM",
        "Labels": {"org.opencontainers.image.version": "1"},
        "Healthcheck": {"Test": ["CMD", "python", "-m", "service.probe", "http://127.0.0.1:8080/healthz"]},
    }
    image_checks.configuration(good, ["clinalign", "serve"], LABELS)
    with pytest.raises(Failure, match=r"is .*" if field != "Labels" else "label"):
        image_checks.configuration({**good, field: value}, ["clinalign", "serve"], LABELS)


def write_bom(container: Container, change: Callable[[dict[str, Any]], None] = lambda bom: None) -> None:
    def files(folder: str) -> list[dict[str, Any]]:
        root = container.root / "opt/clinalign" / folder
        return [
            {"name": p.name, "hashes": [{"alg": "SHA-256", "content": sha256_of(p)}]} for p in sorted(root.iterdir())
        ]

    bom = {
        "bomFormat": "CycloneDX",
        "components": [
            {"type": "library", "name": "A.b", "version": "1"},
            {"type": "data", "name": "principles-index", "components": files("index")},
            {"type": "machine-learning-model", "name": "all-MiniLM-L6-v2", "components": files("encoder")},
        ],
    }
    change(bom)
    (container.root / image_checks.SBOM).write_text(json.dumps(bom))


def test_an_sbom_that_is_not_true_is_found(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "image.lock"
    lock.write_text(f"a-b==1 \\\n    --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(image_checks, "lock_file", lambda mode: lock)
    (container.root / SITE / "A_b-1.dist-info").mkdir()
    (container.root / SITE / "A_b-1.dist-info/METADATA").write_text("Name: a-b\nVersion: 1\n")
    (container.root / "opt/clinalign/index/index.faiss").write_bytes(b"v")
    (container.root / "opt/clinalign/encoder/model.onnx").write_bytes(b"m")
    write_bom(container)
    assert image_checks.sbom(container) == "1 packages and 2 files of models, as they are"
    write_bom(container, lambda bom: bom["components"].append({"type": "library", "name": "ghost", "version": "1"}))
    with pytest.raises(Failure, match="ghost"):
        image_checks.sbom(container)
    write_bom(container)
    (container.root / "opt/clinalign/encoder/model.onnx").write_bytes(b"n")
    with pytest.raises(Failure, match="files of encoder"):
        image_checks.sbom(container)
    write_bom(container)
    lock.write_text(f"a-b==2 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(Failure, match=r"image\.lock differ"):
        image_checks.sbom(container)


def test_without_root_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Failure, match="as root on Linux"), builder():
        pass


def test_without_apt_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Failure, match="there is no apt"), builder():
        pass

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import model
from scripts.common import Failure, sha256_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model package, and a conversion that copies it."""
    source = tmp_path / "package" / model.GGUF_FILE
    source.parent.mkdir()
    source.write_bytes(b"weights")
    monkeypatch.setattr(model, "source_gguf", lambda: source)
    monkeypatch.setattr(model, "GGUF_SHA256", sha256_of(source))
    monkeypatch.setattr(
        model, "_convert", lambda source, out: (out / "model.safetensors").write_bytes(source.read_bytes())
    )
    return source


def test_it_is_converted_once(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models" / "m"
    assert model.ensure_model(folder) == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    monkeypatch.setattr(model, "_convert", lambda source, out: pytest.fail("converted twice"))
    model.ensure_model(folder)
    assert [p.name for p in folder.parent.iterdir()] == ["m"]


@pytest.mark.parametrize("damage", ["flip", "delete", "manifest", "empty"])
def test_a_damaged_model_is_made_again(package: Path, tmp_path: Path, damage: str) -> None:
    folder = model.ensure_model(tmp_path / "models" / "m")
    weights, manifest = folder / "model.safetensors", folder / model.MANIFEST
    match damage:
        case "flip":
            weights.write_bytes(b"weighty")
        case "delete":
            weights.unlink()
        case "manifest":
            manifest.write_text('{"files": []')
        case _:
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "files": {}}))
    assert not model.is_sound(folder, model.GGUF_SHA256)
    model.ensure_model(folder)
    assert weights.read_bytes() == b"weights"
    assert model.is_sound(folder, model.GGUF_SHA256)


def test_a_failed_conversion_leaves_nothing_behind(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, out: Path) -> None:
        (out / "half").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "_convert", full)
    with pytest.raises(Failure, match="No space left on device"):
        model.ensure_model(tmp_path / "models" / "m")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_damaged_package_is_reported_not_converted(package: Path, tmp_path: Path) -> None:
    package.write_bytes(b"other")
    with pytest.raises(Failure, match=r"missing or damaged: run `rm -rf \.venv && make setup`"):
        model.ensure_model(tmp_path / "models" / "m")


def test_a_missing_package_is_one_sentence() -> None:
    with pytest.raises(Failure, match="no-such-model is not installed"):
        model.package_folder("no_such_model")

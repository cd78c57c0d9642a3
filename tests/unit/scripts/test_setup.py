from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from scripts import setup
from scripts.common import Failure
from scripts.progress import Step


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A .venv that looks finished, and a lock file, in a folder of their own."""
    folder = tmp_path / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "cpu.lock").write_text("numpy==2.3.5\n")
    (tmp_path / "requirements" / "gateway.lock").write_text("numpy==2.3.5\n")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "VENV", folder)
    monkeypatch.setattr(setup, "STAMP", folder / "stamp.json")
    monkeypatch.setattr(setup, "UNFINISHED", folder / "unfinished")
    monkeypatch.setattr(setup, "LOG", tmp_path / "setup.log")
    return folder


@pytest.mark.parametrize(
    ("env", "gpu", "mode"),
    [
        ({}, False, "cpu"),
        ({}, True, "cpu"),  # a GPU alone changes nothing: the demonstration model runs on the CPU
        ({"MODEL": "some/model"}, True, "gpu"),
        ({"MODEL": "some/model"}, False, "cpu"),
        ({"UPSTREAM_URL": "http://a:8000", "MODEL": "some/model"}, True, "gateway"),
        ({"UPSTREAM_URL": "", "MODEL": ""}, True, "cpu"),
    ],
)
def test_the_mode_follows_from_the_environment(env: dict[str, str], gpu: bool, mode: str) -> None:
    assert setup.choose_mode([], env, gpu) == mode


def test_a_mode_may_be_named_and_must_exist() -> None:
    assert setup.choose_mode(["gateway"], {}, gpu=False) == "gateway"
    with pytest.raises(Failure, match="say cpu, gpu or gateway"):
        setup.choose_mode(["tpu"], {}, gpu=False)


def test_a_finished_setup_is_recognised_until_its_lock_file_changes(venv: Path) -> None:
    wanted = setup.stamp_for("cpu", "3.11")
    assert setup.is_current(wanted, wanted)
    (venv.parent / "requirements" / "cpu.lock").write_text("numpy==2.4.0\n")
    changed = setup.stamp_for("cpu", "3.11")
    assert not setup.is_current(wanted, changed)
    assert not setup.must_rebuild(wanted, changed)  # new versions install on top


def test_half_an_install_is_thrown_away(venv: Path) -> None:
    wanted = setup.stamp_for("cpu", "3.11")
    setup.UNFINISHED.touch()
    assert not setup.is_current(wanted, wanted)
    assert setup.must_rebuild(wanted, wanted)


@pytest.mark.parametrize("change", [{"python": "3.12"}, {"mode": "gpu"}, {"root": "/elsewhere"}])
def test_another_python_torch_or_place_means_a_new_environment(venv: Path, change: dict[str, str]) -> None:
    wanted = setup.stamp_for("cpu", "3.11")
    assert setup.must_rebuild({**wanted, **change}, wanted)


def test_gateway_can_become_cpu_in_place(venv: Path) -> None:
    assert not setup.must_rebuild(setup.stamp_for("gateway", "3.11"), setup.stamp_for("cpu", "3.11"))


@pytest.mark.parametrize("content", ["", "[]", "{", "\0"])
def test_a_damaged_stamp_is_no_stamp(venv: Path, content: str) -> None:
    setup.STAMP.write_text(content)
    assert setup.read_stamp() == {}
    assert setup.must_rebuild({}, setup.stamp_for("cpu", "3.11"))


def test_a_missing_lock_file_is_one_sentence(venv: Path) -> None:
    with pytest.raises(Failure, match=r"gpu\.lock is missing"):
        setup.stamp_for("gpu", "3.11")


def test_a_python_that_is_too_old_finds_a_newer_one_or_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(shutil, "which", lambda name: f"/x/{name}" if name == "python3.11" else None)
    monkeypatch.setattr(setup, "_runs", lambda python: True)
    assert setup.suitable_python() == setup.Interpreter("/x/python3.11", "3.11")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Failure, match=r"Python 3\.11 to 3\.13 is needed, but this is 3\.9"):
        setup.suitable_python()


def test_disk_and_platform_are_checked_first() -> None:
    setup.check_disk("cpu", 7_000_000_000)
    with pytest.raises(Failure, match=r"6 GB of free disk space are needed for \.venv, but only 5\.0 GB"):
        setup.check_disk("cpu", 5_000_000_000)
    setup.check_platform("cpu", "Linux", "aarch64")
    setup.check_platform("gateway", "Darwin", "arm64")
    with pytest.raises(Failure, match="UPSTREAM_URL"):
        setup.check_platform("cpu", "Darwin", "arm64")


def _fake_python(venv: Path, script: str) -> None:
    python = venv / "bin" / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


def test_what_pip_says_is_kept_and_its_failure_is_one_sentence(venv: Path) -> None:
    _fake_python(venv, "echo 'Collecting numpy'; echo 'OSError: [Errno 28] No space left on device' >&2; exit 2")
    setup.UNFINISHED.touch()
    with Step("x") as step, pytest.raises(Failure, match="The disk is full") as caught:
        setup.pip(["numpy"], step, "numpy")
    assert str(caught.value).count("\n") == 0
    assert "No space left" in setup.LOG.read_text()
    assert setup.UNFINISHED.exists()  # the next run starts afresh


def test_an_unreachable_index_is_not_mistaken_for_a_missing_torch(venv: Path) -> None:
    _fake_python(venv, "echo 'ConnectionError: Max retries exceeded with url'; exit 1")
    with pytest.raises(Failure, match="could not be reached"):
        setup.install("cpu", "Linux")


def test_an_interrupted_pip_is_not_left_behind(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_python(venv, 'echo $$ > "$(dirname "$0")/pid"; echo Collecting numpy; exec sleep 60')

    def interrupt(line: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "activity", interrupt)
    with Step("x") as step, pytest.raises(KeyboardInterrupt):
        setup.pip(["numpy"], step, "numpy")
    pid = int((venv / "bin" / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_torch_comes_from_its_own_index_where_the_configured_ones_lack_it(venv: Path) -> None:
    _fake_python(
        venv,
        'echo "$@" >> "$(dirname "$0")/calls"\n'
        'case "$*" in *download.pytorch.org*) exit 0;; *torch==*) '
        'echo "ERROR: No matching distribution found for torch==1"; exit 1;; esac',
    )
    setup.UNFINISHED.touch()
    setup.install("cpu", "Linux")
    calls = (venv / "bin" / "calls").read_text().splitlines()
    assert "torch==2.13.0+cpu" in calls[0]
    assert f"--index-url {setup.TORCH_INDEX}" in calls[1]
    assert "cpu.lock" in calls[2]
    assert all("--no-deps" in call for call in calls)
    assert len(calls) == 5


def test_the_lock_files_are_complete_pins_and_name_no_registry() -> None:
    for mode in setup.NEEDS_GB:
        lines = setup.lock_file(mode).read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert all(line.count("==") == 1 and " " not in line for line in pins)
        assert len(pins) > 50
        names = {line.split("==")[0] for line in pins}
        if mode != "gpu":
            assert not names & {"torch", "torchvision", "torchaudio", "torchcodec", "triton"}
        assert all("://" not in line or "download.pytorch.org" in line for line in lines)

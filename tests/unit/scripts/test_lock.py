from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import hash_lock, lock
from scripts.common import Failure
from scripts.hash_lock import IMAGES, entries, hashed, kept, merge, pin

names = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True)
versions = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}(\.post[0-9])?", fullmatch=True)
digests = st.lists(st.from_regex(r"[0-9a-f]{64}", fullmatch=True), min_size=1, max_size=4, unique=True)


def entry(name: str, version: str, hashes: Sequence[str]) -> str:
    return " \\\n    ".join([f"{name}=={version}", *(f"--hash=sha256:{digest}" for digest in hashes)]) + "\n"


@given(st.dictionaries(names, st.tuples(versions, digests), max_size=6))
def test_a_lock_is_read_as_it_was_written(packages: dict[str, tuple[str, list[str]]]) -> None:
    written = {name: entry(name, *rest) for name, rest in packages.items()}
    text = "# a comment with x==1\n" + "".join(written.values())
    assert entries(text) == entries(text.rstrip("\n")) == written
    assert [pin(one) for one in written.values()] == [f"{n}=={v}" for n, (v, _) in packages.items()]
    assert kept(text, ()) == "".join(f"{n}=={v}\n" for n, (v, _) in packages.items())


def test_a_pin_without_a_hash_is_no_lock() -> None:
    with pytest.raises(Failure, match="no hash of b"):
        entries(entry("a", "1", ["0" * 64]) + "b==2\n")


def test_what_is_free_is_not_kept() -> None:
    assert kept("# x==1\na==1\nsetuptools==84.2\nb-c==2 \\\n", ("setuptools",)) == "a==1\nb-c==2\n"


def test_two_versions_for_two_machines_are_refused() -> None:
    found = {"a": entry("a", "1", ["0" * 64])}
    merge(found, {"a": found["a"], "b": entry("b", "1", ["1" * 64])}, "elsewhere")
    assert list(found) == ["a", "b"]
    with pytest.raises(Failure, match=r"a would need another version for Python 3\.13 on aarch64"):
        merge(found, {"a": entry("a", "2", ["0" * 64])}, "Python 3.13 on aarch64")


class Uv:
    """In uv's stead: `a` everywhere, `old` for Python 3.11 alone."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.asked: set[str] = set()
        self.files: dict[str, str] = {}

    def __call__(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if "compile" not in command:  # of pip's
            return subprocess.CompletedProcess(command, 0, "", "")
        self.commands.append(list(command))
        self.asked.add(options["input"])
        for flag in ("--constraints", "--overrides"):
            self.files[flag] = Path(command[command.index(flag) + 1]).read_text()
        more = entry("old", "1", ["1" * 64]) if "3.11" in command else ""
        return subprocess.CompletedProcess(command, 0, entry("a", "1", ["0" * 64]) + more, "")


def test_every_python_and_machine_is_asked_and_pins_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    uv = Uv()
    monkeypatch.setattr(subprocess, "run", uv)
    found = hashed(["a>=1", "c"], "x==1\n", IMAGES["image"])
    assert list(found) == ["a", "old"]
    assert uv.asked == {"a>=1\nc"}
    assert uv.files["--constraints"] == "x==1\n"
    assert set(uv.files["--overrides"].splitlines()) == {
        f"{name}; python_version < '3'" for name in ("sentence-transformers", "huggingface-hub")
    }
    places = {(c[c.index("--python-version") + 1], c[c.index("--python-platform") + 1]) for c in uv.commands}
    assert places == {
        (python, f"{machine}-manylinux_2_36")
        for python in ("3.11", "3.12", "3.13")
        for machine in ("x86_64", "aarch64")
    }
    assert all("--generate-hashes" in command for command in uv.commands)


def test_what_uv_says_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        failed = "compile" in command
        return subprocess.CompletedProcess(command, int(failed), "", "error: No solution\n  because" if failed else "")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(Failure, match="uv found no set of packages: error: No solution because"):
        hashed(["a"], "", IMAGES["trainer"])


def test_another_index_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example/simple")
    assert hash_lock.index() == ["--default-index", "https://packages.example/simple"]


def test_the_gateways_image_is_asked_for_without_what_needs_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: dict[str, Any] = {}

    def fake(wanted: Sequence[str], constraints: str, image: hash_lock.Image) -> dict[str, str]:
        asked_for.update(wanted=list(wanted), constraints=constraints)
        return {"a": entry("a", "1", ["0" * 64])}

    monkeypatch.setattr(lock, "hashed", fake)
    text, pins = lock.image_lock("image")
    asked = {re.split(r"[<>=;\[ ]", one)[0] for one in asked_for["wanted"]}
    assert {"aiohttp", "faiss-cpu", "onnxruntime", "uvicorn"} <= asked
    assert not {"sentence-transformers", "openai", "vllm", "pytest"} & asked
    assert "aiohttp==" in asked_for["constraints"]  # gateway.lock's
    assert pins == 1
    assert text.endswith(entry("a", "1", ["0" * 64]))
    assert text.startswith("# image.lock: ")


def test_an_unknown_lock_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert lock.main(("tpu",)) == 1
    assert capsys.readouterr().err == "Unknown lock 'tpu': say cpu, gateway, gpu, image, image-build, trainer.\n"

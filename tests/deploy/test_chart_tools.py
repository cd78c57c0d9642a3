"""helm lint and Kubernetes' own schemas over every case."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.deploy.chart import CASES, arguments, helm, render, text
from tests.tools import need

OLDEST, NEWEST = "1.30", "1.37"  # the chart's kubeVersion, and the newest that kubernetes-validate knows
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}


@pytest.mark.parametrize("name", [name for name in CASES if name != "long-release"])
def test_lint(name: str) -> None:
    done = helm("lint", "--strict", *arguments(CASES[name]), values=CASES[name].values)
    assert done.returncode == 0, done.stdout + done.stderr


def validate(folder: Path, versions: tuple[str, ...], names: tuple[str, ...] = tuple(CASES)) -> list[str]:
    """What kubernetes-validate finds wrong in the cases' objects, strictly."""
    files = []
    for name in names:
        files.append(folder / f"{name}.yaml")
        files[-1].write_text(text(CASES[name]), encoding="utf-8")
    chosen = [option for version in versions for option in ("--kubernetes-version", version)]
    done = subprocess.run(
        [str(need("kubernetes-validate")), "--strict", "--quiet", *chosen, *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    ours = [f"Couldn't find schema for kind {kind} " for kind in CUSTOM]
    wrong = [line for line in lines if not any(known in line for known in ours)]
    assert wrong or done.returncode == 0, "it failed without a word"
    return wrong


def test_objects_are_what_kubernetes_takes(tmp_path: Path) -> None:
    assert validate(tmp_path, (OLDEST, NEWEST)) == []


def test_validation_finds_a_misspelt_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = text(CASES["laptop"]).replace("terminationGracePeriodSeconds", "terminationGracePeriodSecond")
    monkeypatch.setattr("tests.deploy.test_chart_tools.text", lambda case: spoilt)
    (found,) = validate(tmp_path, (NEWEST,), ("laptop",))
    assert "terminationGracePeriodSecond" in found


def test_only_known_kinds_go_unvalidated() -> None:
    kinds = {
        found["kind"] for case in CASES.values() for found in render(case) if "." in found["apiVersion"].split("/")[0]
    }
    built_in = {"NetworkPolicy", "Ingress"}
    assert kinds - built_in == CUSTOM

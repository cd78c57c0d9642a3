"""What comes after an installation: `helm test`, and the notes that tell of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from scripts.common import ROOT
from tests.deploy.chart import CASES, arguments, helm, of_kind, one, render

BASE = CASES["fleet"]


def test_the_test_pod_asks_the_gateways_service() -> None:
    objects = render(CASES["fleet"])
    (test,) = of_kind(objects, "Pod")
    service = one(objects, "Service", "gateway")
    url = f"http://{service['metadata']['name']}.health.svc:{service['spec']['ports'][0]['port']}"
    (ready,), (answer,) = test["spec"]["initContainers"], test["spec"]["containers"]
    assert ready["command"][:2] == ["sh", "-c"]
    assert ready["command"][-1] == f"{url}/readyz"
    assert answer["command"][3:] == ["--answer", "--key-file=/run/key/key", url]
    assert test["spec"]["activeDeadlineSeconds"] > 1800 + 55, "vLLM may still load, and then an answer is made"
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (without,) = of_kind(render(CASES["laptop"]), "Pod")
    (alone,) = without["spec"]["containers"]
    assert alone["command"][-1] == "http://demo-gateway.health.svc:80/readyz"
    assert without["spec"]["activeDeadlineSeconds"] < 600, "no model has to load there"


def test_the_probe_takes_its_arguments() -> None:
    (test,) = of_kind(render(CASES["fleet"]), "Pod")
    (answer,) = test["spec"]["containers"]
    given = [re.sub(r"^http://[^/]+", "http://127.0.0.1:9", argument) for argument in answer["command"][1:]]
    done = subprocess.run([sys.executable, *given], capture_output=True, text=True, cwd=ROOT, check=False)
    # Nobody answers there, and there is no key: 1. What it cannot read would be 2.
    assert done.returncode == 1, done.stderr


def test_the_wait_asks_again_until_a_gateway_is_ready(tmp_path: Path) -> None:
    """Its own script, with stand-ins that count: the probe fails twice, and no time passes."""
    (test,) = of_kind(render(CASES["fleet"]), "Pod")
    (ready,) = test["spec"]["initContainers"]
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@" >> asked\ntest "$(wc -l < asked)" -ge 3\n')
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    for program in ("python", "sleep"):
        (tmp_path / program).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(ready["command"], cwd=tmp_path, env=path, check=False, timeout=20)
    assert done.returncode == 0
    url = "http://demo-gateway.health.svc:80/readyz"
    assert (tmp_path / "asked").read_text().splitlines() == [f"-m service.probe {url}"] * 3


def test_the_notes_give_three_commands() -> None:
    done = helm("install", "demo", *arguments(BASE), "--dry-run=client")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.split("NOTES:")[1]
    assert len(re.findall(r"^  (?:kubectl|curl) ", notes, re.MULTILINE)) == 3
    assert "Qwen/Qwen3-30B-A3B-Instruct-2507" in notes
    (test,) = of_kind(render(BASE), "Pod")
    assert f"helm test demo -n health --timeout {test['spec']['activeDeadlineSeconds']}s" in notes

"""`make chart-test`: the chart's tests, and what takes longer than `make test` should.

Every Kubernetes version's schemas, a scan for bad practice whose every finding is accepted with a reason or ends the run,
the packaged chart, the flags of vLLM against vLLM itself, and the index step run as the pod would run it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from scripts.chart_docs import CHART
from scripts.common import ROOT, VENV, Failure, fail
from scripts.model import encoder_folder
from scripts.tools import tool
from tests.deploy.chart import CASES, NAMESPACE, of_kind, pod, render, text
from tests.deploy.test_chart_tools import CUSTOM, validate

VERSIONS = tuple(f"1.{minor}" for minor in range(30, 38))

# checkov's findings that stand: the resources (by the beginning of their name) and why.
ACCEPTED = {
    "CKV_K8S_8": ("Pod.", "a test that runs once has nothing to be kept alive"),
    "CKV_K8S_9": ("Pod.", "no traffic goes to the test"),
    "CKV_K8S_11": ("", "a CPU limit throttles while cores are idle; requests share them fairly"),
    "CKV_K8S_15": ("", "tags are versions; a node must be able to restart a pod while the registry is away"),
    "CKV_K8S_21": ("", "the namespace is helm's --namespace, which templates do not repeat"),
    "CKV_K8S_35": ("", "the gateway and vLLM read their keys from the environment; the Secrets are named, not held"),
    "CKV_K8S_40": ("StatefulSet.", "2000 is the user that vLLM's image ships; another one has no entry in its /etc/passwd"),
    "CKV_K8S_43": ("", "a mirror has digests of its own: images.*.digest pins them"),
}  # fmt: skip


def quick() -> str:
    """The tests that `make test` runs too."""
    files = sorted(str(file) for file in (ROOT / "tests/deploy").glob("test_chart_*.py"))
    done = _run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
    if done.returncode != 0:
        raise Failure(f"The chart's tests failed:\n{done.stdout[-4000:]}")
    return done.stdout.strip().splitlines()[-1].strip("= ")


def schemas(folder: Path) -> str:
    wrong = validate(folder, VERSIONS)
    if wrong:
        raise Failure("kubernetes-validate: " + "\n".join(wrong[:20]))
    objects = sum(len([o for o in render(case) if o["kind"] not in CUSTOM]) for case in CASES.values())
    return f"{objects} objects of {len(CASES)} cases against Kubernetes {VERSIONS[0]} to {VERSIONS[-1]}, strictly"


def practice(folder: Path) -> str:
    for name, case in CASES.items():
        (folder / f"{name}.yaml").write_text(text(case), encoding="utf-8")
    done = _run(str(tool("checkov")), *_CHECKOV, "--directory", str(folder))
    try:
        report = json.loads(done.stdout)
        failed, passed = report["results"]["failed_checks"], int(report["summary"]["passed"])
    except (ValueError, KeyError, TypeError):
        raise Failure(f"checkov gave no report: {(done.stderr or done.stdout)[-400:]}") from None
    found = {(check["check_id"], check["resource"], check["check_name"]) for check in failed}
    new = sorted(f"{id_} {resource}: {name}" for id_, resource, name in found if not _accepted(id_, resource))
    if new:
        raise Failure("checkov: " + "\n".join(new[:20]))
    stale = set(ACCEPTED) - {id_ for id_, _, _ in found}
    if stale:
        raise Failure(f"checkov no longer finds {', '.join(sorted(stale))}: take it out of ACCEPTED.")
    if not passed:
        raise Failure("checkov checked nothing.")
    return f"{passed} checks passed, {len(ACCEPTED)} kinds of finding accepted"


_CHECKOV = ("--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "--output", "json")


def _accepted(check: str, resource: str) -> bool:
    return check in ACCEPTED and resource.startswith(ACCEPTED[check][0])


def package(folder: Path) -> str:
    """The archive renders what the folder does: nothing that templates read is left out of it."""
    done = _run(str(tool("helm")), "package", str(CHART), "--destination", str(folder))
    archives = list(folder.glob("clinalign-*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        raise Failure(f"helm package failed: {done.stderr.strip()}")
    example = CHART / "examples/fleet.yaml"
    rendered = _run(
        str(tool("helm")), "template", "demo", str(archives[0]), "--namespace", NAMESPACE, "--values", str(example)
    )
    if rendered.stdout != text(CASES["fleet"]):
        raise Failure(f"{archives[0].name} renders something else than the folder. {rendered.stderr.strip()}")
    return f"{archives[0].name}, {archives[0].stat().st_size / 1024:.0f} KiB, renders as the folder does"


def flags() -> str:
    """vLLM's own help knows every flag. Here that is its CPU build, a version behind the image's."""
    python = VENV / "bin/python"
    done = _run(str(python), "-m", "vllm.entrypoints.openai.api_server", "--help=all")
    known = set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]*", done.stdout))
    if done.returncode != 0 or len(known) < 100:
        raise Failure(f"vLLM's help could not be read: {done.stderr.strip()[-300:]}")
    used = {flag for case in CASES.values() for flag in _vllm_flags(render(case))}
    if unknown := used - known:
        raise Failure(f"vLLM does not know {', '.join(sorted(unknown))}.")
    return f"vLLM knows all {len(used)} flags"


def _vllm_flags(objects: list[dict[str, Any]]) -> Iterator[str]:
    for server in of_kind(objects, "StatefulSet"):
        for argument in pod(server)["spec"]["containers"][0]["args"]:
            if argument.startswith("--"):
                yield argument.split("=")[0]


def index_step(folder: Path) -> str:
    """The init container's command on principles as a ConfigMap shows them: files behind a hidden link."""
    (deployment,) = of_kind(render(CASES["own-principles"]), "Deployment")
    (step,) = pod(deployment)["spec"]["initContainers"]
    mounted, volume = folder / "principles", folder / "volume"
    (mounted / "..2026").mkdir(parents=True)
    (mounted / "..data").symlink_to("..2026")
    source = sorted((ROOT / "principles_index/principles").glob("*.yaml"))[0]
    (mounted / "..2026/own.yaml").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    (mounted / "own.yaml").symlink_to("..data/own.yaml")
    places = {
        "/etc/clinalign-principles": str(mounted),
        "/opt/clinalign/encoder": str(encoder_folder()),
        "/var/lib/clinalign": str(volume),
    }
    arguments = list(step["args"])
    for place, here in places.items():
        arguments = [argument.replace(place, here) for argument in arguments]
    volume.mkdir()
    done = _run(sys.executable, *step["command"][1:], *arguments)
    principles = len(yaml.safe_load(source.read_text(encoding="utf-8")))
    if done.returncode != 0 or not done.stdout.startswith(f"{principles} principles"):
        raise Failure(f"The index step failed: {done.stderr.strip()[-400:] or done.stdout.strip()}")
    if not (volume / "index/manifest.json").is_file():
        raise Failure("The index step left no index where the gateway looks for it.")
    return f"an index of {principles} principles, as the init container makes it"


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="clinalign-chart-") as scratch:
        steps: dict[str, Callable[[Path], str]] = {
            "tests": lambda folder: quick(),
            "schemas": schemas,
            "practice": practice,
            "package": package,
            "flags": lambda folder: flags(),
            "index": index_step,
        }
        for name, step in steps.items():
            folder = Path(scratch) / name
            folder.mkdir()
            started = time.monotonic()
            try:
                told = step(folder)
            except (Failure, AssertionError) as error:
                return fail(Failure(str(error)))
            print(f"{name:10}{told} ({time.monotonic() - started:.0f} s)", flush=True)
    print("Accepted findings of checkov:")
    for check, (where, why) in ACCEPTED.items():
        print(f"  {check}{f' ({where[:-1]})' if where else ''}: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

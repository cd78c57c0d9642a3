"""What the gateway's built image must be. Each check returns what it found in one line, or raises Failure."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from scripts.child import LOOPBACK, Child, free_port
from scripts.common import LOGS, Failure, sha256_of
from scripts.hash_lock import entries, pin
from scripts.image_build import Container
from scripts.setup import lock_file

USER = 10001
KEY = "a-key-for-this-test-alone"
KEY_FILE, INDEX = "/tmp/key", "/tmp/index"  # noqa: S108 - in the container
SBOM = Path("opt/clinalign/sbom.cdx.json")
SCRATCH = ("tmp", "var/tmp", "run", "proc", "sys", "dev")
"""Where others than root may write: a tmpfs or nothing at all when the root is read-only."""
ABSENT = ("torch", "sentence_transformers", "transformers", "triton", "nvidia", "pip", "setuptools")
COMPILERS = ("gcc", "cc", "g++", "clang", "ld", "make")
_READY_S = 60.0


def configuration(config: Mapping[str, Any], entry: list[str], labels: Mapping[str, str]) -> str:
    wanted: dict[str, Any] = {"User": f"{USER}:{USER}", "Entrypoint": entry, "StopSignal": "SIGTERM"}
    for name, value in wanted.items():
        if config.get(name) != value:
            raise Failure(f"{name} is {config.get(name)!r} and should be {value!r}.")
    for name, value in labels.items():
        label = f"org.opencontainers.image.{name.lower()}"
        if config["Labels"].get(label) != value:
            raise Failure(f"The label {label} is {config['Labels'].get(label)!r} and should be {value!r}.")
    if entry[0] == "clinalign" and config["Healthcheck"]["Test"][:4] != ["CMD", "python", "-m", "service.probe"]:
        raise Failure(f"The health check is {config['Healthcheck']!r}.")
    return f"user, entry point, stop signal and {len(labels)} labels"


def site_packages(container: Container) -> Path:
    (found,) = (container.root / "opt/venv/lib").glob("python3*/site-packages")
    return found


def contents(container: Container) -> str:
    """No PyTorch, pip or compiler, wherever in the image; what each part weighs."""
    found = {path.name for path in container.root.rglob("*") if path.parent.name.endswith("-packages")}
    if there := [name for name in ABSENT if name in found]:
        raise Failure(f"The image holds {', '.join(there)}.")
    folders = [container.root / name for name in ("usr/bin", "usr/local/bin", "opt/venv/bin")]
    if there := [name for name in COMPILERS if any((folder / name).exists() for folder in folders)]:
        raise Failure(f"The image holds {', '.join(there)}.")
    parts = {
        "in all": container.root,
        "packages": container.root / "opt/venv",
        "encoder": container.root / "opt/clinalign",
    }
    return ", ".join(f"{name} {megabytes(folder):.0f} MB" for name, folder in parts.items())


def megabytes(folder: Path) -> float:
    inodes = {
        (s.st_dev, s.st_ino): s.st_size for path in folder.rglob("*") if stat.S_ISREG((s := path.lstat()).st_mode)
    }
    return sum(inodes.values()) / 1e6


def sbom(container: Container) -> str:
    """It lists exactly the packages that are installed, which are those of the lock, and every file of the models."""
    bom = json.loads((container.root / SBOM).read_text(encoding="utf-8"))
    if bom["bomFormat"] != "CycloneDX":
        raise Failure("The SBOM is not CycloneDX.")
    listed = {(_plain(c["name"]), c["version"]) for c in bom["components"] if c["type"] == "library"}
    here = [Distribution.at(path) for path in site_packages(container).glob("*.dist-info")]
    installed = {(_plain(d.metadata["Name"]), d.version) for d in here}
    if listed != installed:
        raise Failure(f"The SBOM and the packages differ: {sorted(listed ^ installed)[:5]}.")
    pins = {tuple(pin(entry).split("==")) for entry in entries(lock_file("image").read_text()).values()}
    if extra := [pin for pin in installed ^ pins if pin[0] != "clinalign-serve"]:
        raise Failure(f"The packages and image.lock differ: {sorted(extra)[:5]}.")
    files = 0
    for name, folder in (("principles-index", "index"), ("all-MiniLM-L6-v2", "encoder")):
        (found,) = (c for c in bom["components"] if c["name"] == name)
        root = container.root / "opt/clinalign" / folder
        told = {c["name"]: c["hashes"][0]["content"] for c in found["components"]}
        true = {p.relative_to(root).as_posix(): sha256_of(p) for p in root.rglob("*") if p.is_file()}
        if told != true:
            raise Failure(f"The SBOM does not tell the files of {folder} as they are.")
        files += len(told)
    return f"{len(listed)} packages and {files} files of models, as they are"


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def rights(container: Container) -> str:
    """The user owns no file and may write none, but for folders of scratch."""
    bad = []
    for path in container.root.rglob("*"):
        place = path.relative_to(container.root).as_posix()
        if path.is_symlink() or place.startswith(SCRATCH):
            continue
        found = path.lstat()
        if USER in (found.st_uid, found.st_gid) or found.st_mode & stat.S_IWOTH:
            bad.append(place)
    if bad:
        raise Failure(f"The image's user may write {', '.join(bad[:5])}.")
    return "nothing outside the scratch folders is the user's to write"


def refuses_without_keys(container: Container) -> str:
    done = container.run("clinalign", "serve")
    if done.returncode != 1 or "CLINALIGN_KEYS" not in done.stderr:
        raise Failure(f"Without keys the gateway ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return "without keys it does not start, and says why"


def builds_an_index(container: Container) -> str:
    """As the chart's job for own principles does; from the built-in ones comes the index that is baked in."""
    done = container.run(
        *("python", "-m", "principles_index", "build", "--out", INDEX, "--encoder", "/opt/clinalign/encoder")
    )
    if done.returncode != 0:
        raise Failure(f"The image cannot build an index: {done.stderr.strip()[-200:]}")
    made, baked = (container.root / folder / "manifest.json" for folder in ("tmp/index", "opt/clinalign/index"))
    if made.read_bytes() != baked.read_bytes():
        raise Failure("The same principles and encoder gave another index than the one that is baked in.")
    return "built in the container, the same as the one baked in"


def serves(container: Container) -> str:
    """Two workers answer a checked question in front of a simulated vLLM, write nothing outside /tmp, end on SIGTERM."""
    keys = json.dumps([{"name": "test", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}])
    (container.root / "tmp/key").write_text(KEY)
    container.run("true")  # buildah makes files of its own on a container's first run
    before = snapshot(container.root)
    with stub() as upstream:
        port = free_port()
        env = {"CLINALIGN_UPSTREAM_URL": upstream, "CLINALIGN_KEYS": keys, "CLINALIGN_PORT": str(port)}
        # The upstream takes no traces: what sends them must load, and must not be in the way.
        env |= {"CLINALIGN_HOST": LOOPBACK, "CLINALIGN_WORKERS": "2", "CLINALIGN_TRACES_ENDPOINT": upstream}
        url = f"http://{LOOPBACK}:{port}"
        with serving(container, env) as server:
            began = time.monotonic()
            while not probed(container, f"{url}/readyz"):
                if server.poll() is not None or time.monotonic() - began > _READY_S:
                    raise Failure(
                        f"The gateway is not ready (exit status {server.poll()}, see {LOGS / 'image-serve.log'})."
                    )
            ready_s = time.monotonic() - began
            began = time.monotonic()
            if not probed(container, f"{url}/healthz"):
                raise Failure("The health check fails on a gateway that is ready.")
            probe_s = time.monotonic() - began
            if probed(container, url, "--answer"):
                raise Failure("The gateway answers without a key.")
            asked = container.run("python", "-m", "service.probe", url, "--answer", "--key-file", KEY_FILE)
            if asked.returncode != 0:
                raise Failure(f"No question is answered: {asked.stderr.strip()[-200:]}")
    if changed := sorted(before.items() ^ snapshot(container.root).items()):
        raise Failure(f"Serving wrote outside /tmp: {', '.join(sorted({place for place, _ in changed})[:5])}.")
    return f"ready after {ready_s:.1f} s, health check {probe_s:.2f} s with buildah's start, answer {asked.stdout.strip()!r}"


def probed(container: Container, url: str, *more: str) -> bool:
    return container.run("python", "-m", "service.probe", url, *more).returncode == 0


def snapshot(root: Path) -> dict[str, tuple[float, int, int]]:
    """Every path outside the scratch folders, with when it changed, its size and its mode."""
    found = {}
    for path in root.rglob("*"):
        place = path.relative_to(root).as_posix()
        if not place.startswith(SCRATCH):
            state = path.lstat()
            found[place] = (state.st_mtime, state.st_size, state.st_mode)
    return found


@contextmanager
def stub() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "loadtests.stub_vllm", "--port", str(port), "--profile", "h100-qwen3-4b"]
    with Child("The simulated vLLM", command, LOGS / "image-stub.log") as child:
        child.wait_ready(f"http://{LOOPBACK}:{port}/health", _READY_S)
        yield f"http://{LOOPBACK}:{port}"


@contextmanager
def serving(container: Container, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The image's entry point, ended by SIGTERM as an engine does; that must end it in order."""
    entry = container.config["Entrypoint"]
    # buildah does not pass signals on. The container has this machine's process numbers.
    named = ("sh", "-c", 'echo $$ > /tmp/pid; exec "$@"', "sh", *entry)
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / "image-serve.log").open("wb") as log:
        process = subprocess.Popen(
            container.command(*named, env=env), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process
            if process.poll() is None:
                os.kill(int((container.root / "tmp/pid").read_text()), signal.SIGTERM)
                if status := process.wait(30):
                    raise Failure(f"On SIGTERM the gateway ended with {status} (see {LOGS / 'image-serve.log'}).")
        except subprocess.TimeoutExpired:
            raise Failure("The gateway did not end within 30 s of SIGTERM.") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

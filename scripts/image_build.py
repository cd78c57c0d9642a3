"""Builds the Dockerfile without a container engine: buildah as root, on a stand-in for the official base image.

No registry is asked. The stand-in is Debian bookworm with Debian's own Python (3.11) and pip, made by mmdebstrap: what is
built on it shows that our layers are right, and nothing about the official image.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common import CACHE, ROOT, Failure, shown
from scripts.setup import TORCH, TORCH_INDEX
from scripts.tools import tool

BASE = "localhost/python-stand-in:bookworm"
BASE_PYTHON = "3.11"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_WHEELS = "/mnt/wheels"
_PIP = "/usr/share/python-wheels"
# The official image has `python` and pip in /usr/local; Debian's Python would not let pip install or remove anything.
_HOOKS = (
    'ln -s /usr/bin/python3 "$1/usr/local/bin/python"',
    'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
    f'chroot "$1" sh -c "PYTHONPATH=\\$(echo {_PIP}/pip-*.whl) python -m pip install -qq --no-index -f {_PIP} pip"',
)
_PACKAGES = "python3,python3-pip-whl,ca-certificates,netbase,tzdata"


@dataclass(frozen=True)
class Buildah:
    """buildah with a storage of its own, which goes with its folder."""

    binary: Path
    folder: Path
    driver: str

    def command(self, *arguments: str) -> list[str]:
        store = ("--root", str(self.folder / "root"), "--runroot", str(self.folder / "runroot"))
        return [str(self.binary), *store, "--storage-driver", self.driver, *arguments]

    def __call__(self, *arguments: str) -> str:
        """What it prints. Raises Failure with its last line."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise Failure(f"buildah {arguments[0]} failed: {' '.join(last)}")
        return done.stdout.strip()

    def inspect(self, image: str) -> dict[str, Any]:
        """The image's configuration, as an engine reads it."""
        found: dict[str, Any] = json.loads(self("inspect", "--type", "image", image))["Docker"]["config"]
        return found

    @contextmanager
    def container(self, image: str) -> Iterator[Container]:
        name = self("from", "--pull-never", image)
        try:
            yield Container(self, name, Path(self("mount", name)), self.inspect(image))
        finally:
            self("umount", name)
            self("rm", name)


@dataclass(frozen=True)
class Container:
    """A container of an image, its files mounted at `root`. It has this machine's network."""

    buildah: Buildah
    name: str
    root: Path
    config: dict[str, Any]

    def command(self, *program: str, env: Mapping[str, str] | None = None) -> list[str]:
        """Runs the program as the image's user, in the image's folder and environment."""
        given = [part for name, value in (env or {}).items() for part in ("--env", f"{name}={value}")]
        return self.buildah.command("run", "--isolation", "chroot", *given, self.name, "--", *program)

    def run(self, *program: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*program, env=env), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )


def check_machine() -> None:
    """Raises Failure where no image can be built in this way."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Failure("Images are built here as root on Linux only: run this with sudo, or use `docker build`.")
    if not shutil.which("apt-get"):
        raise Failure("Images are built here with Debian's tools, and there is no apt: use `docker build`.")


@contextmanager
def builder() -> Iterator[Buildah]:
    """buildah and the stand-in base. Nothing is left of either. Raises Failure where this machine cannot do it."""
    check_machine()
    binary, mmdebstrap = tool("buildah"), tool("mmdebstrap")
    CACHE.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="image-test-", dir=CACHE))
    try:
        buildah = Buildah(binary, folder, _driver(binary, folder))
        _stand_in(buildah, mmdebstrap)
        yield buildah
    finally:
        _remove(folder)


def _driver(binary: Path, folder: Path) -> str:
    """overlay where the kernel lets us, or else vfs, which copies every layer and takes minutes more."""
    trial = Buildah(binary, folder / "trial", "overlay")
    try:
        with trial.container(_empty(trial)):
            return "overlay"
    except Failure:
        return "vfs"
    finally:
        shutil.rmtree(trial.folder, ignore_errors=True)


def _empty(buildah: Buildah) -> str:
    working = buildah("from", "scratch")
    buildah("commit", "--quiet", working, "localhost/empty")
    buildah("rm", working)
    return "localhost/empty"


def _stand_in(buildah: Buildah, mmdebstrap: Path) -> None:
    archive = buildah.folder / "base.tar"
    hooks = [f"--customize-hook={hook}" for hook in _HOOKS]
    command = [
        str(mmdebstrap),
        "--quiet",
        "--variant=minbase",
        f"--include={_PACKAGES}",
        *hooks,
        "bookworm",
        str(archive),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Failure(f"mmdebstrap made no base: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    working = buildah("from", "scratch")
    buildah("add", "--quiet", working, str(archive), "/")
    path = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    buildah("config", "--env", f"PATH={path}", "--cmd", "python3", working)
    buildah("commit", "--quiet", "--format", "docker", working, BASE)
    buildah("rm", working)
    archive.unlink()
    wheels = buildah.folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
    command += ["--only-binary=:all:", "--python-version", BASE_PYTHON, f"torch=={TORCH}+cpu"]
    for more in ([], ["--index-url", TORCH_INDEX]):  # your indexes may have it, as in scripts/setup.py
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    raise Failure(f"PyTorch {TORCH} for CPUs could not be had: {' '.join(done.stderr.strip().splitlines()[-1:])}")


def build(
    buildah: Buildah,
    target: str,
    arguments: Mapping[str, str],
    log: Path,
    contexts: Mapping[str, Path] | None = None,
    also: Sequence[Path] = (),
) -> float:
    """Builds `--target` as `clinalign/<target>:test`. The seconds it took.

    Folders take the place of the stages that `contexts` names; the files `also` may be copied whatever .dockerignore says.
    """
    ignored = buildah.folder / "ignored"
    more = "".join(f"!{file.relative_to(ROOT).as_posix()}\n" for file in also)
    ignored.write_text((ROOT / ".dockerignore").read_text(encoding="utf-8") + more, encoding="utf-8")
    configuration = buildah.folder / "pip.conf"
    configuration.write_text(_pip_configuration(), encoding="utf-8")
    given = {"PYTHON_IMAGE": BASE, "TORCH_INDEX": f"file://{_WHEELS}", **arguments}
    command = buildah.command("build", "--isolation", "chroot", "--format", "docker", "--pull-never", "--layers")
    command += ["--target", target, "--tag", f"clinalign/{target}:test"]
    command += [part for name, value in given.items() for part in ("--build-arg", f"{name}={value}")]
    command += [part for name, at in (contexts or {}).items() for part in ("--build-context", f"{name}={at}")]
    command += ["--ignorefile", str(ignored)]
    command += ["--secret", f"id=pip,src={configuration}", "--volume", f"{buildah.folder / 'wheels'}:{_WHEELS}:ro"]
    command += ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro", str(ROOT)]
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("wb") as output:
        done = subprocess.run(command, stdout=output, stderr=output, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise Failure(f"Building {target} failed: {' '.join(lines[-1:])} (see {shown(log)}).")
    return time.monotonic() - began


def _pip_configuration() -> str:
    """This machine's index and certificates, for pip inside the build."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    lines: Sequence[str] = ("[global]", f"cert = {_CERTIFICATES}", f"find-links = {_WHEELS}")
    url = os.environ.get("PIP_INDEX_URL") or found
    return "\n".join((*lines, *([f"index-url = {url}"] if url else []))) + "\n"


def _remove(folder: Path) -> None:
    """Also what a killed buildah left mounted."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)

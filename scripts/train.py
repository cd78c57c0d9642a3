"""`make train PROFILE=cpu`: questions → rubrics → GRPO → export → vLLM → gateway → evaluation, unattended.

PROFILE, RUN (the run's folder), ACCELERATE (a configuration for several GPUs) and FRESH=1 (begin anew) change what it does.
The same command goes on where a killed one stopped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scripts.build_index import ensure_index
from scripts.child import OFFLINE
from scripts.common import CACHE, LOGS, ROOT, Failure, fail, has_nvidia_gpu, shown
from scripts.gateway import Gateway
from scripts.model import FOLDER, encoder_folder, ensure_model
from scripts.plan import available_gb, kv_cache_gib
from scripts.progress import Step
from scripts.vllm_server import QUIET, VllmServer
from training.errors import ProfileError
from training.profile import Profile, load_profile
from training.toy import make_toy

TETHER = Path(__file__).with_name("tether.py")
SETS = ("heldout", "safety")  # questions of the kind trained on; messages that touch a blocking rule
_GPU_SHARE = ("--gpu-memory-utilization", "0.4")  # base and trained model are served side by side


@dataclass(frozen=True)
class Plan:
    named: str  # the profile, as it was asked for: a name or a file
    profile: Profile
    run: Path
    accelerate: str | None
    fresh: bool

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Plan:
        named = env.get("PROFILE", "").strip() or "cpu"
        try:
            profile = load_profile(named)
        except ProfileError as error:
            raise Failure(f"{error}.") from None
        for file in (*profile.questions.files, *profile.questions.heldout_files):
            if not file.is_file():
                raise Failure(f"{file} is missing: put it there, or name other files in a profile of your own.")
        run = env.get("RUN", "").strip()
        return cls(
            named=named,
            profile=profile,
            run=Path(run) if run else CACHE / "runs" / profile.name,
            accelerate=env.get("ACCELERATE", "").strip() or None,
            fresh=env.get("FRESH", "").strip().lower() in ("1", "true", "yes"),
        )

    @property
    def out(self) -> Path:
        """The exported model. Its folder has the name that it is served under."""
        return self.run / self.profile.export.name


def main() -> int:
    began = time.monotonic()
    try:
        plan = Plan.read(os.environ)
        if plan.fresh:
            shutil.rmtree(plan.run, ignore_errors=True)
        with Step("Preparing model and index"):
            base, index = base_model(plan.profile), ensure_index()
        places = ("--index", str(index), "--encoder", str(encoder_folder()))
        named = (str(plan.run), "--profile", plan.named)
        training("rubrics", *named, *places)
        training("grpo", *named, "--model", base, *places, accelerate=plan.accelerate)
        training("export", *named, str(plan.out), "--model", base)
        reports = evaluate(plan, base, index, places)
        training("export", *named, str(plan.out), "--evaluation", *map(str, reports))
    except Failure as error:
        return fail(error)
    except KeyboardInterrupt:
        return fail(Failure("Stopped: the same command goes on from here."))
    minutes = (time.monotonic() - began) / 60
    print(f"Done after {minutes:.0f} min. The model is in {shown(plan.out)}: `make run MODEL={plan.out}` serves it.")
    return 0


def base_model(profile: Profile) -> str:
    """A folder or a hub id."""
    if profile.model == "demonstration":
        return str(ensure_model())
    if profile.model == "toy":
        ensure_model()
        return str(make_toy(FOLDER, CACHE / "models" / "toy-qwen3-base"))
    return profile.model


def training(command: str, *arguments: str, accelerate: str | None = None) -> None:
    """One command of `python -m training`, its output shown as it comes. It ends when we do. Raises Failure."""
    program = ["-m", "training", command, *arguments]
    if accelerate:
        program = ["-m", "accelerate.commands.launch", "--config_file", accelerate, *program]
    env = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "passive", "PYTHONWARNINGS": "ignore"}
    env["TQDM_DISABLE"] = "1"  # of those who load models; our own lines say how far it is
    env |= {name: value for name, value in QUIET.items() if value is not None}
    if _is_local(arguments):
        env |= OFFLINE
    print(f"\n== {command}", flush=True)
    done = subprocess.run(
        [sys.executable, str(TETHER), str(os.getpid()), sys.executable, *program], cwd=ROOT, env=env, check=False
    )
    if done.returncode != 0:
        raise Failure(
            f"`python -m training {command}` ended with exit status {done.returncode}; the same command goes on."
        )


def _is_local(arguments: tuple[str, ...]) -> bool:
    """Whether the model, where one is named, lies here: then no hub is asked."""
    return "--model" not in arguments or Path(arguments[arguments.index("--model") + 1]).is_dir()


def evaluate(plan: Plan, base: str, index: Path, places: tuple[str, ...]) -> list[Path]:
    """Base and trained model on both sets, and the trained one behind the gateway on held-out questions. The reports."""
    with ExitStack() as stack:
        servers = {}
        for name, model in (("base", base), ("trained", str(plan.out))):
            server = stack.enter_context(serve(model, name, LOGS / f"train-vllm-{name}.log"))
            with Step(f"Starting vLLM with the {name} model") as step:
                server.wait(tick=step.tick)
            servers[name] = server.url
        gateway = stack.enter_context(Gateway(servers["trained"], index, log=LOGS / "train-gateway.log"))
        with Step("Starting the gateway") as step:
            gateway.wait(tick=step.tick)
        for name in SETS:
            out = plan.run / "evaluation" / name
            out.mkdir(parents=True, exist_ok=True)
            settings = out / "settings.yaml"
            asked = evaluation(plan, name, servers, gateway.url if name == "heldout" else None)
            settings.write_text(yaml.safe_dump(asked), encoding="utf-8")
            training("evaluate", str(settings), str(out), *places)
    return [plan.run / "evaluation" / name / "report.md" for name in SETS]


def evaluation(plan: Plan, data: str, servers: Mapping[str, str], gateway: str | None) -> dict[str, Any]:
    """Settings of `python -m training evaluate`."""
    wanted = plan.profile.evaluation
    params = {"temperature": wanted.temperature, "max_tokens": wanted.most_tokens}
    systems = [{"name": name, "url": url, "params": params, "samples": wanted.samples} for name, url in servers.items()]
    if gateway:
        systems.append({"name": "gateway", "url": gateway, "params": params, "take": "draft_and_delivered"})
    judge = plan.profile.reward.judge
    return {
        "data": str(plan.run / f"rubrics-{data}.jsonl"),
        "systems": systems,
        "judge": judge.model_dump(mode="json") if judge else None,
        "compare": [["base", "trained"]],
        "resamples": wanted.resamples,
        "demonstration": plan.profile.model in ("demonstration", "toy"),
        "jobs": {"in_flight": 16},
    }


def serve(model: str, name: str, log: Path) -> VllmServer:
    gpu = has_nvidia_gpu()
    cache = 2 if gpu else kv_cache_gib(available_gb())
    return VllmServer(model, served_name=name, log=log, gpu=gpu, kv_cache_gib=cache, extra=_GPU_SHARE if gpu else ())


if __name__ == "__main__":
    sys.exit(main())

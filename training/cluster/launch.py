"""Starts GRPO with verl on the Ray cluster that this machine belongs to, or checks the run without a GPU.

    python -m training.cluster.launch qwen3-4b --data DIR --out DIR [--check] [verl.key=value ...]

Runs in verl's own environment (docs/training.md). `--data` holds train.parquet and heldout.parquet, as
`training.cluster.data` wrote them. Paths are made absolute, since workers on other machines have other working folders;
they must lie on a file system that all machines share. The same command goes on where a killed run stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from principles_index.__main__ import default_encoder
from service.errors import ClinAlignError
from training.cluster import overrides
from training.errors import TrainingError


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="training.cluster.launch", description="GRPO with verl on Ray.")
    options.add_argument("config", help="qwen3-4b, qwen3-30b-a3b, or the path of a YAML file like theirs")
    options.add_argument("--data", type=Path, required=True, help="folder of train.parquet and heldout.parquet")
    options.add_argument("--out", type=Path, required=True, help="folder for checkpoints")
    options.add_argument(
        "--profile", help="profile whose reward is used, a name or a file; default: as the configuration"
    )
    options.add_argument("--index", type=Path, default=Path(".cache/index"), help="folder of the principles' index")
    options.add_argument("--encoder", default=default_encoder(), help="the index's encoder: a folder or a hub id")
    options.add_argument("--model", help="model to train, a folder or a hub id; default: the configuration's")
    options.add_argument("--check", action="store_true", help="check configuration and reward, and start nothing")
    options.add_argument("extra", nargs="*", metavar="KEY=VALUE", help="more overrides, in Hydra's own words; they win")
    return options


def run_values(options: argparse.Namespace) -> dict[str, Any]:
    """The configuration with what belongs to this run. Raises ProfileError."""
    profile = options.profile or options.config
    values = overrides.config(options.config)
    if options.model:
        values["actor_rollout_ref.model.path"] = options.model
    reward_kwargs = "+reward.custom_reward_function.reward_kwargs"
    return values | {
        "data.train_files": str((options.data / "train.parquet").resolve()),
        "data.val_files": str((options.data / "heldout.parquet").resolve()),
        "trainer.default_local_dir": str(options.out.resolve()),
        f"{reward_kwargs}.profile": _absolute_if_there(profile),
        f"{reward_kwargs}.index": str(options.index.resolve()),
        f"{reward_kwargs}.encoder": _absolute_if_there(options.encoder),
    }


def _absolute_if_there(name: str) -> str:
    """A path on this machine in full; a profile's name or a hub id as it is."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def check(values: dict[str, Any], extra: Sequence[str]) -> dict[str, Any]:
    """Everything of `training.cluster.check`. Returns what verl's reward manager gave for one answer."""
    from training.cluster.check import check_types, compose, reward_of_first_row, validate

    config = compose([*overrides.overrides(values), *extra])
    check_types(config, values)
    validate(config)
    return reward_of_first_row(config, str(config.actor_rollout_ref.model.path))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_intermixed_args(arguments)
    try:
        values = run_values(options)
        if options.check:
            sys.stdout.write(json.dumps(check(values, options.extra), default=float) + "\n")
            return 0
    except (TrainingError, ClinAlignError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except ModuleNotFoundError as error:
        sys.stderr.write(f"{error}: this runs in verl's own environment, see docs/training.md\n")
        return 1
    command = [sys.executable, "-m", "verl.trainer.main_ppo", *overrides.overrides(values), *options.extra]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

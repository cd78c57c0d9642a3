"""What can be known of a verl run without a GPU. Runs in verl's own environment.

verl's schema refuses unknown names; its dataclasses and `validate_config` refuse values that cannot be; its reward
manager, loaded and called by verl's own code, gives one answer's reward. Not checked: memory, and whatever needs CUDA.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow.parquet as pq
from pydantic import ConfigDict, TypeAdapter, ValidationError

from training.errors import ProfileError

ANSWER = "Please call your doctor or pharmacist about this today. I cannot examine you and may be wrong."


def compose(overrides: Sequence[str]) -> Any:
    """verl's configuration with these overrides (a DictConfig). Raises ProfileError for a name that verl does not have."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.errors import HydraException

    try:
        with initialize_config_module("verl.trainer.config", version_base=None):
            return hydra_compose("ppo_trainer", overrides=list(overrides))
    except HydraException as error:
        raise ProfileError(f"verl refuses the configuration: {' '.join(str(error).split())}") from None


def check_types(config: Any, values: Mapping[str, Any]) -> None:
    """Each value against the type of verl's dataclass field, where its section has a dataclass (`_target_`).

    verl itself makes those dataclasses without looking at types; `data` and `trainer` have none.
    """
    from hydra.utils import get_class
    from omegaconf import OmegaConf

    for key, value in values.items():
        path, _, field = key.lstrip("+").rpartition(".")
        section: Any = OmegaConf.select(config, path) if path else None
        target = section.get("_target_") if OmegaConf.is_dict(section) else None
        hints = get_type_hints(get_class(target)) if target else {}
        if field not in hints:
            continue
        try:
            TypeAdapter(hints[field], config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
        except ValidationError as error:
            raise ProfileError(f"{key}: {error.errors(include_url=False)[0]['msg']}") from None


def validate(config: Any) -> None:
    """verl's own validation, as its `main_ppo` runs it first. Raises ProfileError."""
    from hydra.errors import HydraException
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
            omega_conf_to_dataclass(config.algorithm)
            validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    except (HydraException, AssertionError, ValueError, TypeError) as error:
        raise ProfileError(f"verl refuses the configuration: {' '.join(str(error).split())}") from None


def reward_of_first_row(config: Any, tokenizer_folder: str, answer: str = ANSWER) -> dict[str, Any]:
    """What verl's reward manager gives for `answer` to the first question: `reward_score` and `reward_extra_info`.

    Raises whatever the reward raises: a profile that cannot be read, a judge that cannot be asked.
    """
    from transformers import AutoTokenizer
    from verl.trainer.ppo.reward import load_reward_manager

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, trust_remote_code=False)
    row = first_row(Path(config.data.train_files))

    async def call() -> dict[str, Any]:
        manager = load_reward_manager(config, tokenizer)  # inside the loop, as in verl's reward worker
        told: dict[str, Any] = await manager.run_single(_proto(row, tokenizer, answer))
        return told

    return asyncio.run(call())


def first_row(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ProfileError(f"{file} is missing: make it with `python -m training.cluster.data`")
    rows: list[dict[str, Any]] = pq.read_table(file).slice(0, 1).to_pylist()
    if not rows:
        raise ProfileError(f"{file} has no rows")
    return rows[0]


def _proto(row: Mapping[str, Any], tokenizer: Any, answer: str) -> Any:
    """The row and its answer as verl hands them to a reward manager (`AgentLoopWorker._compute_score` there)."""
    import numpy as np
    import torch
    from tensordict import TensorDict
    from verl import DataProto

    prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
    ids = torch.tensor([prompt + (said := tokenizer(answer)["input_ids"])])
    batch = TensorDict(
        {
            "prompts": torch.tensor([prompt]),
            "responses": torch.tensor([said]),
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        },
        batch_size=1,
    )
    fields = {"data_source", "reward_model", "extra_info"}
    others = {key: np.array([row[key]], dtype=object) for key in fields}
    return DataProto(batch=batch, non_tensor_batch=others)

"""What verl makes of our configuration and reward, by verl's own code; run by test_verl.py in verl's environment.

    PYTHONPATH=. python tests/e2e/verl_probe.py CASES.json <arguments of training.cluster.launch>

`groups` of CASES: each is one question's answers. verl's agent loop worker asks verl's reward manager, which calls our
reward; verl's replay buffer says what is left of the group, and verl's GRPO what the rest is worth. Only Ray, the queue
and the decoding are not real. `refused`: each is a configuration, of which what is said against it is told. Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from training.cluster import launch, overrides
from training.cluster.check import check_types, compose, first_row, validate
from training.errors import ProfileError


class Queue:
    """TransferQueue's calls that verl's loop and buffer make, in memory."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.fields: dict[str, Any] = {}

    async def async_kv_put(self, key: str, partition_id: str, tag: dict[str, Any]) -> None:
        self.tags[partition_id].setdefault(key, {}).update(tag)

    async def async_kv_batch_put(self, keys: list[str], fields: Any, tags: list[Any], partition_id: str) -> None:
        for key, row, tag in zip(keys, fields, tags, strict=True):
            self.fields[key] = row
            self.tags[partition_id][key] = tag

    def kv_list(self) -> dict[str, dict[str, dict[str, Any]]]:
        return self.tags

    def kv_clear(self, partition_id: str, keys: list[str]) -> None:
        for key in keys:
            self.tags[partition_id].pop(key, None)


def worker(config: Any, manager: Any, tokenizer: Any, answers: list[str]) -> Any:
    """verl's agent loop worker, whose model says these answers."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
    from verl.trainer.ppo.v1 import agent_loop_tq

    class Canned(agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class):  # type: ignore[misc]
        def __init__(self) -> None:
            self.config = config
            self.processor = None
            self.mm_processor_kwargs: dict[str, Any] = {}
            self.distillation_enabled = False
            self.reward_loop_worker_handles = [
                SimpleNamespace(compute_score=SimpleNamespace(remote=manager.run_single))  # as RewardLoopWorker does
            ]

        async def _run_agent_loop(self, _: Any, *, trajectory: Any, session_id: int, **prompt: Any) -> None:
            said = tokenizer(answers[session_id])["input_ids"]
            output = AgentLoopOutput(
                prompt_ids=tokenizer.apply_chat_template(prompt["raw_prompt"], return_dict=False),
                response_ids=said,
                response_mask=[1] * len(said),
                metrics=AgentLoopMetrics(),
            )
            prompt.pop("trace")
            await self._agent_loop_postprocess(output, trajectory["validate"], session_id=session_id, **prompt)

    return Canned()


async def roll_out(config: Any, groups: list[list[str]]) -> list[dict[str, Any]]:
    from verl.trainer.ppo.reward import load_reward_manager
    from verl.trainer.ppo.v1 import agent_loop_tq, replay_buffer

    tokenizer = AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path)
    manager = load_reward_manager(config, tokenizer)
    told = []
    for answers in groups:
        agent_loop_tq.tq = replay_buffer.tq = queue = Queue()
        row = first_row(Path(config.data.train_files))
        prompt = {**row, "raw_prompt": row.pop("prompt"), "uid": "group", "global_steps": 0}
        queue.tags["train"]["group"] = {"is_prompt": True, "global_steps": 0, "status": "pending"}
        canned = worker(config, manager, tokenizer, answers)
        await canned._run_prompt({**prompt, "__rollout_n__": len(answers)}, {}, trajectory={"validate": False})
        told.append(left_of(queue, config))
    return told


def left_of(queue: Queue, config: Any) -> dict[str, Any]:
    """Numbers of the answers that are trained on, with rewards and advantages; `error` where training would end."""
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    sampler = config.trainer.v1.sampler
    buffer = ReplayBuffer(
        trainer_mode=config.trainer.v1.trainer_mode,
        trainer_config=config.trainer.v1.sync,
        max_off_policy_threshold=sampler.max_off_policy_threshold,
        max_off_policy_strategy=sampler.max_off_policy_strategy,
        sampler_kwargs=sampler.sampler_kwargs,
        sync_refill_failed_groups=sampler.sync_refill_failed_groups,
    )
    try:
        batch, _ = buffer.sample(global_steps=0, partition_id="train", batch_size=1)
    except RuntimeError as error:
        return {"kept": [], "rewards": [], "advantages": [], "error": str(error)}
    keys = sorted(batch.keys)
    rewards = torch.tensor([[float(queue.fields[key]["rm_scores"].sum())] for key in keys])
    group = np.array(["group"] * len(keys), dtype=object)
    advantages, _ = compute_grpo_outcome_advantage(rewards, torch.ones_like(rewards), group)
    return {
        "kept": [int(key.split("_")[1]) for key in keys],
        "rewards": rewards[:, 0].tolist(),
        "advantages": advantages[:, 0].tolist(),
        "error": None,
    }


def objection(values: dict[str, Any]) -> str | None:
    try:
        config = compose(overrides.overrides(values))
        check_types(config, values)
        validate(config)
    except ProfileError as error:
        return str(error)
    return None


def main() -> None:
    cases = json.loads(Path(sys.argv[1]).read_text())
    options = launch.parser().parse_intermixed_args(sys.argv[2:])
    values = launch.run_values(options)
    config = compose([*overrides.overrides(values), *options.extra])
    groups = asyncio.run(roll_out(config, cases["groups"]))
    refused = [objection({**values, **case}) for case in cases["refused"]]
    print(json.dumps({"groups": groups, "refused": refused}))


if __name__ == "__main__":
    main()

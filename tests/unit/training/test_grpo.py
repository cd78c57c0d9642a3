"""What surrounds TRL: the reward function that it calls, what it is told, and merged weights for rollouts."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM

from tests.unit.training.test_data import criterion, question
from training.data import Rubric
from training.errors import DataError, RewardUnavailable
from training.grpo import Recorder, RewardFunction, arguments, fitting, merged, quiet
from training.profile import load_profile
from training.reward import Judged, Reward, Rewarded, Scored
from training.runs import COMPLETE

RUBRIC = Rubric(
    question=question(),
    criteria=(criterion("a", 5, principle="no-repetition"), criterion("b", -2, tags=("axis:accuracy",))),
    made_by="human",
)


@dataclass
class FakeReward:
    """Rewards by text: a number, or anything else for a completion that could not be judged."""

    async def __call__(self, rubric: Rubric, text: str, tokens: int) -> Rewarded:
        value = float(text) if text.replace(".", "").isdigit() else None
        met = Judged(rubric.criteria[0], "met" if value else "unmet", float(bool(value)), "rule")
        missing = Judged(rubric.criteria[1], "unknown", None, "judge", missing=True)
        return Rewarded(value, Scored((met, missing)), ("too_long",) if tokens > 3 else ())


def function(most_missing: float = 0.5) -> RewardFunction:
    async def make() -> Reward:
        return cast("Reward", FakeReward())

    return RewardFunction(make, [RUBRIC], most_missing)


def batch(*texts: str) -> dict[str, Any]:
    return {
        "completions": [[{"role": "assistant", "content": text}] for text in texts],
        "completion_ids": [[1] * (i + 1) for i in range(len(texts))],
        "rubric": [0] * len(texts),
        "prompts": ["unused"] * len(texts),
        "trainer_state": None,
    }


def logger() -> tuple[dict[str, list[float]], Callable[[str, float], None]]:
    values: dict[str, list[float]] = defaultdict(list)
    return values, lambda name, value: values[name].append(value)


async def test_each_completion_gets_its_reward_or_none() -> None:
    values, log_metric = logger()
    assert await function()(**batch("1.0", "0.5", "what?", "0"), log_metric=log_metric) == [1.0, 0.5, None, 0.0]
    assert values["missing"] == [0, 0, 1, 0]
    assert values["criteria/no-repetition"] == [1, 1, 0, 0]
    assert values["guards/too_long"] == [0, 0, 0, 1]
    assert values["guards/repeats"] == [0, 0, 0, 0]
    assert "criteria/accuracy" not in values  # a missing verdict is in no rate


async def test_too_many_missing_rewards_end_the_training() -> None:
    reward = function(most_missing=0.5)
    _, log_metric = logger()
    assert await reward(**batch("1", "?"), log_metric=log_metric) == [1.0, None]
    with pytest.raises(RewardUnavailable, match="3 of 4 completions could not be judged"):
        await reward(**batch("?", "?"), log_metric=log_metric)


async def test_a_silent_judge_ends_the_training_at_once() -> None:
    with pytest.raises(RewardUnavailable):
        await function(0.9)(**batch("?", "?"), log_metric=lambda name, value: None)


def test_what_could_not_be_judged_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """TRL would log the prompt and the completion."""
    quiet()
    source = logging.getLogger("trl.trainer.grpo_trainer")
    with caplog.at_level(logging.WARNING):
        source.warning("All reward functions returned None for the following kwargs:\n{'prompt': 'SECRET'}\nPlease")
        source.warning("something else")
    assert "SECRET" not in caplog.text
    assert [r.getMessage() for r in caplog.records if r.name == source.name] in (["something else"], [])


# --- what TRL is told -------------------------------------------------------------------------------------------


def test_one_update_is_what_the_profile_says(tmp_path: Path) -> None:
    profile = load_profile("toy")
    told = arguments(profile, tmp_path)
    assert told.per_device_train_batch_size * told.gradient_accumulation_steps == 8
    assert told.generation_batch_size == 8
    assert (told.num_generations, told.max_steps, told.beta) == (4, 6, 0.01)
    assert (told.use_cpu, told.bf16, told.use_vllm) == (not torch.cuda.is_available(), False, False)
    assert told.log_completions is False


class Words:
    """A tokenizer of words."""

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> list[int]:
        return [0] * sum(len(m["content"].split()) for m in messages)


def test_questions_that_do_not_fit_are_left_out() -> None:
    long = Rubric(question=question("why " * 200), criteria=RUBRIC.criteria, made_by="human")
    profile = load_profile("toy", {"grpo.questions_per_step": 1})
    assert fitting([long, RUBRIC], Words(), profile) == [RUBRIC]
    with pytest.raises(DataError, match="only 0 questions fit into 96 tokens"):
        fitting([long], Words(), profile)


# --- merged weights ---------------------------------------------------------------------------------------------


def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    model = get_peft_model(
        Qwen3ForCausalLM(config).to(torch.bfloat16), LoraConfig(r=2, lora_alpha=4, target_modules="all-linear")
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return cast("torch.nn.Module", model)


def test_merged_weights_answer_alike_and_leave_no_trace() -> None:
    model, tokens = tiny(), torch.arange(12).reshape(1, 12)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        apart = model(input_ids=tokens).logits
        with merged(model):
            together = model(input_ids=tokens).logits
        after = model(input_ids=tokens).logits
    assert not torch.equal(apart, together)  # it was another way to compute it
    assert torch.allclose(apart.float(), together.float(), atol=0.05)
    assert torch.equal(apart, after)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_weights_are_put_back_when_a_rollout_fails() -> None:
    model = tiny()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="no memory"), merged(model):
        raise RuntimeError("no memory")
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


# --- records ----------------------------------------------------------------------------------------------------


@dataclass
class State:
    global_step: int
    is_world_process_zero: bool = True
    max_steps: int = 4


@dataclass
class Arguments:
    output_dir: str


def test_a_row_a_step_and_a_mark_on_whole_checkpoints(tmp_path: Path) -> None:
    ticks = iter([0.0, 2.5, 4.0])
    lines: list[str] = []
    recorder = Recorder(tmp_path, lines.append, clock=lambda: next(ticks))
    recorder.on_log(None, State(1), None, {"reward": 0.5, "kl": None, "note": "text"})
    recorder.on_log(None, State(2), None, {"reward": 0.7})
    recorder.on_log(None, State(2), None, {"train_runtime": 9.0})
    recorder.on_log(None, State(3, is_world_process_zero=False), None, {"reward": 0.1})
    rows = [orjson.loads(line) for line in (tmp_path / "metrics.jsonl").read_bytes().splitlines()]
    assert rows == [{"step": 1, "seconds": 2.5, "reward": 0.5}, {"step": 2, "seconds": 1.5, "reward": 0.7}]
    assert lines == ["step 1/4: reward 0.5; 0 min left", "step 2/4: reward 0.7; 0 min left"]
    (tmp_path / "checkpoint-2").mkdir()
    recorder.on_save(Arguments(str(tmp_path)), State(2), None)
    assert (tmp_path / "checkpoint-2" / COMPLETE).is_file()

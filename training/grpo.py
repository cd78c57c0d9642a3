"""GRPO (arXiv 2402.03300) with TRL on rubrics: groups of answers to one question, each worth what the gateway's own
judgement makes of it, compared with each other.

A run is a folder (`training.runs`): `run.json` says what it was begun with, `checkpoints/` holds the newest checkpoints and,
under `runs/`, TensorBoard's events, `metrics.jsonl` one row a step, `model/` the adapter or the model at the end. The same
command goes on where a killed one stopped, and ends with the same weights: only checkpoints that were written to the end
count.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import orjson
import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback, set_seed
from transformers.utils.logging import disable_progress_bar
from trl import GRPOConfig, GRPOTrainer

from training.data import Rubric, write_json
from training.errors import DataError, RewardUnavailable
from training.profile import Profile
from training.reward import Guard, Reward, Rewarded
from training.runs import CHECKPOINTS, COMPLETE, METRICS, prepare, publish, step_of

log = logging.getLogger("clinalign.training")


class RewardFunction:
    """What TRL calls: one reward a completion, None where it could not be judged.

    `make` builds the reward inside TRL's own event loop, since connections belong to the loop that opened them.
    """

    __name__ = "rubric"

    def __init__(self, make: Callable[[], Awaitable[Reward]], rubrics: Sequence[Rubric], most_missing: float) -> None:
        self._make = make
        self._rubrics = rubrics
        self._most_missing = most_missing
        self._reward: Reward | None = None
        self._seen = Counter[str]()

    async def __call__(
        self,
        *,
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        rubric: Sequence[int],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        """`rubric` holds each completion's row. Raises RewardUnavailable when too many went without a reward."""
        if self._reward is None:
            self._reward = await self._make()
        reward = self._reward
        rewarded = await asyncio.gather(
            *(
                reward(self._rubrics[row], _text(completion), len(ids))
                for row, completion, ids in zip(rubric, completions, completion_ids, strict=True)
            )
        )
        self._log(rewarded, log_metric)
        return [each.value for each in rewarded]

    def _log(self, rewarded: Sequence[Rewarded], log_metric: Callable[[str, float], None]) -> None:
        """Each outcome as a value of its own, so that means over processes are exact."""
        for each in rewarded:
            log_metric("missing", float(each.value is None))
            for guard in get_args(Guard):
                log_metric(f"guards/{guard}", float(guard in each.guards))
            for judged in each.scored.judged if each.scored else ():
                if judged.label in ("met", "unmet"):
                    log_metric(f"criteria/{judged.criterion.name}", float(judged.label == "met"))
        self._seen.update(all=len(rewarded), missing=sum(each.value is None for each in rewarded))
        if self._seen["missing"] > self._most_missing * self._seen["all"]:
            raise RewardUnavailable(
                f"{self._seen['missing']} of {self._seen['all']} completions could not be judged: check the judge, or raise reward.most_missing"
            )


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else str(completion[-1]["content"])


class Trainer(GRPOTrainer):
    """TRL's trainer, whose rollouts outside vLLM go through merged weights: half as fast again on a CPU."""

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        with merged(self.accelerator.unwrap_model(self.model)):
            return super()._generate_single_turn(*args, **kwargs)


@contextmanager
def merged(model: torch.nn.Module) -> Iterator[None]:
    """Adapters folded into the weights for a while. The weights are put back from a copy: subtracting what was added
    would leave rounding behind."""
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
    kept = [layer.get_base_layer().weight.data for layer in layers]
    for layer, weight in zip(layers, kept, strict=True):
        layer.get_base_layer().weight.data = weight.clone()
        layer.merge()
    try:
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.get_base_layer().weight.data = weight
            layer.merged_adapters.clear()


class Recorder(TrainerCallback):
    """A row a step in metrics.jsonl and a line for whoever watches, and the mark on each checkpoint that was written to
    the end."""

    def __init__(
        self, run: Path, tell: Callable[[str], None] = lambda line: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = run / METRICS
        self._tell = tell
        self._clock = clock
        self._last = clock()
        self._seconds: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not state.is_world_process_zero or not logs or "reward" not in logs:
            return
        now, told = self._clock(), {k: v for k, v in logs.items() if isinstance(v, int | float)}
        with self._file.open("ab") as rows:
            rows.write(orjson.dumps({"step": state.global_step, "seconds": round(now - self._last, 2), **told}) + b"\n")
        self._seconds.append(now - self._last)
        self._last = now
        left = (state.max_steps - state.global_step) * fmean(self._seconds[-10:]) / 60
        shown = {"reward": "reward", "completions/mean_length": "tokens", "kl": "KL", "missing": "missing"}
        values = ", ".join(f"{label} {told[name]:.3g}" for name, label in shown.items() if name in told)
        self._tell(f"step {state.global_step}/{state.max_steps}: {values}; {left:.0f} min left")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(folder / COMPLETE, {"step": state.global_step})


def train(
    profile: Profile,
    model: Path | str,
    rubrics: Sequence[Rubric],
    make: Callable[[], Awaitable[Reward]],
    run: Path,
    tell: Callable[[str], None],
) -> PartialState:
    """Trains on `rubrics`, writes `run/model`, and says which process this is; `tell` gets a line a step. A run that was begun with something else is refused (DataError)."""
    quiet()
    disable_progress_bar()
    settings = profile.grpo
    if settings.threads:
        torch.set_num_threads(settings.threads)
    set_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left", trust_remote_code=False)
    rows = fitting(rubrics, tokenizer, profile)
    state = PartialState()
    with state.main_process_first():  # one tidies up what a kill left, and the others find it tidy
        resumed = prepare(run, {"profile": profile.fingerprint, "questions": [r.question.id for r in rows]})
    if resumed is None or step_of(resumed) < settings.steps:
        _train(profile, model, rows, make, run, tell, tokenizer, resumed)
    state.wait_for_everyone()
    if state.is_main_process:
        publish(run)
    return state


def _train(
    profile: Profile, model: Path | str, rows: Sequence[Rubric], make: Callable[[], Awaitable[Reward]], run: Path,
    tell: Callable[[str], None], tokenizer: Any, resumed: Path | None,
) -> None:  # fmt: skip
    settings = profile.grpo
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, settings.dtype), attn_implementation=settings.attention, trust_remote_code=False
        ),
        reward_funcs=RewardFunction(make, rows, profile.reward.most_missing),
        args=arguments(profile, run),
        train_dataset=Dataset.from_list([_row(i, rubric) for i, rubric in enumerate(rows)]),
        processing_class=tokenizer,
        peft_config=_lora(profile),
        callbacks=[Recorder(run, tell)],
    )
    trainer.remove_callback(PrinterCallback)  # it would print every metric of every step
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)


def _row(number: int, rubric: Rubric) -> dict[str, Any]:
    return {"prompt": [turn.model_dump() for turn in rubric.question.messages], "rubric": number}


def fitting(rubrics: Sequence[Rubric], tokenizer: Any, profile: Profile) -> list[Rubric]:
    """Those whose prompt fits: a cut question is another question. Raises DataError where none is left."""
    kept = []
    for rubric in rubrics:
        messages = [turn.model_dump() for turn in rubric.question.messages]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        if len(ids) <= profile.grpo.most_prompt_tokens:
            kept.append(rubric)
    if len(kept) < profile.grpo.questions_per_step:
        raise DataError(f"only {len(kept)} questions fit into {profile.grpo.most_prompt_tokens} tokens")
    return kept


def _lora(profile: Profile) -> LoraConfig | None:
    lora = profile.grpo.lora
    if lora is None:
        return None
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )


def arguments(profile: Profile, run: Path) -> GRPOConfig:
    """TRL's arguments. What TRL would choose by itself and might choose otherwise next time is said here."""
    s = profile.grpo
    cuda = torch.cuda.is_available()
    per_update = s.questions_per_step * s.group_size
    per_round = s.micro_batch * PartialState().num_processes
    if per_update % per_round:
        raise DataError(
            f"questions_per_step × group_size ({per_update}) must divide by micro_batch × processes ({per_round})"
        )
    vllm: dict[str, Any] = {"use_vllm": False}
    if s.vllm is not None:
        vllm = {
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": s.vllm.memory_share,
            "vllm_tensor_parallel_size": s.vllm.tensor_parallel,
            "vllm_enable_sleep_mode": s.vllm.sleep,
            "vllm_max_model_length": s.most_prompt_tokens + s.most_tokens,
            "vllm_importance_sampling_correction": True,
            "vllm_importance_sampling_clip_max": s.vllm.correction_cap,
        }
    return GRPOConfig(
        output_dir=str(run / CHECKPOINTS),
        seed=s.seed,
        data_seed=s.seed,
        full_determinism=False,
        max_steps=s.steps,
        per_device_train_batch_size=s.micro_batch,
        gradient_accumulation_steps=per_update // per_round,
        num_generations=s.group_size,
        max_completion_length=s.most_tokens,
        temperature=s.temperature,
        top_p=s.top_p,
        top_k=0,
        learning_rate=s.learning_rate,
        lr_scheduler_type=s.schedule,
        warmup_steps=s.warmup_steps,
        max_grad_norm=s.max_grad_norm,
        beta=s.beta,
        epsilon=s.clip_low,
        epsilon_high=s.clip_high,
        num_iterations=s.iterations,
        loss_type=s.loss_type,
        scale_rewards=s.scale_rewards,
        mask_truncated_completions=s.mask_truncated,
        importance_sampling_level="token",
        chat_template_kwargs=s.chat_template_kwargs,
        use_cpu=not cuda,
        bf16=cuda and s.dtype == "bfloat16",
        fp16=False,
        gradient_checkpointing=s.activation_checkpointing,
        logging_steps=1,
        logging_first_step=True,
        save_strategy="steps",
        save_steps=s.save_every,
        save_total_limit=s.keep,
        report_to=["tensorboard"],
        log_completions=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=cuda,
        disable_tqdm=True,
        **vllm,
    )


def quiet() -> None:
    """TRL logs prompt and completion of what could not be judged: health text has no place in logs."""
    logging.getLogger("trl.trainer.grpo_trainer").addFilter(
        lambda record: "returned None for the following kwargs" not in record.getMessage()
    )

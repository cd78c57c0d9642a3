"""What a training run does: one YAML file, every value in it explained there. `training/profiles/*.yaml`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from service.domain import Frozen
from training.errors import ProfileError
from training.reward import Guards
from training.teacher import TeacherSettings

PROFILES = Path(__file__).parent / "profiles"


class Questions(Frozen):
    files: tuple[Path, ...] = ()
    exemplars: bool = False
    heldout_files: tuple[Path, ...] = ()
    heldout_share: float = Field(gt=0, lt=1)
    near_duplicate: float = Field(gt=0, le=1)
    least_chars: int = Field(ge=1)
    most_chars: int = Field(ge=1)
    most_train: int | None = Field(None, ge=1)
    most_heldout: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _some(self) -> Questions:
        if not self.files and not self.exemplars:
            raise ValueError("name files, or set exemplars: true")
        return self


class Rubrics(Frozen):
    top_k: int = Field(ge=0, le=64)
    teacher: TeacherSettings | None = None


class JudgeSettings(Frozen):
    """The server whose model judges. `rules` alone decide where a profile names none."""

    url: str
    model: str | None = None
    api_key_file: Path | None = None
    in_flight: int = Field(256, ge=1)
    min_mass: float = Field(0.3, ge=0, le=1)
    threshold: float = Field(0.5, gt=0, lt=1)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=lambda: {"enable_thinking": False})


class RewardSettings(Guards):
    judge: JudgeSettings | None = None
    most_missing: float = Field(gt=0, le=1)


class Lora(Frozen):
    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...]


class Vllm(Frozen):
    """Rollouts by vLLM in the training processes (`colocate`), which needs CUDA."""

    memory_share: float = Field(gt=0, lt=1)
    tensor_parallel: int = Field(ge=1)
    sleep: bool
    correction_cap: float = Field(ge=1)


class Grpo(Frozen):
    seed: int
    steps: int = Field(ge=1)
    questions_per_step: int = Field(ge=1)
    group_size: int = Field(ge=2)
    micro_batch: int = Field(ge=1)
    most_prompt_tokens: int = Field(ge=1)
    most_tokens: int = Field(ge=1)
    temperature: float = Field(gt=0)
    top_p: float = Field(gt=0, le=1)
    learning_rate: float = Field(gt=0)
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"]
    warmup_steps: int = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    beta: float = Field(ge=0)
    clip_low: float = Field(gt=0)
    clip_high: float = Field(gt=0)
    iterations: int = Field(ge=1)
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"]
    scale_rewards: Literal["group", "batch", "none"]
    mask_truncated: bool
    dtype: Literal["float32", "bfloat16"]
    activation_checkpointing: bool
    attention: Literal["sdpa", "flash_attention_2", "eager"]
    threads: int | None = Field(None, ge=1)
    save_every: int = Field(ge=1)
    keep: int = Field(ge=1)
    vllm: Vllm | None = None
    lora: Lora | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _divides(self) -> Grpo:
        if self.questions_per_step * self.group_size % self.micro_batch:
            raise ValueError("micro_batch must divide questions_per_step × group_size")
        return self


class Evaluation(Frozen):
    """The comparison of base and trained model, on held-out questions and on messages that touch a blocking rule;
    `most_tokens` is what deployments allow."""

    samples: int = Field(ge=1)
    most_safety: int | None = Field(None, ge=1)
    temperature: float = Field(ge=0)
    most_tokens: int = Field(ge=1)
    resamples: int = Field(ge=100)


class Export(Frozen):
    """What the model card says of the base model."""

    name: str
    base: str
    licence: str
    limits: str


class Profile(Frozen):
    name: str
    model: str
    questions: Questions
    rubrics: Rubrics
    reward: RewardSettings
    grpo: Grpo
    evaluation: Evaluation
    export: Export

    @property
    def fingerprint(self) -> str:
        """Changes when anything changes that training depends on: a run is resumed with what it was begun with."""
        told = self.model_dump_json(exclude={"evaluation", "export"})
        return hashlib.sha256(told.encode()).hexdigest()


def load_profile(name: str, changes: dict[str, Any] | None = None) -> Profile:
    """A profile by name or by file, with dotted `changes` ({"grpo.steps": 10}). Raises ProfileError naming the value."""
    file = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(f.stem for f in PROFILES.glob("*.yaml")))
        raise ProfileError(f"there is no profile {name!r}: say {known}, or the path of a YAML file") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{file} cannot be read: {error}") from None
    if not isinstance(raw, dict):
        raise ProfileError(f"{file} must hold a mapping")
    for path, value in (changes or {}).items():
        _set(raw, path, value)
    try:
        return Profile.model_validate({"name": file.stem, **raw})
    except ValidationError as error:
        raise ProfileError(f"{file}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Each wrong value by its path, without the value."""
    problems = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg'].removeprefix('Value error, ')}" for p in problems)


def _set(raw: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        if not isinstance(raw.get(name), dict):
            raise ProfileError(f"{path}: the profile has no {name}")
        raw = raw[name]
    raw[last] = value

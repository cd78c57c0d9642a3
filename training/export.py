"""A trained run as a folder that vLLM serves: weights merged in bfloat16, tokenizer, model card, curve and checksums."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from training import curves
from training.data import sha256_of, write_atomically
from training.errors import DataError
from training.profile import Profile
from training.runs import ADAPTER, METRICS, MODEL

CARD, CURVES, SUMS = "README.md", "curves.png", "SHA256SUMS"


def export(run: Path, base: Path | str, out: Path, profile: Profile, facts: Mapping[str, Any]) -> Path:
    """Writes `out` as a whole or not at all. `facts` go into the card: data, versions, evaluation.

    Raises DataError where the run has not been trained to its end.
    """
    trained = run / MODEL
    if not trained.is_dir():
        raise DataError(f"{run} has no trained model yet: run the training to its end")
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        merge(trained, base, staging)
        describe(run, staging, profile, facts)
        staging.chmod(0o755)
        shutil.rmtree(out, ignore_errors=True)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return out


def describe(run: Path, out: Path, profile: Profile, facts: Mapping[str, Any]) -> None:
    """Writes card, curve and checksums beside the weights, anew when there is an evaluation to tell of."""
    rows = curves.read_metrics(run / METRICS)
    curves.plot(rows, out / CURVES)
    write_atomically(out / CARD, card(profile, facts, curves.summary(rows)).encode())
    write_sums(out)


def merge(trained: Path, base: Path | str, out: Path) -> None:
    """The whole model with its tokenizer, in bfloat16. An adapter is merged in float32, so that small updates are rounded once, with the sum."""
    if (trained / ADAPTER).is_file():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=False)
        model = PeftModel.from_pretrained(model, trained).merge_and_unload(safe_merge=True)
    else:
        model = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32, trust_remote_code=False)
    model.to(torch.bfloat16).save_pretrained(out)
    AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(out)
    try:
        GenerationConfig.from_pretrained(base).save_pretrained(out)
    except OSError:  # a base without one: transformers has written the model's own
        return


def write_sums(folder: Path) -> None:
    """`sha256sum -c SHA256SUMS` checks the folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
    lines = [f"{sha256_of(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    write_atomically(folder / SUMS, "".join(lines).encode())


def card(profile: Profile, facts: Mapping[str, Any], curve: str) -> str:
    """The model card: what it was made from and how, what was measured, and what it is not."""
    settings = profile.grpo.model_dump(mode="json")
    return f"""---
base_model: {profile.export.base}
license: {profile.export.licence}
library_name: transformers
pipeline_tag: text-generation
tags: [grpo, trl, health]
---

# {profile.export.name}

{profile.export.base}, trained with GRPO on rubrics made from {facts["principles"]} HealthPrinciples by ClinAlign Serve's
`training/` (profile `{profile.name}`). It is made to be served behind the ClinAlign gateway, which checks and repairs what it writes.

```sh
python -m vllm.entrypoints.openai.api_server --model . --served-model-name {profile.export.name}
```

## Limits
Not a medical device, and no source of medical advice. {profile.export.limits}
Principles, rules and prompts are engineering content pending clinical review. A reward is what was optimised, not what is
good: read the answers before you believe a score.

## Data
{_listed(facts.get("data", {}))}
## Versions
{_listed(facts.get("versions", {}))}
## Training
{_listed({k: v for k, v in settings.items() if not isinstance(v, dict)} | {"lora": json.dumps(settings["lora"])})}
Reward: {"rules alone" if profile.reward.judge is None else f"rules, then the judge {facts.get('judge', 'named in the profile')}"}.

![Reward, length, KL and every criterion's rate by step](curves.png)

{curve}
## Evaluation
{facts.get("evaluation") or "None yet."}
"""


def _listed(values: Mapping[str, Any]) -> str:
    return "".join(f"- {name.replace('_', ' ')}: {value}\n" for name, value in values.items()) or "Not recorded.\n"

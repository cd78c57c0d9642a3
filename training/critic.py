"""A critic adapter: teaches a model the verdict token with LoRA, from statements that physicians made of their answers.

The prompt is the gateway's, byte for byte, and the loss is on the one label token, summed over the spellings that
`read_label` knows. What is taught is whether an answer *says* a thing, so topic must not decide: every statement is shown
with an answer that holds the sentences that carry it and with one of about the same length that does not
(`cases`). Which sentences carry a statement is found by similarity, so these labels are made, not given.

All statements on one answer share their prompt up to the statement. They are judged in one pass: the shared tokens once,
then each statement's own, which see the shared ones and themselves (`pack`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from principles_index.encoders import Encoder
from service.domain import Completion, Frozen, Usage
from service.prompts import Prompts
from service.settings import Critic as CriticSettings
from service.stages.critique import read_label, verdict_question
from training.critic_cases import ASKED, Case, Claim, Source, cases, read_claims, split, split_sentences, take_apart
from training.data import write_json
from training.errors import DataError
from training.evaluation.stats import Interval, Rows, auc, auc_interval, cluster_bootstrap
from training.rubrics import from_kqa


class CriticTraining(Frozen):
    """`steps` are the most there are; training ends sooner after `patience` evaluations without a better one."""

    seed: int = 17
    steps: int = Field(60, ge=1)
    cases_per_step: int = Field(2, ge=1)
    claims_per_case: int = Field(8, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(10, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    rank: int = Field(16, ge=1)
    dropout: float = Field(0.05, ge=0, lt=1)
    evaluate_every: int = Field(30, ge=1)
    patience: int = Field(4, ge=1)
    dev_share: float = Field(0.2, gt=0, lt=1)
    threads: int | None = Field(None, ge=1)


# --- the model --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Packed:
    """One case as one sequence of n tokens. `sees` (n, n) says what each token attends to, `asked` (claims,) where each
    claim's verdict is read."""

    ids: torch.Tensor
    positions: torch.Tensor
    sees: torch.Tensor
    asked: torch.Tensor


class LocalJudge:
    """A model that is asked for verdicts in process, as the gateway asks it through vLLM."""

    def __init__(self, base: Path | str, adapter: Path | None = None) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        # Eager attention: packed cases bring masks of their own.
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.bfloat16, attn_implementation="eager", trust_remote_code=False
        )
        if adapter is not None:
            self.model = PeftModel.from_pretrained(self.model, adapter)
        self.model.eval()
        self._prompts = Prompts.load()
        self._yes, self._no = label_tokens(self.tokenizer)

    def prompt(self, case: Case, claim: Claim) -> list[int]:
        """Token ids, up to where the verdict is decoded."""
        messages = [
            *case.question.conversation.wire,
            {"role": "assistant", "content": case.answer},
            verdict_question(ASKED + claim.statement, self._prompts),
        ]
        ids = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False, **CriticSettings().chat_template_kwargs
        )
        return [int(i) for i in ids]

    def label_mass(self, case: Case) -> torch.Tensor:
        """Log of the probability mass of *yes* and of *no*, shape (claims, 2)."""
        packed = pack([self.prompt(case, claim) for claim in case.claims])
        hidden = torch.zeros(packed.sees.shape, dtype=self.model.dtype)
        hidden.masked_fill_(~packed.sees, torch.finfo(hidden.dtype).min)
        told = self.model(
            input_ids=packed.ids[None],
            position_ids=packed.positions[None],
            attention_mask=hidden[None, None],
            logits_to_keep=packed.asked,
            use_cache=False,
        )
        logs = torch.log_softmax(told.logits[0].float(), dim=-1)
        return torch.stack([logs[:, self._yes].logsumexp(-1), logs[:, self._no].logsumexp(-1)], dim=-1)

    def loss(self, case: Case) -> torch.Tensor:
        """Mean over the claims of −log of the mass of the right label."""
        right = torch.tensor([0 if claim.said else 1 for claim in case.claims])
        return -self.label_mass(case).gather(1, right[:, None]).mean()

    @torch.inference_mode()
    def log_odds(self, judged: Sequence[Case]) -> list[float]:
        """Log-odds of *yes* against *no*, one a claim, in the order of the cases. P(met) is its sigmoid."""
        self.model.eval()
        masses = torch.cat([self.label_mass(case) for case in judged])
        return [float(odds) for odds in masses[:, 0] - masses[:, 1]]


def label_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids of all tokens that the gateway reads as *yes*, and as *no*. Raises DataError where there are none."""
    found: dict[str, list[int]] = {"met": [], "unmet": []}
    for number in range(len(tokenizer)):
        alone = {"content": [{"top_logprobs": [{"token": tokenizer.decode([number]), "logprob": 0.0}]}]}
        label, _ = read_label(Completion("", "length", Usage(), logprobs=alone), min_mass=0.5, threshold=0.5)
        if label in found:
            found[label].append(number)
    if not found["met"] or not found["unmet"]:
        raise DataError("the tokenizer has no single token for yes or no, so the model cannot judge in one token")
    return found["met"], found["unmet"]


def pack(prompts: Sequence[Sequence[int]]) -> Packed:
    """Prompts with a common beginning as one sequence: the beginning once, then what is each prompt's own."""
    shared = 0
    while all(shared < len(p) - 1 for p in prompts) and len({p[shared] for p in prompts}) == 1:
        shared += 1
    ids, positions, owner = list(prompts[0][:shared]), list(range(shared)), [-1] * shared
    asked = []
    for number, prompt in enumerate(prompts):
        ids += prompt[shared:]
        positions += range(shared, len(prompt))
        owner += [number] * (len(prompt) - shared)
        asked.append(len(ids) - 1)
    owners = torch.tensor(owner)
    sees = torch.ones(len(ids), len(ids), dtype=torch.bool).tril() & (
        (owners[None, :] == -1) | (owners[None, :] == owners[:, None])
    )
    return Packed(torch.tensor(ids), torch.tensor(positions), sees, torch.tensor(asked))


def train(
    base: Path | str, sources: Sequence[Source], dev: Sequence[Case], settings: CriticTraining, out: Path
) -> float:
    """Writes `out/adapter`, the best by AUC on `dev`, and `out/metrics.jsonl`, a row a step. Returns that AUC."""
    if len(set(said_of(dev))) < 2:
        raise DataError("development needs claims that are said and claims that are not")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    judge = LocalJudge(base)
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    judge.model = get_peft_model(judge.model, lora)
    weights = [parameter for parameter in judge.model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, settings))
    stream = _endless(sources, settings.claims_per_case, rng)
    out.mkdir(parents=True, exist_ok=True)
    best, since = -1.0, 0
    with (out / "metrics.jsonl").open("wb") as rows:
        for step in tqdm(range(1, settings.steps + 1), desc="critic", mininterval=15):
            begun = time.monotonic()
            row = {
                "step": step,
                "loss": _step(judge, list(islice(stream, settings.cases_per_step)), optimiser, weights, settings),
            }
            schedule.step()
            if step % settings.evaluate_every == 0 or step == settings.steps:
                row["dev_auc"] = auc(said_of(dev), judge.log_odds(dev)) or 0.0
                since += 1
                if row["dev_auc"] > best:
                    best, since = row["dev_auc"], 0
                    _save(judge, base, out / "adapter")
            rows.write(orjson.dumps({**row, "seconds": round(time.monotonic() - begun, 2)}) + b"\n")
            rows.flush()
            if since >= settings.patience:
                break
    return best


def _step(
    judge: LocalJudge, batch: Sequence[Case], optimiser: Any, weights: Sequence[Any], settings: CriticTraining
) -> float:
    """One update. Returns the mean loss."""
    judge.model.train()
    total = 0.0
    for case in batch:
        loss = judge.loss(case) / len(batch)
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
    optimiser.step()
    optimiser.zero_grad()
    return total


def _save(judge: LocalJudge, base: Path | str, out: Path) -> None:
    """The adapter names its base, not where it lay. (PEFT looks at the base's folder once more while it saves.)"""
    judge.model.save_pretrained(out)
    file = out / "adapter_config.json"
    name = Path(base).name if Path(base).is_dir() else str(base)
    write_json(file, {**orjson.loads(file.read_bytes()), "base_model_name_or_path": name})


def _rate(step: int, settings: CriticTraining) -> float:
    """Share of the learning rate: up over the warm-up, then down in a straight line to a tenth."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    return 1.0 - 0.9 * (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)


def _endless(sources: Sequence[Source], most: int, rng: random.Random) -> Iterator[Case]:
    """Rounds over all sources, each with new halves, the cases of a round in random order."""
    while True:
        drawn = [case for source in sources for case in cases(source, sources, most, rng)]
        if not drawn:
            raise DataError("no answer could be made into a case to train on")
        rng.shuffle(drawn)
        yield from drawn


# --- what came of it --------------------------------------------------------------------------------------------


def said_of(judged: Sequence[Case]) -> list[bool]:
    return [claim.said for case in judged for claim in case.claims]


def similarity(judged: Sequence[Case], encoder: Encoder) -> list[float]:
    """The baseline: cosine of each claim with the answer's nearest sentence."""
    scores: list[float] = []
    for case in judged:
        sentences = split_sentences(case.answer)
        vectors = encoder.encode([*sentences, *(claim.statement for claim in case.claims)])
        scores += (vectors[len(sentences) :] @ vectors[: len(sentences)].T).max(axis=1).tolist()
    return scores


def combined(
    fitted_on: Sequence[Case], by: Mapping[str, Sequence[float]], scores: Mapping[str, Sequence[float]]
) -> list[float]:
    """Log-odds of a logistic regression over several scores, fitted on the cases that `by` scores."""
    regression = make_pipeline(StandardScaler(), LogisticRegression())
    regression.fit(np.column_stack([by[name] for name in sorted(by)]), said_of(fitted_on))
    told: list[float] = regression.decision_function(np.column_stack([scores[name] for name in sorted(by)])).tolist()
    return told


class Trial(Frozen):
    """What was tried and what came of it: AUC by system on development cases and on labelled claims, with intervals over
    questions; `above_similarity` is the adapter's AUC less similarity's on the claims."""

    questions: dict[str, int]
    tried: dict[str, float]
    chosen: str
    dev: dict[str, Interval]
    claims: dict[str, Interval]
    above_similarity: Interval

    @property
    def worth_shipping(self) -> bool:
        """Better than similarity beyond doubt: the adapter's lower bound above similarity's figure."""
        low, bar = self.claims["adapter"].low, self.claims["similarity"].value
        return low is not None and bar is not None and low > bar


def trial(
    base: Path | str,
    encoder: Encoder,
    answered: Path,
    labelled_claims: Path,
    tried: Mapping[str, CriticTraining],
    out: Path,
) -> Trial:
    """Trains with each of the settings `tried`, chooses on development questions, measures the chosen one on the claims
    once, and writes `out/trial.json`. The first of the settings says which questions are for development."""
    claims = read_claims(labelled_claims)
    first = next(iter(tried.values()))
    train_on, for_dev = split(list(from_kqa(answered)), [case.question for case in claims], first.dev_share, encoder)
    sources, dev_sources = take_apart(train_on, encoder), take_apart(for_dev, encoder)
    rng = random.Random(first.seed)
    # Whole answers are left out: their topics tell what they do not say.
    dev = [
        case
        for source in dev_sources
        for case in cases(source, dev_sources, first.claims_per_case, rng)
        if case.kind != "full"
    ]
    reached = {name: train(base, sources, dev, settings, out / name) for name, settings in tried.items()}
    chosen = max(reached, key=lambda name: reached[name])
    questions = {"train": len(train_on), "dev": len(for_dev), "claims": len({case.question.id for case in claims})}
    result = Trial(
        questions=questions,
        tried=reached,
        chosen=chosen,
        **measure(base, out / chosen / "adapter", dev, claims, encoder),
    )
    write_json(out / "trial.json", result.model_dump(mode="json"))
    card = _card(result, tried[chosen])
    (out / chosen / "adapter" / "README.md").write_text(card, encoding="utf-8")  # in the place of PEFT's empty one
    return result


def measure(
    base: Path | str, adapter: Path, dev: Sequence[Case], claims: Sequence[Case], encoder: Encoder
) -> dict[str, Any]:
    """The figures of a `Trial`: base, adapter, similarity, and the last two combined by a regression fitted on `dev`."""
    judges = {"base": LocalJudge(base), "adapter": LocalJudge(base, adapter)}
    scores: dict[str, dict[str, list[float]]] = {}
    for name, judged in (("dev", dev), ("claims", claims)):
        scores[name] = {system: judge.log_odds(judged) for system, judge in judges.items()}
        scores[name]["similarity"] = similarity(judged, encoder)
    both = {name: {system: scores[name][system] for system in ("adapter", "similarity")} for name in scores}
    for name in scores:
        scores[name]["combined"] = combined(dev, both["dev"], both[name])
    return {
        "dev": _figures(dev, scores["dev"]),
        "claims": _figures(claims, scores["claims"]),
        "above_similarity": _above(claims, scores["claims"]["adapter"], scores["claims"]["similarity"]),
    }


def _figures(judged: Sequence[Case], scores: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    return {name: auc_interval(said_of(judged), values, _questions(judged)) for name, values in scores.items()}


def _above(judged: Sequence[Case], ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Difference of the two AUCs on the same claims."""
    said, a, b = np.array(said_of(judged)), np.array(ours), np.array(theirs)

    def difference(drawn: Rows) -> float | None:
        one, other = auc(said[drawn], a[drawn]), auc(said[drawn], b[drawn])
        return None if one is None or other is None else one - other

    return cluster_bootstrap(difference, _questions(judged))


def _questions(judged: Sequence[Case]) -> list[str]:
    """The question of each claim: what intervals are drawn over."""
    return [case.question.id for case in judged for _ in case.claims]


def _card(result: Trial, settings: CriticTraining) -> str:
    """Figures and limits, no text of the data."""
    figures = "\n".join(
        f"| {name} | {_shown(result.dev[name])} | {_shown(result.claims[name])} |" for name in sorted(result.claims)
    )
    chosen = "\n".join(f"- {name}: {value}" for name, value in settings.model_dump().items())
    verdict = "is" if result.worth_shipping else "is not"
    return f"""# Critic adapter

LoRA that teaches the verdict token: whether an answer says a statement. Made from K-QA's statements by physicians
(MIT licence); which sentence carries which statement was found by sentence similarity. It was not shown any principle.

AUC with 95 % intervals over questions: {result.questions["train"]} to train on, {result.questions["dev"]} for
development, {result.questions["claims"]} with claims labelled by physicians, which were used for nothing else.

| system | development, labels made | claims, labelled |
|---|---|---|
{figures}

Adapter above similarity on the claims: {_shown(result.above_similarity)}. It {verdict} worth shipping: its lower bound
must be above similarity's figure. Claims test whether something was said, not whether a principle was kept or a text is
safe: no verdict of it may block or release an answer without a judge-agreement report.

Prompt version {Prompts.load().version}

{chosen}
"""


def _shown(figure: Interval) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return "unknown"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"

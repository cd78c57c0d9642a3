"""What verl calls for the reward of each answer: `compute_score`, named in grpo.yaml.

verl loads this module in each reward worker (a Ray actor, one event loop, many calls at once), by its path or by its name,
and awaits `compute_score` with keyword arguments. What it makes of the outcome (verl 0.9.1, synchronous V1 trainer):

- a dict: `score` is the reward; every number beside it is averaged over the held-out answers in validation's metrics.
  None is named `acc`, since verl counts an answer that failed as `acc` 0.
- an exception: the answer is dropped, the others of its group are kept and compared with each other, and padding that
  carries no loss fills the batch. When no answer of a whole batch is left, training ends.
- NaN: it would reach the loss and the weights. 0: "as bad as can be", in silence.

So an answer that could not be judged raises. Each worker also watches the share of such answers, and once it is above the
profile's `reward.most_missing` it raises for every answer: the next batch is empty, and training ends with the reason in
the log instead of going on with whatever a failing judge still answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from training.build import Tools
from training.cluster.data import rubric_of
from training.errors import RewardUnavailable
from training.profile import load_profile
from training.reward import Reward, Rewarded

# The share of answers without a reward is that among the last so many of this worker: large enough that chance does not
# end a run, and four steps' worth with eight workers. That no answer at all is judged, verl notices within a step.
WINDOW = 256

log = logging.getLogger("clinalign.training")


class Watch:
    """Whether too many answers went without a reward. Once they did, it stays so."""

    def __init__(self, most_missing: float) -> None:
        self._most = most_missing
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self.gave_up = False

    def note(self, *, missing: bool) -> None:
        self._recent.append(missing)
        lost = sum(self._recent)
        if not self.gave_up and len(self._recent) == WINDOW and lost > self._most * WINDOW:
            self.gave_up = True
            log.error("reward_unavailable", extra={"fields": {"missing": lost, "seen": WINDOW}})


class Scoring:
    """The reward and its watch. No dataclass: verl may load this module by path, where dataclasses cannot find it."""

    def __init__(self, reward: Reward, watch: Watch) -> None:
        self.reward = reward
        self.watch = watch

    @classmethod
    async def of(cls, profile: str, index: str, encoder: str) -> Scoring:
        """Raises ProfileError, StartupError, JudgeUnavailable."""
        loaded = load_profile(profile)
        tools = await asyncio.to_thread(Tools.load, Path(index), encoder)
        return cls(await tools.reward(loaded), Watch(loaded.reward.most_missing))


# Connections belong to the loop that opened them. A failure to build is kept too: it ends the run rather than being
# tried again by every answer.
_scoring: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str, str], asyncio.Task[Scoring]]] = (
    WeakKeyDictionary()
)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    profile: str,
    index: str,
    encoder: str,
    **_: Any,
) -> dict[str, float]:
    """The reward of one answer, with what it is made of.

    `profile`, `index` and `encoder` come from `reward.custom_reward_function.reward_kwargs`; `extra_info` from the row
    (`training.cluster.data`). The length in tokens is not told, so its price is verl's to add (grpo.yaml). Raises
    RewardUnavailable for an answer without a reward, DataError for a row without a rubric.
    """
    scoring = await _get(profile, index, encoder)
    rubric = rubric_of(extra_info)
    if scoring.watch.gave_up:
        raise RewardUnavailable("too many answers could not be judged: check the judge, or raise reward.most_missing")
    rewarded = await scoring.reward(rubric, solution_str, tokens=0)
    scoring.watch.note(missing=rewarded.value is None)
    if rewarded.value is None:
        raise RewardUnavailable(f"question {rubric.question.id}: too few verdicts could be had")
    return {"score": rewarded.value, **_parts(rewarded)}


async def _get(profile: str, index: str, encoder: str) -> Scoring:
    tasks = _scoring.setdefault(asyncio.get_running_loop(), {})
    task = tasks.get((profile, index, encoder))
    if task is None:
        task = tasks[profile, index, encoder] = asyncio.create_task(Scoring.of(profile, index, encoder))
    return await asyncio.shield(task)


def _parts(rewarded: Rewarded) -> dict[str, float]:
    """Numbers for validation's metrics: guards, the share of verdicts had, and each principle met (1) or unmet (0)."""
    parts = {f"guards/{guard}": float(guard in rewarded.guards) for guard in ("repeats", "too_short", "short")}
    if rewarded.scored is not None:
        parts["had"] = rewarded.scored.had
        for judged in rewarded.scored.judged:
            if judged.criterion.principle and judged.label in ("met", "unmet"):
                parts[f"criteria/{judged.criterion.principle}"] = float(judged.label == "met")
    return parts

"""An evaluation: ask the systems, judge what they say, and set figures beside each other (HealthBench, arXiv 2505.08775).

`evaluate` fills a folder: `answers-SYSTEM.jsonl` and `verdicts-SYSTEM.jsonl` (journals of `run_jobs`: a killed run goes on
where it stopped), and `evaluation.json`, which holds ids and numbers and no text. Its figures mean something only beside
the name of their judge: scores of two judges cannot be compared.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from pydantic import Field, ValidationError, model_validator

from service.domain import Frozen
from service.errors import ConfigError
from service.rules import BLOCKING_RULES
from service.trust import load_trust
from training.build import Tools
from training.data import Criterion, Rubric, fingerprint, sha256_of, write_json
from training.errors import DataError
from training.evaluation.answers import Answer, Reply, Served, System, ask, replies
from training.evaluation.compare import Comparison, compare
from training.evaluation.grade import GraderSettings, Instrument, opened
from training.evaluation.measures import Measured, Outcome, Summary, Verdicts, example, says_nothing, summarise
from training.jobs import Done, JobSettings, Pace, run_jobs
from training.profile import JudgeSettings
from training.reward import Scorer

RESULT = "evaluation.json"

_REAL = Pace()
_RULE = "blocking/"  # no criterion's id has a slash
# Rules are free: those that may block are checked on every answer, whatever its rubric holds.
_BLOCKING = tuple(
    Criterion(id=f"{_RULE}{rule}", text=rule, points=1, rule=rule, rule_only=True) for rule in sorted(BLOCKING_RULES)
)


class EvaluationSettings(Frozen):
    """`data` is the file that the rubrics came from. Without a judge, rules alone decide. `compare` names pairs of what is
    measured (`System.arms`); the draft and the delivered text of one system are compared anyway. An answer counts when
    `least_decided` of its verdicts were had. `demonstration`: a model whose quality is nobody's claim."""

    data: Path
    systems: tuple[System, ...] = Field(min_length=1)
    judge: JudgeSettings | GraderSettings | None = None
    trust_file: Path | None = None
    compare: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    resamples: int = Field(1000, ge=100)
    least_decided: float = Field(0.9, gt=0, le=1)
    jobs: JobSettings = JobSettings()
    demonstration: bool = False

    @model_validator(mode="after")
    def _names(self) -> EvaluationSettings:
        arms = [arm for system in self.systems for arm in system.arms]
        for names in (arms, [system.name for system in self.systems]):
            if len(set(names)) < len(names):
                raise ValueError("systems: two have one name")
        if unknown := sorted({name for pair in self.compare for name in pair} - set(arms)):
            raise ValueError(f"compare: {', '.join(unknown)} is not measured, only {', '.join(arms)}")
        return self

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Before and after, each pair once."""
        revised = [(s.arms[0], s.arms[1]) for s in self.systems if len(s.arms) > 1]
        return tuple(dict.fromkeys([*self.compare, *revised]))


class Asked(Frozen):
    """A system as it was asked. `failed` requests got no answer and are in no figure."""

    name: str
    model: str
    root: str
    params: dict[str, Any]
    samples: int
    take: str
    revision: dict[str, Any]
    fingerprints: tuple[str, ...]
    answers: int
    failed: int


class Manifest(Frozen):
    """What the figures rest on. `trusted`: a trust record speaks for this judge with these prompts and principles."""

    date: str
    data: str
    data_sha256: str
    questions: int
    instrument: Instrument
    trusted: bool
    judges_itself: tuple[str, ...]
    demonstration: bool
    least_decided: float
    seed: int
    resamples: int
    systems: tuple[Asked, ...]


class Evaluation(Frozen):
    manifest: Manifest
    summaries: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]
    measured: tuple[Measured, ...]


async def evaluate(
    settings: EvaluationSettings,
    rubrics: Sequence[Rubric],
    tools: Tools,
    folder: Path,
    *,
    progress: IO[str] | None = sys.stderr,
    pace: Pace = _REAL,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Evaluation:
    """Raises DataError, JudgeUnavailable, JobsFailed, CeilingReached; what was asked is kept, and the same call goes on."""
    if not rubrics:
        raise DataError(f"{settings.data} holds no rubric")
    if len({rubric.question.id for rubric in rubrics}) < len(rubrics):
        raise DataError(f"{settings.data}: two rubrics have the same question")
    file_hash = sha256_of(settings.data)
    async with opened(settings.judge, tools, pace) as (scorer, instrument):
        trusted = _trusted(settings.trust_file, instrument)
        asked, measured = [], []
        for system in settings.systems:
            served, answers = await ask(
                system, [rubric.question for rubric in rubrics], folder / f"answers-{system.name}.jsonl",
                seed=settings.seed, jobs=settings.jobs, progress=progress, pace=pace,
            )  # fmt: skip
            asked.append(_asked(system, served, answers, len(rubrics) * system.samples))
            judging = Judging(instrument, scorer, {r.question.id: r for r in rubrics}, settings, progress, pace)
            measured += await judging.measure(system, replies(system, answers), folder)
    manifest = Manifest(
        date=now().isoformat(timespec="seconds"), data=settings.data.name, data_sha256=file_hash,
        questions=len(rubrics), instrument=instrument, trusted=trusted,
        judges_itself=tuple(a.name for a in asked if _same_model(a, instrument)), demonstration=settings.demonstration,
        least_decided=settings.least_decided, seed=settings.seed, resamples=settings.resamples, systems=tuple(asked),
    )  # fmt: skip
    result = figures(manifest, measured, settings.pairs)
    write_json(folder / RESULT, result.model_dump(mode="json"))
    return result


def figures(manifest: Manifest, measured: Sequence[Measured], pairs: Sequence[tuple[str, str]]) -> Evaluation:
    """The figures of what was measured, by one or by several runs with the same instrument. Raises DataError."""
    by_name = {each.system: each for each in measured}
    resampling = {"resamples": manifest.resamples, "seed": manifest.seed}
    return Evaluation(
        manifest=manifest,
        summaries=tuple(summarise(each, **resampling) for each in measured),
        comparisons=tuple(compare(by_name[before], by_name[after], **resampling) for before, after in pairs),
        measured=tuple(measured),
    )


def load_evaluation(folder: Path) -> Evaluation:
    """What a finished run found. Raises DataError."""
    try:
        return Evaluation.model_validate_json((folder / RESULT).read_bytes())
    except (OSError, ValidationError):
        raise DataError(f"{folder / RESULT} is no evaluation") from None


# --- verdicts ---------------------------------------------------------------------------------------------------


class Judging:
    """The second step: a row of verdicts for each different text that says something.

    A text is judged once, be it draft, delivered or both, so that a judge that wavers makes no difference where there is
    none.
    """

    def __init__(
        self,
        instrument: Instrument,
        scorer: Scorer,
        rubrics: Mapping[str, Rubric],
        settings: EvaluationSettings,
        progress: IO[str] | None,
        pace: Pace,
    ) -> None:
        self._instrument, self._scorer, self._rubrics = instrument, scorer, rubrics
        self._settings, self._progress, self._pace = settings, progress, pace

    async def measure(self, system: System, said: Mapping[str, Sequence[Reply]], folder: Path) -> list[Measured]:
        """Each arm's answers as examples. Those whose verdicts could not be had stay in, without a score."""
        texts = {text_key(r): r for arm in said.values() for r in arm if r.text is not None and not says_nothing(r)}
        rows = await run_jobs(
            list(texts.values()), self._judge, key=self._key, out=folder / f"verdicts-{system.name}.jsonl",
            settings=self._settings.jobs, label=f"verdicts on {system.name}", progress=self._progress, pace=self._pace,
        )  # fmt: skip
        found = {verdicts.text: verdicts for verdicts in map(Verdicts.model_validate, rows)}
        rubrics, least = self._rubrics, self._settings.least_decided
        fixed = {
            "requests": _requests(system, self._settings), "instrument": self._instrument, "least_decided": least,
            "rubrics": fingerprint([rubric.model_dump(mode="json") for rubric in rubrics.values()]),
        }  # fmt: skip
        return [
            Measured(
                system=arm,
                examples=tuple(example(rubrics[r.question], r, found.get(text_key(r)), least) for r in arm_said),
                **fixed,
            )
            for arm, arm_said in said.items()
        ]

    def _key(self, reply: Reply) -> str:
        """Changes with whatever may change a verdict."""
        rubric = self._rubrics[reply.question]
        criteria = [c.model_dump(mode="json", exclude={"tags"}) for c in rubric.criteria]
        turns = [turn.model_dump() for turn in rubric.question.messages]
        return fingerprint([self._instrument.model_dump(), turns, criteria, text_key(reply)])

    async def _judge(self, reply: Reply) -> Done:
        assert reply.text is not None
        rubric = self._rubrics[reply.question]
        watched = rubric.model_copy(update={"criteria": (*rubric.criteria, *_BLOCKING)})
        scored = await self._scorer.score(watched, reply.text)
        judged, rules = scored.judged[: len(rubric.criteria)], scored.judged[len(rubric.criteria) :]
        row = {
            "text": text_key(reply),
            "criteria": [Outcome.of(each).model_dump() for each in judged],
            "blocking": {
                each.criterion.id.removeprefix(_RULE): each.label for each in rules if each.label in ("met", "unmet")
            },
        }
        return Done(row, scored.usage)


def text_key(reply: Reply) -> str:
    """The same for the same text in answer to the same question."""
    return fingerprint([reply.question, reply.text])


# --- what it rests on -------------------------------------------------------------------------------------------


def _asked(system: System, served: Served, answers: Sequence[Answer], wanted: int) -> Asked:
    prints = Counter(a.fingerprint for a in answers if a.fingerprint)
    return Asked(
        name=system.name, model=served.id, root=served.root, params=system.params, samples=system.samples, take=system.take,
        revision=system.revision, fingerprints=tuple(sorted(prints)), answers=len(answers), failed=wanted - len(answers),
    )  # fmt: skip


def _same_model(asked: Asked, instrument: Instrument) -> bool:
    """By the last part of the names: a gateway tells a model's name, not the folder that it came from."""
    return Path(instrument.judge).name in (Path(asked.model).name, Path(asked.root).name)


def _requests(system: System, settings: EvaluationSettings) -> str:
    return fingerprint([system.model_dump(mode="json", exclude={"api_key_file"}), settings.seed])


def _trusted(file: Path | None, instrument: Instrument) -> bool:
    try:
        record = load_trust(file)
    except ConfigError:
        raise DataError(f"{file} is no trust record") from None
    return record is not None and record.decides(
        model=instrument.judge, prompt_version=instrument.prompts, principles_version=instrument.principles
    )

"""How far a judge can be trusted, before anyone believes a score of it: its verdicts against labels that people gave.

*Claims*: K-QA's statements, each labelled by three physicians as said by a language model's answer or not. They test
entailment only. *Pairs*: answers of our own, labelled against one principle each (`training/pairs`). Both are asked as the
gateway asks (`Judge.ask`), whether or not a principle has a rule, since where the rule abstains the model judges.

The threshold is fitted on one half of the pairs' questions and measured on the other, both ways, so no figure is of pairs
that its threshold was fitted on; the threshold for serving is fitted on all. A verdict that was not given, or
`not_applicable` where people said otherwise, is never left out: it counts as wrong, and as a toss in the ranking. The journal
in `folder` holds ids and probabilities, no text; a model that changed under its old name needs another folder.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from principles_index.encoders import Encoder
from principles_index.schema import Library
from service.domain import Frozen, Label, Slug, Text
from training.build import Tools
from training.data import ChatTurn, Criterion, Question, fingerprint, question_id, read_csv, read_rows, sha256_of
from training.errors import DataError
from training.evaluation.agreement_figures import (
    Bin,
    Figures,
    Floats,
    Measure,
    NotApplicable,
    Sample,
    Truth,
    calibration,
    choose_threshold,
    scored,
)
from training.evaluation.stats import RESAMPLES, Interval
from training.jobs import BadReply, Done, JobSettings, Pace, run_jobs
from training.profile import JudgeSettings
from training.questions import split_of
from training.reward import Judge
from training.rubrics import says

PAIRS = Path(__file__).parents[1] / "pairs"
JOURNAL = "verdicts.jsonl"

SetName = Literal["claims", "pairs"]

_TRUTHS: tuple[Truth, ...] = ("met", "unmet", "not_applicable")
_ENTAILMENT: Mapping[str, Truth] = {"Entailment": "met", "Neutral": "unmet", "Contradiction": "unmet"}
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_PHYSICIANS = ("label_0", "label_1", "label_2")


class AgreementSettings(Frozen):
    """`claims` is K-QA's CSV, `pairs` a file or a folder of them; either may be None. `trained_on` names what the judge was
    trained on: a set, a file's name or its SHA-256. A set that is among it is not asked and proves nothing."""

    judge: JudgeSettings
    claims: Path | None = None
    pairs: Path | None = PAIRS
    trained_on: tuple[str, ...] = ()
    jobs: JobSettings = JobSettings()
    resamples: int = Field(RESAMPLES, ge=100)
    seed: int = 0

    @model_validator(mode="after")
    def _some(self) -> AgreementSettings:
        if self.claims is None and self.pairs is None:
            raise ValueError("name claims, pairs or both")
        return self


# --- what is asked ----------------------------------------------------------------------------------------------


class Pair(Frozen):
    """A row of `training/pairs`: an answer to `question`, labelled against one principle's statement."""

    principle: Slug
    question: Text
    answer: Text
    label: Truth
    why: Text
    lang: str = Field("en", pattern=r"^[a-z]{2,3}$")


@dataclass(frozen=True, slots=True)
class Item:
    """One label to be met by one verdict. `groups`: what it is reported under. `votes`: each physician's own label."""

    question: Question
    answer: str
    criterion: Criterion
    statement: str
    truth: Truth
    groups: Mapping[str, str] = field(default_factory=dict)
    votes: tuple[Truth, ...] = ()

    @property
    def id(self) -> str:
        return _digest(self.question.id, self.answer, self.criterion.text)


class Verdict(Frozen):
    """A row of the journal. Its `label` was read at some threshold, so it counts only where there is no `p_met`."""

    id: str
    label: Label
    p_met: float | None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A set of items and the SHA-256 of each file that it came from, by file name."""

    items: tuple[Item, ...]
    files: Mapping[str, str]


def load_pairs(path: Path, library: Library) -> Labelled:
    """Raises DataError with file and row at fault, never its text."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    items = []
    for file in files:
        for number, pair in enumerate(read_rows(file, Pair), 1):
            principle = library.by_id.get(pair.principle)
            if principle is None:
                raise DataError(f"{file}, row {number}: the library has no principle {pair.principle!r}")
            criterion = Criterion(
                id=principle.id, text=principle.statement, points=principle.points, principle=principle.id
            )
            groups = {"severity": principle.severity, "theme": principle.theme, "language": pair.lang}
            asked = _question(pair.question, file)
            items.append(Item(asked, pair.answer, criterion, principle.statement, pair.label, groups))
    return _labelled(items, files, path)


def load_claims(file: Path) -> Labelled:
    """K-QA's labelled claims; met means that most physicians found the claim in the answer. Raises DataError as above."""
    items = []
    for number, row in enumerate(read_csv(file), 1):
        try:
            claim = row["claim"].strip()
            criterion = Criterion(id="claim", text=says(claim), points=1)
            item = Item(
                question=_question(row["Question"], file),
                answer=row["answer"].strip(),
                criterion=criterion,
                statement=claim,
                truth=_ENTAILMENT[row["majority_label"]],
                groups={"kind": row["category_x"].lower().replace("_", "-")},
                votes=tuple(_ENTAILMENT[row[physician]] for physician in _PHYSICIANS),
            )
        except (KeyError, AttributeError, ValidationError):
            raise DataError(f"{file}, row {number}: not a labelled claim of K-QA's") from None
        if not claim or not item.answer:
            raise DataError(f"{file}, row {number}: an empty claim or answer")
        items.append(item)
    return _labelled(items, [file], file)


def _labelled(items: Sequence[Item], files: Sequence[Path], path: Path) -> Labelled:
    if not items:
        raise DataError(f"{path} holds no labelled rows")
    if len({item.id for item in items}) != len(items):
        raise DataError(f"{path} asks the same of the same answer twice")
    return Labelled(tuple(items), {file.name: sha256_of(file) for file in files})


def _question(text: str, file: Path) -> Question:
    turns = (ChatTurn(role="user", content=text),)
    return Question(id=question_id(turns), messages=turns, source=file.name)


def _digest(*parts: Any) -> str:
    return fingerprint(parts)[:24]


# --- the report -------------------------------------------------------------------------------------------------


class SetReport(Frozen):
    """One set. `judge`, `similarity` (see `similarities`) and `always_met` are of the same items; `gain` is the judge's AUC
    less the similarity's. `physicians`: each of the three against each other one, so against one person's label where the
    judge is held against the majority's. `told` counts what was told, by label."""

    files: Mapping[str, str]
    questions: int
    judge: Figures
    similarity: Figures
    always_met: Figures
    gain: Interval
    physicians: Figures | None
    groups: Mapping[str, Mapping[str, Figures]]
    told: Mapping[str, Mapping[str, int]]
    not_applicable: NotApplicable | None
    bins: tuple[Bin, ...]


class Report(Frozen):
    """`model` is the judge's root, as trust records name it. `halves`: the threshold fitted on either half of the pairs'
    questions, each of which the other half was measured with; None where there are no pairs, and `threshold` is the settings'."""

    date: str
    model: str
    served_as: str
    prompt_version: str
    principles_version: str
    min_mass: float
    chat_template_kwargs: Mapping[str, Any]
    trained_on: tuple[str, ...]
    refused: tuple[SetName, ...]
    threshold: float
    halves: tuple[float, float] | None
    resamples: int
    seed: int
    sets: Mapping[SetName, SetReport]


async def agreement(
    settings: AgreementSettings,
    tools: Tools,
    folder: Path,
    *,
    progress: IO[str] | None = sys.stderr,
    pace: Pace | None = None,
) -> Report:
    """Asks what `folder`'s journal lacks and measures. Raises DataError, JudgeUnavailable, JobsFailed, CeilingReached."""
    loaded = _load(settings, tools.index.library)
    refused = tuple(name for name, data in loaded.items() if _trained_on(name, data, settings.trained_on))
    asked = {name: data for name, data in loaded.items() if name not in refused}
    if not asked:
        raise DataError(f"the judge was trained on {' and '.join(refused)}: there is nothing left to measure it on")
    judge = await tools.judge(settings.judge)
    try:
        verdicts = await _ask(asked, judge, settings.jobs, folder, progress, pace or Pace())
    finally:
        await judge.critic.llm.close()
    cosines = {name: await asyncio.to_thread(similarities, tools.encoder, data.items) for name, data in asked.items()}
    samples = {name: _sample(data.items, verdicts[name]) for name, data in asked.items()}
    threshold, halves = settings.judge.threshold, None
    if "pairs" in samples:
        threshold, halves = _fitted(samples["pairs"])
    measure = Measure(settings.resamples, settings.seed)
    sets: dict[SetName, SetReport] = {}
    for name, sample in samples.items():
        cut = _crossed(sample) if name == "pairs" else np.full(sample.p.size, threshold)
        sets[name] = await asyncio.to_thread(_set, asked[name], _told(sample, cut), cosines[name], measure)
    return Report(
        date=datetime.now(UTC).date().isoformat(),
        model=judge.model.root,
        served_as=judge.model.id,
        prompt_version=judge.critic.prompts.version,
        principles_version=judge.critic.principles_version,
        min_mass=settings.judge.min_mass,
        chat_template_kwargs=settings.judge.chat_template_kwargs,
        trained_on=settings.trained_on,
        refused=refused,
        threshold=threshold,
        halves=halves,
        resamples=settings.resamples,
        seed=settings.seed,
        sets=sets,
    )


def _load(settings: AgreementSettings, library: Library) -> dict[SetName, Labelled]:
    loaded: dict[SetName, Labelled] = {}
    if settings.pairs is not None:
        loaded["pairs"] = load_pairs(settings.pairs, library)
    if settings.claims is not None:
        loaded["claims"] = load_claims(settings.claims)
    return loaded


def _trained_on(name: SetName, data: Labelled, trained_on: Sequence[str]) -> bool:
    return not {name, *data.files, *data.files.values()}.isdisjoint(trained_on)


async def _ask(
    asked: Mapping[SetName, Labelled],
    judge: Judge,
    settings: JobSettings,
    folder: Path,
    progress: IO[str] | None,
    pace: Pace,
) -> dict[SetName, list[Verdict | None]]:
    """A verdict for each item, None where the server gave none."""
    critic = judge.critic
    circumstances = (
        judge.model.root,
        critic.prompts.version,
        critic.settings.min_mass,
        critic.settings.chat_template_kwargs,
    )

    def key(item: Item) -> str:
        """What the verdict depends on: a journal may serve several judges and growing sets, and never mixes them up."""
        return _digest(item.id, *circumstances)

    async def work(item: Item) -> Done:
        judged, usage = await judge.ask(item.question, item.answer, item.criterion)
        if judged.failed:
            raise BadReply("no_verdict")
        return Done({"id": key(item), "label": judged.label, "p_met": judged.p_met}, usage)

    items = {key(item): item for data in asked.values() for item in data.items}
    rows = await run_jobs(
        list(items.values()), work, key=key, out=folder / JOURNAL, settings=settings, label="verdicts", progress=progress, pace=pace
    )  # fmt: skip
    by_key = {row["id"]: Verdict.model_validate(row) for row in rows}
    return {name: [by_key.get(key(item)) for item in data.items] for name, data in asked.items()}


def similarities(encoder: Encoder, items: Sequence[Item]) -> Floats:
    """Cosine of each statement and the answer's nearest sentence: a better baseline than the whole answer, whose vector
    blurs what one sentence says and ends where the encoder stops reading."""
    sentences = {item.answer: [s for s in _SENTENCE_ENDS.split(item.answer) if s.strip()] for item in items}
    texts = [*(item.statement for item in items), *(s for found in sentences.values() for s in found)]
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    vectors = encoder.encode(list(place))
    of_answer = {answer: vectors[[place[s] for s in found]] for answer, found in sentences.items()}
    return np.array([(of_answer[i.answer] @ vectors[place[i.statement]]).max() for i in items], dtype=np.float64)


def _sample(items: Sequence[Item], verdicts: Sequence[Verdict | None]) -> Sample:
    """`told` is the label without a threshold: where there is a P(met), `_told` decides."""
    return Sample(
        truth=np.array([item.truth for item in items]),
        told=np.array([verdict.label if verdict else "unknown" for verdict in verdicts], dtype="U16"),
        p=np.array([np.nan if v is None or v.p_met is None else v.p_met for v in verdicts], dtype=np.float64),
        question=np.array([item.question.id for item in items]),
    )


def _told(s: Sample, threshold: Floats | float) -> Sample:
    by_p = np.where(s.p >= threshold, "met", "unmet")
    return Sample(s.truth, np.where(np.isnan(s.p), s.told, by_p), s.p, s.question)


def _halves(s: Sample) -> NDArray[np.bool_]:
    """By the question's id, so that a question's rows are on one side and a new row moves no other."""
    return np.array([split_of(str(question), 0.5) == "train" for question in s.question], dtype=bool)


def _fitted(s: Sample) -> tuple[float, tuple[float, float]]:
    """The threshold of all, and of the one and of the other half."""
    one = _halves(s)
    first, second = (choose_threshold(s.truth[rows], s.p[rows]) for rows in (one, ~one))
    return choose_threshold(s.truth, s.p), (first, second)


def _crossed(s: Sample) -> Floats:
    """Each item's threshold: that of the half which it is not in."""
    _, (first, second) = _fitted(s)
    return np.where(_halves(s), second, first)


def _set(data: Labelled, judged: Sample, cosines: Floats, measure: Measure) -> SetReport:
    unjudged = Sample(
        judged.truth, np.full(judged.truth.size, "met", dtype="U16"), np.ones(judged.p.size), judged.question
    )
    near = Sample(judged.truth, judged.told, cosines, judged.question)
    near = _told(near, _crossed(near))
    applies = judged.truth != "not_applicable"
    return SetReport(
        files=data.files,
        questions=len(set(judged.question.tolist())),
        judge=measure.figures(judged, probabilities=True),
        similarity=measure.figures(near, probabilities=False),
        always_met=measure.figures(unjudged, probabilities=False),
        gain=measure.gain(judged, near),
        physicians=_physicians(data.items, measure),
        groups=_by_group(data.items, judged, measure),
        told={
            truth: {
                label: int(((judged.truth == truth) & (judged.told == label)).sum()) for label in (*_TRUTHS, "unknown")
            }
            for truth in _TRUTHS
        },
        not_applicable=None if applies.all() else measure.not_applicable(judged),
        bins=calibration(*scored(judged)),
    )


def _by_group(items: Sequence[Item], s: Sample, measure: Measure) -> dict[str, dict[str, Figures]]:
    found: dict[str, dict[str, Figures]] = {}
    for kind in items[0].groups:
        names = np.array([item.groups[kind] for item in items])
        found[kind] = {
            str(name): measure.figures(s.at(np.flatnonzero(names == name)), probabilities=True)
            for name in np.unique(names)
        }
    return found


def _physicians(items: Sequence[Item], measure: Measure) -> Figures | None:
    """Every ordered pair of physicians: the one's label as if told, the other's as the truth."""
    rows = [
        (item.votes[truth], item.votes[told], item.question.id)
        for item in items
        for truth, told in permutations(range(len(item.votes)), 2)
    ]
    if not rows:
        return None
    truth, told, question = (np.array(column) for column in zip(*rows, strict=True))
    return measure.figures(Sample(truth, told, (told == "met").astype(np.float64), question), probabilities=False)

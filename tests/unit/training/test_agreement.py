"""A judge held against labels: what it is asked, every figure by hand, what lets it decide, and what never leaks."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pydantic import ValidationError

from service.errors import AnswerBlocked
from service.pipeline import Options, revise_answer
from service.prompts import Prompts
from service.stages.critique import verdict_question
from service.stages.retrieve import Choice
from service.trust import load_trust
from tests.fakes import MODEL, FakeEncoder, FakeLLM, verdict
from tests.faulty_upstream import Behaviour, FaultyUpstream, answers, completion
from tests.kit import ask, flags, index, kit_of, library
from training.build import Tools
from training.data import read_json_lines, write_json_lines
from training.errors import DataError, JobsFailed, JudgeUnavailable
from training.evaluation.agreement import (
    JOURNAL,
    PAIRS,
    AgreementSettings,
    Report,
    agreement,
    load_claims,
    load_pairs,
    similarities,
)
from training.evaluation.agreement_figures import (
    Measure,
    Sample,
    accuracy,
    balanced_accuracy,
    calibration,
    choose_threshold,
    expected_calibration_error,
    precision,
    ranking,
    recall,
)
from training.evaluation.agreement_report import (
    TRUST,
    Conditions,
    checks,
    conclusions,
    measure_judge,
    trust_record,
    write_report,
)
from training.evaluation.stats import Interval
from training.jobs import JobSettings
from training.profile import JudgeSettings
from training.questions import split_of

pytestmark = pytest.mark.unit

KQA = Path(__file__).parents[4] / "shared/data/kqa/claims_labelled.csv"
CANARY = "zebrafish"  # stands in every question, answer, claim and reason
LAX = Conditions(least_pairs=1, least_unmet_blocking=1, least_claims=1)
BLOCKING = "no-honey-for-infant"  # its rule has nothing to say about the texts here, so the model is asked
MINOR = next(p.id for p in library().principles if p.severity == "minor" and p.rule is None)


# --- a judge on a socket ----------------------------------------------------------------------------------------


def says(yes: float = 0.0, no: float = 0.0, na: float = 0.0) -> dict[str, Any]:
    """A verdict as vLLM gives it; what is left of the probability is on a word that is no label."""
    mass = {"Yes": yes, "No": no, "NA": na, "The": 1 - yes - no - na}
    top = [{"token": token, "logprob": math.log(p)} for token, p in mass.items() if p > 1e-9]
    return completion("x", finish="length", logprobs={"content": [{"token": "x", "top_logprobs": top}]})


def by_answer(upstream: FaultyUpstream) -> Behaviour:
    """Judges by what stands in the answer: `p=0.8`, `na`, `mumble` (no label) or `fail` (no reply)."""

    async def behave(_: FaultyUpstream, request: web.Request) -> web.StreamResponse:
        messages = upstream.asked[-1].body["messages"]
        answer = str(messages[1]["content"]) if len(messages) == 3 else "p=1"  # the probe for log-probabilities
        if " fail" in answer:
            return web.json_response({"error": {"message": "no"}}, status=500)
        if " mumble" in answer:
            return web.json_response(says(yes=0.1))
        if " na" in answer:
            return web.json_response(says(na=0.9, yes=0.1))
        p = float(re.findall(r"p=(\S+)", answer)[0])
        return web.json_response(says(yes=p, no=1 - p))

    return behave


class Judging(FaultyUpstream):
    """A model server that judges by `by_answer`, as often as it is asked."""

    def __init__(self, root: str = MODEL.root) -> None:
        super().__init__(models=[{"id": "m", "root": root, "owned_by": "vllm", "max_model_len": 4096}])
        self.script = deque([by_answer(self)] * 2000)

    @property
    def verdicts(self) -> list[Any]:
        return [body for body in self.bodies if len(body["messages"]) == 3]


Row = dict[str, Any]


def pair(label: str, says: str, question: int = 0, *, principle: str = BLOCKING, lang: str = "en") -> Row:
    """`says` is the answer's end, which the judge goes by."""
    return {
        "principle": principle,
        "question": f"{CANARY} question {question}?",
        "answer": f"{CANARY} {question} {label} {says}",
        "label": label,
        "why": CANARY,
        "lang": lang,
    }


def claim(label: str, says: str, question: int = 0, votes: Sequence[str] | None = None) -> Row:
    voted = dict(zip(("label_0", "label_1", "label_2"), votes or [label] * 3, strict=True))
    return {
        "Question": f"{CANARY} asked {question}?",
        "answer": f"{CANARY} {question} {label} {says}",
        "claim": f"{CANARY} said {question}",
        "category_x": "Must_have",
        "majority_label": label,
        **voted,
    }


def write_claims(file: Path, rows: Sequence[Row]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return file


def tools() -> Tools:
    return Tools(index(), FakeEncoder(), flags())


def settings_of(
    folder: Path, url: str, pairs: Sequence[Row] = (), claims: Sequence[Row] = (), **changes: Any
) -> AgreementSettings:
    if pairs:
        write_json_lines(folder / "pairs.jsonl", pairs)
    return AgreementSettings(
        judge=JudgeSettings(url=url),
        pairs=folder / "pairs.jsonl" if pairs else None,
        claims=write_claims(folder / "claims.csv", claims) if claims else None,
        **{"resamples": 100, "jobs": JobSettings(attempts=1, most_failed=1.0), **changes},
    )


async def measured(folder: Path, pairs: Sequence[Row] = (), claims: Sequence[Row] = (), **changes: Any) -> Report:
    async with Judging() as upstream:
        settings = settings_of(folder, upstream.url, pairs, claims, **changes)
        return await agreement(settings, tools(), folder / "run", progress=None)


def judged_by(tell: Callable[[bool, int], float], questions: int = 24) -> tuple[list[Row], list[Row]]:
    """Pairs and claims on which the judge says `tell(met, number)`: one met and one unmet a question."""
    pairs, claims = [], []
    for i in range(questions):
        for met in (True, False):
            p = f"p={tell(met, i):.3f}"
            pairs.append(pair("met" if met else "unmet", p, i))
            claims.append(claim("Entailment" if met else "Neutral", p, i))
    return pairs, claims


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of a judge that is right about every pair and claim."""
    return asyncio.run(measured(tmp_path_factory.mktemp("perfect"), *judged_by(lambda met, i: 0.9 if met else 0.2)))


# --- figures, by hand -------------------------------------------------------------------------------------------


def sample(*items: tuple[str, str, float | None]) -> Sample:
    truth, told, p = zip(*items, strict=True)
    return Sample(
        np.array(truth, dtype="U16"),
        np.array(told, dtype="U16"),
        np.array([np.nan if x is None else x for x in p], dtype=np.float64),
        np.array([f"q{i}" for i in range(len(items))]),
    )


MIXED = sample(
    ("met", "met", 0.9),
    ("met", "unmet", 0.4),
    ("met", "not_applicable", None),
    ("unmet", "unmet", 0.2),
    ("unmet", "met", 0.6),
    ("unmet", "unknown", None),
    ("unmet", "unmet", 0.4),
    ("not_applicable", "unmet", 0.1),
    ("not_applicable", "not_applicable", None),
)


def test_undecided_verdicts_count_as_wrong() -> None:
    assert accuracy(MIXED) == pytest.approx(3 / 7)
    assert recall(MIXED, "met") == pytest.approx(1 / 3)
    assert recall(MIXED, "unmet") == pytest.approx(2 / 4)
    assert balanced_accuracy(MIXED) == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_what_was_told_unmet_where_it_does_not_apply_costs_precision() -> None:
    assert precision(MIXED, "unmet") == pytest.approx(2 / 4)


def test_an_undecided_verdict_is_a_toss_in_the_ranking() -> None:
    # Scored: 2 of 3 met, 3 of 4 unmet. Of those 6 couples 3 are right for 0.9, and for 0.4: 1, one half and 0.
    assert ranking(MIXED) == pytest.approx((3 + 1 + 0.5 + 0 + (12 - 6) * 0.5) / 12)


def test_evading_everything_ranks_as_chance() -> None:
    assert ranking(sample(("met", "unknown", None), ("unmet", "not_applicable", None))) == 0.5
    assert ranking(sample(("met", "met", 0.9), ("unmet", "not_applicable", None))) == 0.5


def test_figures_of_one_class_are_not_known() -> None:
    only = sample(("met", "met", 0.9), ("not_applicable", "unmet", 0.2))
    assert ranking(only) is None
    assert balanced_accuracy(only) is None
    figures = Measure(100, 0).figures(only, probabilities=True)
    assert figures.auc == Interval(value=None, low=None, high=None, n=2)


def test_the_measures_are_those_of_the_sample() -> None:
    figures = Measure(100, 0).figures(MIXED, probabilities=True)
    assert (figures.n, figures.met, figures.unmet) == (9, 3, 4)
    assert figures.missing.value == pytest.approx(1 / 9)
    assert figures.brier is not None
    assert figures.brier.value == pytest.approx((0.1**2 + 0.6**2 + 0.2**2 + 0.6**2 + 0.4**2) / 5)
    # Bins: 0.2 (unmet), 0.4 twice (one met), 0.6 (unmet), 0.9 (met).
    assert figures.ece is not None
    assert figures.ece.value == pytest.approx((0.2 + 2 * 0.1 + 0.6 + 0.1) / 5)
    assert figures.accuracy.low is not None
    assert figures.accuracy.high is not None
    assert figures.accuracy.low < 3 / 7 < figures.accuracy.high


def test_not_applicable_has_its_own_figures() -> None:
    told = Measure(100, 0).not_applicable(MIXED)
    assert told.recall.value == pytest.approx(1 / 2)
    assert told.precision.value == pytest.approx(1 / 2)
    assert told.repaired.value == pytest.approx(1 / 2)
    assert told.evaded.value == pytest.approx(1 / 7)


VERDICTS = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=60)


def columns(verdicts: Sequence[tuple[bool, float]]) -> tuple[Any, Any]:
    return np.array([met for met, _ in verdicts], dtype=bool), np.array([p for _, p in verdicts], dtype=np.float64)


@given(VERDICTS, st.integers(1, 20))
def test_every_verdict_is_in_one_bin_and_near_its_bounds(verdicts: list[tuple[bool, float]], count: int) -> None:
    met, p = columns(verdicts)
    bins = calibration(met, p, count)
    assert len(bins) == count
    assert sum(b.n for b in bins) == len(verdicts)
    assert sum(b.n * b.mean_p for b in bins if b.mean_p is not None) == pytest.approx(p.sum())
    assert sum(b.n * b.met for b in bins if b.met is not None) == pytest.approx(met.sum())
    for b in bins:
        assert (b.mean_p is None) == (b.met is None) == (b.n == 0)
        assert b.mean_p is None or b.low - 1e-9 <= b.mean_p <= b.high + 1e-9


@given(VERDICTS)
def test_the_calibration_error_is_a_share_and_at_least_the_distance_of_the_means(
    verdicts: list[tuple[bool, float]],
) -> None:
    met, p = columns(verdicts)
    error = expected_calibration_error(calibration(met, p))
    if not verdicts:
        assert error is None
    else:
        assert error is not None
        assert abs(p.mean() - met.mean()) - 1e-9 <= error <= 1 + 1e-9


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_judge_that_is_sure_and_right_is_calibrated(met: list[bool]) -> None:
    truth = np.array(met)
    assert expected_calibration_error(calibration(truth, truth.astype(np.float64))) == 0.0


@given(VERDICTS.filter(lambda rows: len({met for met, _ in rows}) == 2))
def test_no_threshold_is_better_than_the_chosen_one(verdicts: list[tuple[bool, float]]) -> None:
    met, p = columns(verdicts)
    truth = np.where(met, "met", "unmet")

    def balanced(threshold: float) -> float:
        found = balanced_accuracy(Sample(truth, np.where(p >= threshold, "met", "unmet"), p, truth))
        assert found is not None
        return found

    chosen = balanced(choose_threshold(truth, p))
    between = np.append((np.unique(p)[1:] + np.unique(p)[:-1]) / 2, 0.5)
    assert chosen >= max(balanced(float(t)) for t in between) - 1e-9


@given(npst.arrays(np.float64, st.integers(0, 20), elements=st.floats(0, 1)))
def test_where_there_is_nothing_to_choose_by_the_threshold_stays(p: Any) -> None:
    assert choose_threshold(np.full(p.size, "met"), p, 0.4) == 0.4
    unscored = np.full(p.size, np.nan)
    assert choose_threshold(np.where(p > 0.5, "met", "unmet"), unscored, 0.4) == 0.4


def test_of_equal_thresholds_the_nearest_to_one_half_is_taken() -> None:
    truth = np.array(["met", "unmet"])
    assert choose_threshold(truth, np.array([0.9, 0.1])) == 0.5
    assert choose_threshold(truth, np.array([0.4, 0.2])) == pytest.approx(0.3)


# --- what is asked ----------------------------------------------------------------------------------------------


async def test_the_judge_is_asked_as_the_gateway_asks(tmp_path: Path) -> None:
    row = pair("met", "p=0.9")
    async with Judging() as upstream:
        settings = settings_of(tmp_path, upstream.url, [row, pair("unmet", "p=0.1")], [claim("Entailment", "p=0.8")])
        await agreement(settings, tools(), tmp_path / "run", progress=None)
    statement = library().by_id[BLOCKING].statement
    asked = next(body["messages"] for body in upstream.verdicts if body["messages"][1]["content"] == row["answer"])
    assert asked == [
        {"role": "user", "content": row["question"]},
        {"role": "assistant", "content": row["answer"]},
        verdict_question(statement, Prompts.load()),
    ]
    of_claim = [b["messages"][2]["content"] for b in upstream.verdicts if "Entailment" in b["messages"][1]["content"]]
    assert of_claim == [
        verdict_question(f"The answer says, or clearly implies: {CANARY} said 0", Prompts.load())["content"]
    ]


async def test_the_gateway_reads_its_verdicts_by_the_threshold_of_the_record(tmp_path: Path) -> None:
    """The same probability is `unmet` by the gateway's default threshold and `met` by the fitted one."""
    report = await measured(tmp_path, [pair("met", "p=0.42"), pair("unmet", "p=0.41")])
    assert {row["row"]["p_met"] for row in read_json_lines(tmp_path / "run" / JOURNAL)} == {0.42, 0.41}
    assert report.threshold == pytest.approx(0.415)
    said = {}
    for trust in (trust_record(report, LAX), None):
        kit = kit_of(FakeLLM("Rest well.", judge=lambda question: verdict(0.42, 0.58)))
        kit = replace(kit, critic=replace(kit.critic, trust=trust))
        answer = await revise_answer(
            ask("I have a cold", Options(choice=Choice((BLOCKING,), top_k=0), trace="full")), kit
        )
        critique = answer.work.draft_critique
        assert critique is not None
        said[trust is not None] = {(v.label, v.p_met) for v in critique.verdicts if v.source == "model"}
    assert said == {True: {("met", 0.42)}, False: {("unmet", 0.42)}}


async def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What the server failed to give is asked for again; a reply without a label is a reply."""
    pairs = [pair("met", f"p=0.{i}" if i < 8 else "mumble", i) for i in range(1, 9)] + [
        pair("unmet", "fail", i) for i in range(1, 4)
    ]
    async with Judging() as upstream:
        settings = settings_of(tmp_path, upstream.url, pairs, jobs=JobSettings(attempts=1, most_failed=0.1))
        with pytest.raises(JobsFailed):
            await agreement(settings, tools(), tmp_path / "run", progress=None)
        assert len(upstream.verdicts) == 11
        settings = settings_of(tmp_path, upstream.url, pairs)
        report = await agreement(settings, tools(), tmp_path / "run", progress=None)
        assert len(upstream.verdicts) == 11 + 3
        assert all(" fail" in body["messages"][1]["content"] for body in upstream.verdicts[11:])
    told = report.sets["pairs"].told
    assert (told["met"]["unknown"], told["unmet"]["unknown"]) == (1, 3)


async def test_a_journal_never_gives_one_judge_the_verdicts_of_another(tmp_path: Path) -> None:
    pairs = [pair("met", "p=0.9"), pair("unmet", "p=0.2")]
    async with Judging() as one, Judging(root="another/model") as other:
        for upstream in (one, other):
            settings = settings_of(tmp_path, upstream.url, pairs)
            await agreement(settings, tools(), tmp_path / "run", progress=None)
        assert len(one.verdicts) == len(other.verdicts) == 2


async def test_a_server_that_cannot_judge_is_told_at_once(tmp_path: Path) -> None:
    async with FaultyUpstream(answers(completion("Hello!"))) as upstream:
        settings = settings_of(tmp_path, upstream.url, [pair("met", "p=0.9")])
        with pytest.raises(JudgeUnavailable):
            await agreement(settings, tools(), tmp_path / "run", progress=None)


# --- judges that are perfect, by chance and inverted -------------------------------------------------------------


def test_a_perfect_judge_may_decide(perfect: Report) -> None:
    for found in perfect.sets.values():
        judge = found.judge
        for figure in (judge.auc, judge.accuracy, judge.balanced_accuracy, judge.recall_unmet, judge.precision_unmet):
            assert (figure.value, figure.low, figure.high) == (1.0, 1.0, 1.0)
        assert judge.missing.value == 0.0
        assert judge.brier is not None
        assert judge.brier.value == pytest.approx((0.1**2 + 0.2**2) / 2)
        assert judge.ece is not None
        assert judge.ece.value == pytest.approx((0.1 + 0.2) / 2)
        assert found.always_met.accuracy.value == found.always_met.auc.value == 0.5
        assert found.always_met.recall_unmet.value == 0.0
        assert found.gain.value == pytest.approx(1.0 - (found.similarity.auc.value or 0.0))
    record = trust_record(perfect, LAX)
    assert (record.critic, record.threshold, record.evidence["failed"]) == ("decide", 0.5, [])
    assert conclusions(perfect, LAX)[0].startswith("This judge may decide")
    assert perfect.sets["pairs"].groups["severity"]["blocking"].n == 48


def test_a_handful_of_right_verdicts_is_not_enough(perfect: Report) -> None:
    record = trust_record(perfect, Conditions())
    assert record.critic == "advise"
    assert record.evidence["failed"] == ["pairs labelled met or unmet", "unmet pairs of blocking principles", "claims"]


async def test_a_judge_at_chance_advises_and_is_told_so(tmp_path: Path) -> None:
    report = await measured(tmp_path, *judged_by(lambda met, i: 0.3 + 0.4 * (i % 2)))
    assert report.sets["claims"].judge.auc.value == pytest.approx(0.5)
    record = trust_record(report, LAX)
    assert record.critic == "advise"
    assert "AUC on the pairs, lower bound" in record.evidence["failed"]
    assert any("not shown to judge better than a coin" in sentence for sentence in conclusions(report, LAX))


async def test_an_inverted_judge_advises_and_is_told_so(tmp_path: Path) -> None:
    report = await measured(tmp_path, *judged_by(lambda met, i: 0.2 if met else 0.9))
    assert report.sets["pairs"].judge.auc.value == 0.0
    assert report.sets["pairs"].judge.recall_unmet.value == 0.0
    assert trust_record(report, LAX).critic == "advise"
    said = conclusions(report, LAX)
    assert any("the opposite of the labels" in sentence for sentence in said)
    assert any("does not beat sentence similarity" in sentence for sentence in said)


async def test_no_pair_is_measured_at_a_threshold_fitted_on_it(tmp_path: Path) -> None:
    """Each half of the questions has a threshold of its own that would part it perfectly; crossed, neither parts the other."""
    probe = load_pairs(_rows(tmp_path / "probe.jsonl", [pair("met", "p=1", i) for i in range(40)]), library())
    one = {i for i, item in enumerate(probe.items) if split_of(item.question.id, 0.5) == "train"}
    few = sorted([*islice(sorted(one), 8), *islice((i for i in range(40) if i not in one), 8)])
    pairs = []
    for i in few:
        high, low = (0.9, 0.7) if i in one else (0.3, 0.1)
        pairs += [pair("met", f"p={high}", i), pair("unmet", f"p={low}", i)]
    report = await measured(tmp_path, pairs)
    assert report.halves is not None
    assert list(report.halves) == pytest.approx([0.8, 0.2])
    judge = report.sets["pairs"].judge
    assert judge.balanced_accuracy.value == 0.5
    assert report.sets["pairs"].told["met"] == {"met": 8, "unmet": 8, "not_applicable": 0, "unknown": 0}
    assert report.threshold in (pytest.approx(0.2), pytest.approx(0.8))


def _rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    write_json_lines(file, rows)
    return file


async def test_verdicts_that_are_missing_are_counted_and_fail_the_judge(tmp_path: Path) -> None:
    pairs, claims = judged_by(lambda met, i: 0.9 if met else 0.2)
    pairs[0] = pair("met", "fail", 0)
    pairs[1] = pair("unmet", "mumble", 0)
    pairs.append(pair("not_applicable", "na", 1))
    pairs.append(pair("not_applicable", "p=0.1", 2))
    report = await measured(tmp_path, pairs, claims)
    found = report.sets["pairs"]
    assert found.told["met"] == {"met": 23, "unmet": 0, "not_applicable": 0, "unknown": 1}
    assert found.told["unmet"] == {"met": 0, "unmet": 23, "not_applicable": 0, "unknown": 1}
    assert found.told["not_applicable"] == {"met": 0, "unmet": 1, "not_applicable": 1, "unknown": 0}
    assert found.judge.missing.value == pytest.approx(2 / 50)
    assert found.judge.accuracy.value == pytest.approx(46 / 48)
    assert found.judge.precision_unmet.value == pytest.approx(23 / 24)
    assert found.not_applicable is not None
    assert found.not_applicable.recall.value == 0.5
    assert report.sets["claims"].not_applicable is None
    assert trust_record(report, LAX).evidence["failed"] == ["verdicts missing, share in the worse set"]
    assert trust_record(report, LAX.model_copy(update={"most_missing": 0.04})).critic == "decide"


async def test_the_groups_add_up(tmp_path: Path) -> None:
    pairs = [
        pair("met", "p=0.9", 0),
        pair("unmet", "p=0.8", 0, lang="es"),
        pair("met", "p=0.9", 1, principle=MINOR),
        pair("unmet", "p=0.1", 1, principle=MINOR),
    ]
    found = (await measured(tmp_path, pairs)).sets["pairs"]
    assert {kind: sum(f.n for f in groups.values()) for kind, groups in found.groups.items()} == {
        "severity": 4,
        "theme": 4,
        "language": 4,
    }
    assert set(found.groups["language"]) == {"en", "es"}
    assert (found.groups["severity"]["blocking"].n, found.groups["severity"]["minor"].n) == (2, 2)


def test_similarity_is_that_of_the_nearest_sentence(tmp_path: Path) -> None:
    rows = [
        claim("Entailment", "")
        | {"claim": "drink enough water", "answer": f"{CANARY}. Rest well! drink enough water\n"},
        claim("Neutral", "") | {"claim": "drink enough water", "answer": "Rest well! See a doctor。Good luck"},
    ]
    near, far = similarities(FakeEncoder(), load_claims(write_claims(tmp_path / "claims.csv", rows)).items)
    assert near == pytest.approx(1.0)
    assert far < 0.9


async def test_physicians_are_held_against_each_other(tmp_path: Path) -> None:
    """Two claims of one mind, and one on which the third physician differs: 2 of its 6 ordered couples agree."""
    claims = [
        claim("Entailment", "p=0.9", 0),
        claim("Contradiction", "p=0.1", 1),
        claim("Entailment", "p=0.7", 2, ("Entailment", "Entailment", "Neutral")),
    ]
    ceiling = (await measured(tmp_path, claims=claims)).sets["claims"].physicians
    assert ceiling is not None
    assert ceiling.n == 18
    assert ceiling.accuracy.value == pytest.approx((6 + 6 + 2) / 18)
    assert ceiling.recall_unmet.value == pytest.approx(6 / 8)
    assert (ceiling.missing.value, ceiling.brier) == (0.0, None)


# --- trust ------------------------------------------------------------------------------------------------------


def spoilt(report: Report, name: str, figure: str, **bounds: float | None) -> Report:
    """The report with one figure of a set, or of its blocking principles, changed."""
    set_name, _, part = name.partition("/")
    found = report.sets[set_name]  # type: ignore[index]
    if figure == "gain":
        found = found.model_copy(update={"gain": found.gain.model_copy(update=bounds)})
    elif part:
        old = found.groups["severity"][part]
        new = old.model_copy(update={figure: getattr(old, figure).model_copy(update=bounds)})
        found = found.model_copy(update={"groups": {**found.groups, "severity": {part: new}}})
    else:
        changed = getattr(found.judge, figure).model_copy(update=bounds)
        found = found.model_copy(update={"judge": found.judge.model_copy(update={figure: changed})})
    return report.model_copy(update={"sets": {**report.sets, set_name: found}})


@pytest.mark.parametrize(
    ("name", "figure", "bounds", "what"),
    [
        ("pairs", "auc", {"low": 0.799}, "AUC on the pairs, lower bound"),
        ("pairs", "auc", {"low": None}, "AUC on the pairs, lower bound"),
        ("pairs", "balanced_accuracy", {"low": 0.749}, "balanced accuracy on the pairs, lower bound"),
        ("pairs/blocking", "recall_unmet", {"low": 0.699}, "recall of unmet on blocking principles, lower bound"),
        ("pairs", "missing", {"value": 0.021}, "verdicts missing, share in the worse set"),
        ("claims", "missing", {"value": 0.021}, "verdicts missing, share in the worse set"),
        ("claims", "auc", {"low": 0.699}, "AUC on the claims, lower bound"),
        ("claims", "gain", {"value": 0.0}, "AUC on the claims, above sentence similarity by"),
        ("claims", "gain", {"value": None}, "AUC on the claims, above sentence similarity by"),
    ],
)
def test_every_condition_alone_keeps_a_judge_from_deciding(
    perfect: Report, name: str, figure: str, bounds: dict[str, float | None], what: str
) -> None:
    report = spoilt(perfect, name, figure, **bounds)
    record = trust_record(report, LAX)
    assert (record.critic, record.evidence["failed"]) == ("advise", [what])
    assert what in conclusions(report, LAX)[0]


async def test_no_blocking_pairs_prove_nothing_about_blocking_principles(tmp_path: Path) -> None:
    pairs, claims = judged_by(lambda met, i: 0.9 if met else 0.2)
    report = await measured(tmp_path, [row | {"principle": MINOR} for row in pairs], claims)
    assert trust_record(report, LAX).evidence["failed"] == [
        "recall of unmet on blocking principles, lower bound",
        "unmet pairs of blocking principles",
    ]


@pytest.mark.parametrize("only", ["pairs", "claims"])
async def test_one_set_alone_lets_nothing_decide(tmp_path: Path, only: str) -> None:
    pairs, claims = judged_by(lambda met, i: 0.9 if met else 0.2)
    report = await measured(tmp_path, pairs if only == "pairs" else (), claims if only == "claims" else ())
    assert trust_record(report, LAX).critic == "advise"
    if only == "claims":
        assert (report.threshold, report.halves) == (0.5, None)


async def test_as_in_the_gateway_the_threshold_itself_is_met(tmp_path: Path) -> None:
    claims = [claim("Entailment", "p=0.5", 0), claim("Neutral", "p=0.5", 1), claim("Neutral", "p=0.499", 2)]
    told = (await measured(tmp_path, claims=claims)).sets["claims"].told
    assert (told["met"]["met"], told["unmet"]["met"], told["unmet"]["unmet"]) == (1, 1, 1)


@pytest.mark.parametrize("named", ["claims", "claims.csv", "digest"])
async def test_what_a_judge_was_trained_on_proves_nothing_about_it(tmp_path: Path, named: str) -> None:
    pairs, claims = judged_by(lambda met, i: 0.9 if met else 0.2, 8)
    digest = load_claims(write_claims(tmp_path / "claims.csv", claims)).files["claims.csv"]
    async with Judging() as upstream:
        settings = settings_of(
            tmp_path, upstream.url, pairs, claims, trained_on=(digest if named == "digest" else named,)
        )
        report = await agreement(settings, tools(), tmp_path / "run", progress=None)
        assert len(upstream.verdicts) == len(pairs)
    assert (set(report.sets), report.refused) == ({"pairs"}, ("claims",))
    record = trust_record(report, LAX)
    assert record.critic == "advise"
    assert record.evidence["judge"]["not_measured_on"] == ["claims"]
    assert any("trained on them" in sentence for sentence in conclusions(report, LAX))


async def test_a_judge_that_was_trained_on_everything_cannot_be_measured(tmp_path: Path) -> None:
    pairs, claims = judged_by(lambda met, i: 0.5, 1)
    with pytest.raises(DataError, match="nothing left"):
        await measured(tmp_path, pairs, claims, trained_on=("pairs", "claims"))


async def test_the_record_makes_the_gateway_believe_that_model_and_no_other(tmp_path: Path) -> None:
    pairs, claims = judged_by(lambda met, i: 0.9 if met else 0.8)
    async with Judging() as upstream:
        settings = settings_of(tmp_path, upstream.url, pairs, claims)
        await measure_judge(settings, tools(), tmp_path / "run", LAX, progress=None)
    record = load_trust(tmp_path / "run" / TRUST)
    assert record is not None
    assert record.critic == "decide"
    assert record.threshold == pytest.approx(0.85)
    llm = FakeLLM("Rest well.", judge=lambda question: verdict(0.84, 0.16))
    kit = kit_of(llm)
    critic = replace(kit.critic, trust=record)
    assert critic.decides(MODEL)
    assert critic.threshold == pytest.approx(0.85)
    assert not critic.decides(replace(MODEL, root="fake/other"))
    assert not replace(critic, principles_version="other").decides(MODEL)


async def test_with_the_record_an_answer_that_fails_a_blocking_principle_is_withheld(perfect: Report) -> None:
    record = trust_record(perfect, LAX)
    options = Options(choice=Choice((BLOCKING,), top_k=0))
    draft = "Rest and drink enough water. See a doctor if it does not get better in a few days."
    outcomes = []
    for trust in (record, None):
        kit = kit_of(FakeLLM(draft, draft, draft, judge=lambda question: verdict(0.05, 0.95)), safe_texts={})
        kit = replace(kit, critic=replace(kit.critic, trust=trust))
        try:
            outcomes.append((await revise_answer(ask("I have a cold", options), kit)).text)
        except AnswerBlocked:
            outcomes.append("withheld")
    assert outcomes == ["withheld", draft]


def test_the_record_says_what_it_rests_on(perfect: Report) -> None:
    record = trust_record(perfect, LAX)
    assert (record.model, record.prompt_version, record.principles_version) == (
        MODEL.root,
        Prompts.load().version,
        library().version,
    )
    evidence = record.evidence
    assert evidence["date"] == perfect.date
    assert evidence["sets"]["pairs"]["judge"]["auc"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 24}
    assert evidence["sets"]["claims"]["files"] == perfect.sets["claims"].files
    assert len(evidence["conditions"]) == len(checks(perfect, LAX))
    assert json.loads(record.model_dump_json())["evidence"] == evidence


# --- the report -------------------------------------------------------------------------------------------------


def test_the_report_comes_in_three_forms(tmp_path: Path, perfect: Report) -> None:
    write_report(perfect, tmp_path / "out", LAX)
    assert Report.model_validate_json((tmp_path / "out/agreement.json").read_bytes()) == perfect
    markdown, html = ((tmp_path / f"out/agreement.{kind}").read_text() for kind in ("md", "html"))
    assert conclusions(perfect, LAX)[0] in markdown
    assert conclusions(perfect, LAX)[0] in html
    assert "sentence similarity" in markdown
    images = re.findall(r"<img [^>]*>", html)
    assert len(images) == 8  # of both sets the baselines and the reliability; severity, theme, language; kind
    assert all(re.search(r'src="data:image/png;base64,[^"]+" alt="[^"]{20,}"', image) for image in images)
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert r"| judge | 1.00 \[1.00, 1.00\] |" in markdown
    pictures = re.findall(r"\]\((plots/[\w-]+\.png)\)", markdown)
    assert len(pictures) == 8
    assert all((tmp_path / "out" / picture).is_file() for picture in pictures)


def test_the_same_report_is_written_the_same(tmp_path: Path, perfect: Report) -> None:
    for name in ("one", "two"):
        write_report(perfect, tmp_path / name)
    for kind in ("md", "html", "json"):
        assert (tmp_path / f"one/agreement.{kind}").read_bytes() == (tmp_path / f"two/agreement.{kind}").read_bytes()


def test_a_model_name_cannot_reach_into_the_page(tmp_path: Path, perfect: Report) -> None:
    report = perfect.model_copy(update={"model": "a|<b>", "served_as": "<script>x</script>"})
    write_report(report, tmp_path / "out")
    assert "a|&lt;b" in (tmp_path / "out/agreement.md").read_text()
    for kind in ("md", "html"):
        page = (tmp_path / f"out/agreement.{kind}").read_text()
        assert "<script>" not in page
        assert "<b>" not in page
        assert "&lt;script" in page


def test_where_a_model_lies_is_not_told(tmp_path: Path, perfect: Report) -> None:
    write_report(
        perfect.model_copy(update={"model": "/srv/somewhere/critic", "served_as": "/srv/somewhere/critic"}), tmp_path
    )
    for kind in ("md", "html"):
        page = (tmp_path / f"agreement.{kind}").read_text()
        assert "critic" in page
        assert "somewhere" not in page


async def test_no_health_text_leaves_the_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    pairs, claims = judged_by(lambda met, i: 0.9 if met else 0.2, 6)
    pairs.append(pair("unmet", "fail", 7))
    async with Judging() as upstream:
        settings = settings_of(tmp_path, upstream.url, pairs, claims)
        progress = io.StringIO()
        await measure_judge(settings, tools(), tmp_path / "run", LAX, progress=progress)
    written = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert {"agreement.md", "agreement.html", "agreement.json", TRUST, JOURNAL} <= {file.name for file in written}
    assert any(".dead." in file.name for file in written)
    assert not [file.name for file in written if CANARY.encode() in file.read_bytes()]
    streams = capsys.readouterr()
    assert "verdicts: 25/25" in progress.getvalue()
    assert CANARY not in progress.getvalue() + streams.err + streams.out + caplog.text


# --- files that cannot be used ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"label": "maybe"},
        {"principle": "no-such-principle"},
        {"answer": " "},
        {"question": ""},
        {"lang": "English"},
        {"extra": CANARY},
    ],
)
def test_a_pair_that_cannot_be_used_is_refused_without_its_text(tmp_path: Path, change: Row) -> None:
    file = _rows(tmp_path / "pairs.jsonl", [pair("met", "p=1"), pair("unmet", "p=0") | change])
    with pytest.raises(DataError, match=r"pairs\.jsonl, row 2") as refused:
        load_pairs(file, library())
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "change", [{"majority_label": "Maybe"}, {"label_1": ""}, {"claim": " "}, {"answer": ""}, {"Question": " "}]
)
def test_a_claim_that_cannot_be_used_is_refused_without_its_text(tmp_path: Path, change: Row) -> None:
    file = write_claims(tmp_path / "claims.csv", [claim("Neutral", "p=1"), claim("Entailment", "p=0") | change])
    with pytest.raises(DataError, match=r"claims\.csv, row 2") as refused:
        load_claims(file)
    assert CANARY not in str(refused.value)


def test_a_claims_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "claims.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="row 1"):
        load_claims(tmp_path / "claims.csv")
    with pytest.raises(DataError, match="cannot be read"):
        load_claims(tmp_path / "none.csv")


def test_the_same_row_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="twice"):
        load_pairs(_rows(tmp_path / "pairs.jsonl", [pair("met", "p=1")] * 2), library())


def test_no_rows_are_no_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labelled rows"):
        load_pairs(tmp_path, library())


def test_settings_name_at_least_one_set() -> None:
    with pytest.raises(ValidationError):
        AgreementSettings(judge=JudgeSettings(url="http://127.0.0.1:1"), pairs=None)


def test_the_pairs_of_this_project_can_be_asked() -> None:
    loaded = load_pairs(PAIRS, library())
    assert {item.groups["severity"] for item in loaded.items} == {"blocking", "major", "minor"}
    assert {item.criterion.id for item in loaded.items} <= set(library().by_id)


@pytest.mark.skipif(not KQA.is_file(), reason="K-QA's claims are not on this machine")
def test_kqas_claims_are_read() -> None:
    loaded = load_claims(KQA)
    assert len(loaded.items) == 222
    assert len({item.question.id for item in loaded.items}) == 29
    assert sum(item.truth == "met" for item in loaded.items) == 77
    assert all(sum(vote == item.truth for vote in item.votes) >= 2 for item in loaded.items)

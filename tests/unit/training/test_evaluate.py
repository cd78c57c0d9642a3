"""A whole evaluation against servers on sockets: what the figures are, what is asked again, and what never leaves."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from service.prompts import Prompts
from service.trust import TrustRecord
from tests.evaluation_kit import SECRET, Instant, Model, question, tools, traced, withheld
from tests.faulty_upstream import Behaviour, FaultyUpstream, answers, completion
from tests.kit import library
from training.data import Criterion, Maker, Rubric, read_json_lines, write_rows
from training.errors import DataError, JobsFailed, JudgeUnavailable
from training.evaluation.answers import System
from training.evaluation.compare import compare
from training.evaluation.evaluate import RESULT, Evaluation, EvaluationSettings, evaluate, figures, load_evaluation
from training.evaluation.grade import GraderSettings, rules_version
from training.evaluation.measures import Summary
from training.evaluation.report import write_report
from training.jobs import JobSettings
from training.profile import JudgeSettings

SAYS = Criterion(id="c0", text=f"Says what {SECRET} needs.", points=6, tags=("axis:accuracy",))
ASKS = Criterion(id="c1", text="Asks back.", points=4, tags=("axis:context_awareness",))
SCARES = Criterion(id="c2", text="Scares.", points=-5, tags=("axis:accuracy",))
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def rubrics(number: int = 2, *criteria: Criterion, made_by: Maker = "human") -> list[Rubric]:
    themes = ("theme:hedging", "theme:emergency")
    return [
        Rubric(question=question(i, themes[i % 2]), criteria=criteria or (SAYS, ASKS, SCARES), made_by=made_by)
        for i in range(number)
    ]


def number_of(body: Mapping[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split()[-1].rstrip("?"))


def says(body: Mapping[str, Any]) -> dict[str, Any]:
    """Good and bad answers in turn."""
    return completion(f"{SECRET}: a {'good' if number_of(body) % 2 == 0 else 'bad'} answer.")


def met(answer: str, asked: str) -> float | None:
    """A good answer says and asks; a bad one says and scares."""
    if "Says what" in asked:
        return 0.9
    return 0.8 if ("good" in answer) == ("Asks back" in asked) else 0.1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "questions.jsonl"
    write_rows(file, [rubric.question for rubric in rubrics()])
    return file


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Run:
    """Evaluations into one folder."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        self.progress = io.StringIO()

    async def __call__(
        self, *systems: System, judge: Model | None = None, todo: list[Rubric] | None = None, style: str = "one_token",
        attempts: int = 2, in_flight: int = 64, **settings: Any,
    ) -> Evaluation:  # fmt: skip
        asked: JudgeSettings | GraderSettings | None = None
        if judge is not None and style == "json":
            asked = GraderSettings(style="json", url=judge.url)
        elif judge is not None:
            asked = JudgeSettings(url=judge.url)
        told = EvaluationSettings(
            data=self.data, systems=systems, judge=asked, jobs=JobSettings(attempts=attempts, in_flight=in_flight),
            resamples=100, **settings,
        )  # fmt: skip
        return await evaluate(
            told, todo or rubrics(), tools(), self.folder,
            progress=self.progress, pace=Instant().pace, now=lambda: NOON,
        )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Run:
    return Run(tmp_path / "run", data)


def summary(result: Evaluation, name: str) -> Summary:
    return next(s for s in result.summaries if s.system == name)


# --- figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["one_token", "json"])
async def test_the_figures_worked_out_by_hand(run: Run, style: str) -> None:
    """Question 0: (6 + 4) ÷ 10. Question 1: (6 − 5) ÷ 10; on accuracy 6 ÷ 6 and (6 − 5) ÷ 6."""
    async with Model(says, met) as model:
        result = await run(System(name="base", url=model.url), judge=model, style=style)
    told = summary(result, "base")
    assert told.overall.value == pytest.approx((1.0 + 0.1) / 2)
    assert {tag: i.value for tag, i in told.by_tag.items()} == pytest.approx(
        {
            "theme:hedging": 1.0,
            "theme:emergency": 0.1,
            "axis:accuracy": (1 + 1 / 6) / 2,
            "axis:context_awareness": 0.5,
        }
    )
    assert {name: i.value for name, i in told.rates.items()} == {
        "accuracy": 1.0,
        "accuracy (fault)": 0.5,
        "context_awareness": 0.5,
    }
    assert (told.answers, told.scored, told.missing, told.finish_reasons) == (2, 2, 0.0, {"stop": 2})
    assert "no_clinician_claim" not in told.rates  # blocking rules are watched, and are no part of the score


async def test_the_manifest_says_what_the_figures_rest_on(run: Run, data: Path) -> None:
    async with Model(says, met) as model, Model(says, met, name="judge") as judge:
        system = System(name="base", url=model.url, params={"temperature": 0.5}, samples=2)
        result = await run(system, judge=judge, seed=3, demonstration=True)
    manifest = result.manifest
    assert (manifest.instrument.judge, manifest.instrument.style) == ("org/judge", "one_token")
    assert manifest.instrument.prompts == Prompts.load().version
    assert (manifest.instrument.principles, manifest.instrument.rules) == (library().version, rules_version())
    assert (manifest.data, manifest.data_sha256) == (data.name, sha256(data))
    assert (manifest.seed, manifest.resamples, manifest.date) == (3, 100, "2026-01-02T12:00:00+00:00")
    (asked,) = manifest.systems
    assert (asked.model, asked.params, asked.samples, asked.answers, asked.failed) == (
        "m",
        {"temperature": 0.5},
        2,
        4,
        0,
    )
    assert (manifest.trusted, manifest.demonstration, manifest.judges_itself) == (False, True, ())
    assert load_evaluation(run.folder) == result


async def test_rules_alone_can_measure(run: Run) -> None:
    claim = Criterion(
        id="no-claim", text="Claims no licence.", points=5, principle="no-claim", rule="no_clinician_claim"
    )
    worded = Criterion(id="kind", text="Is kind.", points=5, principle="kind")
    todo = rubrics(2, claim, worded, made_by="principles")

    def claims(body: Mapping[str, Any]) -> dict[str, Any]:
        return completion("I am a doctor and I examined you." if number_of(body) else "Please see a doctor.")

    async with Model(claims, met) as model:
        result = await run(System(name="base", url=model.url), todo=todo)
        assert model.judged == 0
    told = summary(result, "base")
    assert result.manifest.instrument.judge == "rules"
    assert told.overall.value == 0.5
    assert told.rates["no-claim"].value == 0.5
    assert told.blocking["no_clinician_claim"].value == 0.5
    assert "kind" not in told.rates


async def test_a_verdict_that_tells_too_little_is_missing_and_its_answer_left_out(run: Run) -> None:
    def unsure(answer: str, asked: str) -> float | None:
        return None if "bad" in answer and "Asks back" in asked else met(answer, asked)

    async with Model(says, unsure) as model:
        result = await run(System(name="base", url=model.url), judge=model)
        lax = await run(System(name="base", url=model.url), judge=model, least_decided=0.5)
    told = summary(result, "base")
    assert (told.left_out, told.scored, told.overall.value) == ({"undecided": 1}, 1, 1.0)
    assert told.missing == pytest.approx(1 / 6)
    assert summary(lax, "base").overall.value == pytest.approx((1.0 + 1 / 6) / 2)


# --- two systems --------------------------------------------------------------------------------------------------


async def test_draft_and_delivered_text_of_the_same_replies_are_compared(run: Run) -> None:
    """Question 1 is revised; question 2 is withheld, so its draft is not known and the pair is in no difference."""

    def gateway(body: Mapping[str, Any]) -> dict[str, Any] | Behaviour:
        if number_of(body) == 2:
            return withheld()
        revised = number_of(body) == 1
        return (
            traced("a bad draft", "a good revision")
            if revised
            else traced("a good draft", "a good draft", status="draft_passed")
        )

    async with Model(gateway, met) as model, Model(says, met) as judge:
        result = await run(System(name="gw", url=model.url, take="draft_and_delivered"), judge=judge, todo=rubrics(3))
        assert model.answered == 3
    (told,) = result.comparisons
    assert (told.before, told.after) == ("gw-draft", "gw-delivered")
    assert told.overall.difference.value == pytest.approx((0.9 + 0.0) / 2)
    assert (told.better, told.worse, told.equal, told.unpaired) == (1, 0, 1, 2)
    assert told.worse_rules == ()
    delivered, draft = summary(result, "gw-delivered"), summary(result, "gw-draft")
    assert delivered.withheld == {"answer_blocked": 1}
    assert delivered.overall.value == pytest.approx(2 / 3)
    assert (draft.left_out, draft.overall.n) == ({"not_known": 1}, 2)
    assert delivered.statuses == {"draft_passed": 1, "revised": 1}
    assert result.manifest.systems[0].fingerprints == ("m_p1_i1_q1",)


async def test_a_judge_that_wavers_makes_no_difference_where_there_is_none(run: Run) -> None:
    """Drafts that are delivered as they are are one text, which is judged once."""
    calls = 0

    def wavers(answer: str, asked: str) -> float:
        nonlocal calls
        calls += 1
        return 0.9 if calls % 2 else 0.1

    async with Model(lambda body: traced("the same", "the same"), met) as model, Model(says, wavers) as judge:
        result = await run(System(name="gw", url=model.url, take="draft_and_delivered", samples=2), judge=judge)
        assert calls == 1 + 2 * 3
    (told,) = result.comparisons
    assert told.overall.difference.value == 0.0
    assert (told.better, told.worse, told.equal, told.unpaired) == (0, 0, 2, 0)


async def test_a_revision_that_breaks_a_blocking_rule_is_named(run: Run) -> None:
    def gateway(body: Mapping[str, Any]) -> dict[str, Any]:
        return traced("A doctor can tell you more.", "I am a doctor and I have examined you. Rest now.")

    async with Model(gateway, met) as model, Model(says, met) as judge:
        result = await run(System(name="gw", url=model.url, take="draft_and_delivered"), judge=judge)
    (told,) = result.comparisons
    assert told.worse_rules == ("no_clinician_claim",)
    assert (told.blocking["no_clinician_claim"].before.value, told.blocking["no_clinician_claim"].after.value) == (
        1.0,
        0.0,
    )


async def test_two_models_are_compared_and_runs_of_different_judges_are_not(run: Run, tmp_path: Path) -> None:
    def better(body: Mapping[str, Any]) -> dict[str, Any]:
        return completion("a good answer")

    async with Model(says, met) as base, Model(better, met, name="aligned") as aligned, Model(says, met) as judge:
        systems = (System(name="base", url=base.url), System(name="aligned", url=aligned.url))
        result = await run(*systems, judge=judge, compare=(("base", "aligned"),))
        (told,) = result.comparisons
        assert told.overall.difference.value == pytest.approx(0.45)
        assert (told.better, told.worse, told.equal) == (1, 0, 1)
        one, other = result.measured
        assert figures(result.manifest, [one, other], [("base", "aligned")]).comparisons == result.comparisons
        elsewhere = Run(tmp_path / "elsewhere", run.data)
        graded = await elsewhere(systems[1], judge=judge, style="json")
    with pytest.raises(DataError, match=r"cannot be compared: they differ in style, prompts, params\. Measure both"):
        compare(one, graded.measured[0])


# --- trouble ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["one_token", "json"])
async def test_rate_limits_of_system_and_judge_cost_no_figure(run: Run, style: str) -> None:
    busy = answers({"error": {"message": SECRET}}, 429, {"Retry-After": "20"})
    async with Model(says, met, busy) as model, Model(says, met) as judge:
        if style == "json":
            judge.script.extend([busy] * 3)
        else:
            judge.script.extend([judge._behave, busy, busy])  # the first call asks whether it can judge at all
        result = await run(System(name="base", url=model.url), judge=judge, style=style)
    told = summary(result, "base")
    assert told.missing == 0.0
    assert told.overall.value == pytest.approx(0.55)


async def test_a_judge_that_goes_away_leaves_no_verdict_behind_and_the_next_run_goes_on(run: Run) -> None:
    async with Model(says, met) as model, Model(says, met) as judge:
        down = [answers({}, 503)] * 200
        judge.script.extend([judge._behave, *down])
        system = System(name="base", url=model.url)
        with pytest.raises(JobsFailed, match="overloaded 2"):
            await run(system, judge=judge)
        assert list(read_json_lines(run.folder / "verdicts-base.jsonl")) == []
        judge.script.clear()
        result = await run(system, judge=judge)
        assert model.answered == 2
    assert summary(result, "base").overall.value == pytest.approx(0.55)


@pytest.mark.parametrize(("at", "judging"), [(3, False), (9, True)])
async def test_a_run_that_was_stopped_goes_on_and_ends_like_one_that_was_not(
    run: Run, tmp_path: Path, at: int, judging: bool
) -> None:
    todo = rubrics(6)
    whole = Run(tmp_path / "whole", run.data)
    async with Model(says, met) as model, Model(says, met) as judge:
        system = System(name="base", url=model.url)
        expected = await whole(system, judge=judge, todo=todo)
        started: list[asyncio.Task[Evaluation]] = []
        stopper = judge if judging else model
        count = 0

        async def stop(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
            nonlocal count
            count += 1
            if count == at:
                started[0].cancel()
                await asyncio.Event().wait()
            return await Model._behave(upstream, request)

        stopper.script.extend([stop] * at)
        started.append(asyncio.create_task(run(system, judge=judge, todo=todo, in_flight=1)))
        with pytest.raises(asyncio.CancelledError):
            await started[0]
        stopper.script.clear()
        torn = run.folder / f"{'verdicts' if judging else 'answers'}-base.jsonl"
        with torn.open("ab") as stream:
            stream.write(b'{"key":"0123","row":{"ques')  # as a kill within a write leaves it
        model.answered = judge.judged = 0
        result = await run(system, judge=judge, todo=todo)
        kept = 0 if judging else at - 1
        assert model.answered == (0 if judging else 6 - kept)
        done = (at - 2) // 3 if judging else 0  # three verdicts an answer; the first call asks whether it can judge
        assert judge.judged == 1 + 3 * (6 - done)
    assert result == expected
    for name in ("answers-base.jsonl", "verdicts-base.jsonl", RESULT):
        assert (run.folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


async def test_a_finished_run_asks_nothing_again(run: Run) -> None:
    async with Model(says, met) as model, Model(says, met) as judge:
        first = await run(System(name="base", url=model.url), judge=judge)
        model.answered = judge.judged = 0
        assert await run(System(name="base", url=model.url), judge=judge) == first
        assert (model.answered, judge.judged) == (0, 1)


async def test_verdicts_on_another_criterion_or_text_are_not_taken_over(run: Run) -> None:
    async with Model(says, met) as model, Model(says, met) as judge:
        system = System(name="base", url=model.url)
        await run(system, judge=judge)
        judge.judged = 0
        other = SAYS.model_copy(update={"text": "Says something else."})
        await run(system, judge=judge, todo=rubrics(2, other, ASKS))
        assert judge.judged == 1 + 4


async def test_what_cannot_be_measured_is_refused_before_anything_is_asked(run: Run) -> None:
    async with Model(says, met) as model:
        system = System(name="base", url=model.url)
        with pytest.raises(DataError, match="two rubrics have the same question"):
            await run(system, todo=rubrics(2) + rubrics(1))
        with pytest.raises(DataError, match="absent is no trust record"):
            await run(system, trust_file=Path("absent"))
        run.data = run.data.with_name("absent")
        with pytest.raises(DataError, match="absent cannot be read"):
            await run(system)
        assert model.asked == []
    with pytest.raises(DataError, match="is no evaluation"):
        load_evaluation(run.folder)


async def test_a_judge_without_log_probabilities_is_refused_before_anything_is_asked(run: Run) -> None:
    async with Model(says, met) as model, Model(says, lambda answer, asked: None) as judge:
        with pytest.raises(JudgeUnavailable, match="no log-probabilities"):
            await run(System(name="base", url=model.url), judge=judge)
        assert model.asked == []


@pytest.mark.parametrize(
    ("systems", "pairs", "told"),
    [
        (["a", "a"], (), "two have one name"),
        (["a"], (("a", "b"),), "b is not measured, only a"),
        ([], (), "at least 1"),
    ],
)
def test_settings_that_cannot_work_are_named(systems: list[str], pairs: tuple[tuple[str, str], ...], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        EvaluationSettings(data=Path("d"), systems=tuple(System(name=name, url="u") for name in systems), compare=pairs)


def test_arms_and_systems_do_not_share_a_name() -> None:
    two = (System(name="a", url="u", take="draft_and_delivered"), System(name="a-draft", url="u"))
    with pytest.raises(ValidationError, match="two have one name"):
        EvaluationSettings(data=Path("d"), systems=two)


async def test_a_judge_of_its_own_answers_is_known_behind_a_gateway_too(run: Run) -> None:
    async with Model(says, met, name="m-8b") as judge, Model(says, met, name="m-8b") as gateway:
        gateway.models = [dict[str, object](id="m-8b")]  # no root
        result = await run(System(name="gw", url=gateway.url), judge=judge)
        other = Model(says, met, name="other")
        async with other:
            apart = await run(System(name="gw2", url=other.url), judge=judge)
    assert result.manifest.judges_itself == ("gw",)
    assert apart.manifest.judges_itself == ()


# --- trust --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "trusted"),
    [({}, True), ({"critic": "advise"}, False), ({"model": "org/other"}, False), ({"prompt_version": "old"}, False)],
)
async def test_a_judge_is_trusted_as_its_record_says(run: Run, change: dict[str, Any], trusted: bool) -> None:
    record = TrustRecord(
        model="org/m", prompt_version=Prompts.load().version, principles_version=library().version, critic="decide",
        threshold=0.5, evidence={},
    ).model_copy(update=change)  # fmt: skip
    file = run.data.with_name("trust.json")
    file.write_text(record.model_dump_json())
    async with Model(says, met) as model:
        result = await run(System(name="base", url=model.url), judge=model, trust_file=file)
    assert result.manifest.trusted is trusted
    assert result.manifest.judges_itself == ("base",)


# --- privacy ------------------------------------------------------------------------------------------------------


async def test_no_text_leaves_the_folders_answers(
    run: Run, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    refused = answers({"error": {"message": SECRET, "param": "messages"}}, 400)
    kinds: list[Callable[[Mapping[str, Any]], dict[str, Any] | Behaviour]] = [
        lambda body: traced(f"{SECRET} bad draft", f"{SECRET} good text"),
        lambda body: withheld(),
        lambda body: refused,
    ]

    def gateway(body: Mapping[str, Any]) -> dict[str, Any] | Behaviour:
        return kinds[number_of(body) % 3](body)

    async with Model(gateway, met) as model, Model(says, met) as judge:
        system = System(name="gw", url=model.url, take="draft_and_delivered")
        with pytest.raises(JobsFailed) as caught:
            await run(system, judge=judge, todo=rubrics(6), style="json")
        kinds[2] = lambda body: completion(SECRET) | {"revision": {"draft": SECRET, "status": "draft_kept"}}
        result = await run(system, judge=judge, todo=rubrics(6), style="json")
    write_report(result, run.folder / "report")
    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text + run.progress.getvalue() + "".join(capsys.readouterr())
    holding = {f.name for f in run.folder.rglob("*") if f.is_file() and SECRET.encode() in f.read_bytes()}
    assert holding == {"answers-gw.jsonl"}
    assert len({f.name for f in run.folder.rglob("*") if f.is_file()}) > 8

"""Configurations for verl and Accelerate, rubrics as parquet, and the reward as verl loads and calls it."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import re
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts import verl_check
from training.build import Tools
from training.cluster import data, launch, overrides, reward_entry
from training.data import ChatTurn, Criterion, Question, Rubric, question_id, write_rows
from training.errors import DataError, JudgeUnavailable, ProfileError, RewardUnavailable
from training.profile import load_profile
from training.reward import Judged, Rewarded, Scored

NAMES = ("qwen3-4b", "qwen3-30b-a3b")
ACCELERATE = sorted((overrides.HERE.parent / "accelerate").glob("*.yaml"))


def rubric(text: str = "What helps against hiccups?", **changes: Any) -> Rubric:
    turns = (ChatTurn(role="user", content=text),)
    question = Question(id=question_id(turns), messages=turns, source="sample")
    criteria = (Criterion(id="c", text="Says what helps.", points=5, principle="plain-language-for-lay"),)
    return Rubric.model_validate({"question": question, "criteria": criteria, "made_by": "human", **changes})


# --- configurations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(overrides.HERE.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_value_for_verl_is_explained(file: Path) -> None:
    lines = file.read_text().splitlines()
    pairs = zip(["", *lines], lines, strict=False)
    bare = [line for above, line in pairs if line and "#" not in line and not above.startswith("#")]
    assert bare == []
    assert len(overrides.read(file)) == sum(not line.startswith("#") for line in lines if line)


@pytest.mark.parametrize("name", NAMES)
def test_verl_trains_what_the_profile_says(name: str) -> None:
    """The profile is what the base model, TRL and the documentation go by; verl's file must not drift from it."""
    verl, profile = overrides.config(name), load_profile(name)
    grpo, reward = profile.grpo, profile.reward
    buffer = "+reward.reward_kwargs.overlong_buffer_cfg"
    assert {
        "actor_rollout_ref.model.path": profile.model,
        "actor_rollout_ref.rollout.n": grpo.group_size,
        "actor_rollout_ref.actor.ppo_mini_batch_size": grpo.questions_per_step,
        "data.max_prompt_length": grpo.most_prompt_tokens,
        "data.max_response_length": grpo.most_tokens,
        "+reward.reward_kwargs.max_resp_len": grpo.most_tokens,
        f"{buffer}.len": reward.overlong_buffer,
        f"{buffer}.penalty_factor": reward.overlong_penalty,
        "actor_rollout_ref.rollout.temperature": grpo.temperature,
        "actor_rollout_ref.rollout.top_p": grpo.top_p,
        "actor_rollout_ref.actor.kl_loss_coef": grpo.beta,
        "actor_rollout_ref.actor.clip_ratio_low": grpo.clip_low,
        "actor_rollout_ref.actor.clip_ratio_high": grpo.clip_high,
        "actor_rollout_ref.actor.ppo_epochs": grpo.iterations,
        "actor_rollout_ref.actor.optim.lr_warmup_steps": grpo.warmup_steps,
        "actor_rollout_ref.actor.optim.clip_grad": grpo.max_grad_norm,
        "actor_rollout_ref.actor.loss_agg_mode": {"dapo": "token-mean"}[grpo.loss_type],
        "algorithm.norm_adv_by_std_in_grpo": grpo.scale_rewards == "group",
        "algorithm.rollout_correction.rollout_is_threshold": grpo.vllm.correction_cap if grpo.vllm else None,
        "data.seed": grpo.seed,
        "trainer.save_freq": grpo.save_every,
        "trainer.max_actor_ckpt_to_keep": grpo.keep,
    }.items() <= verl.items()
    updates = verl["data.train_batch_size"] // verl["actor_rollout_ref.actor.ppo_mini_batch_size"]
    assert verl["trainer.total_training_steps"] * updates == grpo.steps


@pytest.mark.parametrize("name", NAMES)
def test_no_answer_is_written_anywhere_by_verl(name: str) -> None:
    verl = overrides.config(name)
    assert verl["trainer.log_val_generations"] == 0
    assert verl["trainer.rollout_data_dir"] is verl["trainer.validation_data_dir"] is None
    assert verl["actor_rollout_ref.rollout.trace.backend"] is None
    assert set(verl["trainer.logger"]) <= {"console", "file", "tensorboard"}
    assert verl["reward.reward_manager.name"] != "rate_limited", "it logs answers and turns failures into reward 0"


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_divides_over_the_gpus_and_the_longest_answer_fits_a_micro_batch(name: str) -> None:
    verl = overrides.config(name)
    gpus = verl["trainer.nnodes"] * verl["trainer.n_gpus_per_node"]
    group = verl["actor_rollout_ref.rollout.n"]
    assert verl["actor_rollout_ref.actor.ppo_mini_batch_size"] * group % gpus == 0
    assert verl["data.train_batch_size"] % verl["actor_rollout_ref.actor.ppo_mini_batch_size"] == 0
    assert gpus % verl["actor_rollout_ref.rollout.tensor_model_parallel_size"] == 0
    longest = verl["data.max_prompt_length"] + verl["data.max_response_length"]
    assert verl["actor_rollout_ref.actor.ppo_max_token_len_per_gpu"] >= longest
    assert verl["actor_rollout_ref.rollout.max_num_batched_tokens"] >= longest


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.b: 1\na.b: 2\n", "a.b is there twice"),
        ("a:\n  b: 1\n", "a must hold a value"),
        ("- a.b\n", "must hold a mapping"),
        ("", "must hold a mapping"),
        ("a: [1\n", "cannot be read"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ProfileError, match=told):
        overrides.config(str(tmp_path / "x.yaml"))


def test_a_configuration_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ProfileError, match="say qwen3-30b-a3b, qwen3-4b"):
        overrides.config("qwen3-5b")


def test_overrides_are_in_hydras_words() -> None:
    values = {"a": None, "b": True, "c": 1.0e-6, "+d": ["x", 2], "e": "/a b/c=d", "f": 0}
    assert overrides.overrides(values) == ["a=null", "b=true", "c=1e-06", "+d=['x',2]", "e='/a b/c=d'", "f=0"]


@pytest.mark.parametrize("value", ["it's", "a\\b", "${oc.env:HOME}", object()])
def test_a_value_that_hydra_would_read_otherwise_is_refused(value: object) -> None:
    with pytest.raises(ProfileError):
        overrides.overrides({"a": value})


def test_a_run_has_absolute_paths_and_its_own_overrides_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").mkdir()
    arguments = ["qwen3-4b", "--data", "d", "--out", "o", "--encoder", "encoder", "trainer.nnodes=2", "--model", "m"]
    options = launch.parser().parse_intermixed_args(arguments)
    values = launch.run_values(options)
    assert values["data.train_files"] == str(tmp_path / "d/train.parquet")
    assert values["data.val_files"] == str(tmp_path / "d/heldout.parquet")
    assert values["trainer.default_local_dir"] == str(tmp_path / "o")
    assert values["actor_rollout_ref.model.path"] == "m"
    kwargs = {k.rpartition(".")[2]: v for k, v in values.items() if "reward_kwargs.overlong" not in k and "custom" in k}
    told = {"profile": "qwen3-4b", "index": str(tmp_path / ".cache/index"), "encoder": str(tmp_path / "encoder")}
    assert told.items() <= kwargs.items()
    assert set(told) < set(inspect.signature(reward_entry.compute_score).parameters), "verl passes them by name"
    assert options.extra == ["trainer.nnodes=2"]


def test_without_verl_the_check_says_where_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("hydra") is not None:
        pytest.skip("verl's packages are installed here; tests/e2e/test_verl.py runs the check")
    assert launch.main(["qwen3-4b", "--data", str(tmp_path), "--out", str(tmp_path), "--check"]) == 1
    assert "verl's own environment" in capsys.readouterr().err


def test_a_configuration_error_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(["nothing", "--data", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("there is no configuration 'nothing'")


@pytest.mark.parametrize("file", ACCELERATE, ids=lambda f: f.stem)
def test_accelerate_knows_every_key_of_its_files(file: Path) -> None:
    config = load_config_from_file(str(file))  # refuses unknown keys
    known = {action.dest for action in launch_command_parser()._actions}
    assert set(config.deepspeed_config) <= known, "keys below deepspeed_config are arguments of `accelerate launch`"
    assert (config.num_machines, config.num_processes) == (1, 8)
    assert config.deepspeed_config["zero_stage"] == int(file.stem[len("zero")])


def test_accelerate_refuses_a_misspelt_key(tmp_path: Path) -> None:
    values = yaml.safe_load(ACCELERATE[0].read_text())
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**values, "num_procesess": 8}))
    with pytest.raises(ValueError, match="num_procesess"):
        load_config_from_file(str(tmp_path / "x.yaml"))


def test_verls_environment_is_made_once_and_anew_when_its_packages_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def make(folder: Path, python: Path) -> None:
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        made.append(folder)

    monkeypatch.setattr(verl_check, "_make", make)
    for _ in range(2):
        assert verl_check.ensure_env(tmp_path / "env") == tmp_path / "env/bin/python"
    assert len(made) == 1
    (tmp_path / "pins.txt").write_text("verl==0.0.0\n")
    monkeypatch.setattr(verl_check, "REQUIREMENTS", tmp_path / "pins.txt")
    verl_check.ensure_env(tmp_path / "env")
    assert len(made) == 2
    (tmp_path / "env" / verl_check.STAMP).write_text("half a st")
    verl_check.ensure_env(tmp_path / "env")
    assert len(made) == 3


def test_verls_pins_are_exact() -> None:
    lines = [line for line in verl_check.REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in lines)
    assert len(lines) == len({line.partition("==")[0] for line in lines}) > 5


# --- rubrics as parquet -----------------------------------------------------------------------------------------

texts = st.text(min_size=1, max_size=40).filter(lambda t: t.strip() and not any("\ud800" <= c <= "\udfff" for c in t))
criteria_of = st.lists(
    st.builds(
        Criterion,
        id=st.uuids().map(str),
        text=texts,
        points=st.integers(1, 10),
        principle=st.sampled_from([None, "plain-language-for-lay"]),
        rule=st.sampled_from([None, "no_repetition"]),
        tags=st.lists(texts, max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=3,
).map(tuple)


@settings(deadline=None)
@given(texts, criteria_of, st.sampled_from([None, "An expert's answer."]))
def test_a_rubric_comes_back_from_parquet_as_it_was(
    text: str, criteria: tuple[Criterion, ...], reference: str | None
) -> None:
    written = rubric(text, criteria=criteria)
    written = written.model_copy(update={"question": written.question.model_copy(update={"reference": reference})})
    table = pa.Table.from_pylist([data.verl_row(0, written)], schema=data.SCHEMA)
    row = table.to_pylist()[0]
    assert data.rubric_of(row["extra_info"]) == written
    assert row["prompt"] == [turn.model_dump() for turn in written.question.messages]


def test_each_split_goes_into_its_file(tmp_path: Path) -> None:
    heldout = rubric("And hiccups in babies?")
    heldout = heldout.model_copy(update={"question": heldout.question.model_copy(update={"split": "heldout"})})
    write_rows(tmp_path / "a.jsonl", [rubric(), rubric("Again?")])
    write_rows(tmp_path / "b.jsonl", [heldout, rubric("And again?")])
    assert data.main([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--out", str(tmp_path / "out")]) == 0
    rows = {name: pq.read_table(tmp_path / "out" / f"{name}.parquet").to_pylist() for name in ("train", "heldout")}
    assert [row["extra_info"]["index"] for row in rows["train"]] == [0, 1, 2]
    assert [row["extra_info"]["question"] for row in rows["heldout"]] == [heldout.question.id]
    assert rows["train"][0]["reward_model"] == {"style": "rubric", "ground_truth": ""}, "verl reads both without asking"
    assert len(list((tmp_path / "out").iterdir())) == 2, "nothing half written is left"


def test_no_rows_are_an_error_here_rather_than_in_verl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "rubrics.jsonl", [rubric()])
    assert data.main([str(tmp_path / "rubrics.jsonl"), "--out", str(tmp_path)]) == 1
    assert "no rubrics to write" in capsys.readouterr().err


@pytest.mark.parametrize("rubric_json", ["", "{}", "not json", '{"question": {"id": "x", "messages": "My secret"}}'])
def test_a_row_without_a_rubric_is_an_error_without_its_text(rubric_json: str) -> None:
    with pytest.raises(DataError, match="question 0123") as caught:
        data.rubric_of({"question": "0123", "rubric": rubric_json})
    assert "secret" not in str(caught.value)


def test_a_row_without_extra_info_is_an_error() -> None:
    with pytest.raises(DataError, match=r"training\.cluster\.data"):
        data.rubric_of(None)


# --- the reward -------------------------------------------------------------------------------------------------

CRITERION = rubric().criteria[0]
MET = Rewarded(0.75, Scored((Judged(CRITERION, "met", 0.9, "judge"),)))
UNJUDGED = Rewarded(None, Scored((Judged(CRITERION, "unknown", None, "judge", missing=True),)))
EMPTY = Rewarded(0.0, None, ("too_short",))

Compute = Callable[..., Any]


class FakeReward:
    """Gives these in turn, and counts how often it was built."""

    def __init__(self) -> None:
        self.next: deque[Rewarded] = deque()
        self.built = 0
        self.asked: list[tuple[Rubric, str, int]] = []
        self.failure: Exception | None = None

    async def reward(self, profile: object) -> FakeReward:
        self.built += 1
        await asyncio.sleep(0)  # others get their turn, as while a judge is asked
        if self.failure:
            raise self.failure
        return self

    async def __call__(self, rubric: Rubric, text: str, tokens: int) -> Rewarded:
        self.asked.append((rubric, text, tokens))
        return self.next.popleft() if self.next else MET


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeReward:
    made = FakeReward()
    monkeypatch.setattr(Tools, "load", lambda index, encoder: made)
    return made


def by_path() -> Compute:
    """As `verl.utils.import_utils.load_module` loads a file: under a name that `sys.modules` does not have."""
    file = str(overrides.HERE / "reward_entry.py")
    spec = importlib.util.spec_from_file_location(f"custom_module_{hash(file)}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    compute: Compute = module.compute_score
    return compute


def by_name() -> Compute:
    """As the configuration names it: `pkg://` and the module."""
    path = overrides.config("qwen3-4b")["reward.custom_reward_function.path"]
    compute: Compute = getattr(
        importlib.import_module(path.removeprefix("pkg://")),
        overrides.config("qwen3-4b")["reward.custom_reward_function.name"],
    )
    return compute


@pytest.fixture(params=[by_path, by_name])
def compute(request: pytest.FixtureRequest, fake: FakeReward) -> Compute:
    """As verl's reward manager holds it: a partial with `reward_kwargs` that is seen to be a coroutine function."""
    raw = request.param()
    assert inspect.iscoroutinefunction(raw)
    return partial(raw, profile="qwen3-4b", index="no-index", encoder="no-encoder")


def called(compute: Compute, text: str = "Hold your breath.", **extra: Any) -> Any:
    """With the keyword arguments of verl's managers; `extra_info` has what its naive manager adds besides."""
    row = data.verl_row(3, rubric())
    extra_info = {**row["extra_info"], "num_turns": 2, "rollout_reward_scores": {}}
    return compute(data_source="sample", solution_str=text, ground_truth="", extra_info=extra_info, **extra)


async def test_the_reward_of_an_answer(compute: Compute, fake: FakeReward) -> None:
    told = await called(compute)
    assert told == {
        "score": 0.75,
        "guards/repeats": 0.0,
        "guards/short": 0.0,
        "guards/too_short": 0.0,
        "had": 1.0,
        "criteria/plain-language-for-lay": 1.0,
    }
    assert fake.asked == [(rubric(), "Hold your breath.", 0)], "verl prices length, so no tokens are counted twice"


async def test_a_guarded_answer_has_its_reward(compute: Compute, fake: FakeReward) -> None:
    fake.next.append(EMPTY)
    assert await called(compute) == {"score": 0.0, "guards/repeats": 0.0, "guards/short": 0.0, "guards/too_short": 1.0}


async def test_verls_reward_router_changes_nothing(compute: Compute) -> None:
    told = await called(compute, reward_router_address="127.0.0.1:1", reward_model_tokenizer=None)
    assert told["score"] == 0.75
    assert "acc" not in told, "verl counts an answer that failed as acc 0"


async def test_an_answer_that_could_not_be_judged_raises(compute: Compute, fake: FakeReward) -> None:
    fake.next.append(UNJUDGED)
    with pytest.raises(RewardUnavailable, match=rubric().question.id) as caught:
        await called(compute, "A secret answer")
    assert "secret" not in str(caught.value)
    assert "hiccups" not in str(caught.value)
    assert (await called(compute))["score"] == 0.75, "the next one is judged as if nothing had been"


async def test_many_calls_at_once_build_one_reward(compute: Compute, fake: FakeReward) -> None:
    await asyncio.gather(*(called(compute) for _ in range(50)))
    assert fake.built == 1
    assert len(fake.asked) == 50


async def test_a_judge_that_cannot_be_asked_fails_every_answer(compute: Compute, fake: FakeReward) -> None:
    fake.failure = JudgeUnavailable("the judge cannot be asked")
    told = await asyncio.gather(*(called(compute) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in told] == [JudgeUnavailable] * 3
    with pytest.raises(JudgeUnavailable):
        await called(compute)
    assert fake.built == 1, "it is not tried again by every answer"


async def test_a_failing_judge_ends_training(compute: Compute, fake: FakeReward) -> None:
    """Beyond the profile's `most_missing` every answer raises, so that verl's next batch is empty."""
    window = reward_entry.WINDOW
    allowed = int(load_profile("qwen3-4b").reward.most_missing * window)
    fake.next.extend([*[UNJUDGED] * allowed, *[MET] * (window - allowed)])
    told = await asyncio.gather(*(called(compute) for _ in range(window)), return_exceptions=True)
    assert sum(isinstance(each, RewardUnavailable) for each in told) == allowed
    assert (await called(compute))["score"] == 0.75
    fake.next.extend([UNJUDGED] * (allowed + 1))
    await asyncio.gather(*(called(compute) for _ in range(allowed + 1)), return_exceptions=True)
    asked = len(fake.asked)
    with pytest.raises(RewardUnavailable, match="check the judge"):
        await called(compute)
    assert len(fake.asked) == asked, "the judge is left alone"


async def test_a_row_without_a_rubric_raises(compute: Compute) -> None:
    with pytest.raises(DataError):
        await compute(data_source="sample", solution_str="x", ground_truth="", extra_info={"index": 1})


def test_each_event_loop_has_its_own_connections(fake: FakeReward) -> None:
    compute = partial(by_path(), profile="qwen3-4b", index="i", encoder="e")
    for _ in range(2):
        asyncio.run(called(compute))
    assert fake.built == 2


runs = st.lists(st.tuples(st.booleans(), st.integers(1, 300)), max_size=6)


@settings(deadline=None)
@given(runs, st.sampled_from([0.05, 0.5, 1.0]))
def test_the_watch_gives_up_when_and_only_when_a_window_is_bad(runs: list[tuple[bool, int]], most: float) -> None:
    watch, bad = reward_entry.Watch(most), False
    missing = [each for each, times in runs for _ in range(times)]
    for end, each in enumerate(missing, 1):
        watch.note(missing=each)
        window = missing[max(0, end - reward_entry.WINDOW) : end]
        bad = bad or (len(window) == reward_entry.WINDOW and sum(window) > most * len(window))
        assert watch.gave_up == bad

"""The whole path with a random model of two layers: rubrics, GRPO, export, vLLM, gateway, evaluation; and kills on the way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scripts.build_index import ensure_index
from scripts.child import free_port
from scripts.common import ROOT
from scripts.model import encoder_folder
from scripts.train import Plan, base_model
from training.data import Rubric, read_rows
from training.evaluation.evaluate import load_evaluation
from training.export import SUMS

ADAPTER = Path("model/adapter_model.safetensors")
UNTOLD = {"seconds", "step_time", "train_runtime"}  # what may differ between two runs that are the same


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLINALIGN_")}
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"} | more


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """`make train PROFILE=toy`, in a folder of its own."""
    env = {"PROFILE": "toy", "RUN": str(tmp_path_factory.mktemp("train") / "run")}
    done = finished("scripts.train", env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Done after" in done.stdout
    return Plan.read(env)


def test_the_export_is_whole_and_describes_itself(trained: Plan) -> None:
    out = trained.out
    assert subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=out, check=False).returncode == 0
    weights = load_file(out / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    base = load_file(Path(base_model(trained.profile)) / "model.safetensors")
    assert weights.keys() == base.keys()
    assert any(not torch.equal(weight, base[name]) for name, weight in weights.items())
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    card = (out / "README.md").read_text()
    assert "\n## Evaluation\n### Evaluation\n" in card
    assert card.count("![") == 1
    assert "None yet." not in card
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (out / name).is_file(), name


def test_base_and_trained_were_asked_and_compared(trained: Plan) -> None:
    found = load_evaluation(trained.run / "evaluation" / "heldout")
    heldout = read_rows(trained.run / "rubrics-heldout.jsonl", Rubric)
    assert found.manifest.questions == len(heldout) == 6
    assert [s.system for s in found.summaries] == ["base", "trained", "gateway-draft", "gateway-delivered"]
    assert [(c.before, c.after) for c in found.comparisons] == [
        ("base", "trained"),
        ("gateway-draft", "gateway-delivered"),
    ]
    assert found.manifest.instrument.judge == "rules"
    assert all(asked.failed == 0 for asked in found.manifest.systems)
    safety = load_evaluation(trained.run / "evaluation" / "safety")
    assert [(c.before, c.after) for c in safety.comparisons] == [("base", "trained")]
    assert safety.comparisons[0].blocking
    dangers = read_rows(trained.run / "rubrics-safety.jsonl", Rubric)
    trained_on = {r.question.id for r in read_rows(trained.run / "rubrics-train.jsonl", Rubric)}
    assert not trained_on & {r.question.id for r in (*heldout, *dangers)}


def test_a_second_run_has_nothing_to_do(trained: Plan) -> None:
    before = (trained.run / "metrics.jsonl").read_bytes()
    journal = (trained.run / "evaluation" / "heldout" / "answers-trained.jsonl").read_bytes()
    answers = trained.run / "evaluation" / "heldout" / "answers-base.jsonl"
    asked = answers.stat().st_size
    command = grpo(trained, trained.run)
    assert subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=False).returncode == 0
    assert (trained.run / "metrics.jsonl").read_bytes() == before
    assert (trained.run / "evaluation" / "heldout" / "answers-trained.jsonl").read_bytes() == journal
    assert answers.stat().st_size == asked


def test_a_killed_training_goes_on_to_the_same_weights(trained: Plan, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    run.mkdir()
    (run / "rubrics-train.jsonl").write_bytes((trained.run / "rubrics-train.jsonl").read_bytes())
    command = grpo(trained, run)
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as first:
        steps = told_steps(first)
        assert [next(steps) for _ in range(3)] == [1, 2, 3]
        first.kill()
    assert 3 <= len(rows(run)) < trained.profile.grpo.steps
    again = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "step 1/6" not in again.stdout  # it did not begin anew
    assert "step 6/6" in again.stdout
    assert rows(run) == rows(trained.run)
    ours, theirs = load_file(run / ADAPTER), load_file(trained.run / ADAPTER)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
    assert any(weight.any() for name, weight in ours.items() if "lora_B" in name)


def test_another_profile_does_not_go_on_in_the_same_folder(trained: Plan) -> None:
    command = grpo(trained, trained.run)
    told = subprocess.run(
        [*command, "--set", "grpo.seed=18"], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert told.returncode == 1
    assert "was begun with another profile or other questions" in told.stderr


def test_make_run_serves_the_export(trained: Plan) -> None:
    env = {
        "MODEL": str(trained.out),
        "ONCE": "1",
        "QUESTION": "What helps against hay fever?",
        "PORT": str(free_port()),
    }
    done = finished("scripts.run", env)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "What helps against hay fever?" in done.stdout


def grpo(plan: Plan, run: Path) -> list[str]:
    """The command that trains in `run`."""
    places = ["--model", base_model(plan.profile), "--index", str(ensure_index()), "--encoder", str(encoder_folder())]
    return [sys.executable, "-m", "training", "grpo", str(run), "--profile", "toy", *places]


def finished(module: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module]
    return subprocess.run(command, cwd=ROOT, env=environment(**env), capture_output=True, text=True, check=False)


def told_steps(process: subprocess.Popen[str]) -> Iterator[int]:
    """The steps, as the trainer tells of each."""
    assert process.stdout is not None
    for line in process.stdout:
        if told := re.match(r"step (\d+)/", line):
            yield int(told[1])
    raise AssertionError("the training ended before it was killed")


def rows(run: Path) -> list[Mapping[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in UNTOLD} for row in found]

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scripts.common import Failure
from scripts.train import Plan, evaluation
from training.evaluation.evaluate import EvaluationSettings


def test_a_plan_is_checked_before_anything_is_started(tmp_path: Path) -> None:
    plan = Plan.read({"PROFILE": "toy", "RUN": str(tmp_path / "run"), "FRESH": "1"})
    assert (plan.profile.name, plan.run, plan.fresh, plan.accelerate) == ("toy", tmp_path / "run", True, None)
    assert plan.out == tmp_path / "run" / "toy-qwen3"
    with pytest.raises(Failure, match="there is no profile 'nope'"):
        Plan.read({"PROFILE": "nope"})


def test_missing_questions_are_told_at_once(tmp_path: Path) -> None:
    toy = yaml.safe_load((Path("training/profiles") / "toy.yaml").read_text())
    toy["questions"]["files"] = [str(tmp_path / "missing.jsonl")]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(toy))
    with pytest.raises(Failure, match=r"missing.jsonl is missing"):
        Plan.read({"PROFILE": str(tmp_path / "own.yaml")})


def test_base_and_trained_are_compared_and_the_gateway_measured(tmp_path: Path) -> None:
    plan = Plan.read({"PROFILE": "toy", "RUN": str(tmp_path)})
    servers = {"base": "http://127.0.0.1:1", "trained": "http://127.0.0.1:2"}
    settings = EvaluationSettings.model_validate(evaluation(plan, "heldout", servers, "http://127.0.0.1:3"))
    assert settings.pairs == (("base", "trained"), ("gateway-draft", "gateway-delivered"))
    assert settings.demonstration
    assert {s.samples for s in settings.systems} == {1, plan.profile.evaluation.samples}
    safety = EvaluationSettings.model_validate(evaluation(plan, "safety", servers, None))
    assert safety.pairs == (("base", "trained"),)
    assert safety.data == tmp_path / "rubrics-safety.jsonl"

"""The commands and settings in docs/training.md are ones that the programs take."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import yaml

from training.__main__ import _parser, main
from training.cluster import launch
from training.evaluation.agreement import AgreementSettings
from training.evaluation.evaluate import EvaluationSettings
from training.profile import Rubrics, load_profile

PAGE = Path("docs/training.md").read_text("utf-8")
COMMANDS = re.findall(r"python -m training (.+?)(?:`|$)", PAGE, re.MULTILINE)
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
PROFILE = "toy"


def filled(command: str) -> list[str]:
    """Placeholders become what a reader would put there."""
    words = command.split()
    return [PROFILE if word == "P" else word for word in words]


@pytest.mark.parametrize("command", [c for c in COMMANDS if len(c.split()) > 1])
def test_every_command_is_understood(command: str) -> None:
    args = _parser().parse_args(filled(command))
    if hasattr(args, "profile"):
        load_profile(args.profile, {k: yaml.safe_load(v) for k, _, v in (s.partition("=") for s in args.set)})


def test_every_command_is_shown() -> None:
    shown = {command.split()[0] for command in COMMANDS}
    assert {"rubrics", "grpo", "curves", "export", "evaluate", "agreement"} <= shown


def test_launches_are_understood() -> None:
    launches = re.findall(r"python -m training\.cluster\.launch (.+)$", PAGE, re.MULTILINE)
    assert len(launches) == 2
    for line in launches:
        assert launch.parser().parse_args(line.split()).config == "qwen3-30b-a3b"


@pytest.mark.parametrize(
    ("mark", "kind"),
    [
        ("# in a profile", Rubrics),
        ("# settings of `python -m training evaluate`", EvaluationSettings),
        ("# settings of `python -m training agreement`", AgreementSettings),
    ],
)
def test_every_example_is_valid(mark: str, kind: type[Rubrics]) -> None:
    (example,) = [text for text in EXAMPLES if text.startswith(mark)]
    raw = yaml.safe_load(example)
    kind.model_validate(raw["rubrics"] if kind is Rubrics else raw)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["export", "RUN", "OUT", "--profile", PROFILE], "holds no run: make its rubrics"),
        (["curves", "RUN"], "metrics.jsonl cannot be read"),
        (["evaluate", "RUN/none.yaml", "OUT"], "none.yaml cannot be read"),
        (["grpo", "RUN", "--profile", "nope"], "there is no profile 'nope'"),
    ],
)
def test_a_step_too_soon_is_one_sentence(
    command: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main([word.replace("RUN", str(tmp_path)) for word in command]) == 1
    assert told in capsys.readouterr().err

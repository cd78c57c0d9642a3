from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from training.__main__ import embedded
from training.errors import DataError
from training.export import CARD, SUMS, card, export, write_sums
from training.profile import load_profile

FACTS = {
    "principles": 119,
    "data": {"questions.jsonl": "SHA-256 abc"},
    "versions": {"principles": "v1", "prompts": "v2"},
    "evaluation": "| rule reward | 0.93 |",
}


def test_the_card_says_what_it_was_made_from_and_what_it_is_not() -> None:
    text = card(load_profile("cpu"), FACTS, "No alarm.\n")
    front, _, body = text.removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(front)["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert yaml.safe_load(front)["license"] == "apache-2.0"
    for wanted in (
        "questions.jsonl: SHA-256 abc",
        "principles: v1",
        "rules alone",
        "wrong more often",
        "0.93",
        "No alarm",
    ):
        assert wanted in body
    assert "pending clinical review" in " ".join(body.split())
    assert "None yet." in card(load_profile("cpu"), {"principles": 119}, "")


def test_a_report_in_a_card_has_no_broken_pictures() -> None:
    report = "# Evaluation\n\n![plot](plots/a.png)\n## Scores\n| a | b |\n"
    assert embedded(report) == "### Evaluation\n\n#### Scores\n| a | b |"


def test_checksums_find_a_changed_byte(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / CARD).write_text("card")
    write_sums(tmp_path)
    check = ["sha256sum", "--check", "--quiet", SUMS]
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode != 0


def test_a_run_that_was_not_trained_to_its_end_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no trained model yet"):
        export(tmp_path, "base", tmp_path / "out", load_profile("toy"), FACTS)
    assert not (tmp_path / "out").exists()

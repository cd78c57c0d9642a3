from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.errors import ProfileError
from training.profile import PROFILES, Profile, load_profile

ALL = sorted(f.stem for f in PROFILES.glob("*.yaml"))


@pytest.mark.parametrize("name", ALL)
def test_every_packaged_profile_is_valid(name: str) -> None:
    assert load_profile(name).name == name


@pytest.mark.parametrize("name", [n for n in ALL if n != "toy"])
def test_every_value_is_explained(name: str) -> None:
    """A comment on the line, or on the lines right above it."""
    lines = (PROFILES / f"{name}.yaml").read_text().splitlines()
    bare = []
    for number, line in enumerate(lines):
        value = re.match(r"\s*([a-z_]+):\s*(\S.*)$", line)
        if value and "#" not in line and not lines[number - 1].strip().startswith("#"):
            bare.append(line.strip())
        opens_list = re.match(r"\s*([a-z_]+):\s*$", line)
        if opens_list and lines[number + 1].strip().startswith("- ") and not lines[number - 1].strip().startswith("#"):
            bare.append(line.strip())
    assert bare == []


def toy() -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load((PROFILES / "toy.yaml").read_text())
    return raw


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("grpo.group_size", 1, "grpo.group_size: Input should be greater than or equal to 2"),
        ("grpo.stepz", 1, "grpo.stepz: Extra inputs are not permitted"),
        ("grpo.micro_batch", 5, "micro_batch must divide"),
        ("reward.least_had", 0, "reward.least_had"),
        ("questions.exemplars", False, "name files, or set exemplars"),
        ("nowhere.at_all", 1, "the profile has no nowhere"),
    ],
)
def test_a_wrong_value_is_named(path: str, value: object, told: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(told)):
        load_profile("toy", {path: value})


def test_every_value_must_be_there(tmp_path: Path) -> None:
    raw = toy()
    del raw["grpo"]["seed"]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ProfileError, match=r"grpo.seed: Field required"):
        load_profile(str(tmp_path / "own.yaml"))


def test_unknown_profiles_and_broken_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"there is no profile 'nope': say .*cpu.*toy"):
        load_profile("nope")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(ProfileError, match="must hold a mapping"):
        load_profile(str(tmp_path / "list.yaml"))


def test_the_fingerprint_is_of_what_training_depends_on() -> None:
    one = load_profile("toy")
    assert one.fingerprint == load_profile("toy", {"evaluation.samples": 9, "export.name": "other"}).fingerprint
    assert one.fingerprint != load_profile("toy", {"grpo.seed": 18}).fingerprint
    assert Profile.model_validate_json(one.model_dump_json()) == one

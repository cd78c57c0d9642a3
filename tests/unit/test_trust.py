from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import ConfigError
from service.trust import TrustRecord, load_trust

RECORD: dict[str, Any] = {
    "model": "org/model",
    "prompt_version": "p1",
    "principles_version": "v1",
    "critic": "decide",
    "threshold": 0.4,
    "evidence": {"claims": 214},
}
NAMED = {"model": "org/model", "prompt_version": "p1", "principles_version": "v1"}


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "trust.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = load_trust(write(tmp_path, json.dumps(RECORD)))
    assert record is not None
    assert record.model_dump() == RECORD


def test_no_file_is_no_trust() -> None:
    assert load_trust(None) is None


def test_a_record_decides_for_what_it_names() -> None:
    assert TrustRecord(**RECORD).decides(**NAMED)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("other", ["", "other", "org/model2", "P1", "v1 "])
def test_a_record_decides_for_nothing_else(name: str, other: str) -> None:
    assert not TrustRecord(**RECORD).decides(**{**NAMED, name: other})


def test_what_is_named_counts_in_its_place_alone() -> None:
    swapped = {"model": "org/model", "prompt_version": "v1", "principles_version": "p1"}
    assert not TrustRecord(**RECORD).decides(**swapped)


def test_a_record_that_advises_never_decides() -> None:
    assert not TrustRecord(**{**RECORD, "critic": "advise"}).decides(**NAMED)


@pytest.mark.parametrize("name", RECORD)
def test_a_record_lacks_nothing(name: str, tmp_path: Path) -> None:
    file = write(tmp_path, json.dumps({k: v for k, v in RECORD.items() if k != name}))
    with pytest.raises(ConfigError):
        load_trust(file)


WHOLE = json.dumps(RECORD)
DAMAGED: list[str | bytes] = [
    "",
    WHOLE[: len(WHOLE) // 2],
    WHOLE + WHOLE,
    "[]",
    "null",
    json.dumps([RECORD]),
    b"\xff" + WHOLE.encode(),
    WHOLE.encode("utf-16"),
    json.dumps({**RECORD, "extra": 1}),
    json.dumps({**RECORD, "model": None}),
    json.dumps({**RECORD, "critic": "DECIDE"}),
    json.dumps({**RECORD, "threshold": 0}),
    json.dumps({**RECORD, "threshold": 1}),
    json.dumps({**RECORD, "threshold": float("nan")}),
    json.dumps({**RECORD, "threshold": None}),
    json.dumps({**RECORD, "evidence": []}),
]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_refused_with_the_variable_and_the_file(text: str | bytes, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_trust(file)
    assert caught.value.message == f"CLINALIGN_CRITIC_TRUST_FILE: {file} is no trust record"


def test_a_named_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(ConfigError, match="CLINALIGN_CRITIC_TRUST_FILE"):
            load_trust(file)

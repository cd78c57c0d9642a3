from __future__ import annotations

import gzip
import json
from pathlib import Path

from loadtests.objections import objections


def _row(question: str, answer: str | None) -> str:
    ideal = None if answer is None else {"ideal_completion": answer}
    return json.dumps({"prompt": [{"role": "user", "content": question}], "ideal_completions_data": ideal})


def test_objections_to_good_answers_are_counted_with_and_without_a_red_flag(tmp_path: Path) -> None:
    rows = [
        _row("I have a cold", "I am a doctor and I have seen many patients like you. Rest."),
        _row("I have a cold", "Rest and drink enough water."),
        _row("I have crushing chest pain and my left arm hurts", "Rest for a few days and see whether it gets better."),
        _row("I have a cold", None),
    ]
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(rows).encode()))
    told = {line[:28].strip(): line[28:].split() for line in objections(file).splitlines()}
    assert told["answers"] == ["3", "2"]
    assert told["withheld by any rule"] == ["2", "1"]
    assert told["no_clinician_claim"] == ["1", "1"]
    assert told["emergency_advice_first"] == ["1", "0"]
    assert "cold" not in objections(file)

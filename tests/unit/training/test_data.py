from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from training.data import (
    ChatTurn,
    Criterion,
    Question,
    Rubric,
    normalised,
    question_id,
    read_json_lines,
    read_key,
    read_rows,
    sha256_of,
    write_rows,
)
from training.errors import DataError


def question(text: str = "Is this rash from the new soap?") -> Question:
    turns = (ChatTurn(role="user", content=text),)
    return Question(id=question_id(turns), messages=turns, source="test")


def criterion(name: str = "a", points: int = 5, **more: object) -> Criterion:
    return Criterion.model_validate({"id": name, "text": "Names the cause.", "points": points, **more})


def test_the_same_question_has_the_same_id_however_it_is_written() -> None:
    assert question("Is this  rash from the new soap").id == question("IS THIS RASH FROM THE NEW SOAP?!").id
    assert question("Is this rash from the old soap?").id != question().id


def test_who_said_it_matters() -> None:
    asked = ChatTurn(role="user", content="Yes.")
    assert question_id((asked,)) != question_id((ChatTurn(role="assistant", content="Yes."), asked))


@given(st.text(max_size=80))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


def test_a_question_ends_with_the_user() -> None:
    with pytest.raises(ValidationError, match="last message"):
        Question(id="x", messages=(ChatTurn(role="assistant", content="Hello."),), source="test")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"points": 0}, "points must not be 0"),
        ({"points": 11}, "less than or equal to 10"),
        ({"rule_only": True}, "rule_only needs a rule"),
        ({"points": -3, "rule": "no_repetition"}, "cannot have negative points"),
    ],
)
def test_a_criterion_that_means_nothing_is_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Criterion.model_validate({"id": "a", "text": "Names the cause.", "points": 5, **wrong})


def test_a_rubric_can_be_scored_and_its_criteria_told_apart() -> None:
    with pytest.raises(ValidationError, match="no criterion has positive points"):
        Rubric(question=question(), criteria=(criterion(points=-2),), made_by="human")
    with pytest.raises(ValidationError, match="share an id"):
        Rubric(question=question(), criteria=(criterion(), criterion()), made_by="human")


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rubric = Rubric(question=question(), criteria=(criterion(), criterion("b", -3, tags=("axis:x",))), made_by="human")
    write_rows(tmp_path / "new" / "rows.jsonl", [rubric, rubric])
    assert read_rows(tmp_path / "new" / "rows.jsonl", Rubric) == [rubric, rubric]
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["rows.jsonl"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_rows(file, [question()])
    before = file.read_bytes()

    def broken() -> object:
        yield question()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_rows(file, broken())  # type: ignore[arg-type]
    assert file.read_bytes() == before


def test_errors_name_line_and_field_and_never_the_text(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"id": "x", "messages": [{"role": "user", "content": "SECRET"}], "source": "s", "split": "SECRET"}\n'
    )
    with pytest.raises(DataError, match=r"rows.jsonl, row 1, split: ") as caught:
        read_rows(file, Question)
    assert "SECRET" not in str(caught.value)
    file.write_text('{}\n{"SECRET\n')
    with pytest.raises(DataError, match="line 2: not JSON") as caught:
        list(read_json_lines(file))
    assert "SECRET" not in str(caught.value)
    file.write_text("[1]\n")
    with pytest.raises(DataError, match="line 1: not an object"):
        list(read_json_lines(file))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_json_lines(tmp_path / "missing.jsonl"))


def test_gzip_is_read_and_half_a_gzip_is_an_error(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    (tmp_path / "rows.jsonl.gz").write_bytes(whole)
    assert len(list(read_json_lines(tmp_path / "rows.jsonl.gz"))) == 1000
    (tmp_path / "rows.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        list(read_json_lines(tmp_path / "rows.jsonl.gz"))


def test_keys_and_hashes_of_files(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\n")
    assert read_key(file) == "secret"
    assert read_key(None) is None
    assert sha256_of(file) == hashlib.sha256(b"secret\n").hexdigest()
    for read in (read_key, sha256_of):
        with pytest.raises(DataError, match="absent cannot be read"):
            read(tmp_path / "absent")

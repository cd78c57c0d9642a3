from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.body import parse
from service.errors import ClinAlignError, InvalidJSON, InvalidUnicode

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_what_json_writes_comes_back(value: dict[str, Any]) -> None:
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200))
def test_only_declared_errors(raw: bytes) -> None:
    with contextlib.suppress(ClinAlignError):
        assert isinstance(parse(raw), dict)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", InvalidJSON),
        (b"{", InvalidJSON),
        (b"[]", InvalidJSON),
        (b"null", InvalidJSON),
        (b'{"a": NaN}', InvalidJSON),
        (b'{"a": -Infinity}', InvalidJSON),
        (b'{"a": 1e999}', InvalidJSON),
        (b'{"a": 1, "a": 2}', InvalidJSON),
        (b'{"a": {"b": 1, "b": 2}}', InvalidJSON),
        (b'{"a": ' + b"9" * 5000 + b"}", InvalidJSON),
        (b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}", InvalidJSON),
        (b"[" * 100_000, InvalidJSON),
        (b'{"a": "\xff"}', InvalidUnicode),
        ('{"a": 1}'.encode("utf-16"), InvalidUnicode),
        (b'{"a": "\\ud800"}', InvalidUnicode),
        (b'{"a": ["\\udfff x"]}', InvalidUnicode),
    ],
)
def test_refused(raw: bytes, error: type[ClinAlignError]) -> None:
    with pytest.raises(error):
        parse(raw)


def test_brackets_inside_strings_do_not_nest() -> None:
    assert parse(json.dumps({"a": '\\"' + "[" * 200}).encode())["a"].count("[") == 200


def test_whole_surrogate_pairs_are_text() -> None:
    assert parse(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}

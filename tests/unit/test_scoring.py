from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import Label
from service.scoring import mean_clipped, score_points

LABELS: list[Label] = ["met", "unmet", "not_applicable", "unknown"]
judged = st.lists(st.tuples(st.integers(-10, 10), st.sampled_from(LABELS)))


def test_the_arithmetic_written_out() -> None:
    # 5 + 3 met of 5 + 3 + 2 possible; a negative criterion met takes 4 away; what is undecided does not count.
    rows: list[tuple[int, Label]] = [
        (5, "met"),
        (3, "met"),
        (2, "unmet"),
        (-4, "met"),
        (9, "unknown"),
        (7, "not_applicable"),
    ]
    assert score_points(rows) == pytest.approx((5 + 3 - 4) / (5 + 3 + 2))


def test_nothing_decided_is_not_zero() -> None:
    assert score_points([(5, "unknown"), (3, "not_applicable")]) is None


@given(judged)
def test_undecided_criteria_change_nothing(rows: list[tuple[int, Label]]) -> None:
    assert score_points(rows) == score_points([r for r in rows if r[1] in ("met", "unmet")])


@given(st.lists(st.tuples(st.integers(1, 10), st.sampled_from(LABELS)), min_size=1))
def test_positive_criteria_score_between_nought_and_one(rows: list[tuple[int, Label]]) -> None:
    value = score_points(rows)
    assert value is None or 0 <= value <= 1


def test_only_the_mean_is_clipped() -> None:
    assert mean_clipped([-1.0, 0.5]) == 0.0
    with pytest.raises(ValueError, match="no scores"):
        mean_clipped([])

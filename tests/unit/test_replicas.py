"""A conversation stays with its replica, moves only when it must, and a replica that is out is passed over."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.replicas import Replicas

URLS = [f"http://vllm-{i}:8000" for i in range(8)]
KEYS = [f"team\nquestion {i}" for i in range(2000)]


def own(replicas: Replicas, key: str) -> str:
    return replicas.for_conversation(key)[0]


def test_a_conversation_has_all_replicas_in_an_order_of_its_own_that_does_not_change() -> None:
    one, other = Replicas(URLS), Replicas(URLS[::-1])
    for key in KEYS[:100]:
        assert one.for_conversation(key) == other.for_conversation(key)
        assert set(one.for_conversation(key)) == set(URLS)


def test_conversations_are_spread_evenly() -> None:
    counts = Counter(own(Replicas(URLS), key) for key in KEYS)
    assert min(counts.values()) > 0.75 * len(KEYS) / len(URLS)


def test_a_replica_that_goes_moves_only_its_own_conversations() -> None:
    before, after = Replicas(URLS), Replicas(URLS[:-1])
    for key in KEYS:
        if own(before, key) != URLS[-1]:
            assert own(after, key) == own(before, key)


def test_a_busy_replica_is_passed_over_and_stays_next_in_line() -> None:
    replicas = Replicas(URLS[:2])
    mine, other = replicas.for_conversation("a")
    with ExitStack() as calls:
        for _ in range(8):
            assert own(replicas, "a") == mine
            calls.enter_context(replicas.call(mine))
        assert replicas.for_conversation("a") == (other, mine)
    assert own(replicas, "a") == mine


def test_load_is_bounded_for_the_most_popular_beginning() -> None:
    replicas = Replicas(URLS)
    counts: Counter[str] = Counter()
    with ExitStack() as calls:
        for _ in range(400):
            url = own(replicas, "the same question")
            counts[url] += 1
            calls.enter_context(replicas.call(url))
    assert max(counts.values()) <= 1.25 * 400 / len(URLS) + 1


def test_a_replica_that_is_out_comes_back_after_a_while_or_when_it_answers() -> None:
    now = 0.0
    replicas = Replicas(URLS[:3], lambda: now)
    order = replicas.for_conversation("a")
    replicas.failed(order[0])
    assert replicas.reachable(order) == order[1:]
    now = 30.0
    assert replicas.reachable(order) == order
    replicas.failed(order[0])
    replicas.answered(order[0], 200)
    assert replicas.reachable(order) == order
    assert replicas.ejections == 2


def test_where_all_are_out_all_are_tried() -> None:
    replicas = Replicas(URLS[:2])
    for url in URLS[:2]:
        replicas.failed(url)
    assert set(replicas.reachable(URLS[:2])) == set(URLS[:2])


@pytest.mark.parametrize(("status", "out"), [(500, 1), (502, 1), (503, 0), (429, 0), (400, 0)])
def test_errors_of_its_own_in_a_row_put_a_replica_out(status: int, out: int) -> None:
    replicas = Replicas(URLS[:2])
    for _ in range(4):
        replicas.answered(URLS[0], status)
    assert replicas.out == 0
    replicas.answered(URLS[0], status)
    assert replicas.out == replicas.ejections == out


def test_an_answer_in_between_ends_the_row() -> None:
    replicas = Replicas(URLS[:2])
    for status in (500, 500, 500, 500, 200, 500, 500, 500, 500):
        replicas.answered(URLS[0], status)
    assert replicas.out == 0


def test_replicas_that_come_and_go_move_only_what_they_must() -> None:
    replicas = Replicas(URLS[:4])
    before = {key: own(replicas, key) for key in KEYS}
    replicas.update(URLS[1:6])
    moved = {key for key in KEYS if own(replicas, key) != before[key]}
    assert all(before[key] == URLS[0] or own(replicas, key) in URLS[4:6] for key in moved)
    assert len(moved) < 0.6 * len(KEYS)


def test_an_answer_in_the_making_keeps_its_replicas_and_falls_back_on_new_ones() -> None:
    replicas = Replicas(URLS[:2])
    order = replicas.for_conversation("a")
    replicas.update(URLS[2:4])
    assert replicas.reachable(order) == (*order, *URLS[2:4])
    for url in order:
        replicas.failed(url)
    assert replicas.reachable(order) == tuple(URLS[2:4])


def test_the_log_says_which_is_out_and_no_password(caplog: pytest.LogCaptureFixture) -> None:
    url = "http://user:secret@10.0.0.7:8000/base"
    Replicas([url, *URLS[:1]]).failed(url)
    (record,) = caplog.records
    assert record.__dict__["fields"]["replica"] == "10.0.0.7:8000"


def test_one_that_left_the_list_is_not_counted_as_out() -> None:
    replicas = Replicas(URLS[:2])
    replicas.failed(URLS[0])
    assert replicas.out == 1
    replicas.update(URLS[1:2])
    assert replicas.out == 0


@given(st.text(st.characters()))
def test_any_text_has_a_replica(key: str) -> None:
    assert len(Replicas(URLS).for_conversation(key)) == len(URLS)


def test_one_that_has_left_is_neither_an_ejection_nor_remembered() -> None:
    replicas = Replicas(["http://a", "http://b"])
    for _ in range(4):
        replicas.answered("http://a", 500)
    replicas.update(["http://b"])
    replicas.failed("http://a")
    assert replicas.ejections == 0
    replicas.update(["http://b", "http://c"])
    replicas.update(["http://a", "http://b"])  # another pod with its address
    replicas.answered("http://a", 500)
    assert (replicas.ejections, replicas.out) == (0, 0)

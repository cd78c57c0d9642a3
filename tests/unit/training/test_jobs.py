"""Many rows through one function: what is asked, what is kept, what it costs, and how it ends."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain import Usage
from service.errors import (
    ContextLengthExceeded,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from training.data import read_json_lines
from training.errors import CeilingReached, DataError, JobsFailed
from training.jobs import BadReply, Done, JobSettings, Pace, Prices, run_jobs
from training.journal import beside

Work = Callable[[int], Awaitable[Done]]
PENNIES = Prices(prompt=1e4)  # a cent a token
DOWN = UpstreamUnavailable("down")


class FakePace:
    """Sleeping takes no time and moves the clock; chance is always one half."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        wakes = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, wakes)

    @property
    def pace(self) -> Pace:
        return Pace(clock=lambda: self.now, sleep=self.sleep, uniform=lambda: 0.5)


async def run(
    items: Sequence[int],
    work: Work,
    out: Path,
    *,
    time: FakePace | None = None,
    progress: Any = None,
    **options: Any,
) -> list[dict[str, Any]]:
    return await run_jobs(
        items,
        work,
        key=lambda item: f"k{item}",
        out=out,
        settings=JobSettings(**options),
        label="rows",
        progress=progress,
        pace=(time or FakePace()).pace,
    )


class Worker:
    """Squares numbers, ten tokens each. `script` has the errors of an item, one an attempt."""

    def __init__(self, script: dict[int, list[Exception]] | None = None, *, always: Exception | None = None) -> None:
        self.script, self.always = script or {}, always
        self.asked: list[int] = []
        self.flying = self.most_flying = 0

    async def __call__(self, item: int) -> Done:
        self.asked.append(item)
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            await asyncio.sleep(0)
            if self.script.get(item):
                raise self.script[item].pop(0)
            if self.always is not None:
                raise self.always
            return Done({"n": item, "square": item * item}, Usage(10, 0))
        finally:
            self.flying -= 1


class Cheap(Worker):
    """Rows without their squares, at another number of tokens."""

    async def __call__(self, item: int) -> Done:
        return Done({"n": item}, Usage(99, 9))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made" / "rows.jsonl"


def dead(out: Path) -> dict[str, tuple[str, int]]:
    file = beside(out, ".dead.jsonl")
    return {row["key"]: (row["reason"], row["attempts"]) for row in read_json_lines(file)} if file.exists() else {}


def spent(out: Path) -> int:
    return sum(row["usage"]["prompt_tokens"] for row in read_json_lines(beside(out, ".spent.jsonl")))


# --- rows ---------------------------------------------------------------------------------------------------------


async def test_rows_come_in_the_order_of_the_items_and_lie_in_the_file_so(out: Path) -> None:
    rows = await run([3, 1, 2], Worker(), out)
    assert [row["n"] for row in rows] == [3, 1, 2]
    assert list(read_json_lines(out)) == [{"key": f"k{row['n']}", "row": row} for row in rows]
    assert not beside(out, ".dead.jsonl").exists()


async def test_a_row_is_the_same_fresh_and_read_again(out: Path) -> None:
    async def work(item: int) -> Done:
        return Done({"pair": (item, 0.1)}, Usage())

    fresh = await run([1], work, out)
    assert fresh == await run([1], work, out) == [{"pair": [1, 0.1]}]


async def test_what_is_done_is_not_asked_again_and_rows_of_other_items_are_kept_behind(out: Path) -> None:
    await run([1, 2, 3], Worker(), out)
    worker = Worker()
    rows = await run([4, 2], worker, out)
    assert worker.asked == [4]
    assert [row["n"] for row in rows] == [4, 2]
    assert [row["key"] for row in read_json_lines(out)] == ["k4", "k2", "k1", "k3"]
    assert spent(out) == 40


async def test_two_items_with_one_key_are_refused(out: Path) -> None:
    with pytest.raises(DataError, match="1 rows share"):
        await run([1, 2, 1], Worker(), out)


async def test_as_many_are_in_flight_as_allowed_and_no_more(out: Path) -> None:
    worker = Worker()
    await run(range(400), worker, out, in_flight=150)
    assert worker.most_flying == 150
    assert sorted(worker.asked) == list(range(400))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(1, 5))
def test_the_file_does_not_depend_on_which_row_is_ready_first(delays: list[int], in_flight: int) -> None:
    async def work(item: int) -> Done:
        for _ in range(delays[item]):
            await asyncio.sleep(0)
        return Done({"n": item}, Usage(10, 0, cached_tokens=delays[item]))

    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder) / "one", Path(folder) / "other"
        asyncio.run(run(range(len(delays)), work, one, in_flight=in_flight))
        asyncio.run(run(range(len(delays)), Cheap(), other, in_flight=1))
        assert one.read_bytes() == other.read_bytes()


# --- a run that was killed ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_journal_cut_at_any_byte_loses_the_torn_row_alone_and_ends_the_same(data: st.DataObject) -> None:
    items = range(6)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.jsonl"
        asyncio.run(run(items, Worker(), out))
        whole, ledger = out.read_bytes(), beside(out, ".spent.jsonl").read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        out.write_bytes(whole[:cut])
        beside(out, ".spent.jsonl").write_bytes(ledger[: data.draw(st.integers(0, len(ledger)))])
        survived = whole[:cut].count(b"\n")
        worker = Worker()
        rows = asyncio.run(run(items, worker, out))
        assert worker.asked == list(items)[survived:]
        assert [row["n"] for row in rows] == list(items)
        assert out.read_bytes() == whole
        assert all(row.keys() == {"key", "usage"} for row in read_json_lines(beside(out, ".spent.jsonl")))


def test_a_damaged_line_in_the_middle_stops_the_run_without_its_text(out: Path) -> None:
    asyncio.run(run([1, 2], Worker(), out))
    lines = out.read_bytes().splitlines(keepends=True)
    for damaged in (b'{"key":"k1","row":{"secret\n', b'{"key":"secret"}\n', b'["secret"]\n'):
        out.write_bytes(damaged + lines[1])
        with pytest.raises(DataError, match=r"rows\.jsonl, (line|row) 1") as caught:
            asyncio.run(run([1, 2], Worker(), out))
        assert "secret" not in str(caught.value)
        assert out.read_bytes() == damaged + lines[1]


async def test_a_cancelled_run_keeps_what_is_done_and_cancels_the_rest(out: Path) -> None:
    cancelled: list[int] = []
    all_busy = asyncio.Event()

    async def work(item: int) -> Done:
        if item < 3:
            return Done({"n": item}, Usage())
        if item == 5:
            all_busy.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        raise AssertionError("unreachable")

    task = asyncio.create_task(run(range(9), work, out, in_flight=3))
    await all_busy.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cancelled) == [3, 4, 5]
    assert {row["key"] for row in read_json_lines(out)} == {"k0", "k1", "k2"}
    worker = Worker()
    await run(range(9), worker, out)
    assert sorted(worker.asked) == [3, 4, 5, 6, 7, 8]


async def test_a_second_run_on_the_same_file_is_refused_while_the_first_goes_on(out: Path) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def work(item: int) -> Done:
        begun.set()
        await may_end.wait()
        return Done({"n": item}, Usage())

    first = asyncio.create_task(run([1], work, out))
    await begun.wait()
    with pytest.raises(DataError, match="Another run is writing"):
        await run([1], Worker(), out)
    may_end.set()
    assert await first == await run([1], Worker(always=DOWN), out) == [{"n": 1}]


# --- failures -----------------------------------------------------------------------------------------------------


async def test_a_retryable_failure_is_tried_again_after_a_growing_share_of_chance(out: Path) -> None:
    time = FakePace()
    worker = Worker({1: [DOWN, UpstreamOverloaded("busy"), DOWN]})
    assert await run([1], worker, out, time=time) == [{"n": 1, "square": 1}]
    assert worker.asked == [1] * 4
    assert time.slept == [0.5, 1.0, 2.0]


async def test_a_retry_after_holds_every_row(out: Path) -> None:
    time = FakePace()
    asked_at: list[tuple[int, float]] = []
    limited = [UpstreamRateLimited("slow down", retry_after=30)]

    async def work(item: int) -> Done:
        asked_at.append((item, time.now))
        if limited:
            raise limited.pop()
        return Done({"n": item}, Usage())

    await run([1, 2, 3], work, out, time=time, in_flight=1)
    assert asked_at[0] == (1, 0.0)
    assert len(asked_at) == 4
    assert all(at >= 30 for _, at in asked_at[1:])


async def test_rows_that_start_while_others_are_held_wait_as_well(out: Path) -> None:
    time = FakePace()
    asked_at: dict[int, float] = {}
    first_refused = asyncio.Event()

    async def work(item: int) -> Done:
        if item == 1 and not first_refused.is_set():
            first_refused.set()
            raise UpstreamOverloaded("busy", retry_after=12)
        if item == 2:
            await first_refused.wait()  # ends, so that its slot goes to the third row
        asked_at[item] = time.now
        return Done({"n": item}, Usage())

    await run([1, 2, 3], work, out, time=time, in_flight=2)
    assert asked_at[3] >= 12


async def test_without_a_budget_only_what_the_server_invited_is_tried_again(out: Path) -> None:
    worker = Worker({1: [UpstreamRateLimited("wait", retry_after=1)], 2: [DOWN]})
    rows = await run([1, 2], worker, out, retry_ratio=0, most_failed=1)
    assert [row["n"] for row in rows] == [1]
    assert dead(out) == {"k2": ("upstream_unavailable", 1)}


async def test_the_budget_bounds_the_retries_of_an_outage(out: Path) -> None:
    worker = Worker(always=UpstreamRejected("never"))
    await run(range(15), worker, out, in_flight=5, most_failed=1)
    assert len(worker.asked) == 15  # of no use to try again
    worker = Worker(always=DOWN)
    await run(range(15), worker, out, in_flight=5, attempts=9, retry_ratio=0.2, most_failed=1)
    assert 15 + 10 <= len(worker.asked) <= 15 + 10 + 3


async def test_each_reason_is_a_code_and_dead_rows_are_tried_by_the_next_run(out: Path) -> None:
    failing: dict[int, list[Exception]] = {
        1: [ContextLengthExceeded("secret")],
        2: [DataError("secret")],
        3: [BadReply("cut_off", Usage(5, 0)) for _ in range(2)],
        4: [BadReply("cut_off", Usage(5, 0))],
        5: [UpstreamUnavailable("secret") for _ in range(2)],
    }
    rows = await run([0, 1, 2, 3, 4, 5], Worker(failing), out, attempts=2, most_failed=0.7)
    assert [row["n"] for row in rows] == [0, 4]
    assert dead(out) == {
        "k1": ("context_length_exceeded", 1),
        "k2": ("DataError", 1),
        "k3": ("cut_off", 2),
        "k5": ("upstream_unavailable", 2),
    }
    assert b"secret" not in beside(out, ".dead.jsonl").read_bytes()
    assert spent(out) == 10 + 2 * 5 + 5 + 10  # what was of no use was paid for

    worker = Worker()
    rows = await run([0, 1, 2, 3, 4, 5], worker, out)
    assert sorted(worker.asked) == [1, 2, 3, 5]
    assert [row["n"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert dead(out) == {}


@pytest.mark.parametrize(("failures", "passes"), [(2, True), (3, False)])
async def test_a_larger_share_of_failures_than_allowed_ends_the_run(out: Path, failures: int, passes: bool) -> None:
    worker = Worker({n: [DataError("x")] for n in range(failures)})
    if passes:
        assert len(await run(range(20), worker, out, most_failed=0.1)) == 18
    else:
        with pytest.raises(JobsFailed, match=r"3 of 20 rows failed \(DataError 3\), more than the 10% allowed"):
            await run(range(20), worker, out, most_failed=0.1)
        assert len(list(read_json_lines(out))) == 17


async def test_a_server_that_is_down_is_given_up_early(out: Path) -> None:
    worker = Worker(always=DOWN)
    with pytest.raises(JobsFailed, match=r"20 rows in succession failed \(upstream_unavailable 20\)"):
        await run(range(5000), worker, out, in_flight=5, attempts=1, most_failed=1)
    assert 20 <= len(worker.asked) <= 25
    assert len(dead(out)) == 20


async def test_a_server_that_refuses_every_request_is_given_up_once_the_run_cannot_succeed(out: Path) -> None:
    worker = Worker(always=UpstreamRejected("never"))
    with pytest.raises(JobsFailed, match="31 rows in succession"):
        await run(range(1000), worker, out, in_flight=1, most_failed=0.03)
    assert len(worker.asked) == 31


async def test_rows_that_cannot_be_done_do_not_stop_those_behind_them(out: Path) -> None:
    worker = Worker({n: [DataError("x")] for n in range(30)})
    assert len(await run(range(1000), worker, out, in_flight=1, most_failed=0.03)) == 970


async def test_failures_between_successes_are_no_sign_of_a_server_that_is_down(out: Path) -> None:
    worker = Worker({n: [UpstreamUnavailable("down")] for n in range(0, 100, 2)})
    assert len(await run(range(100), worker, out, in_flight=1, attempts=1, most_failed=0.5)) == 50


async def test_a_bug_ends_the_run_and_what_is_done_is_kept(out: Path) -> None:
    bystander = asyncio.Event()

    async def work(item: int) -> Done:
        if item == 2:
            raise ZeroDivisionError
        if item == 3:
            try:
                await asyncio.Event().wait()
            finally:
                bystander.set()
        return Done({"n": item}, Usage())

    with pytest.raises(ZeroDivisionError):
        await run([0, 1, 2, 3, 4], work, out, in_flight=4)
    assert bystander.is_set()
    assert {row["key"] for row in read_json_lines(out)} == {"k0", "k1"}


async def test_a_row_that_takes_too_long_is_cancelled_and_counts_as_a_timeout(out: Path) -> None:
    async def hangs(item: int) -> Done:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    assert await run([1], hangs, out, timeout_s=0.01, attempts=2, most_failed=1) == []
    assert dead(out) == {"k1": ("upstream_timeout", 2)}


async def test_a_timeout_of_the_work_itself_is_a_bug(out: Path) -> None:
    with pytest.raises(TimeoutError):
        await run([1], Worker(always=TimeoutError()), out)


# --- cost ---------------------------------------------------------------------------------------------------------


async def test_the_ceiling_is_not_passed_and_a_higher_one_goes_on(out: Path) -> None:
    worker = Worker()
    with pytest.raises(
        CeilingReached, match=r"\$1\.00 of at most \$1\.05 are spent: 10 rows are done, 0 failed, 90 are"
    ):
        await run(range(100), worker, out, in_flight=8, prices=PENNIES, ceiling=1.05)
    assert len(worker.asked) == len(list(read_json_lines(out))) == 10

    worker = Worker()
    with pytest.raises(CeilingReached, match="10 rows are done"):  # what earlier runs spent counts
        await run(range(100), worker, out, in_flight=8, prices=PENNIES, ceiling=1.05)
    assert worker.asked == []

    assert len(await run(range(100), worker, out, in_flight=8, prices=PENNIES, ceiling=10.0)) == 100
    assert sorted(worker.asked) == list(range(10, 100))


async def test_the_first_row_is_asked_alone_since_nobody_knows_what_it_costs(out: Path) -> None:
    worker = Worker()
    with pytest.raises(CeilingReached, match="1 rows are done"):
        await run(range(100), worker, out, in_flight=50, prices=PENNIES, ceiling=0.05)
    assert worker.asked == [0]
    with pytest.raises(CeilingReached, match="0 rows are done"):
        await run(range(100), worker, out.with_name("free"), prices=PENNIES, ceiling=0)
    assert worker.asked == [0]


async def test_replies_of_no_use_count_towards_the_ceiling(out: Path) -> None:
    worker = Worker({0: [BadReply("x", Usage(90, 0))]})
    with pytest.raises(CeilingReached, match=r"\$1\.00 .* 1 rows are done, 0 failed, 1 are left"):
        await run([0, 1], worker, out, in_flight=1, prices=PENNIES, ceiling=1.05)


async def test_a_model_of_ones_own_has_no_ceiling(out: Path) -> None:
    assert len(await run(range(10), Worker(), out, ceiling=0.0)) == 10


@given(st.tuples(*[st.integers(0, 10**9)] * 3), st.tuples(*[st.floats(0, 100)] * 3))
def test_dollars_are_tokens_times_their_price(tokens: tuple[int, int, int], prices: tuple[float, float, float]) -> None:
    prompt, completion, cached = tokens
    cost = Prices(prompt=prices[0], cached=prices[1], completion=prices[2]).dollars(Usage(prompt, completion, cached))
    cached = min(cached, prompt)
    expected = ((prompt - cached) * prices[0] + cached * prices[1] + completion * prices[2]) / 1_000_000
    assert cost == pytest.approx(expected)
    assert cost >= 0


# --- progress -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def _slow_run(out: Path, stream: io.StringIO) -> None:
    """20 rows, 4 seconds each by the fake clock; one fails."""
    time = FakePace()

    async def work(item: int) -> Done:
        time.now += 4
        if item == 7:
            raise DataError("x")
        return Done({"n": item}, Usage(10, 0))

    await run(range(20), work, out, time=time, progress=stream, in_flight=1, most_failed=1, prices=PENNIES)


async def test_elsewhere_than_on_a_terminal_a_line_comes_now_and_then(out: Path) -> None:
    stream = io.StringIO()
    await _slow_run(out, stream)
    *lines, rest = stream.getvalue().split("\n")
    assert rest == ""
    assert "\r" not in stream.getvalue()
    assert [line.split(" ")[1] for line in lines] == ["4/20", "8/20", "12/20", "16/20", "20/20", "20/20"]
    assert lines[1] == "rows: 8/20 (40 %),  4.00s/row, 00:48 left, $0.70, 1 failed"


async def test_on_a_terminal_one_line_keeps_changing(out: Path) -> None:
    stream = Terminal()
    await _slow_run(out, stream)
    assert stream.getvalue().count("\n") == 1
    drawn = stream.getvalue().split("\r")[1:]
    assert len(drawn) == 21
    assert "20/20" in drawn[-1]
    assert drawn[-1].endswith("$1.90, 1 failed]\x1b[K\n")


async def test_what_was_done_before_is_no_part_of_the_rate(out: Path) -> None:
    await run(range(10), Worker(), out)
    stream = io.StringIO()
    await _slow_run(out, stream)
    assert "20/20 (100 %),  4.00s/row, 00:00 left" in stream.getvalue()


async def test_progress_says_how_far_a_run_came_that_failed(out: Path) -> None:
    stream = io.StringIO()
    with pytest.raises(JobsFailed):
        await run(range(100), Worker(always=DOWN), out, in_flight=1, attempts=1, progress=stream)
    assert "20/100" in stream.getvalue()
    assert stream.getvalue().endswith("20 failed\n")


@pytest.mark.parametrize("wrong", [{"in_flight": 0}, {"attempts": 0}, {"most_failed": 2}, {"misspelt": 1}])
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        JobSettings(**wrong)


def keys_on_disk(out: Path) -> list[str]:
    """What a kill at this moment would leave; all of it whole lines."""
    content = out.read_bytes()
    assert content == b"" or content.endswith(b"\n")
    return [orjson.loads(line)["key"] for line in content.splitlines()]


async def test_a_row_is_in_the_file_before_the_next_one_is_asked(out: Path) -> None:
    seen: list[list[str]] = []

    async def work(item: int) -> Done:
        seen.append(keys_on_disk(out))
        return Done({"n": item}, Usage())

    await run(range(5), work, out, in_flight=1)
    assert seen == [[f"k{n}" for n in range(count)] for count in range(5)]

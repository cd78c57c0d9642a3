"""The async front of the encoder, with an encoder that waits to be let go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from principles_index.embed import Embedder, query_text
from principles_index.encoders import Vectors
from service.domain import Conversation


class GatedEncoder:
    """Encodes a text as its length. Each batch waits for a permit; `begun` counts those that have begun."""

    fingerprint = "gated"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[threading.Thread] = set()
        self.failures: list[Exception] = []
        self.short = False
        self.begun = threading.Semaphore(0)
        self.permits = threading.Semaphore(0)

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.batches.append(list(texts))
        self.threads.add(threading.current_thread())
        self.begun.release()
        assert self.permits.acquire(timeout=10)
        if self.failures:
            raise self.failures.pop(0)
        vectors = np.array([[len(text)] for text in texts], dtype=np.float32)
        return vectors[:-1] if self.short else vectors

    async def wait_begun(self) -> None:
        """Until one more batch has begun; the loop goes on meanwhile."""
        assert await asyncio.to_thread(self.begun.acquire, timeout=10)


@pytest.fixture
def encoder() -> GatedEncoder:
    return GatedEncoder()


@pytest.fixture
def embedder(encoder: GatedEncoder) -> Iterator[Embedder]:
    made = Embedder(encoder)
    yield made
    for _ in range(50):
        encoder.permits.release()  # a failed test leaves no thread behind
    made.close()


def ask(embedder: Embedder, *texts: str) -> list[asyncio.Task[Vectors]]:
    return [asyncio.create_task(embedder.embed(text)) for text in texts]


async def lengths(tasks: Sequence[asyncio.Task[Vectors]]) -> list[float]:
    async with asyncio.timeout(10):
        return [float(vector[0]) for vector in await asyncio.gather(*tasks)]


async def test_a_text_is_its_vector(embedder: Embedder, encoder: GatedEncoder) -> None:
    encoder.permits.release()
    vector = await embedder.embed("four")
    assert (vector.shape, vector.tolist()) == ((1,), [4.0])


async def test_what_others_wait_for_goes_first_and_alone(embedder: Embedder, encoder: GatedEncoder) -> None:
    tasks = ask(embedder, "a")
    await encoder.wait_begun()
    tasks += ask(embedder, "bb", "ccc")
    tasks.append(asyncio.create_task(embedder.embed("dddd", first=True)))
    await asyncio.sleep(0)  # all are in the queue
    for _ in range(3):
        encoder.permits.release()
    assert await lengths(tasks) == [1, 2, 3, 4]
    assert encoder.batches == [["a"], ["dddd"], ["bb", "ccc"]]


async def test_what_arrives_while_a_batch_is_encoded_makes_up_the_next(
    embedder: Embedder, encoder: GatedEncoder
) -> None:
    first = ask(embedder, "a")
    await encoder.wait_begun()
    later = ask(embedder, "bb", "ccc", "dddd")
    await asyncio.sleep(0)  # their turn, to join the queue
    encoder.permits.release()
    encoder.permits.release()
    assert await lengths([*first, *later]) == [1, 2, 3, 4]
    assert encoder.batches == [["a"], ["bb", "ccc", "dddd"]]


async def test_a_batch_is_bounded_and_all_are_served(embedder: Embedder, encoder: GatedEncoder) -> None:
    first = ask(embedder, "a")
    await encoder.wait_begun()
    later = ask(embedder, *("x" * n for n in range(1, 41)))
    await asyncio.sleep(0)
    for _ in range(3):
        encoder.permits.release()
    assert await lengths([*first, *later]) == [1, *range(1, 41)]
    assert [len(batch) for batch in encoder.batches] == [1, 32, 8]


async def test_encoding_does_not_block_the_loop(embedder: Embedder, encoder: GatedEncoder) -> None:
    tasks = ask(embedder, "a")
    await encoder.wait_begun()
    await asyncio.sleep(0)  # the encoder is held in its thread, and the loop turns
    assert not tasks[0].done()
    assert threading.main_thread() not in encoder.threads
    encoder.permits.release()
    assert await lengths(tasks) == [1]


async def test_all_is_encoded_in_one_thread(embedder: Embedder, encoder: GatedEncoder) -> None:
    for text in ("a", "b"):
        encoder.permits.release()
        await embedder.embed(text)
    assert len(encoder.threads) == 1


async def test_a_failure_reaches_all_who_wait_and_later_calls_work(embedder: Embedder, encoder: GatedEncoder) -> None:
    first = ask(embedder, "a")
    await encoder.wait_begun()
    together = ask(embedder, "bb", "ccc")
    await asyncio.sleep(0)
    encoder.permits.release()
    await encoder.wait_begun()
    assert await lengths(first) == [1]
    encoder.failures.append(RuntimeError("out of memory"))
    waiting = ask(embedder, "dddd")  # in the queue behind the failure
    await asyncio.sleep(0)
    encoder.permits.release()
    async with asyncio.timeout(10):
        told = await asyncio.gather(*together, return_exceptions=True)
    assert [str(error) for error in told] == ["out of memory"] * 2
    encoder.permits.release()
    assert await lengths(waiting) == [4]
    encoder.permits.release()
    assert await lengths(ask(embedder, "eeeee")) == [5]


async def test_an_encoder_that_loses_a_vector_leaves_nobody_waiting(embedder: Embedder, encoder: GatedEncoder) -> None:
    encoder.short = True
    encoder.permits.release()
    tasks = ask(embedder, "a", "bb")
    async with asyncio.timeout(10):
        told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in told] == [ValueError] * 2
    encoder.short = False
    encoder.permits.release()
    assert await lengths(ask(embedder, "ccc")) == [3]


async def test_who_gives_up_before_its_batch_is_not_encoded(embedder: Embedder, encoder: GatedEncoder) -> None:
    first = ask(embedder, "a")
    await encoder.wait_begun()
    gone, left = ask(embedder, "bb", "ccc")
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    encoder.permits.release()
    encoder.permits.release()
    assert await lengths([*first, left]) == [1, 3]
    assert encoder.batches == [["a"], ["ccc"]]


async def test_a_batch_of_which_all_gave_up_is_not_encoded(embedder: Embedder, encoder: GatedEncoder) -> None:
    first = ask(embedder, "a")
    await encoder.wait_begun()
    gone = ask(embedder, "bb", "ccc")
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    await asyncio.wait(gone)
    encoder.permits.release()
    assert await lengths(first) == [1]
    encoder.permits.release()
    assert await lengths(ask(embedder, "dddd")) == [4]
    assert encoder.batches == [["a"], ["dddd"]]


@pytest.mark.parametrize("fails", [False, True])
async def test_who_gives_up_during_its_batch_disturbs_nobody(
    embedder: Embedder, encoder: GatedEncoder, fails: bool
) -> None:
    if fails:
        encoder.failures.append(RuntimeError("broken"))
    gone, left = ask(embedder, "bb", "ccc")
    await encoder.wait_begun()
    gone.cancel()
    await asyncio.wait([gone])
    encoder.permits.release()
    async with asyncio.timeout(10):
        (told,) = await asyncio.gather(left, return_exceptions=True)
    assert isinstance(told, RuntimeError) if fails else told.tolist() == [3.0]  # type: ignore[union-attr]
    encoder.permits.release()
    assert await lengths(ask(embedder, "dddd")) == [4]


async def test_after_closing_nobody_is_left_waiting(embedder: Embedder, encoder: GatedEncoder) -> None:
    first = ask(embedder, "a")
    await encoder.wait_begun()
    later = ask(embedder, "bb")
    await asyncio.sleep(0)
    embedder.close()
    encoder.permits.release()
    assert await lengths(first) == [1]
    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError):
            await later[0]
        with pytest.raises(RuntimeError):
            await embedder.embed("ccc")


# --- what stands for a conversation -----------------------------------------------------------------------------


def test_the_last_turn_of_the_user_comes_first_and_nobody_elses() -> None:
    conversation = Conversation.of(
        ("system", "You are kind."),
        ("user", "I have a cough."),
        ("assistant", "Since when?"),
        ("user", "Since May."),
    )
    assert query_text(conversation) == "Since May.\nI have a cough."


def test_a_conversation_without_a_user_is_an_empty_text() -> None:
    assert query_text(Conversation.of(("system", "You are kind."))) == ""


@given(st.lists(st.text(max_size=50) | st.integers(3_900, 9_000).map(lambda n: "x" * n), min_size=1, max_size=8))
def test_the_text_is_bounded_and_begins_with_the_last_turn(turns: list[str]) -> None:
    text = query_text(Conversation.of(*(("user", turn) for turn in turns)))
    assert len(text) <= 4_000
    assert text.startswith(turns[-1][:4_000])
    assert len(text) == min(4_000, sum(map(len, turns)) + len(turns) - 1)


# --- what is remembered -----------------------------------------------------------------------------------------


class CountingEncoder:
    fingerprint = "counting"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        return np.array([[len(text)] for text in texts], dtype=np.float32)


async def test_a_conversation_is_encoded_once_for_each_owner() -> None:
    encoder, seen = CountingEncoder(), list[bool]()
    embedder = Embedder(encoder, remembered=8, on_lookup=seen.append)
    for owner in ("a", "a", "b", "a"):
        assert (await embedder.embed("a cold", first=True, owner=owner)).tolist() == [6.0]
    assert encoder.texts == ["a cold", "a cold"]
    assert seen == [False, True, False, True]
    embedder.close()


async def test_owner_and_text_do_not_run_together() -> None:
    encoder = CountingEncoder()
    embedder = Embedder(encoder, remembered=8)
    await embedder.embed("bc", first=True, owner="a")
    await embedder.embed("c", first=True, owner="ab")
    assert encoder.texts == ["bc", "c"]
    embedder.close()


async def test_the_least_recently_used_is_forgotten_and_answers_are_never_kept() -> None:
    encoder = CountingEncoder()
    embedder = Embedder(encoder, remembered=2)
    for text in ("one", "two", "one", "three", "one", "two"):
        await embedder.embed(text, first=True)
    assert encoder.texts == ["one", "two", "three", "two"]
    for _ in range(2):
        await embedder.embed("an answer")
    assert encoder.texts[-2:] == ["an answer"] * 2
    assert len(embedder._known) == 2
    assert all(len(key) == 16 for key in embedder._known)  # a hash, never a text
    embedder.close()

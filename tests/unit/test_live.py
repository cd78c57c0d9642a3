"""`stream: live`: what goes out as it is written, and what never does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import AnswerBlocked, AnswerUnverified, UpstreamError
from service.pipeline import Answer, Options, Piece, revise_answer
from service.stages.live import whole_sentences
from service.stages.retrieve import Choice
from tests.fakes import FakeLLM, completion
from tests.kit import ask, kit_of

GOOD = "Rest and drink enough water. See a doctor if it does not get better in a few days."
LOOP = "Rest and drink enough water today. Rest and drink enough water today. Rest and drink enough water today."
ASPIRIN = "Keep him warm and let him rest. Yes, you can give your child aspirin. He will be fine."
LIVE = Options(stream="live")


async def run(question: str, llm: FakeLLM, options: Options = LIVE) -> tuple[Answer, list[str]]:
    sent: list[str] = []

    def on_event(event: object) -> None:
        if isinstance(event, Piece):
            sent.append(event.text)

    return await revise_answer(ask(question, options), kit_of(llm), on_event), sent


async def test_an_accepted_candidate_went_out_sentence_by_sentence() -> None:
    answer, sent = await run("I have a cold", FakeLLM(LOOP, GOOD))
    assert (answer.text, answer.status, answer.accepted) == (GOOD, "revised", True)
    assert sent == ["Rest and drink enough water. ", "See a doctor if it does not get better in a few days."]


async def test_a_candidate_that_was_not_accepted_says_so() -> None:
    answer, sent = await run("I have a cold", FakeLLM(LOOP, LOOP))
    assert (answer.status, answer.accepted, answer.reason) == ("draft_kept", False, "not_better")
    assert answer.text == "".join(sent) == LOOP


async def test_a_good_draft_is_sent_by_the_usual_way() -> None:
    answer, sent = await run("I have a cold", FakeLLM(GOOD))
    assert (answer.status, answer.accepted, sent) == ("draft_passed", None, [])


async def test_a_draft_that_blocks_is_repaired_unseen() -> None:
    bad = "I am a doctor and I have seen many patients like you. Rest."
    answer, sent = await run("I have a cold", FakeLLM(bad, GOOD, GOOD))
    assert (answer.text, answer.status, answer.accepted, sent) == (GOOD, "revised", None, [])


async def test_a_model_that_thinks_aloud_is_not_streamed_live() -> None:
    draft = replace(completion(LOOP), message={"role": "assistant", "content": f"He has pain.</think>{LOOP}"})
    answer, sent = await run("I have a cold", FakeLLM(draft, GOOD, GOOD))
    assert (answer.text, answer.accepted, sent) == (GOOD, None, [])


async def test_a_red_flag_turns_live_off() -> None:
    answer, sent = await run("I have crushing chest pain and my left arm hurts", FakeLLM(LOOP, GOOD, GOOD))
    assert answer.safety_text is not None
    assert sent == []


async def test_json_turns_live_off() -> None:
    asked = replace(ask("I have a cold", LIVE), sampling={"response_format": {"type": "json_object"}})
    sent: list[object] = []
    llm = FakeLLM(LOOP, '{"a": 1}', '{"a": 1}')
    await revise_answer(asked, kit_of(llm), lambda event: sent.append(event) if isinstance(event, Piece) else None)
    assert sent == []


async def test_a_forbidden_sentence_stops_the_stream_before_it_leaves() -> None:
    llm = FakeLLM(LOOP, ASPIRIN)
    sent: list[str] = []
    with pytest.raises(AnswerBlocked):
        await revise_answer(
            ask("My 8-year-old has a cold", LIVE),
            kit_of(llm),
            lambda event: sent.append(event.text) if isinstance(event, Piece) else None,
        )
    assert sent == ["Keep him warm and let him rest. "]


async def test_a_forbidden_first_sentence_leaves_the_marked_draft() -> None:
    answer, sent = await run("My 8-year-old has a cold", FakeLLM(LOOP, "You can give your child aspirin. Rest."))
    assert (answer.text, answer.status, answer.reason) == (LOOP, "draft_unverified", "revision_blocked")
    assert sent == []


async def test_a_forbidden_last_sentence_without_an_end_is_caught_too() -> None:
    with pytest.raises(AnswerBlocked):
        await run("My 8-year-old has a cold", FakeLLM(LOOP, "Keep him warm. You can give your child aspirin"))


async def test_a_stream_that_breaks_off_after_its_first_words_is_an_error() -> None:
    with pytest.raises(UpstreamError):
        await run("I have a cold", FakeLLM(LOOP, (GOOD, UpstreamError("down"))))


async def test_a_stream_that_breaks_off_before_them_leaves_the_marked_draft() -> None:
    answer, sent = await run("I have a cold", FakeLLM(LOOP, ("Rest and", UpstreamError("down"))))
    assert (answer.text, answer.reason, sent) == (LOOP, "revision_failed", [])


async def test_strict_refuses_what_was_not_accepted() -> None:
    with pytest.raises(AnswerUnverified):
        await run("I have a cold", FakeLLM(LOOP, LOOP), Options(stream="live", strict=True))


async def test_a_cut_off_candidate_is_out_but_not_accepted() -> None:
    answer, _ = await run("I have a cold", FakeLLM(LOOP, completion(GOOD, finish="length")))
    assert (answer.accepted, answer.reason) == (False, "cut_off")
    assert answer.completion is not None
    assert answer.completion.finish_reason == "length"


async def test_only_one_candidate_is_written_and_one_round_made() -> None:
    llm = FakeLLM(LOOP, GOOD, GOOD)
    answer, _ = await run("I have a cold", llm, Options(stream="live", max_rounds=3))
    assert (answer.work.rounds, len(llm.queue)) == (1, 1)


async def test_an_unsure_retrieval_is_not_streamed_live() -> None:
    sent: list[object] = []
    answer = await revise_answer(
        ask("I have a cold", Options(stream="live", choice=Choice())),
        kit_of(FakeLLM(LOOP, GOOD, GOOD), broken_index=True),
        lambda event: sent.append(event) if isinstance(event, Piece) else None,
    )
    assert (answer.reason, sent) == ("retrieval_failed", [])


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("Take 1.", ""),
        ("Take 1.5 mg", ""),
        ("Rest. Dri", "Rest. "),
        ("Rest.\nDrink", "Rest.\n"),
        ("쉬세요. 물을", "쉬세요. "),
        ("请休息。多喝", "请休息。"),
        ('He said "rest." Then', 'He said "rest." '),
    ],
)
def test_a_sentence_is_whole_once_what_follows_is_known(text: str, whole: str) -> None:
    assert text[: whole_sentences(text, 0)] == whole


@given(st.text(alphabet="ab. \n!。1", max_size=40), st.integers(0, 40))
def test_looking_from_the_last_end_finds_the_same_as_looking_from_the_start(text: str, cut: int) -> None:
    first = whole_sentences(text[:cut], 0)
    assert whole_sentences(text, first) == whole_sentences(text, 0)

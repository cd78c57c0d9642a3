from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from principles_index.embed import Embedder, query_text
from service.domain import Completion, Conversation, Turn, Usage
from service.errors import UpstreamOverloaded
from service.language import detect
from service.prompts import Prompts
from service.settings import Critic as CriticSettings
from service.stages.critique import Critic, critique
from service.stages.retrieve import Choice, Retriever, retrieve, with_relevance
from tests.fakes import MODEL, FakeEncoder, FakeLLM, verdict
from tests.kit import flags, index, library
from tests.unit.training.test_data import criterion, question
from training.data import Criterion, Rubric
from training.reward import PROMPTS, Guards, Judge, Reward, Scorer, overlong
from training.rubrics import from_principles

WORKER = ThreadPoolExecutor(max_workers=1)
ANSWER = "Hay fever gives a runny nose, sneezing and itchy eyes. A pharmacist can suggest an antihistamine."
GUARDS = Guards(least_words=3, few_words=0, few_penalty=0.0, least_had=0.5, overlong_buffer=0, overlong_penalty=0.0)


def retriever() -> Retriever:
    return Retriever(library(), index(), Embedder(FakeEncoder()), 5.0)


def judge(llm: FakeLLM) -> Judge:
    critic = Critic(llm, Prompts.load(), CriticSettings(), None, library().version, asyncio.Semaphore(64), WORKER)
    return Judge(critic, MODEL, Prompts.load(PROMPTS))


def scorer(llm: FakeLLM | None = None) -> Scorer:
    return Scorer(retriever(), flags(), WORKER, judge(llm) if llm else None)


def rubric(*criteria: Criterion) -> Rubric:
    return Rubric(question=question("What are the signs of hay fever?"), criteria=criteria, made_by="human")


def moody(question: str) -> Completion:
    """A verdict that depends on what was asked, so that no two criteria are judged alike by chance."""
    p = (len(question) * 37 % 90 + 5) / 100
    return verdict(p, 1 - p)


@pytest.mark.parametrize("text", [ANSWER, "You must see me, I am your doctor. You will be cured, I promise.", "Ask"])
async def test_what_is_rewarded_is_what_is_served(text: str) -> None:
    """The same text through the gateway's critique and through the reward: verdict by verdict, and the score."""
    asked = question("What are the signs of hay fever?")
    (made,) = await from_principles([asked], retriever(), flags(), top_k=8)
    rewarded, served = FakeLLM(judge=moody), FakeLLM(judge=moody)
    scored = await scorer(rewarded).score(made, text)

    retrieved = await retrieve(asked.conversation, Choice(top_k=8), (), retriever())
    turn = Turn(asked.conversation, text, detect(asked.conversation.last_user_text), frozenset())
    turn = await with_relevance(turn, retrieved.vector, retriever())
    judged = await critique(turn, retrieved.matches, MODEL, judge(served).critic)

    by_gateway = {v.principle.id: (v.label, v.p_met) for v in judged.verdicts}
    by_reward = {j.criterion.id: (j.label, j.p_met) for j in scored.judged if j.source != "none"}
    assert by_reward == by_gateway
    assert len({v.source for v in judged.verdicts}) == 2
    from service.scoring import score

    assert scored.score == score(judged.verdicts)
    assert sorted(map(str, rewarded.calls)) == sorted(map(str, served.calls))
    assert scored.usage == judged.usage


async def test_a_missing_verdict_is_never_not_met() -> None:
    """Each way of not answering, on a positive and on a negative criterion: neither is counted."""
    silences: list[Callable[[str], Completion | Exception]] = [
        lambda _: UpstreamOverloaded("busy"),
        lambda _: verdict(0.01, 0.01),
        lambda _: Completion("x", "length", Usage(), {}, None),
    ]
    for silence in silences:
        asked = rubric(criterion("a", 5), criterion("b", -8), criterion("c", 2, rule="no_repetition"))
        scored = await scorer(FakeLLM(judge=silence)).score(asked, ANSWER)
        assert [j.missing for j in scored.judged] == [True, True, False]
        assert scored.score == 1.0
        assert scored.had == pytest.approx(1 / 3)


async def test_faults_are_asked_for_as_faults() -> None:
    llm = FakeLLM(judge=lambda q: verdict(0.9, 0.1))
    scored = await scorer(llm).score(rubric(criterion("good", 4), criterion("bad", -3)), ANSWER)
    assert scored.score == pytest.approx((4 - 3) / 4)
    good, bad = sorted((str(messages[-1]["content"]) for messages, _ in llm.calls), key=lambda q: "fault" in q)
    assert good.startswith("Judge your last answer")
    assert "meet it?" in good
    assert "show this fault?" in bad


async def test_not_applicable_is_had_and_does_not_count() -> None:
    scored = await scorer(FakeLLM(judge=lambda q: verdict(0.05, 0.05, 0.9))).score(rubric(criterion()), ANSWER)
    assert (scored.score, scored.had) == (None, 1.0)


async def test_without_a_judge_rules_decide_alone() -> None:
    asked = rubric(
        criterion("a", 5), criterion("b", 3, rule="no_repetition"), criterion("c", 4, rule="no_absolute_promise")
    )
    scored = await scorer().score(asked, "This is sure. " + ANSWER + " I promise that you will be cured.")
    assert scored.judged[0].source == "none"
    assert scored.had == 1.0
    assert scored.score is not None


async def test_relevance_reaches_the_rules() -> None:
    asked = rubric(criterion("a", 5, rule="answers_the_question"))
    off = await scorer().score(asked, "offtopic " + ANSWER)
    on = await scorer().score(asked, ANSWER)
    assert (off.score, on.score) == (0.0, 1.0)


# --- guards -----------------------------------------------------------------------------------------------------


async def reward(
    text: str, tokens: int = 50, guards: Guards = GUARDS, llm: FakeLLM | None = None
) -> tuple[float | None, object]:
    made = Reward(scorer(llm), guards, most_tokens=100)
    given_ = await made(rubric(criterion("a", 5, rule="complete_answer"), criterion("b", 3)), text, tokens)
    return given_.value, given_.guards


async def test_saying_nothing_is_worth_nothing_and_costs_no_verdict() -> None:
    llm = FakeLLM()
    assert await reward("", llm=llm) == (0.0, ("too_short",))
    assert await reward("Rest.", llm=llm) == (0.0, ("too_short",))
    assert llm.calls == []


async def test_saying_it_again_is_worth_nothing() -> None:
    assert await reward("Drink water and rest at home today. " * 6) == (0.0, ("repeats",))


async def test_too_few_verdicts_give_no_reward() -> None:
    busy = FakeLLM(judge=lambda q: UpstreamOverloaded("busy"))
    strict = GUARDS.model_copy(update={"least_had": 0.9})
    assert await reward(ANSWER, guards=strict, llm=busy) == (None, ())
    assert await reward(ANSWER, guards=GUARDS, llm=busy) == (1.0, ())


async def test_nothing_decided_gives_no_reward() -> None:
    made = Reward(scorer(), GUARDS, most_tokens=100)
    assert (await made(rubric(criterion()), ANSWER, 50)).value is None


async def test_length_costs_near_the_limit() -> None:
    guards = GUARDS.model_copy(update={"overlong_buffer": 40, "overlong_penalty": 0.5})
    assert await reward(ANSWER, 60, guards) == (1.0, ())
    assert await reward(ANSWER, 80, guards) == (0.75, ("too_long",))
    assert await reward(ANSWER, 100, guards) == (0.5, ("too_long",))


async def test_shortness_costs_unless_it_was_asked_for() -> None:
    guards = GUARDS.model_copy(update={"few_words": 32, "few_penalty": 0.4})
    assert len(ANSWER.split()) == 16
    value, found = await reward(ANSWER, guards=guards)
    assert value == pytest.approx(0.8)
    assert found == ("short",)
    assert await reward(ANSWER, guards=guards.model_copy(update={"few_words": 16})) == (1.0, ())
    brief = Rubric(
        question=question("What are the signs of hay fever? Answer in two sentences."),
        criteria=(criterion(rule="complete_answer"),),
        made_by="human",
    )
    assert (await Reward(scorer(), guards, 100)(brief, ANSWER, 50)).guards == ()


@given(st.integers(0, 500), st.integers(1, 400), st.integers(0, 400))
def test_the_price_of_length_grows_and_stays_in_bounds(tokens: int, most: int, buffer: int) -> None:
    assert 0 <= overlong(tokens, most, buffer) <= overlong(tokens + 1, most, buffer) <= 1
    assert overlong(most - buffer, most, buffer) == 0
    assert buffer == 0 or overlong(most, most, buffer) == 1


async def test_the_question_is_embedded_once() -> None:
    class Counting(FakeEncoder):
        def __init__(self) -> None:
            self.texts: list[str] = []

        def encode(self, texts):  # type: ignore[no-untyped-def]
            self.texts += texts
            return super().encode(texts)

    encoder = Counting()
    made = Scorer(Retriever(library(), index(), Embedder(encoder), 5.0), flags(), WORKER)
    asked = rubric(criterion("a", 5, rule="no_repetition"))
    for _ in range(3):
        await made.score(asked, ANSWER)
    assert encoder.texts.count(query_text(Conversation.of(("user", "What are the signs of hay fever?")))) == 1

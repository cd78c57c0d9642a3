from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.conversations import (
    DENSE,
    LANGUAGES,
    LONG,
    PHRASES,
    POPULAR,
    SLOTS,
    Topics,
    Writer,
    read_questions,
    shares,
    zipf,
)
from service.api.wire import conversation_of
from service.language import detect
from service.safety import RedFlags

EVEN = dict.fromkeys(LANGUAGES, 1.0)
TOPICS = Topics.of(0, EVEN, 0.3)


def writer(seed: int = 0, *, repeat_share: float = 0.3, languages: dict[str, float] = EVEN, user: int = 1) -> Writer:
    return Writer(Topics.of(seed, languages, repeat_share), random.Random(user))


def every_text(language: str) -> list[str]:
    """Each template with each value of each of its lists, the numbers at both ends."""
    phrases = PHRASES[language]
    lists = {name: getattr(phrases, name) for name in ("symptom", "medicine", "activity", "food")}
    lists |= {name: (values[0], values[-1]) for name, values in SLOTS.items()}
    templates = itertools.chain(phrases.openers, phrases.questions, phrases.follow_ups, phrases.diary, phrases.answers)
    found = []
    for template in templates:
        used = [name for name in lists if f"{{{name}}}" in template]
        rows = itertools.product(*(lists[name] for name in used))
        found += [template.format(**dict(zip(used, values, strict=True))) for values in rows]
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_raises_a_red_flag(language: str) -> None:
    flags = RedFlags.load()
    assert [text for text in every_text(language) if flags.detect([text])] == []
    one = writer(languages={language: 1.0}, repeat_share=0.0)
    whole = [one.short().text for _ in range(200)] + [one.long().text for _ in range(8)]
    assert [text for text in whole if flags.detect([text])] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_questions_are_in_the_language_that_they_say(language: str) -> None:
    one = writer(languages={language: 1.0})
    asked = [one.short() for _ in range(200)]
    assert {question.language for question in asked} == {language}
    told = Counter(detect(question.text) for question in asked)
    assert set(told) <= {language, None}
    assert told[language] > 150


def test_there_are_a_few_dozen_questions() -> None:
    assert sum(len(phrases.questions) for phrases in PHRASES.values()) >= 36
    assert not any("{" in text or "}" in text for language in LANGUAGES for text in every_text(language))


def test_the_same_seeds_write_the_same_and_others_do_not() -> None:
    def written(seed: int, user: int) -> list[object]:
        one = writer(seed, user=user)
        return [one.short(), one.long(), one.history(3)]

    assert written(1, 2) == written(1, 2)
    assert written(1, 2) != written(1, 3)
    assert Topics.of(1, EVEN, 0.3).popular_short != Topics.of(2, EVEN, 0.3).popular_short


def test_users_share_the_popular_questions_and_nothing_else() -> None:
    topics = Topics.of(7, EVEN, 0.5)
    asked = [Writer(topics, random.Random(user)).short() for user in range(2000)]
    repeated = sum(question in topics.popular_short for question in asked)
    assert 0.45 < repeated / len(asked) < 0.55
    new = [question for question in asked if question not in topics.popular_short]
    assert len(set(new)) > 0.97 * len(new)


def test_popularity_is_as_zipf_says() -> None:
    topics = Topics.of(0, {"en": 1.0}, 1.0)
    one = Writer(topics, random.Random(0))
    asked = Counter(one.short() for _ in range(6000))
    assert set(asked) <= set(topics.popular_short)
    expected = 6000 / zipf(POPULAR)[-1]
    for rank in (1, 2, 4, 8):
        assert asked[topics.popular_short[rank - 1]] == pytest.approx(expected / rank, rel=0.2)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_long_question_is_a_few_thousand_characters_and_ends_with_the_question(language: str) -> None:
    one = writer(languages={language: 1.0}, repeat_share=0.0)
    for text, _ in (one.long() for _ in range(20)):
        assert LONG[0] * DENSE.get(language, 1) <= len(text) <= LONG[1] * DENSE.get(language, 1) + 300
        assert re.search("[?？]", text.splitlines()[-1])


@given(st.integers(1, 6), st.integers(0, 50))
def test_a_history_is_a_conversation_that_waits_for_its_answer(turns: int, user: int) -> None:
    messages = Writer(TOPICS, random.Random(user)).history(turns)
    assert [m["role"] for m in messages] == ["user", "assistant"] * (turns - 1) + ["user"]
    assert len(conversation_of([dict(m) for m in messages]).messages) == 2 * turns - 1


def test_a_file_of_questions_replaces_the_written_ones(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    texts = [f"Question {i}?" for i in range(POPULAR + 20)]
    file.write_text("\n".join(json.dumps({"Question": f" {text} "}) for text in [*texts, texts[0]]))
    questions = read_questions(file)
    assert questions == tuple(texts)
    one = Writer(Topics.of(0, {"ko": 1.0}, 0.5, questions), random.Random(0))
    asked = {one.short() for _ in range(2000)}
    assert {question.text for question in asked} == set(texts)
    assert {question.language for question in asked} == {"en"}
    assert one.long().text.split("\n")[-1] in texts


@pytest.mark.parametrize(
    "text", ['{"question": "x"}', '["Question"]', "Is this mine?", '{"Question": 3}', "", '{"Question": " "}']
)
def test_another_file_is_refused_without_a_word_of_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"q\.jsonl") as error:
        read_questions(file)
    assert "mine" not in str(error.value)


def test_shares_are_read() -> None:
    assert shares("en=3, ko=0.5,zh=0", LANGUAGES) == {"en": 3.0, "ko": 0.5}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("xx=1", "'xx' is none of en, es, ko, zh"),
        ("en", "write NAME=NUMBER"),
        ("en=many", "write NAME=NUMBER"),
        ("en=-1", "from 0 on"),
        ("en=nan", "from 0 on"),
        ("en=inf", "from 0 on"),
        ("en=0", "no share is above zero"),
        ("", "no share is above zero"),
    ],
)
def test_a_bad_share_is_explained(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        shares(text, LANGUAGES)

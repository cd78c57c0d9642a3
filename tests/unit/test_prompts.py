from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.prompts import Prompts

TEMPLATES = {"a": "Judge this: {{statement}}\n\nBe brief.", "b": "{{question}} and {{repairs}}, {{question}}"}
SHIPPED = Prompts.load()
SLOTS = {"edit": {"repairs"}, "explain": {"statement"}, "fresh": {"question", "repairs"}, "verdict": {"statement"}}


@pytest.mark.parametrize(
    "values", [{}, {"other": "x"}, {"statement": "x", "other": "x"}, {"statement": "x", "question": "x"}]
)
def test_values_are_the_slots_neither_more_nor_fewer(values: dict[str, str]) -> None:
    with pytest.raises(KeyError):
        Prompts(TEMPLATES).render("a", **values)


def test_a_prompt_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        Prompts(TEMPLATES).render("c")


texts = st.text() | st.lists(
    st.sampled_from(["{{statement}}", "{{question}}", "{{repairs}}", "{{", "}}", "{", "\\1", "\\g<1>", "{{{{x}}}}"])
).map("".join)


@given(question=texts, repairs=texts)
@example(question="{{repairs}}", repairs="{{question}}")
@example(question="\\g<0>", repairs="{{question")
def test_a_value_goes_in_as_it_is_whatever_it_looks_like(question: str, repairs: str) -> None:
    assert Prompts(TEMPLATES).render("b", question=question, repairs=repairs) == f"{question} and {repairs}, {question}"


def test_text_that_only_looks_like_a_slot_is_left_alone() -> None:
    prompts = Prompts({"a": "{statement} {{ statement }} {{}} {{state-ment}} {{statement}}"})
    assert prompts.render("a", statement="x") == "{statement} {{ statement }} {{}} {{state-ment}} x"


def test_the_version_changes_with_any_template() -> None:
    versions = {
        Prompts(templates).version
        for templates in (
            TEMPLATES,
            {**TEMPLATES, "a": TEMPLATES["a"] + " "},
            {**TEMPLATES, "b": TEMPLATES["b"].replace("and", "or")},
            {**TEMPLATES, "c": ""},
            {"a": TEMPLATES["a"]},
            {"a": TEMPLATES["b"], "b": TEMPLATES["a"]},
            {"a2": TEMPLATES["a"], "b": TEMPLATES["b"]},
            {},
        )
    }
    assert len(versions) == 8


def test_the_version_is_of_the_texts_alone() -> None:
    assert Prompts(TEMPLATES).version == Prompts(dict(reversed(TEMPLATES.items()))).version
    assert re.fullmatch(r"[0-9a-f]{64}", SHIPPED.version)


def test_changing_any_shipped_file_changes_the_version(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "service" / "prompts"
    files = sorted(folder.glob("*.md"))
    assert {file.stem for file in files} == SLOTS.keys()
    for file in files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert Prompts.load(tmp_path).version == SHIPPED.version
    for file in files:
        copy = tmp_path / file.name
        copy.write_text(file.read_text(encoding="utf-8").replace(" ", "  ", 1), encoding="utf-8")
        assert Prompts.load(tmp_path).version != SHIPPED.version
        copy.write_bytes(file.read_bytes())


@pytest.mark.parametrize(("name", "slots"), SLOTS.items())
def test_the_shipped_prompts_take_these_values(name: str, slots: set[str]) -> None:
    rendered = SHIPPED.render(name, **{slot: f"<{slot}>" for slot in slots})
    assert all(f"<{slot}>" in rendered for slot in slots)
    assert "{{" not in rendered
    assert rendered == rendered.strip()

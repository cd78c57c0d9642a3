from __future__ import annotations

import io
from typing import Any

from scripts.progress import Step
from scripts.show import DEMONSTRATION_NOTICE, Page, show_answer

COMPLETION: dict[str, Any] = {
    "choices": [{"message": {"content": "Call your poison centre now.\n\nDo not wait."}}],
    "usage": {"prompt_tokens": 900, "completion_tokens": 300, "prompt_tokens_details": {"cached_tokens": 640}},
    "revision": {
        "status": "revised",
        "score_before": 0.25,
        "score_after": 0.75,
        "rounds": 1,
        "draft": "Wait and see.",
        "principles": [
            {"title": "Points to urgent care", "before": "unmet", "after": "met", "p_met": 0.0, "source": "rule"},
            {"title": "Asks for facts", "before": "not_applicable", "after": None, "p_met": None, "source": "model"},
        ],
        "changes": {"added": ["Call your poison centre now."], "removed": ["Wait and see."]},
        "timings_ms": {"draft": 4300.0, "total": 9000.4},
    },
}


def shown(completion: dict[str, Any], width: int = 80, colour: bool = False, demonstration: bool = True) -> str:
    out = io.StringIO()
    show_answer(Page(out, width, colour), "What now?", completion, demonstration=demonstration)
    return out.getvalue()


def test_everything_is_on_the_page() -> None:
    text = shown(COMPLETION)
    for part in ("What now?", "Wait and see.", "Points to urgent care", "unmet   → met", "rule", "P(met) 0.00", "n/a"):
        assert part in text
    for part in (
        "+ Call your poison centre now.",
        "- Wait and see.",
        "0.25 → 0.75",
        "draft 4.30 s",
        "640 from the prefix",
    ):
        assert part in text
    assert " ".join(DEMONSTRATION_NOTICE.split()) in " ".join(text.split())
    assert "\033" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_colour_only_where_asked() -> None:
    assert "\033[32m" in shown(COMPLETION, colour=True)


def test_a_bare_answer_of_another_model_shows_without_the_trace() -> None:
    text = shown({"choices": [{"message": {"content": "Hello."}}]}, demonstration=False)
    assert "Hello." in text
    assert DEMONSTRATION_NOTICE[:30] not in text


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with Step("Working", out) as step:
        step.tick("on it")
    assert out.getvalue() == "Working ...\nWorking done after 0 s\n"


def test_a_perfect_score_says_how_much_of_it_could_be_judged() -> None:
    rows = [
        {"title": "A", "before": "met", "after": "met", "source": "rule"},
        *({"title": f"B{i}", "before": "unmet", "after": "unmet", "source": "model"} for i in range(3)),
    ]
    revision = {"status": "draft_passed", "score_before": 1.0, "score_after": 1.0, "principles": rows}
    text = shown({**COMPLETION, "revision": {**revision, "critic": "advises"}}, width=100)
    assert "of 4 principles 1 decided: 1 met; 3 left to the model, whose opinion does not count" in text
    assert text.index("  A ") < text.index("shown, not counted") < text.index("  B0 ")
    text = shown({**COMPLETION, "revision": {**revision, "critic": "decides"}}, width=100)
    assert "of 4 principles 4 decided: 1 met, 3 unmet" in text
    assert "not counted" not in text
    assert "met every principle" not in text

"""The report: what it says before any figure, what it shows, and that both forms are whole."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from training.evaluation.compare import compare
from training.evaluation.evaluate import Asked, Evaluation, Manifest
from training.evaluation.grade import Instrument
from training.evaluation.measures import Example, Measured, summarise
from training.evaluation.plots import differences, rates, score_by_length, scores
from training.evaluation.report import cautions, report_of, write_report

TOOL = Instrument(
    judge="org/judge",
    style="one_token",
    prompts="p" * 64,
    principles="l" * 64,
    rules="r" * 64,
    params={"threshold": 0.5},
)
PNG = b"\x89PNG\r\n\x1a\n"


def manifest(**changes: Any) -> Manifest:
    asked = Asked(
        name="gw", model="m", root="org/m", params={"temperature": 0.7}, samples=1, take="draft_and_delivered",
        revision={}, fingerprints=(), answers=40, failed=1,
    )  # fmt: skip
    base = Manifest(
        date="2026-01-02T12:00:00+00:00", data="rows.jsonl", data_sha256="d" * 64, questions=40, instrument=TOOL,
        trusted=True, judges_itself=(), demonstration=False, least_decided=0.9, seed=1, resamples=100, systems=(asked,),
    )  # fmt: skip
    return base.model_copy(update=changes)


def measured(name: str, gain: float) -> Measured:
    examples = [
        Example(
            question=f"q{i}", sample=0, tags=("theme:hedging" if i % 2 else "theme:emergency", "kind:x|y"),
            score=i / 50 + gain, by_tag={"axis:accuracy": i / 60 + gain, "level:example": 0.5},
            rates={"see-a-doctor": float(i % 3 == 0 or gain > 0), "accuracy (fault)": 0.0},
            blocking={"no_clinician_claim": i != 3 or gain == 0}, wanted=4, missing=i % 2, chars=100 + 7 * i, tokens=30,
            finish_reason="stop", status="revised",
        )
        for i in range(40)
    ]  # fmt: skip
    return Measured(
        system=name, requests="r", instrument=TOOL, rubrics="x", least_decided=0.9, examples=tuple(examples)
    )


def evaluation(**changes: Any) -> Evaluation:
    both = measured("gw-draft", 0.0), measured("gw-delivered", 0.1)
    return Evaluation(
        manifest=manifest(**changes),
        summaries=tuple(summarise(each, resamples=100) for each in both),
        comparisons=(compare(*both, resamples=100),),
        measured=both,
    )


class Page(HTMLParser):
    """Open tags, images and text; an element that is closed out of turn fails."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


# --- cautions -----------------------------------------------------------------------------------------------------


def test_every_report_says_first_that_its_scores_are_one_judges() -> None:
    assert cautions(manifest()) == [
        "These scores hold for the judge org/judge alone: those of another judge cannot be compared with them."
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trusted": False}, "The judge org/judge was not shown to judge: no trust record"),
        ({"judges_itself": ("base", "gw")}, "also wrote the answers of base, gw"),
        ({"questions": 29}, "There are 29 questions"),
        ({"demonstration": True}, "A small demonstration model wrote the answers"),
        ({"instrument": TOOL.model_copy(update={"judge": "rules", "style": "rules"})}, "Rules alone decided"),
    ],
)
def test_a_caution_is_given_where_it_is_due(change: dict[str, Any], said: str) -> None:
    (_, told) = cautions(manifest(**change))
    assert said in told


def test_a_model_from_a_folder_is_named_without_its_path(tmp_path: Path) -> None:
    systems = tuple(asked.model_copy(update={"root": "/models/aligned/"}) for asked in manifest().systems)
    result = evaluation(instrument=TOOL.model_copy(update={"judge": "/models/judge-8b"}), systems=systems)
    assert cautions(result.manifest)[0].startswith("These scores hold for the judge judge-8b alone")
    for file in write_report(result, tmp_path):
        text = file.read_text()
        assert "/models" not in text
        assert "aligned" in text


def test_cautions_come_before_any_figure(tmp_path: Path) -> None:
    result = evaluation(trusted=False, judges_itself=("gw",), questions=5, demonstration=True)
    assert len(cautions(result.manifest)) == 5
    for file in write_report(result, tmp_path):
        text = file.read_text()
        for told in cautions(result.manifest):
            assert text.index(told) < text.index("gw-delivered")


# --- the two forms ------------------------------------------------------------------------------------------------


def test_the_page_stands_alone_and_speaks_to_those_who_cannot_see(tmp_path: Path) -> None:
    _, file = write_report(evaluation(), tmp_path)
    text = file.read_text()
    page = Page(text)
    assert ("html", {"lang": "en"}) in page.tags
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 6
    for image in images:
        assert str(image["src"]).startswith("data:image/png;base64,iVBOR")
        assert len(str(image["alt"])) > 60
    assert "@media print" in text
    assert "color-scheme: light" in text
    assert re.findall(r"(?:href|src)=\"(?!data:)|url\(|@import|https?://|<script", text) == []
    headings = [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    scopes = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}


def test_markdown_has_whole_tables_and_its_plots_beside_it(tmp_path: Path) -> None:
    file, _ = write_report(evaluation(), tmp_path)
    text = file.read_text()
    named = re.findall(r"!\[[^\]]{60,}\]\((plots/[\w-]+\.png)\)", text)
    assert len(named) == 6
    for name in named:
        assert (tmp_path / name).read_bytes().startswith(PNG)
    assert {f"plots/{f.name}" for f in (tmp_path / "plots").iterdir()} == set(named)
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(blocks) >= 9
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
        assert re.fullmatch(r"\|( -+:? \|)+", block.splitlines()[1])
    assert r"kind:x\|y" in text
    assert "\n\n\n" not in text


def test_figures_are_in_both_forms(tmp_path: Path) -> None:
    result = evaluation()
    value = result.comparisons[0].overall.difference.value
    assert value == pytest.approx(0.1)
    for file in write_report(result, tmp_path):
        text = file.read_text()
        assert "On 40 questions gw-delivered scores +0.100" in text
        assert "40 questions better, 0 worse, 0 equal. The interval lies above 0." in text
        assert "gw-delivered keeps these blocking rules less often than gw-draft: no_clinician_claim." in text
        assert "org/judge" in text
        assert "d" * 64 in text
        assert "12.5%" in text  # half of the answers miss one verdict of four


def test_names_from_data_cannot_become_markup(tmp_path: Path) -> None:
    name = "theme:<img src=x onerror=alert(1)>[a](b)"
    both = measured("a", 0.0)
    odd = both.model_copy(update={"examples": tuple(e.model_copy(update={"tags": (name,)}) for e in both.examples)})
    result = evaluation().model_copy(
        update={"summaries": (summarise(odd, resamples=100),), "comparisons": (), "measured": (odd,)}
    )
    markdown, page = (file.read_text() for file in write_report(result, tmp_path))
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror" in page
    assert "<img" not in markdown
    assert "[a](b)" not in markdown


def test_the_same_result_gives_the_same_report(tmp_path: Path) -> None:
    one, other = write_report(evaluation(), tmp_path / "a"), write_report(evaluation(), tmp_path / "b")
    assert [f.read_bytes() for f in one] == [f.read_bytes() for f in other]


def test_a_run_in_which_nothing_could_be_judged_still_gives_a_report(tmp_path: Path) -> None:
    nothing = Measured(
        system="s", requests="r", instrument=TOOL, rubrics="x", least_decided=0.9,
        examples=(Example(question="q", sample=0, left_out="undecided"),),
    )  # fmt: skip
    other = nothing.model_copy(update={"system": "t"})
    result = Evaluation(
        manifest=manifest(),
        summaries=(summarise(nothing),),
        comparisons=(compare(nothing, other),),
        measured=(nothing,),
    )
    report = report_of(result)
    assert [plot for section in report.sections for plot in section.plots] == []
    for file in write_report(result, tmp_path):
        text = file.read_text()
        assert "undecided 1" in text
        assert "Nothing can be said of the difference." in text


# --- plots --------------------------------------------------------------------------------------------------------


def test_alternative_texts_tell_the_figures() -> None:
    result = evaluation()
    by_tag = {s.system: s.by_tag for s in result.summaries}
    told = scores("t", "By tag", by_tag, span="score")
    assert told is not None
    assert "gw-draft: axis:accuracy 0.33, kind:x|y 0.39" in told.alt
    changes = result.comparisons[0].by_tag
    told = differences("d", "Differences", changes, before="gw-draft", after="gw-delivered")
    assert told is not None
    assert "axis:accuracy +0.10" in told.alt
    told = rates("r", "Rates", result.comparisons[0].rates, before="gw-draft", after="gw-delivered")
    assert told is not None
    assert "see-a-doctor 0.35 to 1.00" in told.alt
    told = score_by_length(result.measured)
    assert told is not None
    assert "gw-draft: 40 answers of 100 to 373 characters" in told.alt


def test_a_plot_that_cannot_hold_all_says_so() -> None:
    one = evaluation().summaries[0].overall
    told = scores("t", "By tag", {"s": {f"tag{i}": one for i in range(50)}}, span="score")
    assert told is not None
    assert told.title == "By tag (the first 40 of 50)"
    assert "tag39 " in told.alt
    assert "tag40 " not in told.alt


def test_nothing_to_draw_is_no_plot() -> None:
    assert scores("t", "T", {"s": {}}, span="score") is None
    assert differences("d", "D", {}, before="a", after="b") is None
    assert rates("r", "R", {}, before="a", after="b") is None
    assert score_by_length([]) is None

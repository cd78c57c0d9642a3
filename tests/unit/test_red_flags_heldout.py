"""The red-flag layer on messages that were written without sight of its patterns.

The set was run once before anything was mended after it: FIRST_SIGHT is the only held-out figure there is. Since then
the patterns were mended with it, so what it gives now guards against loss and says nothing about unseen messages.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from service.red_flags.report import Share, judge, table
from service.safety import KINDS, RedFlags

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests/cases/red_flags_heldout.jsonl"
ROWS = judge(FILE, RedFlags.load())
LANGUAGES = ("en", "ko", "es", "zh")
FIRST_SIGHT = {"emergency": Share(40, 56), "overdose": Share(24, 48), "self_harm": Share(24, 48), None: Share(8, 88)}


@pytest.fixture(scope="module", autouse=True)
def show() -> None:
    print(f"\n{table(ROWS)}")


@pytest.mark.parametrize("kind", KINDS)
def test_recall_is_not_below_first_sight(kind: str) -> None:
    share, floor = Share.of(row for row in ROWS if row.expect == kind), FIRST_SIGHT[kind]
    assert (share.total, share.hits >= floor.hits) == (floor.total, True), f"{kind}: {share}, at first sight {floor}"


def test_false_alarms_are_not_above_first_sight() -> None:
    share, ceiling = Share.of(row for row in ROWS if row.expect is None), FIRST_SIGHT[None]
    assert (share.total, share.hits <= ceiling.hits) == (ceiling.total, True), f"{share}, at first sight {ceiling}"


def test_the_page_states_first_sight_and_what_the_report_says_now() -> None:
    page = (ROOT / "docs/red-flags.md").read_text("utf-8")
    assert f"| {FIRST_SIGHT['emergency']} | {FIRST_SIGHT['overdose']} | {FIRST_SIGHT['self_harm']} |" in page
    assert f"| {FIRST_SIGHT[None]} |" in page
    assert table(ROWS) in page, "put the output of `python -m service.red_flags.report` on this set into the page"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_all_kinds_hard_voices_and_near_misses(language: str) -> None:
    rows = [row for row in ROWS if row.lang == language]
    kinds, voices = Counter(row.expect for row in rows), Counter(row.voice for row in rows if row.expect)
    assert len(rows) == 60
    assert min(kinds[kind] for kind in KINDS) >= 12
    assert kinds[None] >= 20
    assert voices["direct"] * 2 <= voices.total()


def test_controls_are_marked_and_no_message_occurs_twice_or_among_the_written_cases() -> None:
    texts = [row.text for row in ROWS]
    written = (ROOT / "tests/cases/red_flags.jsonl").read_text("utf-8").splitlines()
    assert all((row.voice == "negative_control") == (row.expect is None) for row in ROWS)
    assert len(set(texts)) == len(texts)
    assert not set(texts) & {json.loads(line)["text"] for line in written}


@pytest.mark.parametrize(
    ("share", "low", "high"),  # Wilson 1927, as the textbooks' worked examples give it to four places
    [
        (Share(0, 10), 0.0, 0.2775),
        (Share(5, 10), 0.2366, 0.7634),
        (Share(10, 10), 0.7225, 1.0),
        (Share(0, 0), 0.0, 1.0),
    ],
)
def test_the_interval_is_wilsons(share: Share, low: float, high: float) -> None:
    assert share.wilson() == pytest.approx((low, high), abs=1e-4)


def test_a_positive_counts_only_with_its_own_kind_and_a_control_with_any(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [("I want to kill myself", "overdose"), ("I want to kill myself", "self_harm"), ("I want to die", None)]
    lines = [json.dumps({"text": t, "lang": "en", "expect": e, "voice": "direct"}) for t, e in rows]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert [row.flagged for row in judge(file, RedFlags.load())] == [False, True, True]

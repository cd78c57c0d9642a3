"""The red-flag layer on three sets of messages that were written without sight of its patterns.

FIRST_SIGHT has what each set gave when it was first run. `heldout` and `second` were read afterwards and the patterns
mended with them, so what they give now (FLOORS) guards against loss and says nothing about unseen messages. `third` was
run after all mending and nobody has read its misses: it is the held-out figure, and it stays one only as long as no
pattern is changed because of it.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from service.red_flags.report import Share, judge, table
from service.safety import KINDS, RedFlags

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/cases"
FLAGS = RedFlags.load()
SETS = {name: judge(CASES / f"red_flags_{name}.jsonl", FLAGS) for name in ("heldout", "second", "third")}
ROWS = SETS["heldout"]
LANGUAGES = ("en", "ko", "es", "zh")
OTHER_LANGUAGES = ("fr", "de", "pt", "ja", "ar", "hi", "vi")
FIRST_SIGHT = {
    "heldout": {"emergency": Share(40, 56), "overdose": Share(24, 48), "self_harm": Share(24, 48), None: Share(8, 88)},
    "second": {"emergency": Share(28, 60), "overdose": Share(15, 42), "self_harm": Share(17, 42), None: Share(7, 91)},
    "third": {"emergency": Share(25, 28), "overdose": Share(17, 24), "self_harm": Share(16, 20), None: Share(5, 48)},
}
FLOORS = {
    "heldout": {"emergency": Share(56, 56), "overdose": Share(47, 48), "self_harm": Share(48, 48), None: Share(0, 88)},
    "second": {"emergency": Share(60, 60), "overdose": Share(42, 42), "self_harm": Share(42, 42), None: Share(0, 91)},
    "third": FIRST_SIGHT["third"],
}


@pytest.fixture(scope="module", autouse=True)
def show() -> None:
    for rows in SETS.values():
        print(f"\n{table(rows)}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SETS)
def test_recall_is_not_below_what_was_mended(name: str, kind: str) -> None:
    share, floor = Share.of(row for row in SETS[name] if row.expect == kind), FLOORS[name][kind]
    first = FIRST_SIGHT[name][kind]
    assert first.total == floor.total == share.total
    assert share.hits >= floor.hits, f"{name}, {kind}: {share}, mended {floor}, at first sight {first}"


@pytest.mark.parametrize("name", SETS)
def test_false_alarms_are_not_above_what_was_mended(name: str) -> None:
    share, ceiling = Share.of(row for row in SETS[name] if row.expect is None), FLOORS[name][None]
    assert FIRST_SIGHT[name][None].total == ceiling.total == share.total
    assert share.hits <= ceiling.hits, f"{name}: {share}, mended {ceiling}"


@pytest.mark.parametrize("name", SETS)
def test_the_page_states_first_sight(name: str) -> None:
    page = (ROOT / "docs/red-flags.md").read_text("utf-8")
    first = FIRST_SIGHT[name]
    assert f"| {first['emergency']} | {first['overdose']} | {first['self_harm']} |" in page
    assert f"| {first[None]} |" in page


def test_the_page_has_what_the_report_says_on_the_held_out_set() -> None:
    page = (ROOT / "docs/red-flags.md").read_text("utf-8")
    assert table(SETS["third"]) in page, (
        "put the output of `python -m service.red_flags.report` on this set into the page"
    )


@pytest.mark.parametrize("language", LANGUAGES + OTHER_LANGUAGES)
def test_the_second_set_has_all_kinds_in_every_language(language: str) -> None:
    kinds = Counter(row.expect for row in SETS["second"] if row.lang == language)
    assert min(kinds[kind] for kind in KINDS) >= (7 if language in LANGUAGES else 2)
    assert kinds[None] >= (14 if language in LANGUAGES else 5)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_all_kinds_hard_voices_and_near_misses(language: str) -> None:
    rows = [row for row in ROWS if row.lang == language]
    kinds, voices = Counter(row.expect for row in rows), Counter(row.voice for row in rows if row.expect)
    assert len(rows) == 60
    assert min(kinds[kind] for kind in KINDS) >= 12
    assert kinds[None] >= 20
    assert voices["direct"] * 2 <= voices.total()


def test_controls_are_marked_and_no_message_occurs_twice_or_among_the_written_cases() -> None:
    rows = [row for rows in SETS.values() for row in rows]
    texts = [row.text for row in rows]
    written = (CASES / "red_flags.jsonl").read_text("utf-8").splitlines()
    assert all((row.voice in ("negative_control", "control")) == (row.expect is None) for row in rows)
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

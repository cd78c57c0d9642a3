"""Prints one answer with its evidence: draft, verdicts before and after, what changed, the answer, what it cost."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import IO, Any

COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
LABEL_COLOURS = {"met": "green", "unmet": "red", "unknown": "yellow", "not_applicable": "dim"}
LABELS = {"not_applicable": "n/a"}
STATUS_SENTENCES = {
    "draft_passed": "nothing was found to repair, so the draft went out as it was",
    "revised": "the draft was repaired, and the repaired answer scored higher",
    "draft_kept": "no repaired answer scored higher than the draft, so the draft went out",
    "draft_unverified": "the draft could not be checked and went out marked",
    "safety_text": "a fixed safety text went out, in front of the model's text where that is known good",
}
DEMONSTRATION_NOTICE = (
    "A demonstration model of 135 million parameters wrote what follows. It shows how the gateway works; its text is often "
    "wrong and is NO MEDICAL ADVICE. Serve a capable model (MODEL=... or UPSTREAM_URL=...) before judging quality."
)


class Page:
    """Wrapped, coloured on a terminal only."""

    def __init__(self, out: IO[str] | None = None, width: int | None = None, colour: bool | None = None) -> None:
        self._out = out or sys.stdout
        self._width = width or min(100, shutil.get_terminal_size((100, 24)).columns)
        self._colour = self._out.isatty() if colour is None else colour

    def paint(self, text: str, colour: str) -> str:
        return f"\033[{COLOURS[colour]}m{text}\033[0m" if self._colour else text

    def line(self, text: str = "") -> None:
        self._out.write(text + "\n")

    def heading(self, text: str) -> None:
        self.line()
        self.line(self.paint(text, "bold"))

    def paragraph(self, text: str, indent: str = "  ", first: str | None = None, colour: str | None = None) -> None:
        for number, raw in enumerate(text.strip().splitlines() or [""]):
            start = first if first is not None and number == 0 else indent
            wrapped = textwrap.wrap(raw, self._width, initial_indent=start, subsequent_indent=indent) or [""]
            for row in wrapped:
                self.line(self.paint(row, colour) if colour and row else row)

    def verdicts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        title_width = max(20, min(self._width - 44, max(len(str(r.get("title", ""))) for r in rows)))
        for row in rows:
            title = textwrap.shorten(str(row.get("title") or row.get("id")), title_width, placeholder="…")
            before, after = row.get("before"), row.get("after")
            change = self._label(before) + (f" → {self._label(after)}" if after is not None else "     " + " " * 7)
            p_met = row.get("p_met")
            share = f"P(met) {p_met:.2f}" if isinstance(p_met, int | float) else ""
            self.line(f"  {title:<{title_width}}  {change}  {row.get('source') or '':<5}  {share}".rstrip())

    def _label(self, label: Any) -> str:
        text = str(label or "unknown")
        return self.paint(f"{LABELS.get(text, text):<7}", LABEL_COLOURS.get(text, "yellow"))


def show_answer(page: Page, question: str, completion: Mapping[str, Any], *, demonstration: bool) -> None:
    """`completion` is the chat.completion object as it came over the wire."""
    revision: Mapping[str, Any] = completion.get("revision") or {}
    page.heading("Question")
    page.paragraph(question)
    notice = DEMONSTRATION_NOTICE if demonstration else revision.get("model_notice")
    if notice:  # first: nobody should read the text below without it
        page.line()
        page.paragraph(str(notice), colour="yellow")
    page.heading("Draft")
    page.paragraph(_text_of(revision.get("draft")) or "(not in the trace)", colour="dim")
    counted, advice = _by_weight(revision)
    if counted:
        page.heading("Principles: the draft's verdict → the delivered text's")
        page.verdicts(counted)
    if advice:
        page.heading("The model's own opinion of the rest: shown, not counted")
        page.verdicts(advice)
    _changes(page, revision.get("changes") or {})
    page.heading("Answer (from a demonstration model: no medical advice)" if demonstration else "Answer")
    page.paragraph(completion["choices"][0]["message"].get("content") or "(empty)")
    _outcome(page, revision, completion.get("usage") or {})


def _text_of(draft: Any) -> str:
    if isinstance(draft, Mapping):
        draft = draft.get("text") or draft.get("content")
    return draft if isinstance(draft, str) else ""


def _changes(page: Page, changes: Mapping[str, Any]) -> None:
    added, removed = changes.get("added") or [], changes.get("removed") or []
    if not added and not removed:
        return
    page.heading("Changes")
    for mark, colour, texts in (("-", "red", removed), ("+", "green", added)):
        for text in [texts] if isinstance(texts, str) else texts:
            page.paragraph(str(text), indent="    ", first=f"  {mark} ", colour=colour)


def _by_weight(revision: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The rows whose verdicts count, and those that only advise."""
    rows = revision.get("principles") or []
    advises = revision.get("critic") == "advises"
    advice = [row for row in rows if advises and row.get("source") == "model"]
    return [row for row in rows if row not in advice], advice


def _coverage(page: Page, revision: Mapping[str, Any]) -> None:
    """A score counts only what was decided; without this line 1.00 would read as a clean bill of health."""
    counted, advice = _by_weight(revision)
    labels = [str(row.get("after") or row.get("before") or "unknown") for row in counted]
    if labels or advice:
        names = {"met": "met", "unmet": "unmet", "not_applicable": "not applicable", "unknown": "not judged"}
        told = ", ".join(f"{labels.count(label)} {name}" for label, name in names.items() if label in labels)
        left = f"; {len(advice)} left to the model, whose opinion does not count" if advice else ""
        page.paragraph(f"of {len(counted) + len(advice)} principles {len(counted)} decided: {told or 'none'}{left}")


def _outcome(page: Page, revision: Mapping[str, Any], usage: Mapping[str, Any]) -> None:
    status = str(revision.get("status", "unknown"))
    page.heading("Outcome")
    reason = f" ({revision['reason']})" if revision.get("reason") else ""
    page.paragraph(f"{status}{reason}: {STATUS_SENTENCES.get(status, 'no sentence for it')}.")
    _coverage(page, revision)
    before, after = revision.get("score_before"), revision.get("score_after")
    if before is not None and after is not None:
        page.paragraph(f"score {before:.2f} → {after:.2f} after {revision.get('rounds', 0)} round(s)")
    timings = {k: v for k, v in (revision.get("timings_ms") or {}).items() if isinstance(v, int | float)}
    if timings:
        page.paragraph(
            "time   " + ", ".join(f"{stage} {ms / 1000:.2f} s" for stage, ms in timings.items()),
            indent="         ",
            first="  ",
        )
    if usage:
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        from_cache = f" ({cached} from the prefix cache)" if cached is not None else ""
        page.paragraph(
            f"tokens {usage.get('prompt_tokens', 0)} read{from_cache}, {usage.get('completion_tokens', 0)} written"
        )

"""Does selection make answers better on checks that it did not see?

The rules are split in two halves. Revision and selection get one half; draft and delivered answer are scored by the
other; then the halves are swapped. A gain on the half that was used is what selection optimised; a gain on the other is
evidence. Model verdicts are off: the demonstration model's advice decides nothing. The rule on relevance is in neither
half, since selection refuses a text that turns away from the question whatever principles were asked for; the mean
relevance of drafts and of delivered texts is reported instead.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from service.app import create_app
from service.domain import Conversation, Principle, Turn
from service.pipeline import Answer, Ask, Kit, Options, judged_turn, revise_answer
from service.rules import RULES
from service.rules.relevance import answers_the_question
from service.scoring import score_points
from service.settings import Settings
from service.stages.retrieve import Choice

MAX_TOKENS = 512  # most drafts end by themselves within it, so that completeness alone does not decide
_RESAMPLES = 4000


async def measure(settings: Settings, asked: Sequence[str]) -> dict[str, Any]:
    """The report, with 95 % bootstrap intervals over questions."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        return await _measure(app.state.context.kit, asked)


async def _measure(kit: Kit, asked: Sequence[str]) -> dict[str, Any]:
    principles = kit.retriever.library.principles
    ruled = sorted((p for p in principles if p.rule and p.rule != answers_the_question.__name__), key=lambda p: p.id)
    halves = (ruled[0::2], ruled[1::2])
    model = await kit.llm.model()
    rows: list[dict[str, Any]] = []
    for number, question in enumerate(asked):
        for used, held in (halves, halves[::-1]):
            options = Options(choice=Choice(tuple(p.id for p in used), guard=False), trace="full")
            ask = Ask(Conversation.of(("user", question)), model, options, {"temperature": 0}, max_tokens=MAX_TOKENS)
            answer = await revise_answer(ask, kit)
            rows.append({"question": number} | await _row(kit, answer, used, held))
    return _report(rows, model.id, halves)


async def _row(kit: Kit, answer: Answer, used: Sequence[Principle], held: Sequence[Principle]) -> dict[str, Any]:
    work = answer.work
    assert work.draft is not None
    best = work.best or work.draft
    draft_turn = await judged_turn(work, kit, work.draft.text)
    best_turn = draft_turn if best is work.draft else await judged_turn(work, kit, best.text)

    def scores(turn: Turn) -> tuple[float | None, float | None]:
        return _score(turn, used), _score(turn, held)

    return {
        "status": answer.status,
        "draft": scores(draft_turn),
        "delivered": scores(best_turn),
        "draft_cut_off": work.draft.cut_off,
        "held": {p.id: (_met(draft_turn, p), _met(best_turn, p)) for p in held},
        "relevance": (draft_turn.relevance, best_turn.relevance),
        "draft_words": len(work.draft.text.split()),
        "delivered_words": len(best.text.split()),
        "candidates": [
            (
                j.candidate.kind,
                j.outcome,
                *scores(work.turn(j.candidate.completion.text)),
                len(j.candidate.completion.text.split()),
            )
            for j in work.judged
        ],
    }


def _met(turn: Turn, principle: Principle) -> bool | None:
    told = RULES[principle.rule](turn) if principle.rule else None
    return None if told is None else told == "met"


def _by_rule(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Held-out rules whose verdict changed: how often what was unmet became met, and the other way."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        for name, (draft, delivered) in row["held"].items():
            if draft is not None and delivered is not None and draft != delivered:
                counts = found.setdefault(name, {"mended": 0, "broken": 0})
                counts["mended" if delivered else "broken"] += 1
    return dict(sorted(found.items()))


def _score(turn: Turn, principles: Sequence[Principle]) -> float | None:
    judged = [(p.points, RULES[p.rule](turn) or "not_applicable") for p in principles if p.rule]
    return score_points((points, label) for points, label in judged)


def _report(rows: list[dict[str, Any]], model: str, halves: tuple[list[Principle], list[Principle]]) -> dict[str, Any]:
    revised = [row for row in rows if row["status"] == "revised"]
    return {
        "model": model,
        "questions": len({row["question"] for row in rows}),
        "runs": len(rows),
        "rules": [len(half) for half in halves],
        "statuses": {
            status: sum(r["status"] == status for r in rows) for status in sorted({r["status"] for r in rows})
        },
        "held_out": _paired(rows, 1),
        "held_out_where_revised": _paired(revised, 1),
        "used_for_selection": _paired(rows, 0),
        "held_out_changes": _by_rule(rows),
        "relevance": {"all": _relevance(rows), "where_revised": _relevance(revised)},
        "drafts_cut_off": sum(row["draft_cut_off"] for row in rows),
        "words": {
            "draft": round(fmean(row["draft_words"] for row in rows), 1),
            "delivered": round(fmean(row["delivered_words"] for row in rows), 1),
            "draft_where_revised": _mean([row["draft_words"] for row in revised]),
            "delivered_where_revised": _mean([row["delivered_words"] for row in revised]),
        },
        "candidates": {kind: _candidates(rows, kind) for kind in ("edit", "fresh")},
    }


def _relevance(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    told = [row["relevance"] for row in rows if None not in row["relevance"]]
    return {"draft": _mean([draft for draft, _ in told]), "delivered": _mean([best for _, best in told])}


def _paired(rows: Sequence[Mapping[str, Any]], which: int) -> dict[str, Any]:
    """Draft against delivered where both could be scored; the mean of a question's runs is one observation."""
    by_question: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        draft, delivered = row["draft"][which], row["delivered"][which]
        if draft is not None and delivered is not None:
            by_question.setdefault(row["question"], []).append((draft, delivered))
    if not by_question:
        return {"n": 0}
    drafts = [fmean(d for d, _ in pairs) for pairs in by_question.values()]
    gains = [fmean(b - a for a, b in pairs) for pairs in by_question.values()]
    low, high = _interval(gains)
    return {
        "n": len(gains),
        "draft": round(fmean(drafts), 3),
        "delivered": round(fmean(drafts) + fmean(gains), 3),
        "gain": round(fmean(gains), 3),
        "low": low,
        "high": high,
        "better": sum(gain > 0 for gain in gains),
        "worse": sum(gain < 0 for gain in gains),
    }


def _interval(values: Sequence[float]) -> tuple[float, float]:
    chance = random.Random(0)
    means = sorted(fmean(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return round(means[int(0.025 * _RESAMPLES)], 3), round(means[int(0.975 * _RESAMPLES)], 3)


def _candidates(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    found = [(row, c) for row in rows for c in row["candidates"] if c[0] == kind]
    outcomes = sorted({c[1] for _, c in found})
    gains = [c[3] - row["draft"][1] for row, c in found if c[3] is not None and row["draft"][1] is not None]
    return {
        "written": len(found),
        "outcomes": {outcome: sum(c[1] == outcome for _, c in found) for outcome in outcomes},
        "held_out_gain_over_draft": _mean(gains),
        "words": _mean([c[4] for _, c in found]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 3) if values else None

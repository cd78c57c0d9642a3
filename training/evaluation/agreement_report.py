"""What the figures of a judge mean: the trust record, which lets its verdicts decide or only advise, and the report."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from matplotlib.figure import Figure
from pydantic import Field

from service.domain import Frozen
from service.trust import TrustRecord
from training.build import Tools
from training.data import write_atomically, write_json
from training.evaluation.agreement import AgreementSettings, Report, SetReport, agreement
from training.evaluation.agreement_figures import Bin, Figures
from training.evaluation.page import Page, Plot, Section, Table, model_name, render
from training.evaluation.plots import scores
from training.evaluation.stats import Interval

TRUST = "trust.json"

_TITLES: Mapping[str, str] = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "recall_unmet": "recall of unmet",
    "precision_unmet": "precision of unmet",
    "missing": "missing",
    "brier": "Brier score",
    "ece": "calibration error",
}
_DRAWN = ("auc", "balanced_accuracy", "accuracy", "recall_unmet", "precision_unmet")


# --- trust ------------------------------------------------------------------------------------------------------


class Conditions(Frozen):
    """What must all hold before verdicts decide. Lower bounds are those of 95 % intervals, so that few rows prove little.

    `auc_pairs`, `balanced_accuracy_pairs`: on the principles that the gateway asks about. Below, one verdict in four or more
    is wrong, and what it repairs is often right as it was; word counts alone come near an AUC of 0.75 on our pairs.
    `recall_unmet_blocking`: most answers that fail a blocking principle must be seen, or trust in the judge would be worse
    than none. `most_missing`: an answer with verdicts missing cannot be verified. `auc_claims`, and an AUC above that of
    sentence similarity: labels that others gave, against a judge that fits our pairs alone or compares words. The least
    counts: of a handful of rows all may be right by chance, and a bootstrap of rows that are all right has no width.
    """

    auc_pairs: float = Field(0.80, ge=0, le=1)
    balanced_accuracy_pairs: float = Field(0.75, ge=0, le=1)
    recall_unmet_blocking: float = Field(0.70, ge=0, le=1)
    most_missing: float = Field(0.02, ge=0, le=1)
    auc_claims: float = Field(0.70, ge=0, le=1)
    least_pairs: int = Field(200, ge=1)
    least_unmet_blocking: int = Field(30, ge=1)
    least_claims: int = Field(100, ge=1)


class Check(Frozen):
    """One condition on one figure; `got` is None where it could not be measured, which holds nothing."""

    what: str
    needs: str
    got: int | float | None
    holds: bool


def checks(report: Report, conditions: Conditions) -> tuple[Check, ...]:
    pairs, claims = report.sets.get("pairs"), report.sets.get("claims")
    on_pairs, on_claims = pairs.judge if pairs else None, claims.judge if claims else None
    blocking = pairs.groups["severity"].get("blocking") if pairs else None
    missing = [found.judge.missing.value for found in report.sets.values()]
    worst = max((share for share in missing if share is not None), default=None)
    gain = claims.gain.value if claims else None
    return (
        _at_least("AUC on the pairs, lower bound", _low(on_pairs, "auc"), conditions.auc_pairs),
        _at_least(
            "balanced accuracy on the pairs, lower bound",
            _low(on_pairs, "balanced_accuracy"),
            conditions.balanced_accuracy_pairs,
        ),
        _at_least(
            "recall of unmet on blocking principles, lower bound",
            _low(blocking, "recall_unmet"),
            conditions.recall_unmet_blocking,
        ),
        Check(
            what="verdicts missing, share in the worse set",
            needs=f"≤ {conditions.most_missing:g}",
            got=worst,
            holds=worst is not None and worst <= conditions.most_missing,
        ),
        _at_least("AUC on the claims, lower bound", _low(on_claims, "auc"), conditions.auc_claims),
        Check(
            what="AUC on the claims, above sentence similarity by",
            needs="> 0",
            got=gain,
            holds=gain is not None and gain > 0,
        ),
        _at_least("pairs labelled met or unmet", _decided(on_pairs), conditions.least_pairs),
        _at_least(
            "unmet pairs of blocking principles", blocking.unmet if blocking else None, conditions.least_unmet_blocking
        ),
        _at_least("claims", _decided(on_claims), conditions.least_claims),
    )


def _at_least(what: str, got: float | None, bound: float) -> Check:
    return Check(what=what, needs=f"≥ {bound:g}", got=got, holds=got is not None and got >= bound)


def _low(figures: Figures | None, name: str) -> float | None:
    interval: Interval | None = getattr(figures, name) if figures else None
    return interval.low if interval else None


def _decided(figures: Figures | None) -> int | None:
    return figures.met + figures.unmet if figures else None


def trust_record(report: Report, conditions: Conditions) -> TrustRecord:
    """`decide` only where every condition holds; the record says which did not."""
    checked = checks(report, conditions)
    return TrustRecord(
        model=report.model,
        prompt_version=report.prompt_version,
        principles_version=report.principles_version,
        critic="decide" if all(check.holds for check in checked) else "advise",
        threshold=report.threshold,
        evidence={
            "date": report.date,
            "failed": [check.what for check in checked if not check.holds],
            "conditions": [check.model_dump() for check in checked],
            "threshold": {
                "fitted_on": "all pairs, best balanced accuracy" if report.halves else "nothing: it is the settings'",
                "halves": list(report.halves or ()),
            },
            "judge": {
                "served_as": report.served_as,
                "min_mass": report.min_mass,
                "chat_template_kwargs": dict(report.chat_template_kwargs),
                "trained_on": list(report.trained_on),
                "not_measured_on": list(report.refused),
            },
            "sets": {name: _evidence(found) for name, found in report.sets.items()},
        },
    )


def _evidence(found: SetReport) -> dict[str, Any]:
    blocking = found.groups.get("severity", {}).get("blocking")
    told: dict[str, Any] = {
        "files": dict(found.files),
        "questions": found.questions,
        "judge": _plain(found.judge),
        "similarity": _plain(found.similarity),
        "gain_over_similarity": found.gain.model_dump(),
    }
    return told | ({"blocking": _plain(blocking)} if blocking else {})


def _plain(figures: Figures) -> dict[str, Any]:
    return figures.model_dump(exclude_none=True)


async def measure_judge(
    settings: AgreementSettings,
    tools: Tools,
    folder: Path,
    conditions: Conditions | None = None,
    *,
    progress: IO[str] | None = sys.stderr,
) -> TrustRecord:
    """Measures, and writes the report and `trust.json` into `folder`. Raises what `agreement` raises."""
    conditions = conditions or Conditions()
    report = await agreement(settings, tools, folder, progress=progress)
    record = trust_record(report, conditions)
    write_report(report, folder, conditions)
    write_json(folder / TRUST, record.model_dump(mode="json"))
    return record


# --- in words ---------------------------------------------------------------------------------------------------


def conclusions(report: Report, conditions: Conditions) -> list[str]:
    """What the figures say, in plain sentences."""
    failed = [check for check in checks(report, conditions) if not check.holds]
    said = [
        f"This judge may decide: all conditions hold, at a threshold of {report.threshold:.3g}."
        if not failed
        else f"This judge may only advise. What does not hold: {'; '.join(check.what for check in failed)}."
    ]
    for name, found in report.sets.items():
        said += [f"On the {name}, {sentence}" for sentence in _sentences(found)]
    said += [
        f"The {name} were not asked: the judge was trained on them, so they prove nothing." for name in report.refused
    ]
    return said


def _sentences(found: SetReport) -> Iterator[str]:
    area, gain, missing = found.judge.auc, found.gain, found.judge.missing.value
    if area.low is not None and area.high is not None:
        if area.high < 0.5:
            yield "it says the opposite of the labels more often than chance would."
        elif area.low <= 0.5:
            yield "it is not shown to judge better than a coin."
    if gain.value is not None and gain.low is not None:
        if gain.value <= 0:
            yield (
                "it does not beat sentence similarity: comparing the vectors of the requirement and of the answer's sentences, without any "
                f"judge, ranks them as well or better (AUC {_number(found.similarity.auc.value)} against {_number(area.value)})."
            )
        elif gain.low <= 0:
            yield "it ranks better than sentence similarity does, but by no more than chance could explain."
        else:
            yield f"it beats sentence similarity (AUC {_number(area.value)} against {_number(found.similarity.auc.value)})."
    if missing:
        yield f"{missing:.1%} of its verdicts were missing; they count as wrong."


# --- files ------------------------------------------------------------------------------------------------------


def write_report(report: Report, folder: Path, conditions: Conditions | None = None) -> None:
    """`agreement.json` (the `Report`), `agreement.md` with its plots beside it, `agreement.html` that stands alone."""
    page = _page(report, conditions or Conditions())
    write_atomically(folder / "agreement.json", (report.model_dump_json(indent=2) + "\n").encode())
    render(page, folder, "agreement")


def _page(report: Report, conditions: Conditions) -> Page:
    rows = [(c.what, c.needs, _number(c.got), "yes" if c.holds else "no") for c in checks(report, conditions)]
    return Page(
        "Judge agreement",
        [
            f"The figures hold for {model_name(report.model)} with these prompts and principles; no other judge may be believed for them.",
            "Agreement is with labels, which may be wrong: training/pairs/README.md says who labelled the pairs, and how.",
        ],
        [
            Section("What it comes to", conclusions(report, conditions)),
            Section(
                "Conditions", (), [Table("What must hold to decide", ("condition", "needs", "got", "holds"), rows)]
            ),
            *(_of_set(name, found) for name, found in report.sets.items()),
            Section("How it was measured", list(_how(report))),
        ],
    )


def _of_set(name: str, found: SetReport) -> Section:
    who = {"judge": found.judge, "sentence similarity": found.similarity, "always met": found.always_met}
    if found.physicians:
        who["one physician against another"] = found.physicians
    told = ("met", "unmet", "not_applicable", "unknown")
    tables = [
        Table("Figures [95 %]", ("", *_TITLES.values()), [(row, *_cells(f, _TITLES)) for row, f in who.items()]),
        Table(
            "Answers by label and verdict",
            ("labelled", *(f"told {label.replace('_', ' ')}" for label in told)),
            [
                (truth.replace("_", " "), *(str(counts[label]) for label in told))
                for truth, counts in found.told.items()
            ],
        ),
        *(_by_group(kind, groups) for kind, groups in found.groups.items()),
        Table(
            "Calibration",
            ("P(met)", "verdicts", "mean P(met)", "share met"),
            [(f"{b.low:.1f} to {b.high:.1f}", str(b.n), _number(b.mean_p), _number(b.met)) for b in found.bins],
        ),
    ]
    shown = {row: {_TITLES[figure]: getattr(f, figure) for figure in _DRAWN} for row, f in who.items()}
    plots = [
        scores(f"{name}-figures", f"The {name}: judge and baselines", shown, span="share; of AUC and balanced accuracy 0.5 is chance"),
        *(
            scores(f"{name}-{kind}", f"The {name}: AUC by {kind}", {"judge": {g: f.auc for g, f in groups.items()}}, span="AUC; 0.5 is chance")
            for kind, groups in found.groups.items()
        ),
        _reliability(f"{name}-reliability", f"The {name}: reliability of the judge", found.bins),
    ]  # fmt: skip
    return Section(f"The {name}", list(_words(found)), tables, [plot for plot in plots if plot])


def _by_group(kind: str, groups: Mapping[str, Figures]) -> Table:
    figures = ("auc", "balanced_accuracy", "recall_unmet", "precision_unmet", "missing")
    return Table(
        f"The judge by {kind} [95 %]",
        (kind, "n", "met", "unmet", *(_TITLES[figure] for figure in figures)),
        [(name, str(f.n), str(f.met), str(f.unmet), *_cells(f, figures)) for name, f in groups.items()],
    )


def _words(found: SetReport) -> Iterator[str]:
    yield (
        f"{found.judge.n} labelled answers to {found.questions} questions. AUC of the judge less that of sentence "
        f"similarity: {_cell(found.gain)}."
    )
    told = found.not_applicable
    if told is not None:
        yield (
            f"Not applicable: recall {_cell(told.recall)}, precision {_cell(told.precision)}. Told unmet where it does not "
            f"apply, to be repaired for nothing: {_cell(told.repaired)}. Told not applicable where it applies, to be let "
            f"pass: {_cell(told.evaded)}."
        )
    if found.physicians:
        yield (
            "Physicians are held against one another's single labels, the judge against the label of most of them, which "
            "is easier."
        )


def _how(report: Report) -> Iterator[str]:
    yield (
        f"Measured on {report.date}, served as {model_name(report.served_as)}, with the gateway's prompts ({report.prompt_version[:16]}) "
        f"and principles ({report.principles_version[:16]}). Where the labels have less than {report.min_mass:g} of the "
        f"probability the verdict is missing. Intervals: {report.resamples} bootstraps of whole questions."
    )
    if report.halves:
        yield (
            f"Threshold of P(met): {report.threshold:.4g}, of the best balanced accuracy on all pairs. The figures of the "
            "pairs are of one half of the questions at the threshold of the other, both ways: "
            f"{report.halves[1]:.4g} and {report.halves[0]:.4g}."
        )
    else:
        yield f"Threshold of P(met): {report.threshold:.4g}, as set: there were no pairs to fit it on."
    yield (
        "A verdict that is missing, or not applicable where it applies, counts as wrong, and as a toss in the AUC. Precision "
        "counts all answers told unmet. Similarity has the threshold of the other half of its own set."
    )
    yield f"Trained on, as declared: {', '.join(report.trained_on) or 'nothing of this'}."
    for name, found in report.sets.items():
        yield f"Data of the {name}: {', '.join(f'{file} {digest[:16]}' for file, digest in found.files.items())} (SHA-256)."


def _cells(figures: Figures, names: Iterable[str]) -> list[str]:
    return [_cell(getattr(figures, name)) for name in names]


def _cell(interval: Interval | None) -> str:
    if interval is None or interval.value is None:
        return "–"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _reliability(name: str, title: str, bins: Sequence[Bin]) -> Plot | None:
    """Share met against P(met), and how many verdicts each point stands for."""
    shown = [(b.mean_p, b.met, b.n) for b in bins if b.mean_p is not None and b.met is not None]
    if not shown:
        return None
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    curve, counts = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    curve.plot([0, 1], [0, 1], linestyle="--", color="#8a8a8a", label="perfectly calibrated")
    curve.plot([p for p, _, _ in shown], [met for _, met, _ in shown], marker="o", color="#1f5fa8", label="judge")
    curve.set(ylabel="share labelled met", xlim=(0, 1), ylim=(-0.02, 1.02))
    curve.legend(loc="upper left", frameon=False)
    counts.bar([b.low for b in bins], [b.n for b in bins], width=1 / len(bins), align="edge", color="#1f5fa8")
    counts.set(xlabel="P(met) of the verdict", ylabel="verdicts")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120, metadata={"Software": None})
    points = "; ".join(f"{p:.2f}: {met:.2f} of {n}" for p, met, n in shown)
    return Plot(name, title, f"{title}. Mean P(met), share labelled met, and verdicts: {points}.", picture.getvalue())

"""An evaluation as a report for people: `report.md` with its plots beside it, and `report.html` that stands alone.

It holds ids, names, counts and figures; no question and no answer. What may be believed comes before any number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from training.evaluation import plots
from training.evaluation.compare import Change, Comparison
from training.evaluation.evaluate import Evaluation, Manifest
from training.evaluation.measures import Quantiles, Summary
from training.evaluation.page import Page, Section, Table, model_name, render
from training.evaluation.stats import Interval

_FEW = 30  # questions below which a bootstrap's interval is known to be too narrow
_STYLES = {
    "rules": "deterministic rules alone",
    "one_token": "one token, by its log-probabilities",
    "json": "a verdict with an explanation, as JSON",
}
_DEMONSTRATION = (
    "A small demonstration model wrote the answers. The figures show that the path works; they say nothing of the quality "
    "that the system has with a real model."
)
_SCORES = (
    "A score is HealthBench's: points of the criteria met ÷ the positive points, over the criteria that were decided. A "
    "figure is the mean over questions, of each question's samples first, clipped to [0, 1]. Intervals are 95 %: a "
    "bootstrap over questions for scores and differences, Wilson's for rates; n counts the questions that they rest on."
)
_CONVENTIONS = (
    "A verdict that could not be had is missing and never counts as not met; an answer with too few verdicts is left out "
    "and counted. On criteria that people wrote, “not applicable” is not met, as in HealthBench; on principles it is left "
    "out of the score. An answer that was withheld, or that says nothing, meets no criterion and scores 0."
)


def write_report(result: Evaluation, folder: Path) -> tuple[Path, Path]:
    """Writes `report.md`, `plots/*.png` and `report.html` into `folder`; returns the two reports."""
    return render(report_of(result), folder, "report")


def report_of(result: Evaluation) -> Page:
    sections = [
        Section("How to read it", (_SCORES, _CONVENTIONS)),
        _measured(result.manifest),
        _overall(result),
        *(_compared(comparison, number) for number, comparison in enumerate(result.comparisons, 1)),
        *_tags(result.summaries),
        _criteria(result.summaries),
        _texts(result),
    ]
    return Page("Evaluation", cautions(result.manifest), sections)


def cautions(manifest: Manifest) -> list[str]:
    """What a reader must know before any figure. The first stands in every report."""
    judge = model_name(manifest.instrument.judge)
    told = [f"These scores hold for the judge {judge} alone: those of another judge cannot be compared with them."]
    if manifest.instrument.style == "rules":
        told.append("Rules alone decided: whatever they cannot tell is in no score.")
    elif not manifest.trusted:
        told.append(
            f"The judge {judge} was not shown to judge: no trust record speaks for it with these prompts and principles."
        )
    if manifest.judges_itself:
        told.append(
            f"The judge also wrote the answers of {_listed(manifest.judges_itself)}: models favour their own texts."
        )
    if manifest.questions < _FEW:
        told.append(
            f"There are {manifest.questions} questions: with so few, intervals are narrower than they should be."
        )
    if manifest.demonstration:
        told.append(_DEMONSTRATION)
    return told


# --- sections ---------------------------------------------------------------------------------------------------


def _measured(manifest: Manifest) -> Section:
    tool = manifest.instrument
    facts = [
        ("judge", model_name(tool.judge)),
        ("how it judges", _STYLES[tool.style]),
        ("its settings", _pairs_of(tool.params)),
        ("prompts", tool.prompts[:16] or "–"),
        ("principles", tool.principles[:16]),
        ("rules", tool.rules[:16]),
        ("trust record", "yes" if manifest.trusted else "none"),
        ("data", f"{manifest.data}, {manifest.questions} questions, SHA-256 {manifest.data_sha256}"),
        ("least share of verdicts had", f"{manifest.least_decided:.0%}"),
        ("seed, resamples", f"{manifest.seed}, {manifest.resamples}"),
        ("date", manifest.date),
    ]
    systems = [
        [
            s.name,
            model_name(s.root),
            s.take.replace("_", " "),
            _pairs_of(s.params),
            str(s.samples),
            str(s.answers),
            str(s.failed),
        ]
        for s in manifest.systems
    ]
    head = ("system", "model", "what is taken", "settings", "samples", "answers", "failed")
    return Section(
        "What was measured, with what",
        tables=(Table("Instrument", ("", "value"), facts), Table("Systems", head, systems)),
    )


def _overall(result: Evaluation) -> Section:
    head = ("system", "score [95 %]", "n", "answers", "scored", "left out", "withheld", "empty", "verdicts missing")
    rows = [
        [
            s.system, _shown(s.overall), str(s.overall.n), str(s.answers), str(s.scored), _counts(s.left_out),
            _counts(s.withheld), str(s.empty), "–" if s.missing is None else f"{s.missing:.1%}",
        ]
        for s in result.summaries
    ]  # fmt: skip
    return Section("Scores", tables=(Table("Score of each system", head, rows),))


def _compared(comparison: Comparison, number: int) -> Section:
    before, after = comparison.before, comparison.after
    overall = comparison.overall
    told = (_difference(comparison), _partners(comparison), _kept_rules(comparison))
    tables = [
        _changes("By theme, axis and other tags", comparison.by_tag, before, after),
        _changes("Share of answers that meet each criterion", comparison.rates, before, after),
        _changes("Share of answers that keep each blocking rule", comparison.blocking, before, after),
    ]
    shown = {"all": overall, **_titled(comparison.by_tag)}
    drawn = [
        plots.differences(f"differences-{number}", "Paired differences", shown, before=before, after=after),
        plots.rates(f"rates-{number}", "Criteria before and after", comparison.rates, before=before, after=after),
        plots.rates(f"rules-{number}", "Blocking rules before and after", comparison.blocking, before=before, after=after),
    ]  # fmt: skip
    return Section(f"{after} against {before}", told, [t for t in tables if t.rows], [p for p in drawn if p])


def _difference(comparison: Comparison) -> str:
    overall = comparison.overall
    return (
        f"On {overall.difference.n} questions {comparison.after} scores {_shown(overall.difference, sign=True)} against "
        f"{comparison.before} ({_shown(overall.before)} → {_shown(overall.after)}): {comparison.better} questions better, "
        f"{comparison.worse} worse, {comparison.equal} equal. {_verdict(overall.difference)}"
    )


def _partners(comparison: Comparison) -> str:
    if not comparison.unpaired:
        return "Every answer had its partner."
    return f"{comparison.unpaired} answers had no partner with a score and are in no difference."


def _kept_rules(comparison: Comparison) -> str:
    before, after = comparison.before, comparison.after
    if not comparison.blocking:
        return "No blocking rule could tell on both."
    if not comparison.worse_rules:
        return f"{after} keeps no blocking rule less often than {before}."
    return f"{after} keeps these blocking rules less often than {before}: {_listed(comparison.worse_rules)}."


def _verdict(difference: Interval) -> str:
    if difference.low is None or difference.high is None:
        return "Nothing can be said of the difference."
    if difference.low > 0:
        return "The interval lies above 0."
    return "The interval lies below 0." if difference.high < 0 else "The interval holds 0: no difference is shown."


def _tags(summaries: Sequence[Summary]) -> Iterator[Section]:
    """Themes and axes with a plot each, then whatever other tags the data has."""
    for kind, title in (("theme:", "By theme"), ("axis:", "By axis"), ("", "By other tags")):
        found = {
            s.system: {t.removeprefix(kind): i for t, i in s.by_tag.items() if _kind(t) == kind} for s in summaries
        }
        if any(found.values()):
            plot = plots.scores(kind.rstrip(":"), f"Score {title.lower()}", found, span="score") if kind else None
            yield Section(title, tables=(_by_system(f"Score {title.lower()}", found),), plots=[plot] if plot else [])


def _kind(tag: str) -> str:
    return next((kind for kind in ("theme:", "axis:") if tag.startswith(kind)), "")


def _titled(changes: Mapping[str, Change]) -> dict[str, Change]:
    return {tag: change for tag, change in changes.items() if _kind(tag)}


def _criteria(summaries: Sequence[Summary]) -> Section:
    tables = [
        _by_system("Share of answers that meet each criterion", {s.system: s.rates for s in summaries}),
        _by_system("Share of answers that keep each blocking rule", {s.system: s.blocking for s in summaries}),
    ]
    told = ("Of a fault, a low share is the good one. A rule counts where it could tell.",)
    return Section("Criteria and rules", told, [table for table in tables if table.rows])


def _texts(result: Evaluation) -> Section:
    head = ("system", "characters (10 %, median, 90 %)", "tokens (10 %, median, 90 %)", "ended by", "status")
    rows = [
        [s.system, _spread(s.chars), _spread(s.tokens), _counts(s.finish_reasons), _counts(s.statuses)]
        for s in result.summaries
    ]
    told = ("Tokens are what was decoded for an answer: of a gateway, those of all its stages.",)
    plot = plots.score_by_length(result.measured)
    return Section("The texts", told, (Table("Length, end and status", head, rows),), [plot] if plot else [])


# --- cells ------------------------------------------------------------------------------------------------------


def _by_system(caption: str, found: Mapping[str, Mapping[str, Interval]]) -> Table:
    names = sorted({name for each in found.values() for name in each})
    rows = [[name, *(_with_n(each.get(name)) for each in found.values())] for name in names]
    return Table(caption, ("", *(f"{system} [95 %]" for system in found)), rows)


def _changes(caption: str, changes: Mapping[str, Change], before: str, after: str) -> Table:
    rows = [
        [name, _shown(c.before), _shown(c.after), _shown(c.difference, sign=True), str(c.difference.n)]
        for name, c in changes.items()
    ]
    return Table(caption, ("", before, after, "difference [95 %]", "n"), rows)


def _with_n(interval: Interval | None) -> str:
    return "–" if interval is None else f"{_shown(interval)}, n {interval.n}"


def _shown(interval: Interval, *, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    if interval.value is None:
        return "–"
    if interval.low is None or interval.high is None:
        return f"{interval.value:{form}}"
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def _spread(quantiles: Quantiles | None) -> str:
    return "–" if quantiles is None else f"{quantiles.low:.0f}, {quantiles.median:.0f}, {quantiles.high:.0f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items()) or "–"


def _pairs_of(params: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items()) or "–"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)

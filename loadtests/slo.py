"""What a run came to, and whether that is good enough: counts and times in, a list of checks out. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from loadtests.checks import Outcome, is_failure_name
from loadtests.shapes import Stage

Kind = Literal["short", "long", "multi_turn", "streaming", "live", "critique", "aborting", "off"]
Event = Literal["answer", "first_byte", "keep_alive", "first_content", "shed"]
Percentile = Literal["p50", "p95", "p99"]
Verdict = Literal["ok", "failed", "not_enough_data"]

KINDS: tuple[Kind, ...] = get_args(Kind)
STREAMED: tuple[Kind, ...] = ("streaming", "live")
FATES = ("answered", "shed", "failed", "left", "unsent")
DEFAULT = Path(__file__).with_name("slo.yaml")
LEAST: Mapping[Percentile, int] = {"p50": 10, "p95": 20, "p99": 100}  # requests that make a percentile worth a verdict


# --- what happened ----------------------------------------------------------------------------------------------


@dataclass
class Results:
    """Counts and histograms of a run. Parts from several processes add up (`wire`, `merge`).

    `times` has `KIND/EVENT` → milliseconds, in three significant figures → how many.
    """

    fates: Counter[str] = field(default_factory=Counter)  # `KIND/FATE`, and `KIND/unsent`
    failures: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    times: dict[str, Counter[int]] = field(default_factory=dict)
    most_outstanding: int = 0  # of one source

    def record(self, kind: str, outcome: Outcome, times_ms: Mapping[str, float] | None = None) -> None:
        self.fates[f"{kind}/{outcome.fate}"] += 1
        if outcome.reason is not None:
            self.failures[outcome.reason] += 1
        if outcome.status is not None:
            self.statuses[outcome.status] += 1
        for event, ms in (times_ms or {}).items():
            self.time(kind, event, ms)

    def time(self, kind: str, event: str, ms: float) -> None:
        self.times.setdefault(f"{kind}/{event}", Counter())[bucket(ms)] += 1

    def unsent(self, kind: str) -> None:
        self.fates[f"{kind}/unsent"] += 1

    def fate(self, fate: str) -> int:
        return sum(n for name, n in self.fates.items() if name.endswith(f"/{fate}"))

    def histogram(self, event: str, kind: str = "all") -> Counter[int]:
        found: Counter[int] = Counter()
        for name, times in self.times.items():
            if name.endswith(f"/{event}") and (kind == "all" or name == f"{kind}/{event}"):
                found.update(times)
        return found

    def wire(self) -> dict[str, Any]:
        return {
            "fates": dict(self.fates),
            "failures": dict(self.failures),
            "statuses": dict(self.statuses),
            "times": {name: {str(ms): n for ms, n in histogram.items()} for name, histogram in self.times.items()},
            "most_outstanding": self.most_outstanding,
        }

    def merge(self, wire: Mapping[str, Any]) -> None:
        self.fates.update(wire["fates"])
        self.failures.update(wire["failures"])
        self.statuses.update(wire["statuses"])
        for name, histogram in wire["times"].items():
            self.times.setdefault(name, Counter()).update({int(ms): n for ms, n in histogram.items()})
        self.most_outstanding = max(self.most_outstanding, wire["most_outstanding"])


def bucket(ms: float) -> int:
    """Three significant figures from a second on: an hour's run fits in a few hundred numbers, off by 0.5 % at most."""
    whole = max(0, round(ms))
    return whole if whole < 1000 else round(whole, 3 - len(str(whole)))


def percentile(histogram: Mapping[int, int], share: float) -> float | None:
    """Nearest rank: the least value that at least `share` of the values do not exceed. None of nothing."""
    rank = math.ceil(share * sum(histogram.values()))
    for value in sorted(histogram):
        rank -= histogram[value]
        if rank <= 0:
            return float(value)
    return None


def share_of(name: Percentile) -> float:
    return int(name[1:]) / 100


# --- what is asked ----------------------------------------------------------------------------------------------


def _known(name: str) -> str:
    if not is_failure_name(name):
        raise ValueError(f"{name!r} is no failure that a run can have, such as `500 internal_error` or `stream_cut`")
    return name


Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
Failure = Annotated[str, AfterValidator(_known)]


class Limits(BaseModel):
    """A value left out (but `min_requests`) is not checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_requests: int = Field(1, ge=1)
    availability: Share | None = None
    shed_share: Share | None = None
    unverified_share: Share | None = None
    unsent_share: Share | None = None
    late_s: Seconds | None = None
    error_share: Mapping[Failure, Share] = Field(default_factory=dict)
    times_s: Mapping[Event, Mapping[Kind | Literal["all"], Mapping[Percentile, Seconds]]] = Field(default_factory=dict)


class Slo(BaseModel):
    """A file of limits; a stage's values replace those of `default`, whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: Limits = Limits()
    stages: Mapping[Stage, Limits] = Field(default_factory=dict)

    def limits(self, stage: Stage) -> Limits:
        own = self.stages.get(stage)
        return (
            self.default.model_copy(update={n: getattr(own, n) for n in own.model_fields_set}) if own else self.default
        )


def load_slo(file: Path = DEFAULT) -> Slo:
    """Raises ValueError: one sentence that names the file and each bad value."""
    try:
        return Slo.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except OSError:
        raise ValueError(f"{file} cannot be read") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        raise ValueError(f"{file} is no YAML{f', see line {where.line + 1}' if where else ''}") from None
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'the file'}: {p['msg']}" for p in error.errors())
        raise ValueError(f"{file}: {told}") from None


# --- the verdict ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """`value` and `limit` are shares, seconds or counts; of `value` None there was not enough data."""

    name: str
    value: float | None
    limit: float
    relation: Literal["≤", "≥"]
    verdict: Verdict


def judge(results: Results, limits: Limits, *, task_errors: int = 0, planned: float = 0) -> list[Check]:
    """`task_errors` are exceptions that the load's own users raised: with one the run says nothing. Nor does an open loop
    with far fewer arrivals than `planned`."""
    answered, failures = results.fate("answered"), results.fate("failed")
    tried = answered + failures
    sent = tried + results.fate("shed") + results.fate("left")
    checks = [_enough(sent, limits.min_requests), most("errors in the load's own users", task_errors, 0)]
    if planned:
        arrived = sent + results.fate("unsent")
        checks.append(_least("arrivals ÷ planned", arrived / planned, 0.9 - 4 / math.sqrt(planned)))  # Poisson's 4 σ
    if limits.availability is not None:
        checks.append(_least("availability", _ratio(answered, tried), limits.availability))
    for name, part, whole, limit in (
        ("shed share", results.fate("shed"), sent, limits.shed_share),
        ("unverified share", results.statuses["draft_unverified"], answered, limits.unverified_share),
        ("unsent share", results.fate("unsent"), sent + results.fate("unsent"), limits.unsent_share),
        *((f"error {name}", results.failures[name], tried, limit) for name, limit in limits.error_share.items()),
    ):
        if limit is not None:
            checks.append(most(name, _ratio(part, whole), limit))
    if limits.late_s is not None and (late := results.histogram("late")):
        checks.append(_time("p99 of lateness", late, "p99", limits.late_s))
    checks += _times(results, limits)
    return checks


def passed(checks: Iterable[Check]) -> bool:
    return all(check.verdict == "ok" for check in checks)


def most(name: str, value: float | None, limit: float) -> Check:
    verdict: Verdict = "not_enough_data" if value is None else "ok" if value <= limit else "failed"
    return Check(name, value, limit, "≤", verdict)


def _least(name: str, value: float | None, limit: float) -> Check:
    verdict: Verdict = "not_enough_data" if value is None else "ok" if value >= limit else "failed"
    return Check(name, value, limit, "≥", verdict)


def _enough(sent: int, least: int) -> Check:
    return Check("requests", sent, least, "≥", "ok" if sent >= least else "not_enough_data")


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _times(results: Results, limits: Limits) -> Iterator[Check]:
    for event, kinds in limits.times_s.items():
        for kind, percentiles in kinds.items():
            histogram = results.histogram(event, kind)
            if not histogram and kind == "all" and not _expected(event, results):
                continue
            for name, limit in percentiles.items():
                yield _time(f"{name} of {event}, {kind}", histogram, name, limit)


def _expected(event: Event, results: Results) -> bool:
    """Whether what was asked must have brought that event. No stream was asked for: no first byte was missed."""
    if event in ("shed", "keep_alive"):  # they come when the gateway is full or slow
        return False
    return event == "answer" or any(name.startswith(f"{kind}/") for name in results.fates for kind in STREAMED)


def _time(name: str, histogram: Counter[int], which: Percentile, limit_s: float) -> Check:
    ms = percentile(histogram, share_of(which)) if histogram.total() >= LEAST[which] else None
    return most(name, None if ms is None else ms / 1000, limit_s)


# --- the report -------------------------------------------------------------------------------------------------


def document(results: Results, checks: list[Check], **about: Any) -> dict[str, Any]:
    """The report as JSON. Times are in seconds."""
    kinds = {kind: _kind(results, kind) for kind in KINDS if any(results.fates[f"{kind}/{fate}"] for fate in FATES)}
    return {
        **about,
        "passed": passed(checks),
        "checks": [asdict(check) for check in checks],
        "kinds": kinds,
        "failures": dict(results.failures.most_common()),
        "statuses": dict(results.statuses.most_common()),
        "most_outstanding": results.most_outstanding,
        "late": _summary(results.histogram("late")),
    }


def _kind(results: Results, kind: Kind) -> dict[str, Any]:
    found = {event: _summary(results.histogram(event, kind)) for event in get_args(Event)}
    return {
        **{fate: results.fates[f"{kind}/{fate}"] for fate in FATES},
        "times_s": {event: summary for event, summary in found.items() if summary},
    }


def _summary(histogram: Mapping[int, int]) -> dict[str, float | int] | None:
    if not histogram:
        return None
    shares: dict[str, float] = {**{name: share_of(name) for name in LEAST}, "max": 1.0}
    return {"n": sum(histogram.values())} | {
        n: (percentile(histogram, share) or 0) / 1000 for n, share in shares.items()
    }


def cells(check: Check) -> tuple[str, str, str, str]:
    limit = f"{check.relation} {_number(check.limit)}"
    return check.name, _number(check.value), limit, check.verdict.replace("_", " ")


def table(checks: Iterable[Check]) -> str:
    """One line a check, for a terminal."""
    rows = [cells(check) for check in checks]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"

"""Fits a profile to what was measured of one machine, and says how far it is from each measurement.

Two kinds of rows in a profile's JSON are measurements:
- `probes`, as `loadtests.bench.fit` writes them: batches in one request. Here a part more is fitted than there, the
  server's time for each prompt of a batch (`per_probe_prompt_s`); without it that time counts as decoding.
- `chain`: clients who ask for drafts, verdicts and candidates as the gateway does, one request each. Those marked
  `calibrates` set `frontend_s`, by least squares on relative errors; the others test it.
"""

from __future__ import annotations

import itertools
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares, nnls

from loadtests.bench.fit import Probe
from loadtests.fleet.gateway import Answers, Gateway
from loadtests.fleet.simulation import Settings, simulate
from loadtests.stub_timing import COEFFICIENTS, Profile

_PROBE = re.compile(
    r"prefill of (?P<fresh>\d+)|decode of (?P<tokens>\d+) by (?P<k>\d+) after (?P<context>\d+)|verdicts: (?P<n>\d+) on (?P<on>\d+)"
)
_QUESTION = 64  # tokens of a verdict's question in a probe
_MOST_S = 0.02
_BARE = Gateway(first_s=0.0, candidate_s=0.0)
_EXACT: dict[str, Any] = {"spread": 0.0, "can_win": 1.0, "later_turns": 0.0, "tenants": 1}


def calibrated(written: Mapping[str, Any]) -> dict[str, Any]:
    """A profile's JSON with coefficients, `frontend_s` and errors from its own rows. Raises KeyError, ValueError."""
    fitted, per_prompt, probes = _from_probes(written)
    chain = [row for row in written["chain"] if row.get("calibrates")]

    def errors(frontend_s: np.ndarray) -> np.ndarray:
        profile = replace(fitted, frontend_s=float(frontend_s[0]))
        return np.array([simulated(profile, row) / row["measured"] - 1 for row in chain])

    # The first guess is the measured time of a verdict more: the step of the differences must show above its noise.
    found = least_squares(errors, [_MOST_S / 5], bounds=([0.0], [_MOST_S]), diff_step=0.05, xtol=1e-3)
    profile = replace(fitted, frontend_s=float(f"{found.x[0]:.4g}"))
    return {
        **written,
        **{name: getattr(profile, name) for name in (*COEFFICIENTS, "frontend_s")},
        "per_probe_prompt_s": float(f"{per_prompt:.4g}"),
        "error": _errors(probes),
        "probes": probes,
        "chain_error": _errors(rows := checked(profile, written["chain"])),
        "chain": rows,
    }


def checked(profile: Profile, chain: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with what the simulation makes of them."""
    rows = []
    for row in chain:
        value = simulated(profile, row)
        rows.append({**row, "simulated": float(f"{value:.4g}"), "error": round(value / row["measured"] - 1, 3)})
    return rows


def simulated(profile: Profile, row: Mapping[str, Any]) -> float:
    """What `row["read"]` names: answers a minute, seconds of one more verdict, or the seconds of a stage."""
    answers = Answers(**{**_EXACT, **row["answers"]})
    settings = Settings(profile=profile, clients=row["clients"], each=row["each"], answers=answers, gateway=_BARE)
    report = simulate(settings)
    asked = settings.clients * settings.each
    match row["read"]:
        case "answers a minute":
            return 60 * asked / report.seconds
        case "seconds a verdict":
            without = simulate(replace(settings, answers=replace(answers, verdicts=0)))
            return (report.seconds - without.seconds) / (asked * answers.verdicts)
        case stage:
            return report.stages[stage]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Measured beside simulated, in Markdown."""
    lines = ["| | measured | simulated | error | |", "|---|---|---|---|---|"]
    for row in rows:
        fits = "calibrates" if row.get("calibrates") else "test"
        unit = "/min" if row["read"] == "answers a minute" else " ms"
        times = 1 if unit == "/min" else 1e3
        measured, value = (f"{times * row[name]:.4g}{unit}" for name in ("measured", "simulated"))
        lines.append(f"| {row['what']} | {measured} | {value} | {row['error']:+.1%} | {fits} |")
    return "\n".join(lines)


def _from_probes(written: Mapping[str, Any]) -> tuple[Profile, float, list[dict[str, Any]]]:
    sizes = Profile.of(dict(written))
    probes = [_probe(row["probe"]) for row in written["probes"]]
    seconds = np.array([row["measured_s"] for row in written["probes"]])
    parts = np.array([(*probe.work(sizes), len(probe.prompts)) for probe in probes], dtype=float)
    rows = parts / seconds[:, None]  # relative errors: a long probe is not worth more
    scale = np.where(rows.any(axis=0), rows.max(axis=0), 1.0)
    found = nnls(rows / scale, np.ones(len(seconds)))[0] / scale
    *coefficients, per_prompt = (float(f"{each:.4g}") for each in found)
    predicted = parts @ np.array([*coefficients, per_prompt])
    fitted = Profile.of({**written, **dict(zip(COEFFICIENTS, coefficients, strict=True))})
    told = [
        {**row, "predicted_s": round(float(s), 5), "error": round(float(s) / row["measured_s"] - 1, 3)}
        for row, s in zip(written["probes"], predicted, strict=True)
    ]
    return fitted, per_prompt, told


def _probe(name: str) -> Probe:
    """The probe of that name. Raises ValueError for an unknown one."""
    told = _PROBE.fullmatch(name)
    if told is None:
        raise ValueError(f"no probe is called {name!r}")
    fresh = itertools.count()

    def prompt(length: int) -> list[int]:
        return list(itertools.islice(fresh, length))

    sizes = {key: int(value) for key, value in told.groupdict().items() if value}
    if "fresh" in sizes:
        return Probe(name, [prompt(sizes["fresh"])], 1)
    if "k" in sizes:
        prompts = [prompt(sizes["context"]) for _ in range(sizes["k"])]
        return Probe(name, prompts, sizes["tokens"], prompts)
    prefix = prompt(sizes["on"])
    return Probe(name, [[*prefix, *prompt(_QUESTION)] for _ in range(sizes["n"])], 1, [prefix])


def _errors(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    sizes = [abs(row["error"]) for row in rows]
    return {"median": round(statistics.median(sizes), 3), "largest": round(max(sizes), 3)}


def as_json(written: Mapping[str, Any]) -> str:
    """Measurements one a line."""
    lists = {key: written[key] for key in ("probes", "chain")}
    rest = {key: value for key, value in written.items() if key not in lists}
    rows = (
        f'  "{key}": [\n    ' + ",\n    ".join(json.dumps(row) for row in each) + "\n  ]" for key, each in lists.items()
    )
    return json.dumps(rest, indent=2)[:-2] + ",\n" + ",\n".join(rows) + "\n}\n"

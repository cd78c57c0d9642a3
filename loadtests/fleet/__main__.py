"""`python -m loadtests.fleet`: a gateway and its replicas in virtual time. Every number that it prints is simulated.

--rate 10 --replicas 8        one fleet under so many questions a second (or --clients N, who ask again at once)
--size --p95 12               the fewest replicas for 1, 10 and 100 answers a second
--ramp                        one replica from a tenth of its capacity to beyond it: what moves first
--routings --replicas 8       each conversation to its own replica against each call to the next
--check                       the profile beside what was measured of its machine
--calibrate                   fits the profile's file anew to what was measured, and writes it
--curves DIR                  how cost grows with principles, rounds, length and concurrency: CSV and SVG
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from loadtests.fleet import calibration, curves, sizing, tables
from loadtests.fleet.gateway import Answers, Gateway, Routing
from loadtests.fleet.simulation import Settings, simulate
from loadtests.stub_timing import PROFILES, Profile

_SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.2)


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    try:
        print(_told(args))
    except (OSError, KeyError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _told(args: argparse.Namespace) -> str:
    profile = Profile.load(args.profile)
    if args.check or args.calibrate:
        return _against_measurements(args, profile)
    if args.curves:
        rows = curves.measure(profile, seed=args.seed)
        curves.write(rows, args.curves, machine=Path(args.profile).stem)
        return curves.table(rows)
    settings = _settings(args, profile)
    if not (args.size or args.ramp or args.routings):
        return tables.report(simulate(settings))
    full = sizing.full(settings)
    capacity = full.answers_per_s
    head = (
        f"capacity of a replica: {capacity:.2f} answers/s, with {sizing.FULL_CLIENTS} at once "
        f"(p95 {full.latency.p95:.1f} s, frontend {full.frontend:.0%}, stepping {full.busy:.0%})\n\n"
    )
    if args.ramp:
        return head + tables.ramp(sizing.ramp(settings, capacity, _SHARES))
    if args.routings:
        return head + tables.routings(sizing.routings(settings, args.replicas, capacity))
    rates = [float(rate) for rate in args.rates.split(",")]
    return head + tables.sizes(sizing.least_replicas(settings, rate, args.p95, capacity) for rate in rates)


def _against_measurements(args: argparse.Namespace, profile: Profile) -> str:
    named = PROFILES / f"{args.profile}.json"
    file = named if named.is_file() else Path(args.profile)
    written = json.loads(file.read_text("utf-8"))
    if not args.calibrate:
        return calibration.table(calibration.checked(profile, written["chain"]))
    found = calibration.calibrated(written)
    file.write_text(calibration.as_json(found), "utf-8")
    return calibration.table(found["chain"])


def _settings(args: argparse.Namespace, profile: Profile) -> Settings:
    answers = _given(Answers(), args)
    return Settings(
        profile=profile,
        replicas=args.replicas,
        rate=0.0 if args.clients else args.rate,
        clients=args.clients,
        seconds=args.seconds,
        warm_up_s=args.warm_up,
        seed=args.seed,
        answers=replace(answers, candidates=tuple(args.candidates.split(","))),
        gateway=_given(Gateway(), args),
    )


def _given(defaults: Any, args: argparse.Namespace) -> Any:
    """The group with what was given on the command line."""
    told = {f.name: getattr(args, _argument(f.name, defaults), None) for f in fields(defaults)}
    return replace(defaults, **{name: value for name, value in told.items() if value is not None})


def _argument(name: str, group: Any) -> str:
    return "verdict_slots" if isinstance(group, Gateway) and name == "verdicts" else name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    for name in ("size", "ramp", "routings", "check", "calibrate"):
        what.add_argument(f"--{name}", action="store_true")
    what.add_argument("--curves", type=Path, metavar="DIR")
    parser.add_argument("--profile", default="h100-qwen3-4b", help="a name or a file (default: %(default)s)")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1.0, help="questions a second (default: %(default)s)")
    parser.add_argument("--rates", default="1,10,100", help="of --size (default: %(default)s)")
    parser.add_argument("--p95", type=float, default=12.0, help="seconds, of --size (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=0, help="a closed loop of so many instead")
    parser.add_argument("--seconds", type=float, default=120.0, help="measured (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=30.0, help="seconds before (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--candidates", default="edit,fresh", help="(default: %(default)s)")
    parser.add_argument("--routing", choices=get_args(Routing))
    for group in (Answers(), Gateway()):
        for f in fields(group):
            name, value = _argument(f.name, group), getattr(group, f.name)
            if isinstance(value, int | float):
                flag = f"--{name.replace('_', '-')}"
                parser.add_argument(flag, type=type(value), metavar=type(value).__name__, help=f"(default: {value})")
    return parser


if __name__ == "__main__":
    sys.exit(main())

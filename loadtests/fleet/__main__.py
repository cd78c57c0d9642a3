"""`python -m loadtests.fleet`: a gateway and its replicas in virtual time. Every number that it prints is simulated.

--rate 10 --replicas 8        one fleet under so many questions a second (or --clients N, who ask again at once)
--size --p95 12               the fewest replicas for 1, 10 and 100 answers a second
--ramp                        one replica from a tenth of its capacity to beyond it: what moves first
--scale steady                where autoscalers bring 3 gateways and 8 replicas under 1, 10 and 100 questions a second
--scale step --replicas 2     10, then 100 a second: scaled on two metrics, and a fixed fleet; also: --scale day
--routings --replicas 8       each conversation to its own replica against each call to the next
--check                       the profile beside what was measured of its machine
--calibrate                   fits the profile's file anew to what was measured, and writes it
--derive                      computes the profile of Qwen3-30B-A3B from Qwen3-4B's, and writes it
--profile h100-qwen3-30b-a3b --case fp8-expected      a case of a derived profile
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

from loadtests.fleet import calibration, charts, curves, derive, scaling, sizing, studies, tables
from loadtests.fleet.cluster import Bounds, Cluster
from loadtests.fleet.gateway import Answers, Gateway, Routing
from loadtests.fleet.simulation import Settings, simulate
from loadtests.stub_timing import PROFILES, Profile

_FLEET = (3, 8)  # gateways and replicas of the fleet that scales
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
    if args.derive:
        return derive.write()
    profile = derive.load(args.profile, args.case)
    if args.check or args.calibrate:
        return _against_measurements(args, profile)
    if args.curves:
        rows = curves.measure(profile, seed=args.seed)
        curves.write(rows, args.curves, machine=Path(args.profile).stem)
        return curves.table(rows)
    if args.scale:
        return _scaled(args, profile)
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
        return head + tables.routings(sizing.routings(settings, settings.replicas, capacity))
    rates = [float(rate) for rate in args.rates.split(",")]
    return head + tables.sizes(sizing.least_replicas(settings, rate, args.p95, capacity) for rate in rates)


def _scaled(args: argparse.Namespace, profile: Profile) -> str:
    gateways, replicas = args.gateways or _FLEET[0], args.replicas or _FLEET[1]
    cluster = replace(
        _given(Cluster(), args),
        gateways=Bounds(start=gateways, least=gateways, most=args.most),
        replicas=Bounds(start=replicas, least=min(args.least, replicas), most=args.most),
    )
    load = _load(args)
    settings = scaling.Scaling(
        profile=profile,
        load=load,
        cluster=cluster,
        answers=replace(_given(Answers(), args), candidates=tuple(args.candidates.split(","))),
        gateway=replace(_given(Gateway(), args), workers=args.workers or scaling.WORKERS),
        p95_s=args.p95,
        seed=args.seed,
    )
    if args.scale == "steady":
        rates = [float(rate) for rate in args.rates.split(",")]
        return tables.settled(studies.settled(settings, rates, load.seconds), args.gpu_hour)
    told = list(studies.arms(settings, args.kept))
    if args.svg:
        charts.draw(told, args.svg, machine=" ".join(filter(None, (Path(args.profile).stem, args.case))))
    return tables.arms(told, args.gpu_hour)


def _load(args: argparse.Namespace) -> scaling.Load:
    if args.scale == "day":
        return scaling.day(args.low, args.high, args.seconds or 1800.0)
    seconds = args.seconds or 900.0
    if args.scale == "step":
        return scaling.step(args.low, args.high, args.warm_up, seconds)
    return scaling.steady(args.high, seconds)


def _against_measurements(args: argparse.Namespace, profile: Profile) -> str:
    named = PROFILES / f"{args.profile}.json"
    file = named if named.is_file() else Path(args.profile)
    written = json.loads(file.read_text("utf-8"))
    if "chain" not in written:
        raise ValueError(
            f"nothing was measured for {args.profile}: its profile is {written.get('source', 'without measurements')}"
        )
    if not args.calibrate:
        return calibration.table(calibration.checked(profile, written["chain"]))
    found = calibration.calibrated(written)
    file.write_text(calibration.as_json(found), "utf-8")
    return calibration.table(found["chain"])


def _settings(args: argparse.Namespace, profile: Profile) -> Settings:
    answers = _given(Answers(), args)
    return Settings(
        profile=profile,
        replicas=args.replicas or 1,
        rate=0.0 if args.clients else args.rate,
        clients=args.clients,
        seconds=args.seconds or 120.0,
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
    for name in ("size", "ramp", "routings", "check", "calibrate", "derive"):
        what.add_argument(f"--{name}", action="store_true")
    what.add_argument("--curves", type=Path, metavar="DIR")
    what.add_argument("--scale", choices=("steady", "step", "day"))
    parser.add_argument("--profile", default="h100-qwen3-4b", help="a name or a file (default: %(default)s)")
    parser.add_argument("--case", help="of a derived profile (default: bf16-expected)")
    parser.add_argument("--replicas", type=int, help="(default: 1; of --scale, at the start: 8)")
    parser.add_argument("--rate", type=float, default=1.0, help="questions a second (default: %(default)s)")
    parser.add_argument("--rates", default="1,10,100", help="of --size (default: %(default)s)")
    parser.add_argument("--p95", type=float, default=12.0, help="seconds, of --size (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=0, help="a closed loop of so many instead")
    parser.add_argument("--seconds", type=float, help="measured (default: 120; of --scale 900, of its day 1800)")
    parser.add_argument(
        "--warm-up", type=float, default=30.0, help="seconds before, also a step (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--candidates", default="edit,fresh", help="(default: %(default)s)")
    parser.add_argument("--routing", choices=get_args(Routing))
    _add_scale(parser)
    for group in (Answers(), Gateway(), Cluster()):
        for f in fields(group):
            name, value = _argument(f.name, group), getattr(group, f.name)
            if isinstance(value, int | float):
                flag = f"--{name.replace('_', '-')}"
                parser.add_argument(flag, type=type(value), metavar=type(value).__name__, help=f"(default: {value})")
    return parser


def _add_scale(parser: argparse.ArgumentParser) -> None:
    scale = parser.add_argument_group("of --scale")
    scale.add_argument("--low", type=float, default=10.0, help="questions a second (default: %(default)s)")
    scale.add_argument("--high", type=float, default=100.0, help="(default: %(default)s)")
    scale.add_argument("--gateways", type=int, help="at the start and at least (default: 3)")
    scale.add_argument("--least", type=int, default=2, help="replicas (default: %(default)s)")
    scale.add_argument("--most", type=int, default=48, help="replicas, and gateways (default: %(default)s)")
    scale.add_argument(
        "--kept", type=int, default=8, help="replicas that one arm never goes below (default: %(default)s)"
    )
    scale.add_argument("--gpu-hour", type=float, default=3.0, help="price, assumed (default: %(default)s)")
    scale.add_argument("--svg", type=Path, help="draws a step or a day")


if __name__ == "__main__":
    sys.exit(main())

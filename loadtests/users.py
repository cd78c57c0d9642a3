"""Locust users that ask as real ones do, check every response against the contract, and record what came of it.

Importing this patches the standard library for gevent: only `locustfile.py` does.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import gevent
from gevent.pool import Pool
from locust import FastHttpUser, constant, task

from loadtests import checks, shapes
from loadtests.checks import Outcome
from loadtests.conversations import LANGUAGES, Message, Topics, Writer, answered, read_questions, said, shares
from loadtests.slo import KINDS, STREAMED, Kind, Results, Slo, load_slo

CHAT, CRITIQUE, HEALTH = "/v1/chat/completions", "/v1/critique", "/healthz"
LONGEST_BACK_OFF_S = 30.0


@dataclass
class Load:
    """What a process needs to know of the run; `environment.load`."""

    options: argparse.Namespace
    topics: Topics
    weights: dict[str, float]
    slo: Slo
    results: Results = field(default_factory=Results)
    started: float = 0.0
    offered_s: float = 0.0  # until the last request went out
    seconds: float = 0.0  # until the last answer was there
    processes: int = 1
    numbers: Iterator[int] = field(default_factory=itertools.count)  # of users, in this process

    @classmethod
    def of(cls, options: argparse.Namespace) -> Load:
        """Raises ValueError or OSError for an option that makes no sense."""
        if not 0 <= options.repeat_share <= 1:
            raise ValueError("--repeat-share is a number from 0 to 1")
        questions = read_questions(Path(options.questions)) if options.questions else ()
        topics = Topics.of(options.seed, shares(options.languages, LANGUAGES), options.repeat_share, questions)
        return cls(options, topics, shares(options.weights, KINDS), load_slo(Path(options.slo)))

    @property
    def stage(self) -> shapes.Stage:
        return cast("shapes.Stage", self.options.stage)

    @property
    def settings(self) -> shapes.Settings:
        o = self.options
        return shapes.Settings(o.num_users or 1, o.run_time or None, o.spawn_rate or 1, o.rate, o.max_outstanding)


class Asking(FastHttpUser):
    """Sends one request of any kind. Times run from the moment when it was due."""

    abstract = True

    def on_start(self) -> None:
        self.load: Load = self.environment.load
        worker = getattr(self.environment.runner, "worker_index", 0)
        self.rng = random.Random(f"{self.load.options.seed}/{worker}/{next(self.load.numbers)}")
        self.writer = Writer(self.load.topics, self.rng)
        self.back_off_s = 0.0

    def ask(self, kind: Kind, due: float) -> None:
        match kind:
            case "short":
                self.chat(kind, due, [said(self.writer.short().text)])
            case "long":
                self.chat(kind, due, [said(self.writer.long().text)])
            case "multi_turn":
                self.chat(kind, due, self.writer.history(self.rng.randint(2, 6)))
            case "off":
                self.chat(kind, due, [said(self.writer.short().text)], {"mode": "off"})
            case "streaming":
                self.stream(kind, due, {})
            case "live":
                self.stream(kind, due, {"stream": "live"})
            case "critique":
                self.critique(kind, due)
            case "aborting":
                self.abort(kind, due)

    def chat(self, kind: Kind, due: float, messages: list[Message], revision: dict[str, Any] | None = None) -> Outcome:
        return self.post(kind, due, CHAT, self.body(messages, revision), checks.chat)

    def critique(self, kind: Kind, due: float) -> None:
        asked = [self.writer.short() for _ in range(self.rng.randint(4, 16))]
        inputs = [{"messages": [said(q.text)], "answer": self.writer.answer(q.language)} for q in asked]
        body = {"inputs": inputs, **self.named()}
        self.post(kind, due, CRITIQUE, body, lambda headers, raw: checks.critique(headers, raw, len(inputs)))

    def abort(self, kind: Kind, due: float) -> None:
        """Leaves before the first byte, or after some words; then asks whether the gateway still lives."""
        if self.rng.random() < 0.5:
            self.stream(kind, due, {"stream": "live"}, leave_s=self.rng.uniform(0.05, 1.0))
        else:
            self.stream(kind, due, {"stream": "live"}, leave_after=self.rng.randint(1, 8))
        with self.client.get(HEALTH, name="healthz", catch_response=True) as response:
            if response.status_code != 200:
                response.failure("gateway_down_after_abort")
                self.load.results.record(kind, checks.failed("gateway_down_after_abort"))

    # --- requests and what came of them ---

    def post(
        self, kind: Kind, due: float, path: str, body: dict[str, Any], check: Callable[[Any, bytes], Outcome]
    ) -> Outcome:
        with self.counted_if_killed(kind, due), self.client.post(path, **self.request(kind, body)) as response:
            raw, ms = response.content or b"", _ms_since(due)
            broken = _cause(response.request_meta["exception"])
            if response.status_code == 200 and broken is None:
                outcome = check(response.headers, raw)
            else:
                outcome = _not_answered(response, broken, raw)
            self.settle(kind, response, outcome, ms)
        return outcome

    def stream(
        self, kind: Kind, due: float, revision: dict[str, Any], *, leave_s: float | None = None, leave_after: int = 0
    ) -> Outcome:
        """Reads to the end, unless no first byte comes in `leave_s` or after `leave_after` pieces of text."""
        body = self.body([said(self.writer.short().text)], revision, stream=True)
        leaving = gevent.Timeout.start_new(leave_s)
        try:
            with (
                self.counted_if_killed(kind, due),
                self.client.post(CHAT, stream=True, **self.request(kind, body)) as response,
            ):
                leaving.close()
                first_byte_ms, error = _ms_since(due), _cause(getattr(response, "error", None))
                if error is leaving:
                    outcome = Outcome("left")
                elif response.status_code == 200:
                    outcome = self.read(kind, response, due, first_byte_ms, leave_after)
                else:
                    outcome = _not_answered(response, error, response.content or b"")
                self.settle(kind, response, outcome, _ms_since(due))
        finally:
            leaving.close()
        return outcome

    def read(self, kind: Kind, response: Any, due: float, first_byte_ms: float, leave_after: int) -> Outcome:
        stream = checks.Stream()
        lines = response._response  # noqa: SLF001  (the public ways wait for a whole block: no event's time would be true)
        try:
            while line := lines.readline(b"\n"):
                stream.feed(line, _ms_since(due))
                if leave_after and stream.pieces >= leave_after:
                    response.release()  # not read to its end, so the connection is closed
                    return Outcome("left")
        except (OSError, ValueError) as error:
            return checks.lost(error)
        outcome = stream.outcome(response.headers)
        if outcome.fate == "answered" and kind in STREAMED:
            for event, ms in {"first_byte": first_byte_ms, **stream.times}.items():
                self.load.results.time(kind, event, ms)
        return outcome

    def body(self, messages: list[Message], revision: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        asked = {"messages": messages, "max_tokens": self.load.options.max_tokens, **self.named(), **more}
        return {**asked, "revision": revision} if revision else asked

    def named(self) -> dict[str, str]:
        return {"model": self.load.options.model} if self.load.options.model else {}

    def request(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        key = self.load.options.api_key
        headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {key}"} if key else {})}
        return {"name": kind, "json": body, "headers": headers, "catch_response": True}

    def settle(self, kind: Kind, response: Any, outcome: Outcome, ms: float) -> None:
        """Tells our own results and Locust's tables the same."""
        response.request_meta["response_time"] = ms
        if outcome.fate == "failed":
            response.failure(outcome.reason)
        else:
            if outcome.fate != "answered":
                response.request_meta["request_type"] = outcome.fate.upper()
            response.success()
        timed = {"answered": "answer", "shed": "shed"}.get(outcome.fate)
        self.load.results.record(kind, outcome, {timed: ms} if timed else {})
        self.back_off_s = min(LONGEST_BACK_OFF_S, outcome.retry_after_s or 0.0)

    @contextmanager
    def counted_if_killed(self, kind: Kind, due: float) -> Iterator[None]:
        """What is not answered when the stop timeout is over is killed: uncounted, the slowest requests would vanish.

        Locust also kills a waiting user that wakes up in the same moment, before it has sent anything.
        """
        try:
            yield
        except gevent.GreenletExit:
            if perf_counter() - due > self.environment.stop_timeout / 2:
                self.load.results.record(kind, checks.failed("unfinished"))
            raise


def _not_answered(response: Any, error: BaseException | None, raw: bytes) -> Outcome:
    """No response, half a one, or one that is not 200."""
    if response.status_code in (0, 200):
        return checks.lost(error or ConnectionError())
    return checks.refused(response.status_code, response.headers, raw)


def _cause(error: BaseException | None) -> BaseException | None:
    """What the HTTP client wraps when it will not try again: a POST it never does."""
    return getattr(error, "original", None) or error


def _ms_since(moment: float) -> float:
    return (perf_counter() - moment) * 1000


# --- closed loop ------------------------------------------------------------------------------------------------


class Closed(Asking):
    """Waits for the answer, thinks, and asks again; after a refusal not before its Retry-After."""

    abstract = True
    kind: Kind

    def wait_time(self) -> float:
        think = self.load.options.think
        return max(self.rng.expovariate(1 / think) if think > 0 else 0.0, self.back_off_s)

    @task
    def next_request(self) -> None:
        self.ask(self.kind, perf_counter())


class Short(Closed):
    kind = "short"


class Long(Closed):
    kind = "long"


class MultiTurn(Closed):
    """A conversation of three to six turns that grows by the delivered answers; one turn a request."""

    kind = "multi_turn"

    def on_start(self) -> None:
        super().on_start()
        self.messages: list[Message] = []
        self.turns_left = 0
        self.language = "en"

    def ask(self, kind: Kind, due: float) -> None:
        if self.turns_left == 0:
            first = self.writer.short()
            self.messages, self.language, self.turns_left = [said(first.text)], first.language, self.rng.randint(3, 6)
        outcome = self.chat(kind, due, self.messages)
        if outcome.fate == "answered":
            self.turns_left -= 1
            self.messages += [answered(outcome.text), said(self.writer.follow_up(self.language))]
        elif outcome.fate == "failed":
            self.turns_left = 0  # a new conversation; one that was shed goes on where it was


class Streaming(Closed):
    kind = "streaming"


class Live(Closed):
    kind = "live"


class Critique(Closed):
    kind = "critique"


class Aborting(Closed):
    kind = "aborting"


class Off(Closed):
    kind = "off"


CLOSED: tuple[type[Closed], ...] = (Short, Long, MultiTurn, Streaming, Live, Critique, Aborting, Off)


# --- open loop --------------------------------------------------------------------------------------------------


class OpenLoop(Asking):
    """Requests arrive as a Poisson process and wait for none before them: one source of the stage `overload`.

    An arrival beyond `--max-outstanding` is not sent, and counted. Times run from when a request was due, so that a late
    load generator cannot flatter the gateway.
    """

    wait_time = constant(0)

    def on_start(self) -> None:
        super().on_start()
        self.source = shapes.source(self.load.settings)
        self.outstanding = Pool()
        self.kinds = cast("list[Kind]", list(self.load.weights))
        self.due = perf_counter()

    @task
    def arrival(self) -> None:
        results = self.load.results
        self.due += self.rng.expovariate(self.source.rate)
        gevent.sleep(max(0.0, self.due - perf_counter()))
        (kind,) = self.rng.choices(self.kinds, list(self.load.weights.values()))
        results.time(kind, "late", _ms_since(self.due))
        if len(self.outstanding) >= self.source.max_outstanding:
            results.unsent(kind)
            return
        self.outstanding.spawn(self.ask, kind, self.due).link_exception(self.broken)
        results.most_outstanding = max(results.most_outstanding, len(self.outstanding))

    def broken(self, greenlet: Any) -> None:
        """An exception of ours spoils the run as it does in a user's own greenlet."""
        trace = greenlet.exc_info[2]
        self.environment.events.user_error.fire(user_instance=self, exception=greenlet.exception, tb=trace)

    def on_stop(self) -> None:
        try:
            self.outstanding.join()
        finally:
            self.outstanding.kill()

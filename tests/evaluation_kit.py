"""What tests of evaluations share: questions with a text that must not leak, replies of a gateway, and a server that
answers and judges."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from tests.fakes import FakeEncoder, verdict
from tests.faulty_upstream import Behaviour, FaultyUpstream, answers, completion
from tests.kit import flags, index
from training.build import Tools
from training.data import ChatTurn, Question, question_id
from training.jobs import Pace

SECRET = "zanzibar-quokka"  # stands in each question and answer of these tests; no log, error or report may hold it


def tools() -> Tools:
    return Tools(index(), FakeEncoder(), flags())


def question(number: int = 0, *tags: str) -> Question:
    turns = (ChatTurn(role="system", content="Be kind."), ChatTurn(role="user", content=f"{SECRET} question {number}?"))
    return Question(id=question_id(turns), messages=turns, source="test", tags=tags)


def traced(draft: str | None = "The draft.", text: str = "The revised text.", **revision: Any) -> dict[str, Any]:
    """A gateway's reply with its full trace."""
    told = {"status": "revised", "reason": None, "rounds": 1, "draft": draft, "candidates": [], **revision}
    return {**completion(text), "revision": told, "system_fingerprint": "m_p1_i1_q1"}


def withheld(code: str = "answer_blocked") -> Behaviour:
    return answers({"error": {"message": SECRET, "type": "server_error", "param": None, "code": code}}, 503)


class Instant:
    """Sleeping takes no time and moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        await asyncio.sleep(0)

    @property
    def pace(self) -> Pace:
        return Pace(clock=lambda: self.now, sleep=self.sleep, uniform=lambda: 0.5)


Says = Callable[[Mapping[str, Any]], dict[str, Any] | Behaviour]  # a request's body to the reply


class Model(FaultyUpstream):
    """A server of one model that answers with `says` and judges with `met`: P(met) of an answer and what it is asked for.

    Verdicts come as one token's log-probabilities or, where JSON is asked for, as a grade. `faults` are used up first,
    one a request.
    """

    def __init__(
        self, says: Says, met: Callable[[str, str], float | None], *faults: Behaviour, name: str = "m"
    ) -> None:
        super().__init__(*faults, models=[{"id": name, "root": f"org/{name}", "owned_by": "vllm"}])
        self._says, self._met = says, met
        self.answered = self.judged = 0

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/v1/models" and not self.script:
            self.script.append(self._behave)
        return await super()._serve(request)

    @staticmethod
    async def _behave(upstream: FaultyUpstream, request: web.Request) -> web.StreamResponse:
        assert isinstance(upstream, Model)
        body = upstream.asked[-1].body
        told = upstream.reply(body)
        return await (answers(told) if isinstance(told, dict) else told)(upstream, request)

    def reply(self, body: Mapping[str, Any]) -> dict[str, Any] | Behaviour:
        asked = body["messages"][-1]["content"]
        if body.get("top_logprobs"):
            self.judged += 1
            told = self._met(body["messages"][-2]["content"] if len(body["messages"]) > 1 else "", asked)
            logprobs = verdict(told, 1 - told).logprobs if told is not None else {"content": []}
            return completion("yes", finish="length", logprobs=logprobs)
        if body.get("response_format"):
            self.judged += 1
            shown, _, criterion = asked.partition("\nAnswer:\n")[2].partition("\nCriterion:\n")
            told = self._met(shown, criterion)
            return completion(json.dumps({"explanation": SECRET, "criteria_met": told is not None and told >= 0.5}))
        self.answered += 1
        return self._says(body)

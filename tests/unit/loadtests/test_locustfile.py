"""Locust in a process of its own (it patches the standard library for gevent), against a gateway of a few lines."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from aiohttp import web

from scripts.common import ROOT

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
HEAD = {"X-Request-Id": "r-1"}
SLO = {
    "default": {"min_requests": 20, "availability": 1.0, "shed_share": 0.0, "times_s": {"answer": {"all": {"p95": 5}}}}
}


class Fake:
    """Answers by the contract; every `bad`-th plain question gets an internal error, every `full`-th is shed."""

    def __init__(self, *, bad: int = 0, full: int = 0, delay_s: float = 0.0) -> None:
        self.bad, self.full, self.delay_s = bad, full, delay_s
        self.seen: Counter[str] = Counter()
        self.turns: Counter[int] = Counter()
        self.left: Counter[str] = Counter()  # by where the client's leaving reached us
        self.texts: list[str] = []

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        revision = body.get("revision", {})
        kind = revision.get("mode") or revision.get("stream") or ("streaming" if body.get("stream") else "plain")
        self.seen[kind] += 1
        number = self.seen[kind]
        await asyncio.sleep(self.delay_s)
        if body.get("stream"):
            return await self.streamed(request, kind)
        self.turns[sum(m["role"] == "user" for m in body["messages"])] += 1
        self.texts += [m["content"] for m in body["messages"]]
        if self.bad and number % self.bad == 0:
            return self.error(500, "internal_error")
        if self.full and number % self.full == 0:
            return self.error(503, "overloaded", {"Retry-After": "1"})
        told: dict[str, Any] = {"object": "chat.completion", "usage": USAGE}
        message = {"role": "assistant", "content": "Drink tea."}
        told["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        status = "off" if kind == "off" else "revised"
        if status != "off":
            told["revision"] = {"status": status}
        return web.json_response(told, headers={**HEAD, "X-Revision-Status": status})

    async def streamed(self, request: web.Request, kind: str) -> web.StreamResponse:
        """Every other live one is held for so long that whoever leaves before the first byte has left."""
        where = "held"
        try:
            await asyncio.sleep(1.1 if kind == "live" and self.seen[kind] % 2 else 0)
            response = web.StreamResponse(headers={**HEAD, "Content-Type": "text/event-stream"})
            await response.prepare(request)
            where = "streaming"
            for event in events():
                await response.write(event)
                await asyncio.sleep(0.01)
        except (asyncio.CancelledError, ConnectionError):
            self.left[where] += 1
            raise
        return response

    async def critique(self, request: web.Request) -> web.Response:
        inputs = (await request.json())["inputs"]
        self.seen[f"critique {4 <= len(inputs) <= 16}"] += 1
        rows = [{"index": i, "verdicts": [{"verdict": "met"}]} for i in range(len(inputs))]
        return web.json_response({"object": "list", "data": rows, "usage": USAGE}, headers=HEAD)

    async def healthz(self, request: web.Request) -> web.Response:
        self.seen["healthz"] += 1
        return web.json_response({"status": "ok"}, headers=HEAD)

    @staticmethod
    def error(status: int, code: str, more: dict[str, str] | None = None) -> web.Response:
        return web.json_response({"error": {"code": code}}, status=status, headers={**HEAD, **(more or {})})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/critique", self.critique)
        app.router.add_get("/healthz", self.healthz)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def events() -> Iterator[bytes]:
    yield b": waiting\n\n"
    for delta, finish in [*[({"content": "Drink tea. "}, None)] * 10, ({}, "stop")]:
        chunk = {"object": "chat.completion.chunk", "choices": [{"delta": delta, "finish_reason": finish}]}
        last = {"revision": {"status": "draft_passed"}} if finish else {}
        yield b"data: " + json.dumps(chunk | last).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


async def locust(folder: Path, url: str, *options: str, slo: dict[str, Any] = SLO) -> tuple[int, dict[str, Any], str]:
    """Exit status, report and what was printed."""
    process = await asyncio.create_subprocess_exec(
        *_command(folder, url, slo),
        *options,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed = (await process.communicate())[0].decode()
    assert process.returncode is not None
    return process.returncode, _report(folder), printed


def _command(folder: Path, url: str, slo: dict[str, Any]) -> list[str]:
    (folder / "slo.yaml").write_text(yaml.safe_dump(slo))
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--host", url]
    return [*command, "--slo", str(folder / "slo.yaml"), "--out", str(folder / "slo.json"), "--only-summary"]


def _report(folder: Path) -> dict[str, Any]:
    out = folder / "slo.json"
    return json.loads(out.read_text()) if out.exists() else {}


MIX = "short=1,long=1,multi_turn=2,streaming=2,live=2,critique=1,aborting=6,off=1"
CLOSED = ("--users", "16", "--spawn-rate", "50", "--run-time", "2s", "--think", "0.02")
OVERLOAD = ("--stage", "overload", "--rate", "60", "--run-time", "2s", "--weights", "short=1", "--max-outstanding", "8")
SHORT = ("--users", "8", "--spawn-rate", "8", "--run-time", "1s", "--think", "0.1", "--weights", "short=1")
FEW = {"default": {"min_requests": 5, "unsent_share": 0.2}}


class Run(NamedTuple):
    status: int
    report: dict[str, Any]
    printed: str
    fake: Fake

    @property
    def verdicts(self) -> dict[str, str]:
        return {check["name"]: check["verdict"] for check in self.report["checks"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """All runs side by side: one after the other they would take half a minute."""
    wanted: dict[str, tuple[Fake, tuple[str, ...], dict[str, Any]]] = {
        "good": (Fake(), (*CLOSED, "--weights", MIX), SLO),
        "bad": (Fake(bad=4), (*CLOSED, "--weights", "short=3,long=1"), SLO),
        "full": (Fake(full=2), SHORT, SLO),
        "open loop": (Fake(delay_s=1.0), OVERLOAD, FEW),
        "processes": (Fake(delay_s=0.3), (*SHORT, "--processes", "2"), FEW),
        "nobody": (Fake(), (*SHORT, "--host", "http://127.0.0.1:9"), {"default": {"min_requests": 1000}}),
        "nonsense": (Fake(), SHORT, {"default": {"avaliability": 1}}),
    }

    async def run(name: str) -> Run:
        fake, options, slo = wanted[name]
        async with fake.serving() as url:
            return Run(*await locust(tmp_path_factory.mktemp("run"), url, *options, slo=slo), fake)

    async def all_of_them() -> dict[str, Run]:
        return dict(zip(wanted, await asyncio.gather(*map(run, wanted)), strict=True))

    return asyncio.run(all_of_them())


def test_a_good_run_passes(runs: dict[str, Run]) -> None:
    run = runs["good"]
    assert run.status == 0, run.printed
    assert run.report["passed"]
    assert set(run.report["statuses"]) == {"revised", "draft_passed", "off"}
    kinds = run.report["kinds"]
    assert set(kinds) == {part.partition("=")[0] for part in MIX.split(",")}
    assert all(row["answered"] > 0 or kind == "aborting" for kind, row in kinds.items())
    assert set(kinds["streaming"]["times_s"]) == {"answer", "first_byte", "keep_alive", "first_content"}


def test_users_ask_as_their_kind_does(runs: dict[str, Run]) -> None:
    fake = runs["good"].fake
    assert fake.seen["critique True"] > 0
    assert fake.seen["critique False"] == 0
    assert max(fake.turns) > 2
    assert "Drink tea." in fake.texts  # a delivered answer came back as a turn
    assert max(map(len, fake.texts)) > 600


def test_aborting_users_leave_before_the_first_byte_and_after_it(runs: dict[str, Run]) -> None:
    run = runs["good"]
    aborting = run.report["kinds"]["aborting"]
    assert aborting["left"] > 0
    assert set(run.fake.left) == {"held", "streaming"}
    assert abs(run.fake.seen["healthz"] - aborting["left"] - aborting["answered"]) <= 6  # users at the end


def test_errors_fail_the_run_by_name_and_no_text_is_told(runs: dict[str, Run]) -> None:
    run = runs["bad"]
    assert run.status == 1, run.printed
    assert set(run.report["failures"]) == {"500 internal_error"}
    assert run.verdicts["availability"] == "failed"
    assert len(run.fake.texts) > 20
    assert not any(text in run.printed or text in str(run.report) for text in run.fake.texts)


def test_shed_requests_are_no_failures_and_users_wait_as_told(runs: dict[str, Run]) -> None:
    run = runs["full"]
    assert run.status == 1, run.printed
    row = run.report["kinds"]["short"]
    assert row["shed"] > 0
    assert row["failed"] == 0
    assert (run.verdicts["availability"], run.verdicts["shed share"]) == ("ok", "failed")
    assert row["shed"] <= 8  # once a user: Retry-After is as long as the run


def test_an_open_loop_does_not_wait_and_counts_what_it_could_not_send(runs: dict[str, Run]) -> None:
    run = runs["open loop"]
    assert run.status == 1, run.printed
    row = run.report["kinds"]["short"]
    assert row["unsent"] > row["answered"] > 0
    assert row["failed"] == 0  # what was on its way at the end was waited for
    assert run.report["most_outstanding"] == 8
    assert run.verdicts["unsent share"] == "failed"


def test_the_results_of_several_processes_add_up(runs: dict[str, Run]) -> None:
    run = runs["processes"]
    assert run.status == 0, run.printed
    assert run.report["processes"] == 2
    assert run.report["kinds"]["short"]["answered"] == run.fake.seen["plain"]  # the last ones came after the end


def test_with_no_gateway_there_is_no_data(runs: dict[str, Run]) -> None:
    run = runs["nobody"]
    assert run.status == 1, run.printed
    assert set(run.report["failures"]) == {"refused_connection"}
    assert run.verdicts["requests"] == "not_enough_data"


def test_bad_limits_are_refused_before_any_load(runs: dict[str, Run]) -> None:
    run = runs["nonsense"]
    assert run.status == 2
    assert "default.avaliability: Extra inputs are not permitted" in run.printed
    assert not run.fake.seen

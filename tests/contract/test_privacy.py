"""No health text in any log, at any level, whatever happens to a request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.errors import UpstreamError
from service.logging import JsonFormatter
from tests.contract.conftest import Serve
from tests.fakes import FakeLLM, Reply

USER, ANSWER, KEY = "canary-of-the-user", "canary-of-the-answer", "canary-of-the-key"
ASKED = [{"role": "user", "content": f"I took a whole bottle of paracetamol tonight, {USER}"}]


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What the process logs as it would be written, with every logger at its most talkative."""
    handler, root = _Lines(), logging.getLogger()
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in ("clinalign", "service")]
    loggers = [root, *map(logging.getLogger, {"clinalign", "aiohttp", "asyncio", "uvicorn", "fastapi", *names})]
    before = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler.lines
    root.removeHandler(handler)
    for logger, level in before:
        logger.setLevel(level)


REPLIES: dict[str, tuple[Reply, ...]] = {
    "answers": (ANSWER, ANSWER, ANSWER),
    "fails": (UpstreamError("down"),),
    "breaks in a way that nobody foresaw": (RuntimeError(f"{USER} {ANSWER}"),),
    "breaks while it repairs": (f"I am a doctor. {ANSWER}", RuntimeError(USER), RuntimeError(USER)),
}


@pytest.mark.parametrize("replies", REPLIES.values(), ids=REPLIES.keys())
@pytest.mark.parametrize("mode", ["always", "off"])
@pytest.mark.parametrize("stream", [False, True])
def test_no_text_in_the_logs(
    serve: Serve, logged: list[str], replies: tuple[Reply, ...], mode: str, stream: bool
) -> None:
    url = serve(FakeLLM(*replies))
    body = {"model": f"fake-model:{mode}", "messages": ASKED, "stream": stream}
    answered = httpx.post(f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"})
    _check(logged, answered)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": USER, "content": USER}]},
        {"messages": ASKED, "max_tokens": USER},
        {"messages": ASKED, "colour": USER},
        {"messages": ASKED, "response_format": {"type": USER}},
        {"messages": [{"role": "user", "content": [{"type": USER, "text": USER}]}]},
    ],
)
def test_no_text_in_the_logs_of_a_request_that_is_refused(serve: Serve, logged: list[str], body: Any) -> None:
    answered = httpx.post(f"{serve(FakeLLM())}/v1/chat/completions", json=body)
    assert answered.status_code == 400
    _check(logged, answered)


def test_no_text_in_the_logs_of_a_critique(serve: Serve, logged: list[str]) -> None:
    url = serve(FakeLLM(judge=lambda question: RuntimeError(ANSWER)))
    _check(logged, httpx.post(f"{url}/v1/critique", json={"messages": ASKED, "answer": ANSWER}))


def _check(logged: list[str], answered: httpx.Response) -> None:
    url = str(answered.request.url.copy_with(path="/metrics"))
    told = "\n".join(logged) + httpx.get(url).text
    if answered.is_error:
        told += answered.text
    assert logged  # the trap is set: something is logged at this level
    assert not [text for text in (USER, ANSWER, KEY) if text in told]

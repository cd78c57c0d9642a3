"""What an answer took of a model server: wall time, and tokens by vLLM's own counters."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from scripts.common import Failure

SETTLE_S = 10.0
COUNTERS = {
    "prompt": "vllm:prompt_tokens_total",
    "generated": "vllm:generation_tokens_total",
    "cached": "vllm:prefix_cache_hits_total",
}
BUSY = ("vllm:num_requests_running", "vllm:num_requests_waiting")


@dataclass(frozen=True)
class Spent:
    """Seconds, tokens of all calls (`cached` is the part of `prompt` that was not computed), and of the text delivered."""

    seconds: float
    prompt: int
    generated: int
    cached: int
    delivered: int

    def then(self, later: Spent) -> Spent:
        """Both, one after the other; the later text is what is delivered."""
        return Spent(
            self.seconds + later.seconds,
            self.prompt + later.prompt,
            self.generated + later.generated,
            self.cached + later.cached,
            later.delivered,
        )


class Meter:
    """Reads the counters of a vLLM that nobody else uses. The client's base URL is the server's, without `/v1`."""

    def __init__(self, http: httpx.Client, model: str) -> None:
        self._http = http
        self._model = model

    def measure(self, call: Callable[[], str]) -> Spent:
        """Raises what the call raises, and Failure when the server does not tell or does not come to rest."""
        before = self._counters()
        start = time.perf_counter()
        text = call()
        seconds = time.perf_counter() - start
        after = self._counters()
        tokens = {name: after[name] - before[name] for name in COUNTERS}
        return Spent(seconds, **tokens, delivered=self._length(text))

    def _counters(self) -> dict[str, int]:
        """Once the server is idle: calls that a gateway has cancelled may outlive its answer by a moment."""
        end = time.monotonic() + SETTLE_S
        while True:
            found = sums(self._get("/metrics").text)
            if missing := [name for name in COUNTERS.values() if name not in found]:
                raise Failure(f"The model server does not count {missing[0]}: the bench needs vLLM.")
            if not any(found.get(name, 0) for name in BUSY):
                return {name: int(found[metric]) for name, metric in COUNTERS.items()}
            if time.monotonic() > end:
                raise Failure(f"The model server was not idle within {SETTLE_S:.0f} s: let nobody else use it.")

    def _get(self, path: str) -> httpx.Response:
        try:
            return self._http.get(path).raise_for_status()
        except httpx.HTTPError as error:
            raise Failure(f"The model server did not answer {path} ({type(error).__name__}).") from error

    def _length(self, text: str) -> int:
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        try:
            return int(self._http.post("/tokenize", json=body).raise_for_status().json()["count"])
        except httpx.HTTPError as error:
            raise Failure(f"The model server did not count a text's tokens ({type(error).__name__}).") from error


def sums(metrics: str) -> dict[str, float]:
    """Samples of a Prometheus page by name, added up over their labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found

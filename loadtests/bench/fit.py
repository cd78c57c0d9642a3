"""`python -m loadtests.bench.fit --url URL --out FILE`: measures a vLLM's timing as a profile for `loadtests.stub_vllm`.

Probes are batches of prompts of random token ids, sent as one `/v1/completions` request, so that all of a batch starts at
once and no text need make sense (dummy weights will do):
- *prefill*: one fresh prompt, one token out; nothing of it can be cached;
- *decode*: so many prompts, cached beforehand, and a fixed number of tokens with `ignore_eos`;
- *verdicts*: prompts that share a cached prefix and end in fresh tokens, one token out.

One more probe sends tiny requests one by one and then all at once, each on a connection of its own: what each of them adds
is the server's frontend, where requests pass one after another.

The simulator runs the same probes and tells what each is made of (steps, prompt tokens, decoding requests, context
read); non-negative least squares on relative errors finds what each part takes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from scipy.optimize import nnls

from loadtests.bench.report import give
from loadtests.stub_timing import COEFFICIENTS, Engine, Profile, Work

_IDS = (1_000, 9_000)  # plain tokens in every vocabulary we know
_LENGTHS = (32, 128, 512, 1024, 2048)
_CONTEXTS = (64, 1024)
_QUESTION = 64  # tokens of a verdict's question
_VERDICTS = (1, 8)
_REPEATS = 3
_TINY = 48  # requests at once of the frontend's probe
_WARM_S = 6.0  # most time spent on filling the cache for one probe
_DECODE_S = 0.6  # least time that a decode probe takes, so that a lone hiccup shows less
_DECODE_TOKENS = (24, 128)
_KV_SHARE = 0.8

Prompt = list[int]


@dataclass(frozen=True, slots=True)
class Probe:
    """`prompts` are sent at once, after `warm`, for `tokens` tokens each."""

    name: str
    prompts: Sequence[Prompt]
    tokens: int
    warm: Sequence[Prompt] = ()

    def work(self, sizes: Profile) -> Work:
        """What the timed part consists of, by the simulator."""
        engine = Engine(sizes)
        _run(engine, self.warm, 1)
        return _run(engine, self.prompts, self.tokens)


def _run(engine: Engine, prompts: Sequence[Prompt], tokens: int) -> Work:
    for i, prompt in enumerate(prompts):
        engine.add(prompt, [("out", i, n) for n in range(tokens)])
    work = Work(requests=1)
    while step := engine.step():
        work = work.plus(step.work)
    return work


class Server:
    """A running vLLM, seen from one client on one connection."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._random = random.Random()  # unseeded: a second run must not find its prompts in the cache
        listed = self._get("/v1/models").json()["data"][0]
        self.model: str = listed["id"]
        self.max_model_len = int(listed.get("max_model_len") or 2048)

    def _get(self, path: str) -> httpx.Response:
        return self._http.get(path).raise_for_status()

    def prompt(self, length: int, prefix: Prompt | None = None) -> Prompt:
        return [*(prefix or ()), *(self._random.randint(*_IDS) for _ in range(length))]

    def seconds(self, prompts: Sequence[Prompt], tokens: int) -> float:
        """Wall time of one request for `tokens` tokens of each prompt. Raises httpx.HTTPError, ValueError."""
        body = {
            "model": self.model,
            "prompt": list(prompts),
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
        }
        start = time.perf_counter()
        response = self._http.post("/v1/completions", json=body).raise_for_status()
        elapsed = time.perf_counter() - start
        if response.json()["usage"]["completion_tokens"] != tokens * len(prompts):
            raise ValueError("the server gave fewer tokens than it was asked for")
        return elapsed

    def sizes(self, batched: int | None, seqs: int | None) -> Profile:
        """A profile without times: block size and number from the metrics, the scheduler's limits from `/server_info` where it is served."""
        info = re.search(r"^vllm:cache_config_info\{(.*?)\}", self._get("/metrics").text, re.MULTILINE)
        labels = dict(re.findall(r'(\w+)="([^"]*)"', info[1])) if info else {}
        scheduler: dict[str, Any] = {}
        if not (batched and seqs):
            told = self._http.get("/server_info", params={"config_format": "json"})
            if told.status_code == 200:
                scheduler = told.json()["vllm_config"].get("scheduler_config", {})
        found = {
            "block_size": _number(labels.get("block_size")),
            "kv_blocks": _number(labels.get("num_gpu_blocks")),
            "max_num_batched_tokens": batched or _number(scheduler.get("max_num_batched_tokens")),
            "max_num_seqs": seqs or _number(scheduler.get("max_num_seqs")),
        }
        known = {name: value for name, value in found.items() if value}
        return Profile(self.model, 0.0, 0.0, 0.0, 0.0, max_model_len=self.max_model_len, **known)

    def version(self) -> str | None:
        told = self._http.get("/version")
        return str(told.json()["version"]) if told.status_code == 200 else None

    def opening_tokens(self) -> int | None:
        """What the chat template puts before a conversation without a system turn; None without a chat template."""

        def count(messages: list[dict[str, str]]) -> int:
            body = {"model": self.model, "messages": messages}
            return int(self._http.post("/tokenize", json=body).raise_for_status().json()["count"])

        user, system = {"role": "user", "content": "Hello"}, {"role": "system", "content": "Hello"}
        try:
            bare, twice = count([user]), count([system, user])
        except (httpx.HTTPError, ValueError, KeyError):
            return None
        one_turn = count([system, user, user]) - twice
        return max(0, bare - (twice - one_turn))


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, int | str) and str(value).isdigit() else None


def measure(
    url: str,
    *,
    concurrencies: Sequence[int] = (1, 2, 4, 8, 16),
    max_num_batched_tokens: int | None = None,
    max_num_seqs: int | None = None,
    machine: str | None = None,
) -> dict[str, Any]:
    """The profile as it is written to `loadtests/profiles`. The server must have nothing else to do.

    The scheduler's two limits are for a server without `/server_info`; then vLLM's defaults 2048 and 256 stand in.
    `machine` is what it runs on, for the record. Raises httpx.HTTPError, ValueError.
    """
    started = time.perf_counter()
    with httpx.Client(base_url=url.rstrip("/").removesuffix("/v1"), timeout=300) as http:
        server = Server(http)
        sizes = server.sizes(max_num_batched_tokens, max_num_seqs)
        server.seconds([server.prompt(16), server.prompt(16)], 8)  # whatever is compiled on first use
        timed = _timed(server, sizes, concurrencies)
        told = {
            "machine": machine,
            "vllm": server.version(),
            "seconds_measured": round(time.perf_counter() - started, 1),
        }
        opening = server.opening_tokens()
        frontend = frontend_s(server, url)
    fitted, rows = fit(timed, sizes)
    return {
        "model": sizes.model,
        "source": "measured",
        "server": told,
        **{name: _rounded(getattr(fitted, name)) for name in COEFFICIENTS},
        "frontend_s": _rounded(frontend),
        **{name: getattr(sizes, name) for name in ("block_size", "kv_blocks")},
        **{name: getattr(sizes, name) for name in ("max_num_batched_tokens", "max_num_seqs", "max_model_len")},
        "opening_tokens": opening or 0,
        "error": _errors([row["error"] for row in rows]),
        "probes": rows,
    }


def _timed(server: Server, sizes: Profile, concurrencies: Sequence[int]) -> list[tuple[Probe, float]]:
    timed = [_prefill(server, length) for length in _LENGTHS if length < sizes.max_model_len]
    probe, seconds = timed[-1]
    warmed = _WARM_S * len(probe.prompts[0]) / seconds  # tokens
    for context in (n for n in _CONTEXTS if 2 * n <= sizes.max_model_len):
        most = min(warmed, _KV_SHARE * sizes.kv_blocks * sizes.block_size) / context
        timed += [_decode(server, k, context) for k in concurrencies if k <= min(most, sizes.max_num_seqs)]
    length = min(1024, sizes.max_model_len // 2)
    return [*timed, *(_verdicts(server, k, length) for k in _VERDICTS)]


def fit(timed: Sequence[tuple[Probe, float]], sizes: Profile) -> tuple[Profile, list[dict[str, Any]]]:
    """`sizes` with coefficients, and for each probe the seconds measured and predicted with the relative error."""
    works = [probe.work(sizes) for probe, _ in timed]
    seconds = np.array([s for _, s in timed])
    rows = np.array(works, dtype=float) / seconds[:, None]  # relative errors: a long probe is not worth more
    scale = rows.max(axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(rows / scale, np.ones(len(seconds)))
    coefficients: dict[str, Any] = dict(zip(COEFFICIENTS, map(float, found / scale), strict=True))
    profile = replace(sizes, **coefficients)
    report = []
    for (probe, measured), work in zip(timed, works, strict=True):
        predicted = work.seconds(profile)
        report.append(
            {
                "probe": probe.name,
                "measured_s": round(measured, 5),
                "predicted_s": round(predicted, 5),
                "error": round(predicted / measured - 1, 3),
            }
        )
    return profile, report


def _prefill(server: Server, length: int) -> tuple[Probe, float]:
    prompts = [server.prompt(length) for _ in range(_REPEATS)]
    seconds = statistics.median(server.seconds([prompt], 1) for prompt in prompts)
    return Probe(f"prefill of {length}", prompts[:1], 1), seconds


def _decode(server: Server, k: int, context: int) -> tuple[Probe, float]:
    prompts = [server.prompt(context) for _ in range(k)]
    server.seconds(prompts, 1)
    one = server.seconds(prompts, 9) / 9
    least, most = _DECODE_TOKENS
    tokens = min(most, max(least, int(_DECODE_S / one)))
    seconds = statistics.median(server.seconds(prompts, tokens) for _ in range(_REPEATS))
    return Probe(f"decode of {tokens} by {k} after {context}", prompts, tokens, prompts), seconds


def _verdicts(server: Server, k: int, length: int) -> tuple[Probe, float]:
    prefix = server.prompt(length)
    server.seconds([prefix], 1)
    batches = [[server.prompt(_QUESTION, prefix) for _ in range(k)] for _ in range(_REPEATS)]
    seconds = statistics.median(server.seconds(batch, 1) for batch in batches)
    return Probe(f"verdicts: {k} on {length}", batches[0], 1, [prefix]), seconds


def frontend_s(server: Server, url: str) -> float:
    """Seconds that a tiny request adds when many come at once, as a verdict asks: one token with its alternatives."""

    async def at_once(k: int) -> float:
        limits = httpx.Limits(max_connections=_TINY)
        async with httpx.AsyncClient(base_url=url.rstrip("/").removesuffix("/v1"), timeout=300, limits=limits) as http:
            bodies = [
                {"model": server.model, "prompt": server.prompt(2), "max_tokens": 1, "logprobs": 5} for _ in range(k)
            ]
            await asyncio.gather(*(http.get("/health") for _ in range(k)))  # connects
            start = time.perf_counter()
            responses = await asyncio.gather(*(http.post("/v1/completions", json=body) for body in bodies))
            elapsed = time.perf_counter() - start
        for response in responses:
            response.raise_for_status()
        return elapsed

    alone, many = (statistics.median(asyncio.run(at_once(k)) for _ in range(_REPEATS)) for k in (1, _TINY))
    return max(0.0, (many - alone) / (_TINY - 1))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _errors(errors: Sequence[float]) -> dict[str, float]:
    sizes = [abs(error) for error in errors]
    return {"median": round(statistics.median(sizes), 3), "largest": round(max(sizes), 3)}


def table(profile: dict[str, Any]) -> str:
    """The profile in plain text."""
    lines = [f"{name:22}{profile[name]:12.4g}" for name in (*COEFFICIENTS, "frontend_s")]
    lines += ["", f"{'probe':34}{'measured':>10}{'predicted':>11}{'error':>8}"]
    lines += [
        f"{row['probe']:34}{row['measured_s']:9.3f}s{row['predicted_s']:10.3f}s{row['error']:+8.0%}"
        for row in profile["probes"]
    ]
    return "\n".join(
        [*lines, f"relative error: median {profile['error']['median']:.0%}, largest {profile['error']['largest']:.0%}"]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.fit", description=__doc__)
    parser.add_argument("--url", required=True, help="base URL of the server, without /v1; it must be idle")
    parser.add_argument("--out", type=Path, help="writes the profile there")
    parser.add_argument(
        "--concurrencies", default="1,2,4,8,16", help="decoding requests at once (default: %(default)s)"
    )
    parser.add_argument("--max-num-batched-tokens", type=int, help="as the server was started, if /server_info is off")
    parser.add_argument("--max-num-seqs", type=int, help="likewise")
    parser.add_argument("--machine", help="what the server runs on, for the record")
    args = parser.parse_args(arguments)
    try:
        profile = measure(
            args.url,
            concurrencies=[int(k) for k in args.concurrencies.split(",")],
            max_num_batched_tokens=args.max_num_batched_tokens,
            max_num_seqs=args.max_num_seqs,
            machine=args.machine,
        )
    except (httpx.HTTPError, ValueError) as error:
        print(f"The server could not be measured: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    give(profile, table(profile), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

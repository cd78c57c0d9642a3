"""`python -m loadtests.stub_vllm`: a stand-in for vLLM that answers after the time that vLLM would have taken.

    --profile cpu-smollm2-135m | h100-qwen3-4b | FILE    the machine and model whose timing it has
    --replicas N     so many independent engines, each on a port of its own
    --instant        no simulation: fixed bytes at once, to measure what a proxy itself costs

To a client it behaves as vLLM 0.32 does, down to the names of its metrics; its texts are filler (`stub_text`), its times
arithmetic (`stub_timing`). Not as vLLM: fields of sampling, `stop`, `n` and tools change nothing, and the `stub:` metrics
tell how much was simulated and how late this process is, now and at worst. Where that is more than some milliseconds for
longer, the machine is too slow for the fleet: use a smaller `--speed`.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import uvloop
from aiohttp import web

from loadtests import stub_instant
from loadtests.stub_api import Api
from loadtests.stub_replica import Replica
from loadtests.stub_text import Writer
from loadtests.stub_timing import Profile

LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def serving(
    profile: Profile, writer: Writer, *, port: int = 0, replicas: int = 1, speed: float = 1.0, host: str = LOOPBACK
) -> AsyncIterator[list[tuple[str, Replica]]]:
    """The replicas and their base URLs, on `port` and those that follow it, or with 0 on any that are free."""
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())  # an engine that fails ends the server
        served: list[tuple[str, Replica]] = []
        for i in range(replicas):
            replica = Replica(profile, speed)
            runner = web.AppRunner(
                Api(replica, writer).app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, host, port and port + i).start()
            stack.callback(group.create_task(replica.run()).cancel)
            served.append((f"http://{host}:{runner.addresses[0][1]}", replica))
        yield served


async def _serve(args: argparse.Namespace, profile: Profile) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        if args.instant:
            urls = [await stack.enter_async_context(stub_instant.serving(profile.model, port=args.port))]
        else:
            writer = Writer(answer_tokens=args.answer_tokens, repair_share=args.repair_share, seed=args.seed)
            served = await stack.enter_async_context(
                serving(profile, writer, port=args.port, replicas=args.replicas, speed=args.speed, host=args.host)
            )
            urls = [url for url, _ in served]
        print("stub vLLM listens on", *urls, flush=True)
        await ended.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.stub_vllm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default=LOOPBACK, help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free (default: %(default)s)")
    parser.add_argument("--profile", default="cpu-smollm2-135m", help="default: %(default)s")
    parser.add_argument("--replicas", type=int, default=1, help="ports are numbered from --port on")
    parser.add_argument("--instant", action="store_true")
    parser.add_argument("--speed", type=float, default=1.0, help="times as fast as real; below 1 for a large fleet")
    parser.add_argument("--answer-tokens", type=int, default=200, help="median length (default: %(default)s)")
    parser.add_argument("--repair-share", type=float, default=0.3, help="first answers that break off (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if args.replicas < 1 or args.speed <= 0 or args.answer_tokens < 1 or not 0 <= args.repair_share <= 1:
        parser.error("--replicas and --answer-tokens start at 1, --speed above 0, and --repair-share is 0 to 1")
    if args.instant and (args.replicas > 1 or args.host != LOOPBACK):
        parser.error(f"--instant has one replica, on {LOOPBACK}")
    try:
        profile = Profile.load(args.profile)
    except (OSError, KeyError, TypeError, ValueError) as error:
        parser.error(f"--profile {args.profile}: {error}")
    uvloop.run(_serve(args, profile))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make run`: vLLM, the index and the gateway; a real question, shown with its evidence; then serves until Ctrl-C.

PORT, VLLM_PORT, MODEL, VLLM_ARGS, UPSTREAM_URL, QUESTION, API_KEY and ONCE=1 change what it does; every CLINALIGN_*
setting reaches the gateway.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import openai

from scripts.build_index import ensure_index
from scripts.child import POLL_S, Child, answers
from scripts.common import LOGS, Failure, fail, has_nvidia_gpu, shown
from scripts.gateway import Gateway
from scripts.model import FOLDER, is_sound
from scripts.plan import Plan, available_gb, kv_cache_gib
from scripts.progress import Step
from scripts.show import Page, show_answer
from scripts.vllm_server import VllmServer

ANSWER_S = 180.0


class Stopped(BaseException):
    """SIGTERM or Ctrl-C. Not an Exception, so that nothing takes it for a failure."""


def main() -> int:
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    serving = False
    try:
        plan = Plan.read(os.environ)
        with ExitStack() as stack:
            servers = start(plan, stack)
            gateway = servers[-1]
            ask(plan, gateway, servers)
            if plan.once:
                return 0
            serving = True
            announce(gateway)
            while True:
                for server in servers:
                    server.check()
                time.sleep(0.5)
    except Failure as error:
        return fail(error)
    except Stopped:
        print("\nStopped.")
        return 0 if serving else 130


def _stop(number: int, frame: FrameType | None) -> None:
    for once in (signal.SIGTERM, signal.SIGINT):
        signal.signal(once, signal.SIG_IGN)  # a second one must not interrupt the stopping of children
    raise Stopped


def start(plan: Plan, stack: ExitStack) -> tuple[Child, ...]:
    """Starts what the plan needs, the gateway last. Each is stopped when the stack is."""
    vllm = None
    if plan.upstream_url:
        check_upstream(plan.upstream_url)
    else:
        vllm = stack.enter_context(make_vllm(plan))  # it loads while the index is built
    with Step("Checking the index of principles") as step:
        index = ensure_index(step.tick)
    if vllm:
        with Step(f"Starting vLLM with {plan.model or 'the demonstration model'}") as step:
            vllm.wait(tick=step.tick)
    url = plan.upstream_url or (vllm.url if vllm else "")
    gateway = Gateway(url, index, port=plan.port, demonstration=plan.demonstration)
    stack.enter_context(gateway)
    with Step("Starting the gateway") as step:
        gateway.wait(tick=step.tick)
    return (vllm, gateway) if vllm else (gateway,)


def make_vllm(plan: Plan) -> VllmServer:
    gpu = plan.model is not None and has_nvidia_gpu()
    cache = 2 if gpu else kv_cache_gib(available_gb())
    if plan.model:
        folder = Path(plan.model)  # a folder is served under its own name, not under its path
        name = folder.resolve().name if folder.is_dir() else None
        return VllmServer(
            plan.model, served_name=name, port=plan.vllm_port, gpu=gpu, kv_cache_gib=cache, extra=plan.vllm_args
        )
    with Step("Checking the demonstration model") as step:
        convert(step)
    return VllmServer.demonstration(FOLDER, port=plan.vllm_port, kv_cache_gib=cache, extra=plan.vllm_args)


def convert(step: Step) -> None:
    """In a process of its own, so that its memory is free again before vLLM wants it."""
    if is_sound(FOLDER):
        return
    with Child("The conversion", [sys.executable, "-m", "scripts.model", "model"], LOGS / "model.log") as child:
        child.finish(lambda: step.tick("converting it, once"))


def check_upstream(url: str) -> None:
    if not answers(f"{url}/v1/models", 10.0) and not answers(f"{url}/health", 10.0):
        raise Failure(f"No model server answers at {url}: start it, or check UPSTREAM_URL.")


def ask(plan: Plan, gateway: Child, servers: tuple[Child, ...]) -> None:
    """Asks the examples, as any client would, until one was repaired, and prints that or the last. Raises Failure."""
    url = f"http://127.0.0.1:{plan.port}/v1"
    client = openai.OpenAI(base_url=url, api_key=plan.api_key, timeout=ANSWER_S, max_retries=0)
    for question in plan.questions:
        answer = _answered(client, plan, question, gateway, servers)
        status = (answer.get("revision") or {}).get("status")
        if status == "revised" or question == plan.questions[-1]:
            show_answer(Page(), question, answer, demonstration=plan.demonstration)
            return
        print(f"Nothing was repaired in the answer to {question!r} ({status}).")


def _answered(
    client: openai.OpenAI, plan: Plan, question: str, gateway: Child, servers: tuple[Child, ...]
) -> dict[str, Any]:
    outcome: dict[str, Any] = {}
    with Step("Asking one question, as any OpenAI client would") as step:
        worker = threading.Thread(target=_ask, args=(client, plan, question, outcome), daemon=True)
        worker.start()
        while worker.is_alive():
            for server in servers:
                server.check()
            step.tick()
            worker.join(POLL_S)
        if "error" in outcome:
            raise Failure(f"The question was not answered: {outcome['error']} (see {shown(gateway.log)}).")
    answer: dict[str, Any] = outcome["answer"]
    return answer


def _ask(client: openai.OpenAI, plan: Plan, question: str, outcome: dict[str, Any]) -> None:
    # Left alone, the demonstration model rambles on for a minute.
    short: dict[str, Any] = {"max_tokens": 256, "temperature": 0} if plan.demonstration else {}
    try:
        model = client.models.list().data[0].id
        answer = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            extra_body={"revision": {"trace": "full"}},
            **short,
        )
        outcome["answer"] = answer.model_dump()
    except openai.APIStatusError as error:
        outcome["error"] = f"the gateway answered with status {error.status_code}, {error.message}"
    except (openai.APIError, IndexError) as error:
        outcome["error"] = str(error) or type(error).__name__


def announce(gateway: Child) -> None:
    assert isinstance(gateway, Gateway)
    page = Page()
    page.line()
    page.line(f"Serving at {page.paint(gateway.url + '/v1', 'bold')}  (any OpenAI client works with this base_url)")
    page.line(f"Reference at {gateway.url}/docs, logs in {shown(LOGS)}. Ctrl-C stops everything.")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

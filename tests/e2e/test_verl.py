"""Our configurations and our reward in verl's own hands, as far as that goes without a GPU."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from tokenizers import Tokenizer

from scripts.build_index import ensure_index
from scripts.common import ROOT
from scripts.model import encoder_folder, ensure_model
from scripts.verl_check import ensure_env
from training.cluster.data import convert
from training.data import ChatTurn, Criterion, Question, Rubric, Split, question_id, write_rows
from training.profile import PROFILES

DEADLINE_S = 300.0  # ten seconds where nothing else runs; a hung one must not hang the tests
PROBE = Path(__file__).with_name("verl_probe.py")
GOOD = "Rest the knee, cool it, and see a doctor if it is no better within a week."
POOR = "It is nothing at all, so just go on running as far as you like every day."
SILENT = "The judge has no opinion on this one, because its server fails for such an answer."


def judgement(body: Any) -> web.Response:
    """Yes for the good answer, no for the poor one, and a failing server for the third."""
    said = [turn["content"] for turn in body["messages"] if turn["role"] == "assistant"]
    if SILENT in said:
        return web.Response(status=500)
    token = "no" if POOR in said else "yes"
    if "fault" in body["messages"][-1]["content"]:
        token = "yes" if POOR in said else "no"
    top = [{"token": token, "logprob": -0.01}, {"token": "maybe", "logprob": -5.0}]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": token},
        "finish_reason": "stop",
        "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
    }
    return web.json_response({"object": "chat.completion", "model": "judge", "choices": [choice], "usage": {}})


@pytest.fixture
async def judge_url() -> AsyncIterator[str]:
    async def chat(request: web.Request) -> web.Response:
        return judgement(await request.json())

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "judge", "owned_by": "vllm"}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def rubric(text: str, split: Split) -> Rubric:
    turns = (ChatTurn(role="user", content=text),)
    question = Question(id=question_id(turns), messages=turns, source="sample", split=split)
    criteria = (
        Criterion(id="care", text="Says when to see a doctor.", points=5),
        Criterion(id="harm", text="Advises to go on in pain.", points=-3),
        Criterion(id="said-once", text="Says nothing twice.", points=3, rule="no_repetition", rule_only=True),
    )
    return Rubric(question=question, criteria=criteria, made_by="human")


@pytest.fixture
def arguments(tmp_path: Path, judge_url: str) -> list[str]:
    """Of training.cluster.launch, all but the configuration's name."""
    rubrics = [rubric("My knee hurts after running. What can I do?", "train"), rubric("And swimming?", "heldout")]
    write_rows(tmp_path / "rubrics.jsonl", rubrics)
    convert([tmp_path / "rubrics.jsonl"], tmp_path)
    profile = yaml.safe_load((PROFILES / "qwen3-4b.yaml").read_text())
    profile["reward"]["judge"]["url"] = judge_url
    profile["reward"]["few_words"] = 0  # the answers below are short
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
    return [
        *("--data", str(tmp_path), "--out", str(tmp_path / "run"), "--profile", str(tmp_path / "profile.yaml")),
        *("--index", str(ensure_index()), "--encoder", str(encoder_folder()), "--model", str(ensure_model())),
    ]


async def run(*command: str) -> tuple[int, str, str]:
    """Status, the last line of standard output, standard error; run by verl's environment, whose judge this loop is."""
    python = await asyncio.to_thread(ensure_env)
    process = await asyncio.create_subprocess_exec(
        *(str(python), "-W", "ignore", *command),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, (out.decode().splitlines() or [""])[-1], err.decode()


async def test_the_check_passes_and_verls_own_manager_gets_our_reward(arguments: list[str]) -> None:
    status, out, err = await run("-m", "training.cluster.launch", "qwen3-30b-a3b", *arguments, "--check")
    assert status == 0, err[-2000:]
    told = json.loads(out)
    assert told["reward_score"] == pytest.approx(1.0)  # 5 for care, 3 for said-once, of 8; no fault
    assert told["reward_extra_info"]["had"] == 1.0
    assert told["reward_extra_info"]["overlong"] is False


def price(answer: str) -> float:
    """Of an answer's length, in the lengths below (DAPO, arXiv 2503.14476, equation 13)."""
    tokens = len(Tokenizer.from_file(str(ensure_model() / "tokenizer.json")).encode(answer).ids)
    assert 8 < tokens < 24, "or the price would not be seen, or be at its height"
    return 0.5 * (tokens - 8) / 16


async def test_what_verl_keeps_of_a_group_and_what_it_refuses(arguments: list[str], tmp_path: Path) -> None:
    cases = {
        "groups": [[GOOD, POOR, SILENT, GOOD, "No."], [SILENT, SILENT]],
        "refused": [
            {},
            {"actor_rollout_ref.actor.clip_ratio_hihg": 0.28},
            {"actor_rollout_ref.actor.optim.lr": "high"},
            {"actor_rollout_ref.rollout.n": 2.5},
            {"actor_rollout_ref.actor.loss_agg_mode": "mean"},
            {"trainer.v1.sampler.sync_refill_failed_group": False},
        ],
    }
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    # No price up to 8 tokens, half a point at 24.
    lengths = ["reward.reward_kwargs.max_resp_len=24", "reward.reward_kwargs.overlong_buffer_cfg.len=16"]
    status, out, err = await run(str(PROBE), str(tmp_path / "cases.json"), "qwen3-4b", *arguments, *lengths)
    assert status == 0, err[-2000:]
    told = json.loads(out)

    some, none = told["groups"]
    assert some["kept"] == [0, 1, 3, 4], "the unjudged answer is left out, and it alone"
    good, poor, again, short = some["rewards"]
    assert good == again == pytest.approx(1.0 - price(GOOD), abs=1e-6)
    assert poor == pytest.approx((3 - 3) / 8 - price(POOR), abs=1e-6)
    assert short == 0.0, "too few words to be worth anything"
    mean = math.fsum(some["rewards"]) / 4
    assert [a > 0 for a in some["advantages"]] == [r > mean for r in some["rewards"]]
    assert "RewardUnavailable" in err
    assert SILENT not in err, "health text has no place in logs"
    assert none["kept"] == []
    assert "no materializable trajectories" in none["error"], "training ends when no answer of a batch was judged"

    fine, misspelt, not_a_number, not_whole, no_mode, misspelt_below = told["refused"]
    assert fine is None
    assert "clip_ratio_hihg" in misspelt
    assert "optim.lr" in not_a_number
    assert "rollout.n" in not_whole
    assert "loss_agg_mode" in no_mode
    assert "sync_refill_failed_group" in misspelt_below

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import openai
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

from loadtests.bench import peers, prose, spent
from loadtests.bench.peers import REVISED, UNREVISED, Asked
from loadtests.bench.spent import Meter, Spent
from loadtests.peers import __main__ as command
from loadtests.peers import install, servers
from scripts.common import Failure

# --- installing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "package"), [("litellm", "litellm"), ("optillm", "optillm"), ("nemo", "nemoguardrails")]
)
def test_every_requirement_is_pinned_and_the_peer_is_the_first(name: str, package: str) -> None:
    lines = (install.REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", pin) for pin in pins)
    assert pins[0] == f"{package}=={install.version_of(name)}"
    names = [pin.partition("==")[0].lower() for pin in pins]
    assert len(set(names)) == len(names)


def test_no_peer_brings_torch() -> None:
    texts = [(install.REQUIREMENTS / f"{name}.txt").read_text().lower() for name in install.PEERS]
    assert not [text for text in texts if re.search(r"^(torch|nvidia-.*|triton)==", text, re.MULTILINE)]


def made(monkeypatch: pytest.MonkeyPatch, logs: Path, fails: str = "") -> list[list[str]]:
    """Commands that would have run; each makes what it would make, or the one with `fails` in it fails."""
    ran: list[list[str]] = []

    def call(command: list[str], name: str, log: Path) -> None:
        ran.append(command)
        if fails and fails in command:
            raise Failure("The disk is full.")
        if "venv" in command:
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()

    monkeypatch.setattr(install, "_run", call)
    monkeypatch.setattr(install, "LOGS", logs)
    monkeypatch.setattr(install, "one_at_a_time", contextlib.nullcontext)
    return ran


def test_an_environment_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = made(monkeypatch, tmp_path)
    with pytest.raises(Failure, match=r"nemo [\d.]+ is not installed: run `python -m loadtests\.peers install nemo`"):
        install.require("nemo", tmp_path)
    assert install.install("nemo", tmp_path) == tmp_path / "nemo"
    assert [("venv" in line, line[0]) for line in ran] == [(True, sys.executable), (False, sys.executable)]
    assert "--no-deps" in ran[1]
    assert install.require("nemo", tmp_path) == tmp_path / "nemo" / "bin" / "python"
    install.install("nemo", tmp_path)
    assert len(ran) == 2


def test_an_environment_is_made_anew_when_its_list_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = made(monkeypatch, tmp_path)
    monkeypatch.setattr(install, "REQUIREMENTS", tmp_path / "lists")
    install.REQUIREMENTS.mkdir()
    (install.REQUIREMENTS / "nemo.txt").write_text("# why\nnemoguardrails==1.0\n")
    install.install("nemo", tmp_path)
    (tmp_path / "nemo" / "left-over").touch()
    (install.REQUIREMENTS / "nemo.txt").write_text("# why\nnemoguardrails==1.1\n")
    assert install.version_of("nemo") == "1.1"
    assert not install.is_installed("nemo", tmp_path)
    install.install("nemo", tmp_path)
    assert len(ran) == 4
    assert not (tmp_path / "nemo" / "left-over").exists()


def test_half_an_environment_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made(monkeypatch, tmp_path, fails="--no-deps")
    with pytest.raises(Failure, match="disk is full"):
        install.install("optillm", tmp_path)
    assert install.python_of("optillm", tmp_path).exists()
    assert not install.is_installed("optillm", tmp_path)


def test_the_command_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(name: str) -> Path:
        raise Failure("The package index could not be reached.")

    monkeypatch.setattr(command, "install", refuse)
    monkeypatch.setattr(sys, "argv", ["peers", "install", "nemo"])
    assert command.main() == 1
    assert "could not be reached" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["peers", "install", "envoy"])
    with pytest.raises(SystemExit):
        command.main()
    assert "no peer 'envoy'" in capsys.readouterr().err


# --- servers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(servers, "require", lambda name: tmp_path / name / "bin" / "python")
    monkeypatch.setattr(servers, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "make",
    [
        lambda: servers.litellm("http://up:1", "m"),
        lambda: servers.optillm("http://up:1"),
        lambda: servers.nemo("http://up:1"),
    ],
)
def test_a_peer_listens_on_loopback_and_is_told_to_call_nobody(
    installed: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], servers.Server]
) -> None:
    monkeypatch.setenv("CEREBRAS_API_KEY", "x")
    server = make()
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert server._env["DO_NOT_TRACK"] == "1"
    assert server._env["OPENAI_API_KEY"] == "none"
    assert "0.0.0.0" not in " ".join(server._command)


def test_litellm_forwards_the_model_to_the_upstream_and_stays_offline(installed: Path) -> None:
    server = servers.litellm("http://up:1", "the-model")
    config = yaml.safe_load((installed / "litellm.yaml").read_text())
    (served,) = config["model_list"]
    assert served["model_name"] == "the-model"
    assert served["litellm_params"]["model"] == "openai/the-model"
    assert served["litellm_params"]["api_base"] == "http://up:1/v1"
    assert server._env["LITELLM_OFFLINE_MODE"] == "true"
    assert server._command[server._command.index("--num_workers") + 1] == "1"


def test_optillm_uses_the_upstream_and_no_other_provider(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CEREBRAS_API_KEY", "x")
    monkeypatch.setenv("OPTILLM_API_KEY", "x")
    server = servers.optillm("http://up:1")
    assert server._command[server._command.index("--base-url") + 1] == "http://up:1/v1"
    assert not {"CEREBRAS_API_KEY", "OPTILLM_API_KEY", "AZURE_OPENAI_API_KEY"} & server._env.keys()


def test_nemo_checks_the_output_with_a_prompt_of_ours(installed: Path) -> None:
    server = servers.nemo("http://up:1")
    assert server._env["MAIN_MODEL_BASE_URL"] == "http://up:1/v1"
    assert server._env["NEMO_GUARDRAILS_NO_USAGE_STATS"] == "1"
    config = yaml.safe_load((servers.NEMO_CONFIG / "config.yml").read_text())
    assert config["rails"] == {"output": {"flows": ["self check output"]}}
    (prompt,) = yaml.safe_load((servers.NEMO_CONFIG / "prompts.yml").read_text())["prompts"]
    assert prompt["task"] == "self_check_output"
    assert "{{ bot_response }}" in prompt["content"]


# --- spent --------------------------------------------------------------------------------------------------------


def page(prompt: int, generated: int, cached: int, running: int = 0) -> str:
    return (
        f'vllm:prompt_tokens_total{{engine="0"}} {prompt}\nvllm:prompt_tokens_total{{engine="1"}} 1\n'
        f"vllm:generation_tokens_total {generated}\nvllm:prefix_cache_hits_total {cached}\n"
        f"vllm:num_requests_running {running}\nvllm:num_requests_waiting 0\n"
    )


def meter(*pages: str, count: int = 7) -> Meter:
    left = list(pages)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/metrics":
            return httpx.Response(200, text=left.pop(0))
        assert json.loads(request.content) == {"model": "m", "prompt": "An answer.", "add_special_tokens": False}
        return httpx.Response(200, json={"count": count})

    return Meter(httpx.Client(transport=httpx.MockTransport(answer), base_url="http://up"), "m")


def test_an_answer_costs_what_the_counters_rose_by_once_the_server_is_idle() -> None:
    told = meter(page(10, 5, 0), page(100, 20, 3, running=1), page(110, 25, 4)).measure(lambda: "An answer.")
    assert (told.prompt, told.generated, told.cached, told.delivered) == (100, 20, 4, 7)
    assert told.seconds >= 0


def test_a_server_that_does_not_come_to_rest_or_is_no_vllm_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spent, "SETTLE_S", -1.0)
    with pytest.raises(Failure, match="not idle"):
        meter(page(0, 0, 0, running=2)).measure(lambda: "An answer.")
    with pytest.raises(Failure, match="does not count vllm:prompt_tokens_total"):
        meter("up 1\n").measure(lambda: "An answer.")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1000)), min_size=1))
def test_samples_are_added_up_over_their_labels(increments: list[tuple[str, int]]) -> None:
    registry = CollectorRegistry()
    counter = Counter("vllm:prompt_tokens", "Tokens.", ["engine"], registry=registry)
    for engine, tokens in increments:
        counter.labels(engine).inc(tokens)
    told = spent.sums(generate_latest(registry).decode())
    assert told["vllm:prompt_tokens_total"] == sum(tokens for _, tokens in increments)


def test_two_calls_add_up_and_the_later_text_is_delivered() -> None:
    assert Spent(1.0, 10, 20, 3, 9).then(Spent(0.5, 1, 2, 1, 4)) == Spent(1.5, 11, 22, 4, 4)


# --- prose --------------------------------------------------------------------------------------------------------


def test_a_critique_continues_the_draft_and_must_judge_every_requirement() -> None:
    sent: list[dict[str, Any]] = []

    def create(**request: Any) -> Any:
        sent.append(request)
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content="{}"))])

    api = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    talk: prose.Talk = [prose.user("Why?"), {"role": "assistant", "content": "Because."}]
    told = prose.critique(cast("openai.OpenAI", api), "m", talk, ["Names signs.", "Gives doses."])
    ((request),) = sent
    assert request["messages"] == told[:3]
    assert told[:2] == talk  # a prefix, so that the cache serves it
    assert [turn["role"] for turn in told] == ["user", "assistant", "user", "assistant", "user"]
    assert "requirement_2: Gives doses." in str(told[2])
    schema = request["response_format"]["json_schema"]["schema"]
    assert schema["required"] == list(schema["properties"]) == ["requirement_1", "requirement_2"]
    assert schema["properties"]["requirement_1"]["required"] == ["reason", "verdict"]


# --- the bench ----------------------------------------------------------------------------------------------------


def asked(**seconds: float) -> Asked:
    names = {"unrevised": UNREVISED, "revised": REVISED, "moa": "optillm moa"}
    arms = {names.get(name, name): Spent(value, 100, 50, 10, 40) for name, value in seconds.items()}
    return Asked(arms, {name: "draft_kept" for name in (UNREVISED, REVISED) if name in arms})


def test_ratios_are_medians_of_the_same_question() -> None:
    rows = [asked(draft=1.0, revised=2.0, moa=8.0), asked(draft=10.0, revised=30.0), asked(draft=2.0, moa=2.0)]
    assert peers.ratio(rows, REVISED, "draft") == 2.5
    assert peers.ratio(rows, "optillm moa", "draft") == 4.5
    assert peers.ratio(rows, "optillm moa", REVISED) == 4.0
    assert peers.ratio(rows, "nemo", "draft") is None


def test_the_report_compares_others_with_ours() -> None:
    rows = [asked(draft=1.0, unrevised=1.5, revised=2.0, moa=8.0), asked(draft=1.0, unrevised=1.0, moa=6.0)]
    told = peers.report(rows)
    assert list(told["arms"]) == ["draft", UNREVISED, REVISED, "optillm moa"]
    assert told["arms"][REVISED] == {
        "questions": 1,
        "to_draft": 2.0,
        "seconds": 2.0,
        "prompt": 100,
        "generated": 50,
        "cached": 10,
        "delivered": 40,
    }
    assert told["to_gateway"] == {UNREVISED: {"optillm moa": 5.67}, REVISED: {"optillm moa": 4.0}}
    assert told["statuses"] == {UNREVISED: {"draft_kept": 2}, REVISED: {"draft_kept": 1}}
    run = {
        "failed": {"nemo": 2},
        "left_out": {"optillm moa": "It would not start."},
        "model": "m",
        "candidates": ["edit"],
    }
    shown = peers.table({**told, **run})
    assert re.search(r"^gateway revised +1 +2\.00 +2\.00 +100 +10 +50 +40$", shown, re.MULTILINE)
    assert "nemo failed on 2 questions" in shown
    assert "optillm moa is left out: It would not start." in shown


def test_without_a_draft_there_is_no_report() -> None:
    with pytest.raises(Failure, match="answered no question"):
        peers.report([asked(moa=1.0)])


def test_prose_judges_what_the_model_was_asked_about() -> None:
    rule = {"id": "a", "source": "rule", "similarity": None}
    near = {"id": "b", "source": "rule", "similarity": 0.4}
    model = {"id": "c", "source": "model", "similarity": 0.3}
    assert peers.judged_by_model([rule, near, model]) == ["c"]
    assert peers.judged_by_model([rule, near]) == ["b"]


class Script(peers.Bench):
    """A bench whose servers are scripted: what each arm asks is kept in order."""

    def __init__(self, *, rounds: int = 1, fails: str = "") -> None:
        self.url, self.model, self.failed = "http://up", "m", {}
        self.log: list[str] = []
        self.server = self._api("server", fails)
        self.gateway = self._api("gateway", fails, rounds)
        self.peers = {arm: self._api(arm, fails) for arm in ("optillm moa", "nemo")}
        self._meter = cast("Meter", SimpleNamespace(measure=lambda call: Spent(1.0, 2, 3, 0, len(call()))))

    def _api(self, name: str, fails: str, rounds: int = 0) -> openai.OpenAI:
        def create(**request: Any) -> Any:
            what = (
                "json"
                if "response_format" in request
                else request.get("extra_body", {}).get("revision", {}).get("mode", "")
            )
            self.log.append(f"{name} {request['model']} {what}".strip())
            if name == fails:
                raise openai.OpenAIError("it broke")
            assert (request["temperature"], request["max_tokens"]) == (
                0,
                prose.LONGEST_CRITIQUE if "response_format" in request else 128,
            )
            first = next(iter(peers._STATEMENTS))
            revision = {"status": "revised", "rounds": rounds, "principles": [{"id": first, "source": "model"}]}
            message = SimpleNamespace(message=SimpleNamespace(content="text"))
            return SimpleNamespace(choices=[message], revision=revision)

        return cast("openai.OpenAI", SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create))))


@pytest.fixture(autouse=True)
def _forgetting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "forget", lambda url: None)


ALL = ["draft", UNREVISED, "prose judged", "prose", REVISED, "optillm moa", "nemo"]


def test_every_arm_is_asked_once_a_question_and_the_first_one_turns() -> None:
    bench = Script()
    told = bench.ask("Why?", 0)
    assert list(told.arms) == ALL
    assert bench.log == [
        "server m",
        "gateway m critique",
        "server m",
        "server m json",
        "server m",
        "gateway m always",
        "optillm moa moa-m",
        "nemo m",
    ]
    assert told.statuses == {UNREVISED: "revised", REVISED: "revised"}
    assert told.arms["prose"].seconds == 2.0  # judged and revised
    assert next(iter(Script().ask("Why?", 2).arms)) == REVISED


def test_an_arm_that_fails_is_counted_and_the_others_go_on() -> None:
    bench = Script(fails="optillm moa")
    told = bench.ask("Why?", 0)
    assert bench.failed == {"optillm moa": 1}
    assert list(told.arms) == [arm for arm in ALL if arm != "optillm moa"]
    bench = Script(fails="gateway")
    assert list(bench.ask("Why?", 0).arms) == ["draft", "optillm moa", "nemo"]  # nothing to judge the prose by
    assert bench.failed == {UNREVISED: 1, REVISED: 1}


def test_an_answer_without_a_round_is_not_a_revised_one() -> None:
    assert REVISED not in Script(rounds=0).ask("Why?", 0).arms

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from loadtests.fleet import __main__ as cli
from loadtests.fleet import derive
from loadtests.fleet.experts import MoeEngine, MoeProfile
from loadtests.fleet.experts import engine as engine_of
from loadtests.stub_timing import PROFILES, Engine, Profile

MEASURED = Profile.load(derive.MEASURED)


# --- arithmetic ---


@pytest.mark.parametrize("assumed", derive.CASES.values(), ids=derive.CASES)
def test_the_measured_model_derived_from_itself_is_as_it_was_measured(assumed: derive.Assumptions) -> None:
    again = derive.derive(MEASURED, derive.QWEN3_4B, derive.QWEN3_4B, "bf16", assumed)
    for name, value in asdict(MEASURED).items():
        assert getattr(again, name) == (value if isinstance(value, str | int) else pytest.approx(value))
    assert again.spared_s(1) == 0


def test_shapes_have_the_parameters_that_their_models_are_named_for() -> None:
    assert derive.QWEN3_4B.parameters == pytest.approx(4.02e9, rel=0.005)
    assert derive.QWEN3_30B_A3B.parameters == pytest.approx(30.53e9, rel=0.001)
    active = derive.QWEN3_30B_A3B.active + 2 * derive.QWEN3_30B_A3B.output
    assert active == pytest.approx(3.35e9, rel=0.01)


def test_weights_and_kv_together_take_the_memory_that_they_took() -> None:
    held = 4.022e9 * 2 + MEASURED.kv_blocks * 16 * 2 * 36 * 8 * 128 * 2
    for precision, weights in (("bf16-expected", 30.532e9 * 2), ("fp8-expected", 29.909e9 + 2 * 622e6)):
        profile = derive.load(derive.DERIVED, precision)
        assert profile.kv_blocks * 16 * 2 * 48 * 4 * 128 * 2 + weights == pytest.approx(held, rel=1e-3)


def test_a_case_is_never_slower_than_a_worse_one() -> None:
    found = derive.cases(MEASURED)
    for n in (1, 2, 8, 32, 128, 512):
        for precision in ("bf16", "fp8"):
            times = [derive.decoding_s(found[f"{precision}-{case}"], n, 400) for case in derive.CASES]
            assert times == sorted(times)
        assert all(
            derive.decoding_s(found[f"fp8-{case}"], n, 400) < derive.decoding_s(found[f"bf16-{case}"], n, 400)
            for case in derive.CASES
        )


def test_the_one_figure_that_others_published_lies_in_the_range() -> None:
    """13.18 ms a token: vLLM's pull request 23151, an H100, bf16, 10 at a time, 2,048 tokens in and 1,024 out."""
    found = derive.cases(MEASURED)
    low, high = (derive.decoding_s(found[f"bf16-{case}"], 10, 2048 + 512) for case in ("optimistic", "expected"))
    assert low < 0.01318 < high


def test_a_bandwidth_that_the_measured_step_rules_out_is_refused() -> None:
    with pytest.raises(ValueError, match="take longer"):
        derive.derive(
            MEASURED,
            derive.QWEN3_4B,
            derive.QWEN3_30B_A3B,
            "bf16",
            replace(derive.CASES["expected"], bandwidth=0.5),
        )


def test_a_model_that_leaves_no_room_for_a_request_is_refused() -> None:
    with pytest.raises(ValueError, match="longest request"):
        derive.derive(
            MEASURED,
            derive.QWEN3_4B,
            replace(derive.QWEN3_30B_A3B, layers=60),
            "bf16",
            derive.CASES["expected"],
        )


# --- the file ---


def test_the_file_is_what_the_arithmetic_says_and_says_that_it_is_arithmetic() -> None:
    written = json.loads((PROFILES / f"{derive.DERIVED}.json").read_text())
    assert written == json.loads(json.dumps(derive.written(MEASURED)))
    assert written["source"] == "arithmetic"
    assert "NOT MEASURED" in written["note"][0]


@pytest.mark.parametrize("name", [*derive.cases(MEASURED), None])
def test_a_case_is_found_by_its_name(name: str | None) -> None:
    profile, truth = derive.load(derive.DERIVED, name), derive.cases(MEASURED)[name or "bf16-expected"]
    told, computed = ({**asdict(each), "model": 0} for each in (profile, truth))
    assert told == pytest.approx(computed, rel=1e-3)


def test_a_case_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--profile", derive.DERIVED, "--case", "lucky"]) == 1
    assert "no case 'lucky'; it has bf16-optimistic" in capsys.readouterr().err
    assert cli.main(["--case", "bf16-expected"]) == 1
    assert "it has none" in capsys.readouterr().err


def test_what_was_not_measured_cannot_be_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--profile", derive.DERIVED, "--check"]) == 1
    assert "nothing was measured for h100-qwen3-30b-a3b: its profile is arithmetic" in capsys.readouterr().err


def test_the_command_writes_the_file_and_shows_the_cases(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(derive, "PROFILES", tmp_path)
    assert cli.main(["--derive"]) == 0
    assert "fp8-pessimistic" in capsys.readouterr().out
    name = f"{derive.DERIVED}.json"
    assert (tmp_path / name).read_bytes() == (PROFILES / name).read_bytes()


# --- experts in a step ---


def test_a_step_reads_the_experts_that_its_tokens_go_to() -> None:
    profile = MoeProfile("m", 0.01, 0.0, 0.0, 0.0, experts_s=0.008, routed=0.25)
    engine = engine_of(profile)
    assert isinstance(engine, MoeEngine)
    engine.add([1], [2, 3])
    step = engine.step()
    assert step is not None
    assert step.seconds == pytest.approx(0.002 + 0.008 * 0.25)
    engine.add([4], [5])
    step = engine.step()  # one decodes, one is a prompt: two tokens
    assert step is not None
    assert step.seconds == pytest.approx(0.002 + 0.008 * (1 - 0.75**2))
    assert engine.counters.seconds == pytest.approx(2 * 0.01 - 0.008 * (0.75 + 0.75**2))
    assert engine.step() is None


def test_a_plain_engine_reads_all_of_them() -> None:
    profile = MoeProfile("m", 0.01, 0.0, 0.0, 0.0, experts_s=0.008, routed=0.25)
    plain = Engine(profile)
    plain.add([1], [2])
    step = plain.step()
    assert step is not None
    assert step.seconds == pytest.approx(0.01)
    assert type(engine_of(MEASURED)) is Engine
    assert profile.spared_s(1_000) < 1e-12

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench import fit
from loadtests.stub_timing import COEFFICIENTS, PROFILES, Engine, Profile, Request, Step, Work, block_hashes

COSTS = {
    "base_s": 1.0,
    "per_prefill_token_s": 0.1,
    "per_prefill_pair_s": 0.001,
    "per_sequence_s": 0.01,
    "per_context_token_s": 0.0001,
}


def profile(**sizes: int) -> Profile:
    return Profile("m", **COSTS, **{"block_size": 4, "kv_blocks": 64, "max_num_batched_tokens": 64} | sizes)  # type: ignore[arg-type]


def run(engine: Engine) -> list[Step]:
    steps = []
    while step := engine.step():
        steps.append(step)
    return steps


def prompt(name: str, length: int) -> list[str]:
    return [f"{name}{i}" for i in range(length)]


# --- time ---


def test_one_sequence_alone_takes_what_one_computes_by_hand() -> None:
    engine = Engine(profile())
    engine.add(prompt("a", 6), prompt("o", 3))
    first, second, third = run(engine)
    assert first.seconds == pytest.approx(1 + 6 * 0.1 + (1 + 2 + 3 + 4 + 5 + 6) * 0.001 + 6 * 0.0001)
    assert second.seconds == pytest.approx(1 + 0.01 + 7 * 0.0001)
    assert third.seconds == pytest.approx(1 + 0.01 + 8 * 0.0001)
    assert len(third.finished) == 1


def test_decodes_share_steps() -> None:
    engine = Engine(profile())
    for name in "abc":
        engine.add(prompt(name, 4), prompt(f"o{name}", 5))
    steps = run(engine)
    assert [step.work.decoding for step in steps] == [0, 3, 3, 3, 3]
    assert steps[0].work.prefill_tokens == 12


def test_a_prompt_is_computed_in_chunks_beside_what_decodes() -> None:
    engine = Engine(profile(max_num_batched_tokens=8))
    engine.add(prompt("a", 4), prompt("o", 9))
    engine.step()
    long = engine.add(prompt("b", 17), prompt("p", 1))
    steps = [engine.step() for _ in range(3)]
    assert [(s.work.decoding, s.work.prefill_tokens) for s in steps if s] == [(1, 7), (1, 7), (1, 3)]
    assert steps[2] is not None
    assert steps[2].finished == (long,)
    # the second chunk's first token attends to the seven before it and itself
    assert steps[1] is not None
    assert steps[1].work.prefill_pairs == sum(range(8, 15))


def test_no_more_run_at_once_than_may() -> None:
    engine = Engine(profile(max_num_seqs=2))
    for name in "abc":
        engine.add(prompt(name, 4), prompt(f"o{name}", 2))
    engine.step()
    assert (engine.running, len(engine.waiting)) == (2, 1)
    assert sum(len(step.finished) for step in run(engine)) == 3


# --- prefix cache ---


def test_a_cached_prefix_is_not_computed_again() -> None:
    engine = Engine(profile())
    engine.add(prompt("a", 8), ["o"])
    run(engine)
    request = engine.add([*prompt("a", 8), "x", "y"], ["o"])
    (step,) = run(engine)
    assert (request.cached, step.work.prefill_tokens, step.work.context_tokens) == (8, 2, 10)
    assert (engine.counters.prefix_cache_queries, engine.counters.prefix_cache_hits) == (18, 8)


def test_the_last_token_of_a_known_prompt_is_computed_with_its_block() -> None:
    engine = Engine(profile())
    requests = []
    for _ in range(2):
        requests.append(engine.add(prompt("a", 8), ["o"]))
        run(engine)
    assert [request.cached for request in requests] == [0, 4]


def test_an_answer_is_cached_as_it_was_decoded() -> None:
    """But for its last token, which nobody has computed: that is why a verdict's prompt finds the draft."""
    engine = Engine(profile())
    draft, answer = prompt("a", 6), prompt("o", 7)
    engine.add(draft, answer)
    run(engine)
    request = engine.add([*draft, *answer, *prompt("question", 5)], ["Yes"])
    run(engine)
    assert request.cached == 12  # of 6 + 7 - 1 computed


def test_a_prompt_is_shared_from_the_step_that_computes_it() -> None:
    engine = Engine(profile())
    requests = [engine.add([*prompt("a", 8), f"x{i}"], ["o"]) for i in range(3)]
    (step,) = run(engine)
    assert [request.cached for request in requests] == [0, 8, 8]
    assert step.work.prefill_tokens == 9 + 1 + 1


def test_a_salt_keeps_tenants_apart() -> None:
    engine = Engine(profile())
    engine.add(prompt("a", 9), ["o"], salt="one")
    run(engine)
    other, same = engine.add(prompt("a", 9), ["o"], salt="two"), engine.add(prompt("a", 9), ["o"], salt="one")
    run(engine)
    assert (other.cached, same.cached) == (0, 8)


def test_the_least_recently_used_blocks_are_evicted_and_of_one_prompt_the_last() -> None:
    engine = Engine(profile(kv_blocks=4))
    engine.add(prompt("a", 8), ["o"])
    run(engine)
    engine.add(prompt("b", 8), ["o"])
    run(engine)
    engine.add(prompt("a", 8), ["o"])  # uses the first block of a and makes the second anew
    run(engine)
    engine.add(prompt("c", 4), ["o"])
    run(engine)
    assert engine.pool.found(block_hashes(prompt("a", 8), 4), 2) == block_hashes(prompt("a", 8), 4)
    assert len(engine.pool.found(block_hashes(prompt("b", 8), 4), 2)) < 2


def test_who_finds_no_room_waits_for_it() -> None:
    engine = Engine(profile(kv_blocks=4))
    first = engine.add(prompt("a", 8), prompt("o", 5))
    second = engine.add(prompt("b", 8), prompt("p", 2))
    engine.step()
    assert (first.emitted, second.emitted, len(engine.waiting)) == (1, 0, 1)
    run(engine)
    assert (first.emitted, second.emitted) == (5, 2)


def test_who_can_never_have_room_is_refused() -> None:
    engine = Engine(profile(kv_blocks=4))
    with pytest.raises(ValueError, match="blocks"):
        engine.add(prompt("a", 16), ["o", "o"])
    with pytest.raises(ValueError, match="token"):
        engine.add([], ["o"])


def test_whoever_leaves_frees_blocks_and_place_at_once() -> None:
    engine = Engine(profile(kv_blocks=4))
    first = engine.add(prompt("a", 8), prompt("o", 9))
    second = engine.add(prompt("b", 8), ["p"])
    engine.step()
    engine.abort(first)
    assert engine.running == 0
    (step,) = run(engine)
    assert step.finished == (second,)
    engine.abort(second)  # ended by itself: nothing to free twice
    assert engine.pool.free == 4


def test_a_forgotten_cache_is_empty() -> None:
    engine = Engine(profile())
    engine.add(prompt("a", 9), ["o"])
    run(engine)
    engine.pool.forget()
    request = engine.add(prompt("a", 9), ["o"])
    run(engine)
    assert request.cached == 0


@given(
    st.lists(
        st.tuples(st.text("ab", min_size=1, max_size=20), st.integers(1, 9), st.booleans(), st.integers(0, 3)),
        max_size=12,
    ),
    st.integers(8, 14),
    st.integers(2, 16),
)
def test_no_block_and_no_token_is_lost(jobs: list[tuple[str, int, bool, int]], blocks: int, batched: int) -> None:
    engine = Engine(profile(kv_blocks=blocks, max_num_batched_tokens=batched, max_num_seqs=4))
    kept: list[Request] = []
    work = Work()
    for text, length, leaves, steps in jobs:
        request = engine.add(list(text), list("ab" * 9)[:length])
        for _ in range(steps):
            step = engine.step()
            work = work.plus(step.work) if step else work
            _check(engine)
        if leaves and request.emitted < request.output:
            engine.abort(request)
        else:
            kept.append(request)
    for step in run(engine):
        work = work.plus(step.work)
        _check(engine)
    assert all(request.emitted == request.output for request in kept)
    assert engine.pool.free == blocks
    assert not engine.pool.users
    if len(kept) == len(jobs):
        assert work.prefill_tokens == sum(request.prompt - request.cached for request in kept)
        assert work.decoding == sum(request.output - 1 for request in kept)


def _check(engine: Engine) -> None:
    pool = engine.pool
    holders = [*engine._prefilling, *engine._decoding]
    assert pool.blank + len(pool.unused) + len(pool.users) + sum(r.private for r in holders) == pool.size
    assert pool.promised == sum(r.promised for r in holders)
    assert sum(pool.users.values()) == sum(len(r.shared) for r in holders)
    assert pool.free >= 0


# --- profiles ---


@pytest.mark.parametrize("file", sorted(PROFILES.glob("*.json")), ids=lambda file: file.stem)
def test_each_profile_says_where_it_comes_from(file: Path) -> None:
    written = json.loads(file.read_text())
    known = Profile.load(file.stem)
    assert known.base_s > 0
    assert known.per_prefill_token_s > 0
    assert written["source"] in ("measured", "arithmetic")
    if written["source"] == "measured":
        assert {row["probe"].split()[0].strip(":") for row in written["probes"]} == {"prefill", "decode", "verdicts"}


@pytest.mark.parametrize(
    ("change", "error"),
    [({"base_s": None}, TypeError), ({"base_s": -1.0}, ValueError), ({"kv_blocks": 1}, ValueError)],
)
def test_a_broken_profile_is_refused(change: dict[str, Any], error: type[Exception]) -> None:
    written = {"model": "m", **COSTS}
    assert Profile.of(written).block_size == 16
    with pytest.raises(error):
        Profile.of(written | change)
    with pytest.raises(KeyError, match="base_s"):
        Profile.of({name: value for name, value in written.items() if name != "base_s"})


# --- fit ---


def test_the_fit_finds_the_coefficients_that_made_the_times() -> None:
    sizes = profile(block_size=16, kv_blocks=4096, max_num_batched_tokens=512)
    true = Profile("m", **COSTS, request_s=0.5)  # type: ignore[arg-type]
    ids = iter(range(10**9))

    def fresh(length: int) -> list[int]:
        return [next(ids) for _ in range(length)]

    probes = [fit.Probe("prefill", [fresh(n)], 1) for n in (16, 64, 256, 1024)]
    for k in (1, 2, 8):
        for n in (32, 512):
            prompts = [fresh(n) for _ in range(k)]
            probes.append(fit.Probe("decode", prompts, 20, prompts))
    prefix = fresh(512)
    probes.append(fit.Probe("verdicts", [[*prefix, *fresh(40)] for _ in range(8)], 1, [prefix]))
    found, rows = fit.fit([(probe, probe.work(sizes).seconds(true)) for probe in probes], sizes)
    for name in COEFFICIENTS:
        assert math.isclose(getattr(found, name), getattr(true, name), rel_tol=1e-3), name
    assert all(abs(row["error"]) < 1e-3 for row in rows)


def test_a_warmed_probe_is_not_charged_for_what_is_cached() -> None:
    prompts = [list(range(k, k + 64)) for k in (0, 100)]
    cold = fit.Probe("p", prompts, 1).work(profile())
    warm = fit.Probe("p", prompts, 1, prompts).work(profile())
    assert (cold.prefill_tokens, warm.prefill_tokens) == (128, 8)
    assert cold.requests == warm.requests == 1

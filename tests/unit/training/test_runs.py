from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import write_json
from training.errors import DataError
from training.runs import COMPLETE, METRICS, cut_metrics, prepare, publish

BEGUN = {"profile": "a", "questions": ["1", "2"]}


def checkpoint(run: Path, step: int, *, whole: bool = True) -> Path:
    folder = run / "checkpoints" / f"checkpoint-{step}"
    write_json(folder / "trainer_state.json", {"global_step": step})
    if whole:
        write_json(folder / COMPLETE, {"step": step})
    return folder


def metrics(run: Path, steps: int, torn: bytes = b"") -> None:
    rows = b"".join(orjson.dumps({"step": i + 1, "reward": 0.5}) + b"\n" for i in range(steps))
    (run / METRICS).write_bytes(rows + torn)


def steps_of(run: Path) -> list[int]:
    return [orjson.loads(line)["step"] for line in (run / METRICS).read_bytes().splitlines()]


def test_a_new_run_starts_at_the_beginning(tmp_path: Path) -> None:
    assert prepare(tmp_path / "run", BEGUN) is None
    assert prepare(tmp_path / "run", BEGUN) is None


def test_a_killed_run_goes_on_from_its_newest_whole_checkpoint(tmp_path: Path) -> None:
    prepare(tmp_path, BEGUN)
    checkpoint(tmp_path, 10)
    whole = checkpoint(tmp_path, 100)
    torn = checkpoint(tmp_path, 110, whole=False)
    metrics(tmp_path, 107, torn=b'{"step": 108, "rew')
    assert prepare(tmp_path, BEGUN) == whole
    assert not torn.exists()
    assert steps_of(tmp_path) == list(range(1, 101))


def test_without_a_whole_checkpoint_nothing_is_kept(tmp_path: Path) -> None:
    prepare(tmp_path, BEGUN)
    checkpoint(tmp_path, 10, whole=False)
    metrics(tmp_path, 9)
    assert prepare(tmp_path, BEGUN) is None
    assert steps_of(tmp_path) == []


@pytest.mark.parametrize("other", [{"profile": "b"}, {"questions": ["1"]}])
def test_a_run_that_was_begun_with_something_else_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    prepare(tmp_path, BEGUN)
    with pytest.raises(DataError, match="was begun with another profile or other questions"):
        prepare(tmp_path, BEGUN | other)


def test_the_newest_whole_checkpoint_is_published_without_the_trainers_state(tmp_path: Path) -> None:
    for step in (8, 10, 12):
        folder = checkpoint(tmp_path, step, whole=step != 12)
        (folder / "adapter_model.safetensors").write_bytes(b"%d" % step)
        (folder / "adapter_config.json").write_text("{}")
        (folder / "optimizer.pt").write_bytes(b"moments")
        (folder / f"global_step{step}").mkdir()
    for _ in range(2):
        model = publish(tmp_path)
        assert sorted(f.name for f in model.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
        assert (model / "adapter_model.safetensors").read_bytes() == b"10"
    assert not (tmp_path / ".model").exists()


def test_nothing_is_published_before_a_checkpoint_is_whole(tmp_path: Path) -> None:
    checkpoint(tmp_path, 2, whole=False)
    with pytest.raises(DataError, match="no checkpoint that was written to the end"):
        publish(tmp_path)


@given(st.integers(0, 200), st.integers(0, 12))
def test_metrics_cut_anywhere_are_whole_rows_up_to_the_step(cut: int, step: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        metrics(run, 10)
        raw = (run / METRICS).read_bytes()
        (run / METRICS).write_bytes(raw[: min(cut, len(raw))])
        cut_metrics(run / METRICS, step)
        found = steps_of(run)
        assert found == list(range(1, len(found) + 1))
        assert len(found) <= step

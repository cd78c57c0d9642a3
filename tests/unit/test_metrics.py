"""Metrics that are not an answer's."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scripts.common import ROOT
from service.discovery import Seen
from service.metrics import Metrics, _forget_dead_workers
from service.version import VERSION


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    found = text_string_to_metric_families(metrics.render().decode())
    return {tuple(s.labels.values()): s.value for family in found for s in family.samples if s.name == name}


def test_replicas_are_as_last_seen_and_what_happened_adds_up() -> None:
    metrics = Metrics()
    metrics.saw_replicas(Seen(known=3, out=1, ejections=2, failed_lookups=1))
    metrics.saw_replicas(Seen(known=2, out=0, ejections=1, failed_lookups=0))
    assert samples(metrics, "clinalign_replicas") == {("known",): 2, ("out",): 0}
    assert samples(metrics, "clinalign_replica_ejections_total") == {(): 3}
    assert samples(metrics, "clinalign_discovery_failures_total") == {(): 1}


def test_one_version_serves_at_a_time() -> None:
    metrics = Metrics()
    for model in ("old", "old", "new"):
        metrics.serves(model, "p", "i", "q")
    serving = {frozenset(labels): value for labels, value in samples(metrics, "clinalign_build_info").items()}
    assert serving == {
        frozenset((VERSION, "old", "p", "i", "q")): 0,
        frozenset((VERSION, "new", "p", "i", "q")): 1,
    }


def test_two_scrapes_at_once_forget_a_dead_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gauge_livesum_4190001.db").touch()

    def gone(*args: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("service.metrics.mark_process_dead", gone)
    _forget_dead_workers(tmp_path)


def test_the_release_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION

"""Prometheus metrics. Labels come from closed sets, so that no client can make a new series."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service.discovery import Seen
from service.errors import TABLE, ClinAlignError, spec_of
from service.pipeline import Answer
from service.safety import KINDS
from service.settings import metrics_folder
from service.version import VERSION

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)


class Metrics:
    """A registry of its own, so that two apps in one process do not mix."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self._serving: tuple[str, ...] = ()
        self.requests = Counter("clinalign_requests", "Requests by route and status.", ["route", "status"], registry=r)
        self.errors = Counter("clinalign_errors", "Errors answered, by code.", ["code"], registry=r)
        self.answers = Counter("clinalign_answers", "Answers by outcome.", ["status", "reason"], registry=r)
        self.stage_seconds = Histogram(
            "clinalign_stage_seconds", "Time of a stage.", ["stage"], buckets=_SECONDS, registry=r
        )
        self.tokens = Counter("clinalign_tokens", "Tokens spent, by stage and kind.", ["stage", "kind"], registry=r)
        self.verdicts = Counter(
            "clinalign_verdicts", "Verdicts on drafts, by principle.", ["principle", "label", "source"], registry=r
        )
        self.candidates = Counter(
            "clinalign_candidates", "Candidates by kind and what became of them.", ["kind", "outcome"], registry=r
        )
        self.failed_verdicts = Counter("clinalign_failed_verdicts", "Verdict calls that gave no verdict.", registry=r)
        self.without_relevance = Counter(
            "clinalign_texts_without_relevance", "Texts that the encoder did not read in time.", registry=r
        )
        self.lookups = Counter(
            "clinalign_vector_lookups", "Conversations whose vector was remembered, or not.", ["found"], registry=r
        )
        self.red_flags = Counter("clinalign_red_flags", "Red flags in what users wrote.", ["kind"], registry=r)
        self.answer_seconds = Histogram(
            "clinalign_answer_seconds", "Whole time of an answer, by outcome.", ["status"], buckets=_SECONDS, registry=r
        )
        self.replicas = Gauge(
            "clinalign_replicas",
            "Replicas of the model server: known, and out of those.",
            ["state"],
            registry=r,
            multiprocess_mode="livemax",
        )
        self.ejections = Counter(
            "clinalign_replica_ejections", "Replicas put out for a while: not reached, or failing.", registry=r
        )
        self.failed_lookups = Counter(
            "clinalign_discovery_failures", "Look-ups of the replicas' addresses that failed.", registry=r
        )
        self.limiter_failures = Counter(
            "clinalign_limiter_failures", "Requests counted by this process alone, for want of Redis.", registry=r
        )
        self.build_info = Gauge(
            "clinalign_build_info",
            "1 for what serves: release, model, and short hashes of principles, index and prompts.",
            ["version", "model", "principles", "index", "prompts"],
            registry=r,
            multiprocess_mode="livemax",
        )
        self.capacity = Gauge(
            "clinalign_capacity", "Answers that may be in the making at once.", registry=r, multiprocess_mode="livesum"
        )
        self.in_flight = Gauge("clinalign_in_flight", "Answers in the making.", registry=r, multiprocess_mode="livesum")

        # There from the start: a series that begins with its first count has no rate for it.
        for code in {spec.code for spec in TABLE.values()}:
            self.errors.labels(code)
        for kind in KINDS:
            self.red_flags.labels(kind)

    def answered(self, answer: Answer) -> None:
        work = answer.work
        self.answers.labels(answer.status, answer.reason or "none").inc()
        self.answer_seconds.labels(answer.status).observe(work.timings_ms["total"] / 1000)
        for stage, milliseconds in work.timings_ms.items():
            self.stage_seconds.labels(stage).observe(milliseconds / 1000)
        for stage, usage in work.usage.items():
            self.tokens.labels(stage, "prompt").inc(usage.prompt_tokens)
            self.tokens.labels(stage, "completion").inc(usage.completion_tokens)
            self.tokens.labels(stage, "cached").inc(usage.cached_tokens)
        if work.draft_critique:
            for v in work.draft_critique.verdicts:
                self.verdicts.labels(v.principle.id, v.label, v.source).inc()
            self.failed_verdicts.inc(work.draft_critique.failed_calls)
        self.without_relevance.inc(work.without_relevance)
        for judged in work.judged:
            self.candidates.labels(judged.candidate.kind, judged.outcome).inc()
        for kind in {flag.kind for flag in work.flags}:
            self.red_flags.labels(kind).inc()

    def looked_up(self, known: bool) -> None:
        self.lookups.labels(str(known).lower()).inc()

    def saw_replicas(self, seen: Seen) -> None:
        self.replicas.labels("known").set(seen.known)
        self.replicas.labels("out").set(seen.out)
        self.ejections.inc(seen.ejections)
        self.failed_lookups.inc(seen.failed_lookups)

    def serves(self, model: str, principles: str, index: str, prompts: str) -> None:
        """What answers from now on; what did before counts as 0."""
        serving = (VERSION, model, principles, index, prompts)
        if serving == self._serving:
            return
        if self._serving:
            self.build_info.labels(*self._serving).set(0)
        self._serving = serving
        self.build_info.labels(*serving).set(1)

    def failed(self, error: ClinAlignError) -> None:
        self.errors.labels(spec_of(error).code).inc()

    def render(self) -> bytes:
        """The text format, added up over all workers. Reads files where there are several."""
        folder = metrics_folder()
        if folder is None:
            return generate_latest(self.registry)
        _forget_dead_workers(Path(folder))
        together = CollectorRegistry()
        MultiProcessCollector(together, path=folder)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def _forget_dead_workers(folder: Path) -> None:
    """What a killed worker had in flight is gone with it; what it had counted stays."""
    for file in folder.glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # another scrape was quicker
                mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]

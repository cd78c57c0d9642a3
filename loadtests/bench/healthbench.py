"""HealthBench of the gateway's drafts and of what it delivers, with the demonstration model as system and as judge.

Plumbing evidence: a judge that judges at chance says nothing about quality. With a judge worth the name, write settings for
`python -m training evaluate` (docs/training.md).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from scripts.build_index import ensure_index
from scripts.common import CACHE, Failure
from scripts.model import encoder_folder
from training.build import Tools
from training.errors import TrainingError
from training.evaluation.answers import System
from training.evaluation.evaluate import EvaluationSettings, evaluate
from training.evaluation.report import write_report
from training.jobs import JobSettings
from training.profile import JudgeSettings
from training.rubrics import read_rubrics

FILE = Path("../shared/data/healthbench-dev/healthbench_dev.jsonl.gz")
FOLDER = CACHE / "runs" / "healthbench"
MAX_TOKENS = 256


def measure(url: str, gateway: str, file: Path, most: int) -> dict[str, Any]:
    """Figures of draft and delivered text; the report and all verdicts are in `FOLDER`, where a killed run goes on."""
    settings = EvaluationSettings(
        data=file,
        systems=(
            System(
                name="gateway",
                url=gateway,
                take="draft_and_delivered",
                params={"temperature": 0, "max_tokens": MAX_TOKENS},
            ),
        ),
        # This model puts little mass on any label: with the gateway's bound most of its verdicts would be missing.
        judge=JudgeSettings(url=url, min_mass=0.0, in_flight=16),
        least_decided=0.5,
        jobs=JobSettings(in_flight=8),
        demonstration=True,
    )
    try:
        rubrics = read_rubrics(file)[:most]
        tools = Tools.load(ensure_index(), str(encoder_folder()))
        result = asyncio.run(evaluate(settings, rubrics, tools, FOLDER))
    except TrainingError as error:
        raise Failure(f"{error}.") from None
    write_report(result, FOLDER)
    (comparison,) = result.comparisons
    return {
        "judge": result.manifest.instrument.judge,
        "judges_itself": result.manifest.judges_itself,
        "questions": len(rubrics),
        "systems": {s.system: s.model_dump(mode="json", exclude={"by_tag", "rates"}) for s in result.summaries},
        "difference": comparison.overall.model_dump(mode="json"),
        "better_worse_equal": [comparison.better, comparison.worse, comparison.equal],
        "unpaired": comparison.unpaired,
    }

"""How far the critic is trusted: a setting with evidence behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import ConfigError


class TrustRecord(BaseModel):
    """Made by a judge-agreement report. It speaks for one model with one set of prompts and principles, no other.

    `decide`: the model's verdicts count in score, block and acceptance. `advise`: they are shown, and rules decide.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    prompt_version: str
    principles_version: str
    critic: Literal["decide", "advise"]
    threshold: float = Field(gt=0, lt=1)
    evidence: dict[str, Any]

    def decides(self, *, model: str, prompt_version: str, principles_version: str) -> bool:
        return self.critic == "decide" and (self.model, self.prompt_version, self.principles_version) == (
            model,
            prompt_version,
            principles_version,
        )


def load_trust(file: Path | None) -> TrustRecord | None:
    """Raises ConfigError when the file is named and cannot be read: silence would hide that nothing decides."""
    if file is None:
        return None
    try:
        return TrustRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(f"CLINALIGN_CRITIC_TRUST_FILE: {file} is no trust record") from error

"""Deterministic checks of an answer: free, exact and impossible to talk out of.

A rule is a plain function `(Turn) -> "met" | "unmet" | None`. None means *I cannot tell*: the rule does not apply here or
does not speak the language; then the model judges. A rule never raises and never looks at anything but its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from service.domain import Turn

Rule = Callable[[Turn], Literal["met", "unmet"] | None]

RULES: Mapping[str, Rule] = {}

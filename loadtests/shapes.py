"""How many users there are at which moment, by stage. Pure functions; `locustfile.Stages` asks them once a second.

| stage    | what it shows |
| -------- | ------------- |
| steady   | as many users as told, until the end: a plain measurement |
| ramp     | ten steps up to all users: where latency leaves the ground |
| spike    | a fifth of the users, all at once in the middle third, then a fifth again: shedding and recovery |
| soak     | all users for long: leaks and drift |
| overload | open loop: requests arrive at `rate` whether or not earlier ones were answered |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Stage = Literal["steady", "ramp", "spike", "soak", "overload"]
STAGES: tuple[Stage, ...] = get_args(Stage)
SECONDS: dict[Stage, float | None] = {"steady": None, "ramp": 300, "spike": 300, "soak": 3600, "overload": 120}
OPEN_LOOP: Stage = "overload"

RAMP_STEPS = 10
QUIET = 0.2  # share of the users before and after a spike
WARM_UP = 0.1  # of a soak's time, at most a minute
FASTEST = 100.0  # users started a second; Locust warns above that
PER_SOURCE = 100.0  # arrivals a second from one source: one greenlet can keep that pace with room to spare


@dataclass(frozen=True, slots=True)
class Settings:
    """`seconds` None takes the stage's own time; `rate` and `max_outstanding` are of all sources of an open loop."""

    users: int = 1
    seconds: float | None = None
    spawn_rate: float = 1.0  # users a second
    rate: float = 10.0  # arrivals a second
    max_outstanding: int = 1024

    def __post_init__(self) -> None:
        if self.users < 1 or self.max_outstanding < 1:
            raise ValueError("there is at least one user, and one request may be outstanding")
        if not (self.spawn_rate > 0 and self.rate > 0 and math.isfinite(self.spawn_rate + self.rate)):
            raise ValueError("spawn rate and arrival rate are numbers above zero")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError("a stage lasts longer than zero seconds")


@dataclass(frozen=True, slots=True)
class Source:
    """One of the equal parts of an open loop. Poisson processes add up to one of the summed rate."""

    rate: float
    max_outstanding: int


def sources(settings: Settings) -> int:
    return min(math.ceil(settings.rate / PER_SOURCE), settings.max_outstanding)


def source(settings: Settings) -> Source:
    parts = sources(settings)
    return Source(settings.rate / parts, settings.max_outstanding // parts)


def stage(name: Stage, elapsed_s: float, settings: Settings) -> tuple[int, float] | None:
    """(users, users started or stopped a second), or None when the stage is over."""
    seconds = settings.seconds or SECONDS[name]
    if seconds is None:
        return settings.users, settings.spawn_rate
    if elapsed_s >= seconds:
        return None
    done = elapsed_s / seconds
    match name:
        case "steady":
            return settings.users, settings.spawn_rate
        case "ramp":
            return _of(settings.users, (math.floor(done * RAMP_STEPS) + 1) / RAMP_STEPS), FASTEST
        case "spike":
            return _of(settings.users, 1.0 if 1 / 3 <= done < 2 / 3 else QUIET), FASTEST
        case "soak":
            return settings.users, min(FASTEST, settings.users / min(60.0, WARM_UP * seconds))
        case "overload":
            return sources(settings), FASTEST


def _of(users: int, share: float) -> int:
    return max(1, round(users * share))

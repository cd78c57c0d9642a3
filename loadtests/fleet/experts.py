"""Models of many experts: a step reads the weights of those experts alone to which one of its tokens goes.

`loadtests.stub_timing` is linear in a step's work. Of such a model's profile `base_s` holds the reading of all experts,
as a step of many tokens does. Fewer tokens leave experts out: of T tokens, each sent to a share r of the experts
independently, (1 - r)^T of the experts see none. Whoever takes the profile for a plain one (`loadtests.stub_vllm` does)
reads all of them in every step, so that steps of few tokens come out too long and never too short.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from loadtests.stub_timing import Engine, Profile, Step


@dataclass(frozen=True, slots=True)
class MoeProfile(Profile):
    """`experts_s` of `base_s` is for reading all experts of all layers; a token goes to a share `routed` of them.

    The defaults are a dense model's, which reads all that it has in every step.
    """

    experts_s: float = 0.0
    routed: float = 1.0

    def spared_s(self, tokens: int) -> float:
        """What a step of so many tokens saves by the experts that it leaves out."""
        return float(self.experts_s * (1 - self.routed) ** tokens)


class MoeEngine(Engine):
    """An engine whose steps leave out the experts that no token needs."""

    def __init__(self, profile: MoeProfile) -> None:
        super().__init__(profile)
        self._experts = profile

    def step(self) -> Step | None:
        step = super().step()
        if step is None:
            return None
        spared = self._experts.spared_s(step.work.prefill_tokens + step.work.decoding)
        self.counters.seconds -= spared
        return replace(step, seconds=step.seconds - spared)


def engine(profile: Profile) -> Engine:
    """The engine for such a profile."""
    return MoeEngine(profile) if isinstance(profile, MoeProfile) else Engine(profile)

"""A profile for Qwen3-30B-A3B on an H100, computed from the one that was measured there for Qwen3-4B.

**Arithmetic, not a measurement.** No GPU has run this model for us. Every part of a step's time is scaled by what it is
made of:

    reading weights      bytes read ÷ what the card's memory gives (experts only as far as tokens go to them: `experts`)
    all else of base_s   what is left of the measured base_s: kernel launches, sampling, scheduling; by layers
    a prompt token       multiplications of an active parameter, at a grouped product's efficiency
    a pair               by layers x heads x head size (attention's own multiplications)
    a token of context   by bytes of keys and values
    KV blocks            the measured machine held weights + KV in so many bytes; here the weights take more of them
    front end            unchanged: it is CPU work on the same texts

What is not known is an assumption with a name and three values; the cases give a range, not a confidence interval. Deriving
the measured model from itself returns the measured profile, whatever is assumed (tests).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from loadtests.fleet.experts import MoeProfile
from loadtests.fleet.tables import table as markdown
from loadtests.stub_timing import COEFFICIENTS, PROFILES, Profile, Work

Precision = Literal["bf16", "fp8"]
Case = Literal["optimistic", "expected", "pessimistic"]

MEASURED = "h100-qwen3-4b"
DERIVED = "h100-qwen3-30b-a3b"
BANDWIDTH = 3.35e12  # bytes a second, the H100 SXM's by its data sheet
_WIDE = 2  # bytes of a number in bf16; keys, values, embeddings and the output layer stay so in an FP8 checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder's sizes, from its published config.json. A dense model is one of a single expert that every token takes."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int  # of an expert
    vocabulary: int
    tied: bool  # embeddings and output layer are one matrix
    experts: int = 1
    experts_a_token: int = 1

    @property
    def attention(self) -> int:
        """Parameters of all layers' attention, and of the routers."""
        router = self.hidden * self.experts if self.experts > 1 else 0
        return self.layers * (2 * self.hidden * self.head_size * (self.heads + self.kv_heads) + router)

    @property
    def all_experts(self) -> int:
        return self.layers * self.experts * 3 * self.hidden * self.intermediate

    @property
    def output(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.attention + self.all_experts + self.output * (1 if self.tied else 2)

    @property
    def active(self) -> int:
        """Parameters that a prompt token is multiplied with; the output layer sees only a prompt's last."""
        return self.attention + self.all_experts * self.experts_a_token // self.experts

    @property
    def kv_bytes(self) -> int:
        """Of one token."""
        return 2 * self.layers * self.kv_heads * self.head_size * _WIDE


QWEN3_4B = Shape(
    layers=36, hidden=2560, heads=32, kv_heads=8, head_size=128, intermediate=9728, vocabulary=151_936, tied=True
)
QWEN3_30B_A3B = Shape(
    layers=48,
    hidden=2048,
    heads=32,
    kv_heads=4,
    head_size=128,
    intermediate=768,
    vocabulary=151_936,
    tied=False,
    experts=128,
    experts_a_token=8,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What the arithmetic cannot know.

    `bandwidth`: share of the card's bandwidth that reading a dense layer's weights reaches; `scattered`: what reading
    experts reaches of that. `launches`: fixed time of a layer with experts over one without (router, permutation, grouped
    products). `grouped`: how fast a grouped product multiplies, over a dense one. `spread`: experts that a token adds to
    a batch over those that even routing would (popular experts make it less). `fp8`: speed of FP8 products over bf16
    ones, on prompts; steps that decode only read fewer bytes.
    """

    bandwidth: float
    scattered: float
    launches: float
    grouped: float
    spread: float
    fp8: float


CASES: dict[Case, Assumptions] = {
    "optimistic": Assumptions(bandwidth=0.9, scattered=1.0, launches=1.0, grouped=0.8, spread=0.75, fp8=1.6),
    "expected": Assumptions(bandwidth=0.85, scattered=0.9, launches=1.25, grouped=0.5, spread=0.9, fp8=1.3),
    "pessimistic": Assumptions(bandwidth=0.8, scattered=0.75, launches=2.0, grouped=0.3, spread=1.0, fp8=1.0),
}
DEFAULT: tuple[Precision, Case] = ("bf16", "expected")


def derive(measured: Profile, of: Shape, to: Shape, precision: Precision, assumed: Assumptions) -> MoeProfile:
    """The profile of a model of shape `to`, from that of one of shape `of` in bf16 on the same card.

    Raises ValueError where the assumed bandwidth would take longer for the measured model's weights than its whole step
    took, or the new weights leave no room for a longest request.
    """
    fixed_s = measured.base_s - _weights_s(of, "bf16", assumed)
    if fixed_s < 0:
        raise ValueError("at that bandwidth the measured model's weights take longer than its step did")
    sparse = to.experts > 1
    deeper = to.layers / of.layers
    products = (assumed.grouped if sparse else 1.0) * (assumed.fp8 if precision == "fp8" else 1.0)
    pairs = deeper * (to.heads * to.head_size) / (of.heads * of.head_size)
    room = measured.kv_blocks * measured.block_size * of.kv_bytes + _held(of, "bf16") - _held(to, precision)
    written = asdict(measured) | {
        "base_s": fixed_s * deeper * (assumed.launches if sparse else 1.0) + _weights_s(to, precision, assumed),
        "per_prefill_token_s": measured.per_prefill_token_s * to.active / of.active / products,
        "per_prefill_pair_s": measured.per_prefill_pair_s * pairs,
        "per_sequence_s": measured.per_sequence_s * deeper,
        "per_context_token_s": measured.per_context_token_s * to.kv_bytes / of.kv_bytes,
        "kv_blocks": max(0, room) // (to.kv_bytes * measured.block_size),
        "experts_s": _experts_s(to, precision, assumed) if sparse else 0.0,
        "routed": assumed.spread * to.experts_a_token / to.experts if sparse else 1.0,
    }
    profile = MoeProfile.of(written)
    assert isinstance(profile, MoeProfile)
    return profile


def decoding_s(profile: MoeProfile, sequences: int, context: int) -> float:
    """A step in which so many sequences of that context decode."""
    work = Work(steps=1, decoding=sequences, context_tokens=sequences * context)
    return work.seconds(profile) - profile.spared_s(sequences)


def cases(measured: Profile) -> dict[str, MoeProfile]:
    """By `precision-case`."""
    return {
        f"{precision}-{case}": derive(measured, QWEN3_4B, QWEN3_30B_A3B, precision, assumed)
        for precision in get_args(Precision)
        for case, assumed in CASES.items()
    }


def written(measured: Profile) -> dict[str, Any]:
    """The profile's JSON: the default case, what the others have otherwise, and what is assumed."""
    found = {name: _rounded(profile) for name, profile in cases(measured).items()}
    default = found["-".join(DEFAULT)]
    return {
        "model": "Qwen3-30B-A3B",
        "source": "arithmetic",
        "note": [
            "ARITHMETIC, NOT MEASURED: no GPU has run this model for us. loadtests/fleet/derive.py computes it from the profile named under derived_from; python -m loadtests.fleet --derive writes this file.",
            "The fields below are the case bf16-expected; --case takes another of `cases`, whose coefficients replace these.",
            "base_s reads all experts; loadtests/fleet/experts.py takes off what a step of few tokens leaves out (experts_s, routed). loadtests.stub_vllm does not.",
        ],
        "derived_from": MEASURED,
        "assumptions": {case: asdict(assumed) for case, assumed in CASES.items()},
        **{name: value for name, value in default.items() if name != "model"},
        "cases": {
            name: {key: value for key, value in fields.items() if value != default[key]}
            for name, fields in found.items()
        },
    }


def chosen(written: Mapping[str, Any], case: str | None) -> MoeProfile:
    """The profile of a JSON in that case. Raises ValueError where it has none of that name."""
    if case is None:
        overlay: Mapping[str, Any] = {}
    elif case in written.get("cases", {}):
        overlay = written["cases"][case]
    else:
        raise ValueError(f"the profile has no case {case!r}; it has {', '.join(written.get('cases', {})) or 'none'}")
    profile = MoeProfile.of({**written, **overlay})
    assert isinstance(profile, MoeProfile)
    return profile


def write() -> str:
    """Writes the derived profile; returns its cases as a table, with the one figure that others have measured."""
    measured = Profile.load(MEASURED)
    (PROFILES / f"{DERIVED}.json").write_text(json.dumps(written(measured), indent=2) + "\n", "utf-8")
    head = ("", "measured 4B", *cases(measured))
    profiles = [derive(measured, QWEN3_4B, QWEN3_4B, "bf16", CASES["expected"]), *cases(measured).values()]
    rows: list[tuple[str, list[str]]] = [
        *((f"{name}, µs", [f"{1e6 * getattr(each, name):.4g}" for each in profiles]) for name in COEFFICIENTS),
        ("of base_s all experts, ms", [f"{1e3 * each.experts_s:.1f}" for each in profiles]),
        ("KV, tokens", [f"{each.kv_blocks * each.block_size:,}" for each in profiles]),
        *(
            (
                f"a step of {n} decoding at {context}, ms",
                [f"{1e3 * decoding_s(each, n, context):.1f}" for each in profiles],
            )
            for n, context in ((1, 400), (10, 2560), (64, 400))
        ),
    ]
    return markdown(head, ((name, *values) for name, values in rows))


def load(name: str | Path, case: str | None = None) -> MoeProfile:
    """A profile of that name in `loadtests/profiles`, or a file. Raises OSError, KeyError, TypeError, ValueError."""
    file = PROFILES / f"{name}.json"
    return chosen(json.loads((file if file.is_file() else Path(name)).read_text("utf-8")), case)


def _rounded(profile: MoeProfile) -> dict[str, Any]:
    values = {f.name: getattr(profile, f.name) for f in fields(profile)}
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in values.items()}


def _weights_s(shape: Shape, precision: Precision, assumed: Assumptions) -> float:
    """Reading all that a step of many tokens reads: everything but the embeddings, of which it takes a row a token."""
    outside = shape.attention * _size(precision) + shape.output * _WIDE
    return outside / (BANDWIDTH * assumed.bandwidth) + _experts_s(shape, precision, assumed)


def _experts_s(shape: Shape, precision: Precision, assumed: Assumptions) -> float:
    reached = assumed.bandwidth * (assumed.scattered if shape.experts > 1 else 1.0)
    return shape.all_experts * _size(precision) / (BANDWIDTH * reached)


def _held(shape: Shape, precision: Precision) -> int:
    """Bytes of all weights."""
    outside = shape.output * (1 if shape.tied else 2)
    return (shape.parameters - outside) * _size(precision) + outside * _WIDE


def _size(precision: Precision) -> int:
    return 1 if precision == "fp8" else _WIDE

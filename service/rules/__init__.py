"""Deterministic checks of an answer: free, exact and impossible to talk out of.

A rule is a plain function `(Turn) -> "met" | "unmet" | None`. None means *I cannot tell*: the rule does not apply here or
does not speak the language; then the model judges. A rule never raises and never looks at anything but its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from service.domain import Turn
from service.rules import (
    claims,
    combining,
    form,
    layout,
    length,
    medicines,
    people,
    pregnancy,
    relevance,
    seen,
    self_harm,
    sources,
    stopping,
    urgent,
    values,
)
from service.rules.text import Outcome

Rule = Callable[[Turn], Outcome]

RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        urgent.emergency_advice_first,
        urgent.no_wait_in_emergency,
        urgent.no_needless_emergency,
        urgent.number_fits_country,
        urgent.poison_help_named,
        self_harm.self_harm_support,
        self_harm.no_method_detail,
        urgent.no_induced_vomiting,
        seen.low_sugar_treated,
        seen.head_knock_seen,
        seen.infant_fever_seen,
        seen.pregnancy_sign_seen,
        medicines.dose_has_units,
        stopping.no_abrupt_stop,
        medicines.daily_maximum,
        combining.serious_interaction_named,
        combining.no_help_to_harm,
        people.no_aspirin_for_child,
        people.no_honey_for_infant,
        people.child_dose_needs_weight,
        pregnancy.pregnancy_medicine_caution,
        form.language_kept,
        length.length_as_asked,
        layout.format_as_asked,
        form.no_repetition,
        form.complete_answer,
        form.plain_words,
        relevance.answers_the_question,
        claims.asks_when_missing,
        claims.no_absolute_promise,
        claims.no_clinician_claim,
        sources.no_invented_contact,
        sources.no_invented_citation,
        claims.no_bare_refusal,
        sources.no_identifier_echo,
        values.no_invented_values,
    )
}

# May withhold an answer on their own. Named here for their precision on written and on unseen cases
# (docs/reference/rules.md); every other rule only counts in the score.
BLOCKING_RULES = frozenset(
    {
        "emergency_advice_first",
        "no_wait_in_emergency",
        "no_induced_vomiting",
        "poison_help_named",
        "self_harm_support",
        "no_method_detail",
        "no_abrupt_stop",
        "no_aspirin_for_child",
        "no_honey_for_infant",
        "pregnancy_medicine_caution",
        "no_clinician_claim",
        "no_invented_contact",
        "infant_fever_seen",
        "pregnancy_sign_seen",
        "head_knock_seen",
        "serious_interaction_named",
    }
)

# Those of them that forbid: once unmet up to the end of a sentence, hardly anything that follows makes it good (a warning
# that comes only after a plain mention can). A live stream checks these before each sentence leaves; the others demand
# that something be said, which only a whole text can show.
PROHIBITIONS = frozenset(
    {
        "no_wait_in_emergency",
        "no_induced_vomiting",
        "no_method_detail",
        "no_abrupt_stop",
        "no_aspirin_for_child",
        "no_honey_for_infant",
        "no_clinician_claim",
        "no_invented_contact",
    }
)

"""Whether an answer deals with what was asked, by the cosine of their vectors.

A small model that is asked to repair its answer often turns to stock phrases ("I'm here to help. What can I do for
you?") or talks about the request to repair. Such texts break no other rule, since they say nothing.

The bounds were set on K-QA: of 103 physicians' answers the least similar to its own question had 0.33, of answers to
other questions 94 % were below 0.3. docs/reference/rules.md has the figures on pairs that were written without a look at
this rule. They hold for all-MiniLM-L6-v2 and English, so the rule is silent about everything else.
"""

from __future__ import annotations

from service.domain import Conversation, Turn
from service.rules.text import Outcome, asks_for_a_text, in_english, runs, words

_MET, _UNMET, _UNMET_SHORT = 0.40, 0.30, 0.15
_RUN, _COPIED, _READ = 3, 0.9, 2_000  # words, share, words
_SHORT = 12  # words; "Yes, that is safe." is an answer although it names nothing
# Words that name no subject: "hi", "can you help me?", "ok thanks"; nor does talking to whoever judges the answer.
_BARE = frozenset(
    "a about all also am an and any anyone are as ask at be been but by can could did do does for from get give go got "
    "had has have he hello help her here hey hi him his how i if in is it its just know last let like may me more much "
    "my need no not now of oh ok okay on one or our please question questions really right she so some something sorry "
    "sure tell than thank thanks that the their them then there these they thing things this to too up us very want was "
    "we well were what when where which who why will with would yeah yes you your anything advice someone today again "
    "good great morning evening afternoon day u r im ive dont whats hows thx ty pls answer every check verdict ignore principles turn met unmet".split()
)


def answers_the_question(turn: Turn) -> Outcome:
    """The answer is about what the user asked, whether or not it is right; saying the question again is no answer."""
    if _repeats_the_question(turn):
        return None if turn.red_flags else "unmet"
    told = turn.relevance
    if told is None or turn.red_flags or turn.answer.lstrip().startswith(("{", "[")) or not in_english(turn):
        return None
    if not _names_a_subject(turn.conversation):
        return None
    if told >= _MET:
        return "met"
    if told >= (_UNMET_SHORT if len(words(turn.answer)) < _SHORT else _UNMET) or asks_for_a_text(turn):
        return None
    return "unmet"


def _repeats_the_question(turn: Turn) -> bool:
    """Whether an answer in any language is taken word for word from the last message, in runs of three words or more."""
    answer, asked = words(turn.answer), words(turn.conversation.last_user_text)[:_READ]
    if not _RUN <= len(answer) <= len(asked) + _RUN or asks_for_a_text(turn):
        return False
    if not turn.answer.rstrip().endswith(("?", "？")):
        return answer == asked
    known = set(runs(asked, _RUN))
    copied = {i + k for i, run in enumerate(runs(answer, _RUN)) if run in known for k in range(_RUN)}
    return len(copied) >= _COPIED * len(answer)


def _names_a_subject(conversation: Conversation) -> bool:
    """Whether the user's own words say what an answer must be about: a greeting does not, nor does a short reply to what
    the assistant said ("yes", "say that in simpler words")."""
    if any(m.role == "assistant" for m in conversation.messages) and len(words(conversation.last_user_text)) < _SHORT:
        return False
    return any(len(word) > 1 and word not in _BARE for text in conversation.user_texts for word in words(text))

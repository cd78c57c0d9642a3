"""Whether a sentence sends somebody to care today: a place or a person of care, and now, on no condition still to come."""

from __future__ import annotations

import re

from service.rules.advice import Statement, negated
from service.rules.help_words import LANGUAGES, calls
from service.rules.mentions import field

# A place or a person of care, or what they do.
_CARE = field(
    r"seen|checked(?: (?:out|over))?|assess\w*|examin\w*|evaluat\w*|looked at|scan\w*|ct|medical (?:attention|care|help|advice|assessment|review)|doctors?|gp|p(?:a)?ediatrician\w*|urgent[- ]care|walk-in|minor injuries|111|"
    r"midwi\w+|maternity|labou?r (?:ward|and delivery|& delivery|unit)|l ?& ?d|triage|obstetric\w*|ob-?gyn|ob|obs?|delivery (?:ward|suite|unit)|(?:assessment|day|early pregnancy) unit|clinic|hospital|on-?call|out[- ]of[- ]hours|emergency|er|ed|a ?& ?e|casualty|"
    r"nurse line|ambulance|911|999|112|health visitor|"
    r"urgencias|hospital|m[eé]dic[oa]|pediatra|matrona|valor\w+|revis\w+|consult\w+|centro de salud|urgences|hôpital|médecin|pédiatre|maternité|sage-femme|samu|15|"
    r"notaufnahme|krankenhaus|arzt|ärzt\w*|kinderarzt|kinderklinik|hebamme|kreißsaal|klinik",
    r"응급실|병원|소아과|소아청소년과|산부인과|의사|진료|진찰|검사|119|1339|急诊|急診|医院|醫院|医生|就医|就診|就诊|儿科|产科|120|检查",
)
_SOON = field(
    r"today|tonight|now|immediate(?:ly)?|at once|right away|straight ?away|straight (?:in|to|round)|same[- ]day|as soon as (?:possible|you can)|asap|within (?:the )?(?:next )?(?:an |few |\w+ )?(?:hours?|minutes)|urgent(?:ly)?|promptly|without (?:delay|waiting)|"
    r"this (?:minute|instant|morning|afternoon|evening|very \w+)|the same day|(?:don't|do not|not|rather than|shouldn't|can't|no) wait(?:ing)?|before (?:bed|you go to bed|tonight)|"
    r"hoy(?: mismo)?|ahora(?: mismo)?|ya|inmediat\w+|cuanto antes|urgente\w*|sin (?:esperar|demora)|aujourd'hui|maintenant|tout de suite|immédiat\w+|sans attendre|heute|sofort|jetzt|gleich|umgehend",
    r"지금|바로|즉시|오늘|당장|빨리|马上|立即|立刻|今天|今晚|尽快|现在|赶紧|赶快",
)
_GO = field(
    r"go|going|(?:take|taking|bring|get|getting|rush) (?:him|her|them|it to|your|the|this|yourself|someone|baby|in)|head|drive|call|ring|phone|contact|see|speak|talk|needs?|should|must|has to|have to|ought|want\w*|arrange|"
    r"vaya|llev\w+|llam\w+|acud\w+|consult\w+|tiene que|hay que|debe\w*|allez|appelez|emmen\w+|contactez|consultez|faut|gehen|bringen|fahren|rufen|muss|sollte",
    r"가세요|가야|가셔|데려가|데리고|방문|전화|받으|받아|去|带|送|打|联系|到",
)
# What puts it off.
_LATER = field(
    r"tomorrow|mondays?|tuesday|next (?:visit|appointment|week|check\w*|scan|time|day)|in the morning|(?:in|within|after|every) (?:a|two|three|few|\d+|a few|a couple of|the next few) (?:days?|weeks?)|routine|at (?:your|her|his|the) (?:next|\d+|booking|first|upcoming|six|twelve|anomaly)[- ]?(?:\w+[- ])?(?:scan|appointment|visit|check\w*|review)|when (?:it|they|the \w+) opens?|opens|at (?:nine|eight|9|8)\b|"
    r"(?:her|his|your|the) next|later (?:this|in the)|this week|in a week|follow-?up|eventually|at some point|mañana|la semana|próxim\w+|demain|prochain\w*|morgen|nächste\w*",
    r"내일|다음|며칠|월요일|明天|下次|几天|改天|周一|下周",
)
_MET_ALREADY = re.compile(
    r"\b(?:even if|even though|even when|if (?:you|he|she|they|someone|your \w+|the \w+|a \w+|there)\b(?![^,;]{0,60}\bagain\b)[^,;]{0,40}\b(?:thinners?|warfarin|apixaban|eliquis|xarelto|clopidogrel|anticoag\w+|"
    r"hit|head|under|younger|months?|weeks?|pregnan\w*|fever|38|100\.4)|if (?:you )?(?:can't|cannot|can not) (?:\w+ ){0,3}(?:reach|get through|get hold)|if (?:possible|need be|necessary|you can|the practice|it's closed|they're closed|closed|your \w+ (?:is|isn't))|"
    r"as if|see if|whether|aunque|même si|auch wenn)\b|비록|더라도|即使|虽然|就算"
)
IF = field(
    r"if|unless|when(?:ever)?|in case|(?<!at )once|should (?:you|he|she|they|it|any|the|symptoms|there|her|his)|si|cuando|en caso de|quand|en cas de|wenn|falls|sobald",
    r"면(?=\s|,|$)|경우|때는|如果|若|要是|一旦|万一|的话|当",
)
_PUSHED = field(
    r"(?:no|not|never|n't|without|rather than|instead of|before|overkill|unnecessary|refus\w+)|no hace falta|sin necesidad|no es necesario|pas besoin|inutile|nicht nötig|brauch\w* nicht|kein\w*",
    r"n't\b|필요(?:는|가)? ?없|않아도|不用|不必|无需|没必要|也不迟",
)
_PARTS = re.compile(
    r", (?:or|and|but|so) |[;:—–] ?|, ?(?=(?:otherwise|phone|call|ring|take|go|get|bring)\b)|,(?=[^ ])|，|；"
)
# "Do not wait until tomorrow" puts nothing off.
_NOT_WAITING = re.compile(
    r"\b(?:not|n't|never|rather than|instead of|without)\b(?: \w+){0,2} (?:wait\w*|leave it|leaving it|put\w* it off|hold\w* out)(?: (?:until|till|for|to))?(?: (?:the|your|her|his|next))?(?: \w+)?|"
    r"no (?:espere|esperes|lo deje)\w*(?: (?:a|hasta|para))?(?: mañana)?|(?:n'attendez|ne pas attendre)(?: pas)?(?: demain)?|nicht (?:bis )?(?:morgen )?(?:ab)?warten|"
    r"(?:내일|다음|월요일)[^.,]{0,8}기다리지 ?(?:마|말)\w*|(?:不要|别)(?:再)?等(?:到)?(?:明天|下次)?"
)
_LEADS = re.compile(
    r"^(?:and |but |then )?(?:if|unless|when(?:ever)?|in case|(?<!at )once|should|si|cuando|wenn|falls|quand)\b|^(?:如果|若|要是|一旦|万一|当)|면$"
)


def sends(statement: Statement, language: str) -> bool:
    """Whether a sentence has the person seen today, on no condition that is still to come."""
    if statement.refused or statement.conditional or statement.text.endswith("?"):
        return False
    if language in LANGUAGES and "now" in calls([statement], language):
        return True
    bound = False  # a condition at the head of a sentence holds for the part after it too
    for part in _PARTS.split(_NOT_WAITING.sub(" ", _MET_ALREADY.sub(" ", statement.text))):
        if not bound and _part_sends(part.strip(), language):
            return True
        bound = bool(_LEADS.search(part.strip()))
    return False


def _part_sends(text: str, language: str) -> bool:
    care = _CARE.search(text)
    if care is None or _LATER.search(text) or IF.search(text):
        return False
    if not (_SOON.search(text) or _GO.search(text)):
        return False
    if language == "en":
        return not negated(text, care.start())
    return not _PUSHED.search(text)

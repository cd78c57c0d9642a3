"""How answers send people to help, in six languages: emergency services, poison centres, crisis lines.

A sentence that sends someone to the emergency services does so *now*, when *worse* (on a condition that lets time
pass), *maybe* (on another condition), or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from service.rules.advice import Statement

Call = Literal["now", "maybe", "worse"]

LANGUAGES = ("en", "ko", "es", "zh", "fr", "de")


@dataclass(frozen=True, slots=True)
class _Words:
    """One language: sending for help, refusing to, conditions, and what else could be meant as help."""

    call: re.Pattern[str]
    refusal_before: re.Pattern[str]  # in the clause before the call
    refusal_after: re.Pattern[str]  # right after it
    condition: re.Pattern[str]
    harmless: re.Pattern[str]  # conditions that do not delay the call
    worse: re.Pattern[str]
    urgent: re.Pattern[str]  # words of urgency that name no service
    poison: re.Pattern[str]
    crisis: re.Pattern[str]
    people: re.Pattern[str]  # other people who may help


_NEVER = re.compile(r"(?!)")
_DIGITS = r"(?<![\d.,])(?:911|999|995|112|000|119|120|108|102|111|110|115|116)(?![\d.,]?\d)"

_WHO = (
    r"(?:therap|counsel|doctor|gp\b|psych|someone|somebody|friend|famil|professional|support|hospital|emergenc|partner|parent|teacher|"
    r"nurse|midwi|maternity|pharmac|clinic|medical|relative|loved one|help\b|out\b|physician|provider|ambulance|111|a ?& ?e)"
)

_EN = _Words(
    call=re.compile(
        r"\b(?:call|calling|phone|dial|ring|contact|alert|get|send for|"
        rf"reach)\b[^.!?\n]{{0,45}}?(?:{_DIGITS}|triple zero|"
        r"\bemergency (?:services?|numbers?|line|medical (?:services?|help)|help|response|"
        r"operator)\b|\bambulance\b|\bparamedics\b|\bems\b)|"
        r"\b(?:go|get|getting|head|take|taking|rush|drive|bring|come|return|proceed|(?:need|have|ought) to be (?:in|at)|be (?:seen|"
        r"taken|examined|evaluated|assessed|checked))\b"
        r"[^.!?\n]{0,50}?(?:\bemergency (?:room|department|care|ward|unit)\b|\ba ?& ?e\b|"
        r"\baccident and emergency\b|\b(?:er|ed|casualty|hospital)\b)|"
        r"\b(?:seek|get|needs?|requires?|obtain)\b[^.!?\n]{0,25}?\bemergency (?:medical )?(?:care|"
        r"help|attention|treatment|assistance)\b|"
        r"\b(?:ambulance|emergency services|911|999)\b[^.!?\n]{0,25}\b(?:needed|called|immediately|"
        r"right away|right now)\b|"
        r"\bneeds? an ambulance\b|\bhave an ambulance (?:sent|called|come)\b"
    ),
    refusal_before=re.compile(
        r"(?:\b(?:not|never|no|without|avoid|instead of|rather than|cannot|before)\b|n't\b)"
        r"(?!.{0,12}\b(?:hesitate|wait|delay|afraid|shy|embarrassed|worry|put off|be scared|feel|need permission)\b)"
    ),
    refusal_after=re.compile(r"^.{0,20}\b(?:is|are) (?:not|un)\s?(?:needed|necessary)\b"),
    condition=re.compile(
        r"\b(?:if|unless|in case|when|whenever|(?<!at )once|after|should (?:you|he|she|they|it|the|"
        r"your|symptoms))\b"
    ),
    harmless=re.compile(
        r"\bif (?:you(?:'re| are)?|he(?:'s| is)|she(?:'s| is))? ?(?:in|live in|outside|elsewhere|"
        r"based in|at|alone)\b[^,;.:)]{0,40}|"
        r"\bif (?:you )?(?:haven't|have not)\b[^,;.:]{0,30}|\bif (?:no one|nobody|someone|another "
        r"person|anyone|a friend)\b[^,;.:]{0,40}|"
        r"\bif (?:you|he|she) can\b|\bif possible\b|\bif you have an? [^,;.:]{0,30}(?:pen|injector|"
        r"car|phone|aed|inhaler)\b|\beven (?:if|when)\b[^,;.:]{0,60}|"
        r"\b(?:see|wait|check|know|sure|wondering|matter) if\b[^,;.:]{0,60}"
    ),
    worse=re.compile(
        r"\b(?:gets?|getting|becomes?|feels?|grows?) (?:\w+ )?(?:worse|severe|stronger|unbearable)|"
        r"\bworsens?\b|\bpersists?\b|\bcontinues?\b|"
        r"\b(?:does|do|is|are|has|have)(?:n't| not) (?:improved?|go|get|got|help|stop|settle|ease|"
        r"resolved?|better|gone)|"
        r"\b(?:returns?|comes? back|no improvement)\b"
    ),
    urgent=re.compile(
        r"\b(?:immediate(?:ly)?|urgent(?:ly|\scare)?|(?:medical|is an?|be an?|an absolute|true|real) emergency|medical (?:help|care|"
        r"attention)|right away|(?:go|leave|get (?:help|there)) (?:right )?now|911|999|112)\b"
    ),
    poison=re.compile(
        r"\bpoisons? (?:control|cent(?:re|er)s?|information|advice|help(?! (?:was|is|has))(?: ?line)?|hotline|line|specialist|service|unit)|"
        r"\bpoisoning (?:cent(?:re|er)|hotline|information)|\b1-?800-?222-?1222\b|\b13 ?11 ?26\b|"
        r"\btoxicology (?:cent|service|line)|\b(?:nhs|call|ring) 111\b"
    ),
    crisis=re.compile(
        r"\b(?:988|741741|116 ?123|116 ?111|13 ?11 ?14|samaritans|lifeline|befrienders|childline|"
        r"papyrus|hot ?lines?|help ?lines?|warm ?lines?)\b|"
        r"\bcrisis (?:lines?|text|cent(?:re|er)|service|team|counsel|support|number)|\bsuicide "
        r"(?:and crisis|prevention|line)|"
        r"\b(?:stay|be|sit|remain) (?:\w+ )?with (?:you|him|her|them|someone|somebody|a friend|"
        r"another person|people)\b|"
        r"\b(?:someone|somebody|friend|person|anyone)\b[^.!?]{0,30}\b(?:stay|be|sit|come over|"
        r"here) (?:with you|now|tonight)|"
        r"\b(?:not|n't)\b[^.!?]{0,25}\b(?:leave (?:him|her|them)|be|stay|left|sit) (?:\w+ )?(?:alone|on your own|by yourself)\b|\bemergency (?:services?|numbers?|department|room|line)\b|\b(?:911|999|112|000|ambulance|police|a ?& ?e)\b|"
        r"\b(?:come|comes|coming|drive|sleep) (?:over|round|to yours)\b|\b(?:sit|stay|sleep|be) (?:\w+ )?(?:with|beside|next to|at|over at) (?:you|him|her|them|me|a friend|your|someone|somebody|theirs)\b|\bon your sofa\b"
    ),
    people=re.compile(
        rf"\b(?:talk|speak|reach|open|turn|tell|call|phone|ring|see|contact|ask|visit|message|text|share|connect|meet|go|let|confide|seek|get|"
        rf"find|consult|look|trust|lean|need|take|be)\w{{0,3}}\b[^.!?]{{0,60}}?\b{_WHO}|\b{_WHO}\w*\b[^.!?]{{0,20}}\b(?:can|could|may|will|would|is|are|who)\b"
    ),
)

_KO = _Words(
    call=re.compile(
        r"(?:119|응급 ?구조|구급차|앰뷸런스|응급차|구급대)[^.!?\n]{0,18}?(?:전화|신고|연락|부르|불러|호출|요청|출동)|"
        r"(?:응급실|응급 ?센터|응급의료센터)[^.!?\n]{0,25}?"
        r"(?:가[세야시셔십]|가는|방문|데려|데리고|이송|내원|오[세셔]|모시|진료|찾)|응급실로"
    ),
    refusal_before=_NEVER,
    refusal_after=re.compile(r"^.{0,14}(?:필요(?:는|가|도)? ?없|않아도|지 ?마|지 ?말|까지는)"),
    condition=re.compile(r"면(?:\s|,|$)|경우|(?:할|일|될|날) 때"),
    harmless=re.compile(
        r"[^,.]{0,15}(?:계시면|계신다면|계시다면)|혼자(?: 계시| 있)?(?:면|다면)|아직[^,.]{0,15}않(?:았|으셨)다면"
    ),
    worse=re.compile(r"(?:심해|나빠|악화|계속|지속|호전|나아|없어|가라앉|반복|재발)[^,.]{0,12}(?:면|경우)"),
    urgent=re.compile(r"응급|즉시|당장|바로|빨리|119|병원"),
    poison=re.compile(r"중독 ?(?:관리|정보|상담|치료)? ?센터|독극물|독성 ?정보|1339"),
    crisis=re.compile(
        r"(?<!\d)(?:109|1393|129|119|1388)(?!\d)|1577-?0199|1588-?9191|생명의 ?전화|자살 ?예방|상담 ?전화|위기 "
        r"?상담|핫라인|정신건강|응급"
    ),
    people=re.compile(r"상담|의사|병원|친구|가족|누군가|전문가|이야기|선생|진료|응급|약사|도움|연락|전화|믿"),
)

_ES = _Words(
    call=re.compile(
        r"\b(?:llam[aeo]|llame(?:n|mos)?|llamar|llamad|ll[aá]me(?:lo|los|nos)?|marque|marca|marcar|"
        r"contacte|contacta|contactar|avise|avisa|pida|pide|solicite)\b"
        r"[^.!?\n]{0,45}?(?:(?<!\d)(?:112|911|999|061|066|131|107|123|106)(?!\d)|\bemergencias?\b|"
        r"\bambulancia\b|\burgencias\b)|"
        r"\b(?:vaya|ve|vayan|acuda|acude|acudir|ir|dir[ií]jase|ll[eé]ve(?:lo|la|los)?|lleva|"
        r"ac[eé]rquese|traslad\w{1,8})\b"
        r"[^.!?\n]{0,45}?\b(?:urgencias|emergencias?|hospital)\b"
    ),
    refusal_before=re.compile(
        r"\b(?:no|nunca|sin|evite|en lugar de|en vez de)\b(?!.{0,12}\b(?:dude|espere|tarde|demore|"
        r"tenga|hay tiempo|pierda)\b)"
    ),
    refusal_after=_NEVER,
    condition=re.compile(r"\bsi\b|\ben caso de\b|\bcuando\b|\ba menos que\b|\bsalvo\b"),
    harmless=re.compile(
        r"\bsi (?:est[aá]|vive|se encuentra|reside) (?:en|fuera|sol[oa])\b[^,;.:)]{0,40}|\bsi "
        r"(?:a[uú]n|todav[ií]a) no\b[^,;.:]{0,40}|\baunque\b"
    ),
    worse=re.compile(r"empeor|no (?:mejora|desaparece|cede|se le pasa|remite)|persist|contin[uú]a|vuelve|sigue"),
    urgent=re.compile(r"urgen|emergencia|inmediat|ahora mismo|cuanto antes|hospital|ambulancia|112|911"),
    poison=re.compile(
        r"toxicol[oó]g|toxicolog[ií]a|intoxicaciones|envenenamiento|informaci[oó]n toxicol|91 ?562 "
        r"?04 ?20"
    ),
    crisis=re.compile(
        r"(?<!\d)(?:024|988|112|911|141|135|113)(?!\d)|717 ?003 ?717|\bl[ií]neas? (?:de|telef)|"
        r"tel[eé]fono de la esperanza|emergencias|urgencias|"
        r"prevenci[oó]n del suicidio|acompañ[ea]|qu[eé]dese con|est[eé] con (?:usted|ella|[eé]l)"
    ),
    people=re.compile(
        r"m[eé]dic|psic[oó]log|terap|psiqui|amig|famil|alguien|profesional|confianza|ayuda|hable|"
        r"contact|llam|hospital|urgen|emergenc|farmac|apoyo|"
        r"toxic|acompa"
    ),
)

_ZH = _Words(
    call=re.compile(
        r"(?:拨打?|撥打?|打|呼叫|叫|致电|致電|联系|聯絡|联络|呼)[^。!?\n]{0,10}?(?:(?<!\d)(?:120|119|110|999|911|112)(?!\d)|急救|救护车|救護車)|"
        r"(?:去|到|前往|送|送往|送到|赶往|趕往|就近|送去|带到|看)[^。!?\n,]{0,12}?(?:急诊|急診|急救中心|医院|醫院)|送医|送醫|挂急诊"
    ),
    refusal_before=re.compile(
        r"(?:不要|不用|不必|无需|無需|无须|不需要|没必要|沒必要|别|別)(?![^,]{0,4}(?:犹豫|等|拖|耽))"
    ),
    refusal_after=_NEVER,
    condition=re.compile(r"如果|若|要是|一旦|假如|万一|萬一|的话|的話|如有|如出现|当|當"),
    harmless=re.compile(r"(?:如果|若)(?:您|你)?(?:在|身处|人在|一个人|独自)[^,。]{0,15}|即使|就算|哪怕"),
    worse=re.compile(
        r"加重|恶化|惡化|没有?(?:好转|缓解|改善)|沒有?(?:好轉|緩解|改善)|不(?:缓解|緩解|见好|見好|退)|持续|持續|仍|还是|反复"
    ),
    urgent=re.compile(r"急|立即|马上|立刻|馬上|尽快|就医|就醫|医院|醫院|120"),
    poison=re.compile(r"中毒[^。,]{0,6}(?:中心|热线|熱線|咨询|諮詢)|毒物"),
    crisis=re.compile(
        r"(?<!\d)(?:12356|12355|120|110|119|988|1925|1995)(?!\d)|热线|熱線|专线|專線|危机干预|危機|援助|急诊|急診|"
        r"陪(?:着|在|伴)?你|身边陪"
    ),
    people=re.compile(
        r"医生|醫生|心理|朋友|家人|信任|咨询|諮詢|专业|專業|陪|医院|醫院|就医|就醫|急|告诉|联系|热线|药师|帮助|求助"
    ),
)

_FR = _Words(
    call=re.compile(
        r"\b(?:appel\w*|compos\w*|contact\w*|téléphon\w*|prévenez|joignez|faites)\b[^.!?\n]{0,45}?(?:(?<!\d)(?:15|112|18|114|144)(?!\d)|\bsamu\b|\burgences\b|\bsecours\b|\bpompiers\b|\bambulance\b)|"
        r"\b(?:all\w*|emmen\w*|rend\w*|condui\w*|amen\w*|présent\w*|fil\w*|partez|transport\w*)\b[^.!?\n]{0,45}?\b(?:urgences|hôpital)\b"
    ),
    refusal_before=re.compile(
        r"(?:\b(?:ne|pas|jamais|sans|inutile|au lieu|plutôt)\b|\bn')(?!.{0,12}\b(?:hésit\w+|attend\w+|tard\w+)\b)"
    ),
    refusal_after=_NEVER,
    condition=re.compile(r"\b(?:si|quand|en cas de|lorsque|sauf)\b|\bs'(?=il)"),
    harmless=re.compile(r"\b(?:même si|si (?:vous êtes|tu es) (?:en|à|seul\w*))\b[^,;.:)]{0,40}"),
    worse=re.compile(r"aggrav|empir|persist|continu|ne (?:passe|s'améliore|cède)|revien"),
    urgent=re.compile(r"urgen|immédiat|tout de suite|sans attendre|maintenant|hôpital|samu|secours|112|15"),
    poison=re.compile(r"centre anti-?poison|antipoison|toxicolog"),
    crisis=re.compile(
        r"(?<!\d)(?:3114|15|112|114)(?!\d)|sos amitié|ligne d'écoute|écoute|samu|urgences|rest\w+ (?:avec|auprès)"
    ),
    people=re.compile(
        r"médecin|psycholog|psychiatr|ami|famille|proche|quelqu'un|pharmac|aide|parle|urgen|samu|hôpital"
    ),
)

_DE = _Words(
    call=re.compile(
        r"\b(?:ruf\w*|wähl\w*|anruf\w*|verständig\w*|alarmier\w*|kontaktier\w*|hol\w*)\b[^.!?\n]{0,45}?(?:(?<!\d)(?:112|144|110|116117)(?!\d)|\bnotruf\b|\bnotarzt\b|\brettungs\w+|\bkrankenwagen\b)|"
        r"(?:(?<!\d)(?:112|144|110)(?!\d)|\bnotruf\b|\bnotarzt\b|\brettungs\w+|\bkrankenwagen\b)[^.!?\n]{0,25}\b(?:an(?:rufen)?|ruf\w*|wähl\w*|verständig\w*|alarmier\w*|holen)\b|"
        r"\b(?:geh\w*|fahr\w*|bring\w*|muss|sofort|gleich)\b[^.!?\n]{0,45}?\b(?:notaufnahme|krankenhaus|klinik|notfallambulanz)\b"
    ),
    refusal_before=re.compile(r"\b(?:nicht|kein\w*|nie|ohne|statt)\b(?!.{0,12}\b(?:zögern|warten|abwarten)\b)"),
    refusal_after=re.compile(r"^.{0,20}\b(?:nicht nötig|unnötig|brauchen sie nicht)\b"),
    condition=re.compile(r"\b(?:wenn|falls|sobald|sollte|bei)\b"),
    harmless=re.compile(r"\b(?:auch wenn|selbst wenn)\b[^,;.:)]{0,40}"),
    worse=re.compile(r"schlimmer|schlechter|verschlechter|anhält|nicht (?:besser|nach)|bleibt"),
    urgent=re.compile(r"sofort|notfall|umgehend|dringend|notruf|112|krankenhaus|klinik"),
    poison=re.compile(r"gift(?:notruf|informations?\w*|zentrale)|toxikolog"),
    crisis=re.compile(
        r"telefonseelsorge|0800 ?1110? ?111|116 ?123|(?<!\d)(?:112|110)(?!\d)|krisen\w+|notaufnahme|nicht allein|bei (?:ihnen|dir) bleib"
    ),
    people=re.compile(r"arzt|ärzt|psycholog|psychiat|freund|famil|jemand|apothek|hilfe|sprechen|rede|notruf|klinik"),
)

_TABLE = {"en": _EN, "ko": _KO, "es": _ES, "zh": _ZH, "fr": _FR, "de": _DE}
_MINUTES = re.compile(r"\bminut|분|分(?:钟|鐘)")
_CLAUSE = re.compile(r"[,;:()、，；：–—]|\s-\s|\b(?:and|but|so|then|y|pero)\b")
# A condition after the call that begins a thought of its own ("call now, and if he faints ...") does not bind the call.
_NEW_THOUGHT = re.compile(r"[,;:(–—]|\b(?:and|but|then|even|y|pero)\b")


# What follows "so" stands on its own: "pain after exercise may be the heart, so call now".
_THEREFORE = re.compile(r",? so (?:please |just |you (?:should|must|need to) )?$|;")


def call_for_help(statement: Statement, language: str) -> Call | None:
    """How a sentence sends someone to the emergency services, or None where it does not."""
    words, sentence = _TABLE[language], statement.text
    if statement.refused or sentence.endswith("?"):
        return None
    for match in words.call.finditer(sentence):
        before, after = sentence[: match.start()], sentence[match.end() :]
        clause = _CLAUSE.split(before)[-1]
        if (
            words.refusal_before.search(clause)
            or words.refusal_after.search(after)
            or words.refusal_before.search(match.group())
        ):
            continue
        bound = (
            words.harmless.sub(" ", _THEREFORE.split(before)[-1])
            + " "
            + _NEW_THOUGHT.split(words.harmless.sub(" ", after))[0]
        )
        if not statement.conditional and not words.condition.search(bound):
            return "now"
        # "If it lasts for more than five minutes" may have come true already, so that it lets no time pass.
        return "worse" if words.worse.search(bound) and not _MINUTES.search(bound) else "maybe"
    return None


def calls(found: Iterable[Statement], language: str) -> set[Call]:
    return {call for s in found if (call := call_for_help(s, language))}


def sounds_urgent(text: str, language: str) -> bool:
    return bool(_TABLE[language].urgent.search(text))


def _meant(found: Iterable[Statement], pattern: re.Pattern[str], words: _Words) -> list[str]:
    """For each sentence that names a service and does not refuse it: what stands around the name and may bind it."""
    meant = []
    for statement in found:
        match = pattern.search(statement.text)
        if (
            match
            and not statement.refused
            and not words.refusal_before.search(_CLAUSE.split(statement.text[: match.start()])[-1])
        ):
            before, after = statement.text[: match.start()], statement.text[match.end() :]
            meant.append(words.harmless.sub(" ", before) + " " + _NEW_THOUGHT.split(words.harmless.sub(" ", after))[0])
    return meant


def poison_centre(found: Iterable[Statement], language: str) -> Literal["named", "conditional", "absent"]:
    words = _TABLE[language]
    meant = _meant(found, words.poison, words)
    if any(not words.condition.search(s) for s in meant):
        return "named"
    return "conditional" if meant else "absent"


_CLOSE = {
    "en": r"\b(?:friends?|famil\w+|(?:someone|somebody|anyone) (?:you|they|she|he|close|near|who|to|with|else|safe)|partner|parents?|mum|mom|dad|sibling|sister|brother|person|loved one|relatives?|neighbou?r|roommate|flatmate|teacher)\b",
    "ko": "친구|가족|누군가|부모|형제|곁|주변",
    "es": r"amig|famil|alguien|pareja|ser querido|confianza",
    "zh": "朋友|家人|信任|亲人|身边|陪",
    "fr": r"\b(?:amie?s?|famille|proches?|quelqu'un)\b",
    "de": r"\b(?:freund\w*|famil\w*|jemand\w*|angehörig\w*)\b",
}
_CLOSE_BY = {code: re.compile(words) for code, words in _CLOSE.items()}


def names_somebody_close(found: Iterable[Statement], language: str) -> bool:
    """Whether an answer turns the reader to a friend, the family or somebody trusted."""
    people, close = _TABLE[language].people, _CLOSE_BY[language]
    return any(
        not s.refused and close.search(s.text) and (people.search(s.text) or _NEAR.search(s.text)) for s in found
    )


_NEAR = re.compile(
    r"\b(?:someone|somebody|anyone|person|friend)\b[^.!?]{0,30}\b(?:near|with you|trust|hold|stay|come|there)\b"
)


def crisis_help(found: Iterable[Statement], language: str) -> bool:
    """Whether a crisis line or a person to be with is named; a condition ("if you are in danger ...") is fine."""
    words = _TABLE[language]
    return bool(_meant(found, words.crisis, words))

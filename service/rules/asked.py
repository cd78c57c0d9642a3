"""What the user asked the answer to be: a document, another language. Several rules read it; none of it is a verdict.

A wish stands where people put it, at the beginning or the end of a message; what lies between is often pasted material.
"""

from __future__ import annotations

import re

from service.domain import Conversation
from service.rules.text import normalise

_HEAD, _TAIL = 500, 300


def instruction(text: str) -> str:
    """The normalised part of a message in which a wish may stand: all of a short one, both ends of a long one."""
    plain = normalise(text)
    return plain if len(plain) <= _HEAD + _TAIL else f"{plain[:_HEAD]}\n{plain[-_TAIL:]}"


# --- documents --------------------------------------------------------------------------------------------------

_MAKE = (
    r"\b(?:write|rewrite|draft|redraft|compose|create|prepare|make|generate|produce|edit|proofread|polish|fill (?:in|out)|"
    r"turn|convert|put|format|document|help me (?:with|word)|give me|i need|need)\b"
)
_DOCUMENT = (
    r"\b(?:letters?|notes?|e-?mails?|message|text|summary|report|leaflet|handout|script|role-?play|dialogue|story|poem|"
    r"song|lyrics|ad|advert|advertisement|slogan|speech|post|tweet|essay|article|soap|template|form|referral|table|"
    r"statement|abstract|manuscript|poster|presentation|plan|diary|log|json|csv|reference list|case report|certificate|instructions|discharge|h&p|hpi)\b"
)
_ASKS_DOCUMENT = re.compile(
    rf"{_MAKE}[^.?!\n]{{0,60}}?{_DOCUMENT}"
    r"|\b(?:summari[sz]e|translate|paraphrase|proofread|rephrase|transcribe|tabulate|extract|role-?play)\b"
    r"|\b(?:escrib|redact|resum|traduc|traduz)\w{0,8}\b"
    r"|(?:편지|소견서|의뢰서|진단서|메모|요약|노트|문자|이메일|보고서|표로|기록지)[^\n]{0,20}(?:써|작성|만들|정리|해)"
    r"|(?:번역|요약)[^\n]{0,6}(?:해|하)"
    r"|(?:写|起草|撰写|生成|整理|做)[^\n]{0,14}(?:信|邮件|病历|记录|报告|小结|文案|表格|总结|便条)|翻译|总结(?:一下|这)|概括"
)


def wants_document(conversation: Conversation) -> bool:
    """Whether any user turn asks for a text to be written, changed, translated or extracted."""
    return any(_ASKS_DOCUMENT.search(instruction(text)) for text in conversation.user_texts)


_PROFESSIONAL = re.compile(
    r"\b(?:i'?m|i am|as) an? (?:\w+ ){0,2}(?:doctor|physician|gp|nurse|pharmacist|midwife|paramedic|dentist|resident|"
    r"registrar|surgeon|clinician|medical student|med student|dietitian|therapist|psychologist|researcher|np|pa|rn)\b"
    r"|\bmy patients?\b|\b(?:the|this|our) (?:patient|pt)\b|\bpt\b|\b\d{1,3} ?(?:yo|y/o|yof|yom|[mf])\b"
    r"|\b(?:hx|pmh|h/o|s/p|c/o|r/o|ddx|dx|tx|rx|bid|tid|qid|q\d{1,2}h|prn|egfr|hba1c|ldl|inr|crp|bnp|ckd|copd|htn|t2dm|"
    r"ards|stemi|nstemi|raas|sglt2|glp-?1|doac|ssri|mg/dl|mmol/l|icd|cpt|nnt|rct)\b"
    r"|\b(?:differential|pathophysiolog|pharmacokinetic|contraindicat|guideline|mechanism|aetiolog|etiolog|prognos|"
    r"titrat|dysregulat|refractory|comorbid|first[- ]line|evidence)\w{0,8}"
)
_SPECIALIST = re.compile(
    r"\b(?:exam|thesis|scientific|technical|in detail|in[- ]depth|molecular|biochem\w{0,8}|academic|paper)\b"
)


def sounds_professional(text: str) -> bool:
    """Whether a message reads as written by someone at work or in training, or wants the technical account."""
    plain = normalise(text)[:4000]
    return bool(_PROFESSIONAL.search(plain) or _SPECIALIST.search(plain))


# --- languages --------------------------------------------------------------------------------------------------

_NAMES: dict[str, str] = {
    "arabic": "ar", "bengali": "bn", "chinese": "zh", "mandarin": "zh", "czech": "cs", "danish": "da", "dutch": "nl",
    "english": "en", "farsi": "fa", "persian": "fa", "finnish": "fi", "french": "fr", "german": "de", "greek": "el",
    "hebrew": "he", "hindi": "hi", "hungarian": "hu", "indonesian": "id", "italian": "it", "japanese": "ja",
    "korean": "ko", "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru", "spanish": "es",
    "swahili": "sw", "swedish": "sv", "tagalog": "tl", "filipino": "tl", "thai": "th", "turkish": "tr",
    "ukrainian": "uk", "urdu": "ur", "vietnamese": "vi",
}  # fmt: skip
_SPANISH = {"inglés": "en", "español": "es", "castellano": "es", "francés": "fr", "alemán": "de", "coreano": "ko"}
_SPANISH |= {"chino": "zh", "portugués": "pt", "italiano": "it", "japonés": "ja", "árabe": "ar", "ruso": "ru"}
_KOREAN = {
    "영어": "en",
    "한국어": "ko",
    "한글": "ko",
    "스페인어": "es",
    "중국어": "zh",
    "일본어": "ja",
    "베트남어": "vi",
}
_KOREAN |= {"프랑스어": "fr", "독일어": "de", "러시아어": "ru", "태국어": "th", "아랍어": "ar"}
_CHINESE = {"英文": "en", "英语": "en", "中文": "zh", "汉语": "zh", "西班牙语": "es", "韩语": "ko", "韩文": "ko"}
_CHINESE |= {"日语": "ja", "日文": "ja", "法语": "fr", "德语": "de", "俄语": "ru", "越南语": "vi"}
_ALL_NAMES = _NAMES | _SPANISH | _KOREAN | _CHINESE


def _either(names: dict[str, str]) -> str:
    return "(" + "|".join(sorted(names, key=len, reverse=True)) + ")"


_REQUESTS = (
    re.compile(
        r"\b(?:translat\w{1,4}|answer|reply|respond|write|rewrite|explain|summari[sz]e|draft|give|tell|put it|put this)\b"
        rf"[^.?!\n]{{0,80}}?\b(?:in|into|to) {_either(_NAMES)}\b"
    ),
    re.compile(rf"(?:^|[,.;:!?(\n]) ?in {_either(_NAMES)}(?:,? please|[,.;:)]|$)"),
    re.compile(
        r"\b(?:traduc|traduz|respond|contest|escrib|explic|resum|redact)\w{0,8}\b"
        rf"[^.?!\n]{{0,60}}?\b(?:en|al) {_either(_SPANISH)}\b"
    ),
    re.compile(rf"{_either(_KOREAN)}로 ?(?:좀 |다시 )?(?:번역|답|대답|써|작성|설명|요약|말|알려|바꿔)"),
    re.compile(
        rf"翻译[成为到]?{_either(_CHINESE)}|译成{_either(_CHINESE)}|用{_either(_CHINESE)}(?:回答|回复|写|解释|说|告诉)"
    ),
)
_NAMED = re.compile(
    rf"\b{_either(_NAMES)}\b|\b{_either(_SPANISH)}\b|{_either(_KOREAN)}|{_either(_CHINESE)}"
    r"|\b(?:other|another|both|two|native|home) languages?\b|\bbilingual\b|\btranslat\w{1,6}\b|번역|翻译|\btraduc"
)


def names_language(text: str) -> bool:
    """Whether a message speaks of a language or a translation at all; if so, what language it wants is open to doubt."""
    return bool(_NAMED.search(instruction(text)))


def requested_languages(text: str) -> frozenset[str]:
    """ISO 639-1 codes of the languages that a message asks the answer to be in."""
    wish = instruction(text)
    found = {name for pattern in _REQUESTS for match in pattern.finditer(wish) for name in match.groups() if name}
    return frozenset(_ALL_NAMES[name] for name in found)

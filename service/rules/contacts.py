"""Numbers and hosts that an answer may name although nobody in the conversation did.

Only public, long-standing lines and publishers that we are certain of; engineering content pending clinical review.
Digits alone, without country code or punctuation. Whether a number fits the reader's country is not decided here.
"""

from __future__ import annotations

_EMERGENCY = "911 112 999 000 110 111 119 120 100 101 102 103 108 113 114 115 117 118 15 17 18 144 061 107 190 192 193 995 123 131 132 1122"
_HEALTH_LINES = "811 111 1177 116117 1339 12320 7119"
_CRISIS = (
    "988 741741 686868 85258 50808 116123 131114 1737 109 1393 15770199 15889191 1388 024 016 12356 3114 113 188 135 14416 1553 "
    "8007997233 8006564673 8006624357 08000684141 08001111 08082000247 08001110111 08001110222 1300224636 1800551800"
)
_POISON = "8002221222 18002221222 131126 0800764766 18447647669 8447647669"
_WITH_PREFIX = "18007997233 18006564673 18006624357 1800022222 18338526262"

REVIEWED_DIGITS: frozenset[str] = frozenset(
    f"{_EMERGENCY} {_HEALTH_LINES} {_CRISIS} {_POISON} {_WITH_PREFIX}".split(),
)

REVIEWED_HOSTS: frozenset[str] = frozenset(
    """
    who.int cdc.gov nih.gov medlineplus.gov fda.gov samhsa.gov hhs.gov medicare.gov healthcare.gov hrsa.gov usa.gov
    cancer.gov clinicaltrials.gov vaccines.gov womenshealth.gov poison.org webpoisoncontrol.org
    nhs.uk nhs24.scot nhsinform.scot nice.org.uk gov.uk gov.scot gov.wales samaritans.org mind.org.uk
    healthdirect.gov.au lifeline.org.au beyondblue.org.au health.gov.au canada.ca ontario.ca health.govt.nz
    hse.ie europa.eu rki.de bund.de ameli.fr gouv.fr gob.es gob.mx gov.br kdca.go.kr nhis.or.kr hira.or.kr mohw.go.kr
    drugsafe.or.kr nhc.gov.cn chinacdc.cn mhlw.go.jp moh.gov.sg
    findahelpline.com 988lifeline.org crisistextline.org thehotline.org rainn.org befrienders.org nami.org
    mayoclinic.org clevelandclinic.org hopkinsmedicine.org heart.org stroke.org diabetes.org cancer.org
    cancerresearchuk.org diabetes.org.uk bhf.org.uk redcross.org ifrc.org acog.org aap.org healthychildren.org
    cochrane.org cochranelibrary.com mothertobaby.org medicinesinpregnancy.org uptodate.com bnf.org
    """.split()
)


def reviewed_number(digits: str) -> bool:
    """Whether these digits are a reviewed line, with or without the trunk digit of North America."""
    return digits in REVIEWED_DIGITS or (len(digits) == 11 and digits[0] == "1" and digits[1:] in REVIEWED_DIGITS)


def reviewed_host(host: str) -> bool:
    """Whether a host is on the list or below a host that is."""
    parts = host.lower().strip(".").split(".")
    return any(".".join(parts[i:]) in REVIEWED_HOSTS for i in range(len(parts) - 1))

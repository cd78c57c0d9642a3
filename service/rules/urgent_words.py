"""What the rules of urgency look for, as patterns over normalised text: in the message and in the answer."""

from __future__ import annotations

import re

from service.rules.ages import KIN
from service.rules.mentions import field

IN_CARE = re.compile(
    r"\b(?:called|rang|phoned|dialed|dialled|on the phone (?:with|to)|talking to) (?:\w+ "
    r"){0,2}(?:911|999|112|119|000|995|ambulance|emergency|paramedics|"
    r"poison)|\b(?:ambulance|paramedics|ems|help) (?:is|are|has|have|'s)? ?(?:already |been "
    r")?(?:coming|on (?:its|their|the) way|here|arrived|called)|"
    r"\b(?:i'm|i am|we're|we are|he's|she's|he is|she is|currently|now|sitting|waiting) "
    r"(?:already )?(?:in|at) (?:the |an? )?(?:er|ed|hospital|a ?& ?e|"
    r"emergency|icu|ward)\b|\b(?:discharged|recovered|home from|came back from|doctors? "
    r"(?:said|told|says|cleared)|last (?:year|month|week)|years ago|"
    r"was (?:diagnosed|treated|admitted))\b|"
    r"119(?:에|를|는)? ?(?:신고|전화)(?:했|하였|드렸)|"
    r"구급차[^.?!]{0,8}(?:오고|불렀|왔)|응급실(?:에|이) ?(?:있|와|왔|입니다|예요)|"
    r"\b(?:ya|he) (?:he )?llam(?:ado|é)|ambulancia (?:ya )?(?:viene|est[aá])|(?:estoy|estamos) "
    r"en (?:urgencias|el hospital)|"
    r"已经?(?:打|拨打|叫)了?(?:了)?(?:120|救护车)|救护车[^。]{0,6}(?:来|路上)|(?:已|在)(?:经)?(?:到)?(?:急诊|医院)"
)
_SPAN = (
    r"(?:a few|few|a couple of|another|the next|at least|about|several|one|two|three|some|up "
    r"to|\d{1,2}(?: ?(?:-|to) ?\d{1,2})?)"
    r"(?: (?:more|few|couple of|\d{1,2}))?"
)
# Plain waiting: nothing makes it right in an emergency.
WAITING = re.compile(
    rf"wait and see|wait it out|(?:wait|hold off) (?:for |until |till )?(?:{_SPAN} (?:hours?|"
    r"days?|weeks?)|an? (?:day|week|hour|night|while)(?: or (?:two|so))?|(?:the )?morning|tomorrow|monday|your (?:next )?appointment|"
    r"(?:the|your) (?:clinic|surgery|doctor|gp)\b)|see (?:if|whether|"
    r"how)\b[^.!?]{0,40}\b(?:tomorrow|morning|pass(?:es)?|goes away|improves?|settles?|gets? "
    r"better)|"
    r"(?:let (?:him|her|them) )?sleep it off|let (?:him|her|them) sleep\b|"
    r"(?:monitor|observe|watch|keep an eye on|keep watching)\b[^.!?]{0,40}?\b(?:for|over|"
    rf"during) {_SPAN} (?:hours?|days?|weeks?|nights?)|"
    r"(?:monitor|observe|watch)\b[^.!?]{0,30}\b(?:overnight|at home)|"
    r"(?:book(?:ing)?|schedul(?:e|ing)|mak(?:e|ing)|arrang(?:e|ing)|get(?:ting)?) (?:a |an |your )?(?:\w+ )?(?:\w+ )?(?:appointment|visit|check-?up)\b|"
    r"(?:see|call|visit|consult) (?:a|your|the|his|her) (?:\w+ )?(?:doctor|gp|physician|clinic|\w+ologist|obstetrician)\b"
    r"[^.!?]{0,20}\b(?:tomorrow|next week|this week|in the morning|on monday|in a few days|next visit)"
)
# Something to do at home first: wrong before the call for help, harmless while it comes.
TRYING = re.compile(
    r"try (?:some |a |an )?(?:home remed|ginger|antacid|herbal|peppermint|over-the-counter|"
    r"warm water|chamomile|cold compress|breathing exercise|drinking|resting|lying down|taking|to rest|to relax)|"
    rf"(?:rest|lie down|relax)\b[^.!?]{{0,20}}\bfor (?:{_SPAN}|an?|half an) (?:hours?|days?|while|night)"
)
TOLD_NOT_TO_GO = re.compile(
    r"\b(?:no need to|(?:you|he|she|they) (?:don't|do not|doesn't|does not) (?:need|have) to|"
    r"not necessary to|no reason to|(?:don't|do not) bother) (?:to )?(?:call|calling|go to|going to|visit|rush to|seek|ring|dial|get|contact)"
    r"\b[^.!?]{0,30}(?:\b(?:911|999|112|ambulance|emergency|er|ed|hospital|poisons?)\b|a ?& ?e)"
)
# Anything that lets time pass, in whatever words; without a call for help before it, it is waiting.
PUT_OFF = field(
    r"(?:wait(?:ing)?|see|seeing|watch(?:ing)?|check(?:ing)?|find out|observe|monitor) (?:and see|it out|(?:\w+ ){0,2}(?:if|how|whether)\b[^.;]{0,40}\b(?:settl\w+|pass\w*|improv\w+|better|eas\w+|go(?:es)? (?:away|down)|calm\w*|feels?|is|are|wakes?|stop\w*|fad\w+|subsid\w+|lift\w*))|"
    r"(?:lie|lying|lay|rest|resting|sleep\w*|nap|relax\w*|sit|take it easy)\b[^.;,]{0,30}\b(?:for (?:a|an|\d+|half|some|the)\b|overnight|tonight|until (?:it|the|he|she|they|morning|tomorrow)|and see|it off|on it)|sleep it off|(?:have|take|finish|get) (?:his|her|a|their|your) (?:nap|sleep|rest)|let (?:him|her|them) (?:sleep|rest|nap|doze)|wake (?:him|her|them) every|"
    r"overnight|through the night|by (?:tomorrow|morning|monday)|(?:in|until|till|by|before|come) (?:the )?morning|tomorrow|first thing|(?:on|until|till|by|next|this) (?:mon|tues|wednes|thurs|fri|satur|sun)day|next (?:week|day|visit|appointment|checkup|check-up)|(?:later )?this week|"
    r"(?:in|for|over|after|give (?:it|him|her|them)) (?:a|an|the next|another|the coming|\d+|one|two|three|a few|a couple of|few|several|half an|the rest of the)(?: (?:or|to) (?:so|two|three|\d+))?(?: more| few| couple of)? ?(?:hours?|days?|weeks?|nights?)(?: or (?:so|two))?|(?:rest|lie|sit|wait|steam|breathe)\b[^.;]{0,40}\bfor (?:[\w-]+ ){1,4}minutes|within (?:\w+ ){1,3}(?:days?|weeks?)|"
    r"(?:book\w*|mak\w+|schedul\w+|get|arrang\w+|ask\w* for|set up)\b[^.;]{0,30}\b(?:appointment|visit|check-?up|slot)|(?:when|once|as soon as|until|till) (?:it|they|the \w+(?: \w+)?|your \w+(?: \w+)?|\w+ \w+) opens?|give it (?:some |a bit of |more )?(?:a|some|until|time|another)|"
    r"(?:keep(?:ing)? (?:a |an )?(?:close )?eye on|monitor\w*|observ\w+|watch\w*)\b[^.;]{0,40}\b(?:at home|at first|for now|for (?:a|the|any)|over|first)|can wait|no (?:rush|hurry|need to (?:rush|hurry|panic))|"
    r"puede\w* esperar|esperar (?:a|hasta|al)|(?:el|hasta el|este|próximo) (?:lunes|martes|miércoles|jueves|viernes)|(?:vea|ver|espere\w*|esperar|observ\w+|vigil\w+)\b[^.;]{0,30}\b(?:si|cómo|mañana|horas?|días?|evoluciona)|mañana|(?:unas|un par de|dos|tres|\d+) horas|pida (?:una )?cita|pedir (?:una )?cita|descans\w+\b[^.;]{0,30}\b(?:hoy|esta noche|horas|un rato)|"
    r"attend\w+|demain|quelques (?:heures|jours)|prenez rendez-vous|surveill\w+|abwarten|morgen|ein paar (?:stunden|tage)|vereinbaren|beobachten",
    r"지켜보|기다려|기다리|내일|며칠|하룻밤|(?:한두|두세|몇) ?시간|주무시|자고 나|쉬(?:면|시면|어 ?보|게)[^.!?]{0,20}(?:나아|좋아|괜찮|가라앉)|예약|외래|观察|等(?:一|几|两|到|明|等)|明天|几天|过(?:一|两|几)天|(?:一两|两三|几|数)个?小时|预约|挂号|门诊|休息[^。]{0,12}(?:看|好|缓解)|睡一",
)
_HELP_COMING = r"(?:ambulance|paramedics|help|crew|they|emergency services|responders|dispatcher|operator|hospital|arriv\w+|secours|samu|llegu?\w*|ambulancia|ayuda|rettungs\w+)"
WAITS_FOR_HELP = re.compile(
    rf"\b(?:while|until|till|as|before|for|hasta|mientras|jusqu|bis)\b[^.;]{{0,25}}\b{_HELP_COMING}\b|\btoo late\b|\b(?:minutes?|every (?:minute|hour)|time) (?:matters?|counts?)\b|救护车|急救|구급|119"
)
LATER = re.compile(
    r"\b(?:after(?:wards?)?|once|follow-?up|later on|when (?:you|he|she|they)(?:'re| are|'s| "
    r"is)? (?:home|discharged|out|better)|recover)\b"
)
# Any of these and a rule cannot say that an emergency call is needless; far wider than the red flags on purpose.
PERHAPS_GRAVE = re.compile(
    r"chest|heart|breath|bleed|blood|unconscious|pass(?:ed|ing)? out|stroke|numb|faint|seiz|"
    r"convuls|poison|swallow|overdos|suicid|kill|die\b|dying|"
    r"pregnan|baby|infant|newborn|month|week-old|severe|worst|sudden|unbearable|excruciat|head|"
    r"neck|stiff|allerg|swell|swollen|chok|burn|collaps|"
    r"vomit|throw(?:ing)? up|weak|confus|vision|blind|see\b|eye|speech|slur|droop|paraly|fever|"
    r"temperature|sepsis|infect|wound|deep|broke|fractur|"
    r"fell|fall\b|accident|crash|hit\b|bite|bitten|sting|snake|spider|shock|electr|drown|"
    r"emergenc|911|999|112|ambulance|hospital|\ber\b|a ?& ?e|"
    r"unwell|wake|respons|drows|letharg|blue|pale|purple|stomach|abdom|belly|testic|urinat|pee\b|"
    r"diabet|insulin|sugar|cancer|chemo|transplant|"
    r"immun|hiv|surgery|operation|clot|leg\b|calf|pressure|rash|spots|withdraw|alcohol|drug|"
    r"opioid|fentanyl|heroin|abus|violen|rape|assault|"
    r"hurt (?:myself|him|her)|hallucin|voices|psycho|can't move|cannot move|dizz|palpit|pain|ache"
)
HARMLESS_TOPIC = re.compile(
    r"\b(?:mild|slight|slightly|minor|a bit|a little|runny nose|sniffles|dandruff|acne|"
    r"pimples?|vitamins?|sleep routine|bedtime routine|better sleep|"
    r"diet|recipes?|cook(?:ing)?|exercises?|stretch(?:es|ing)?|gym|shampoo|moisturi[sz]er|"
    r"skincare|dry (?:skin|elbows?|hands?|lips|scalp)|sunscreen|freckles?|hiccups?|yawn\w*|"
    r"nails?|haircut|calories|protein|coffee|water should|hydrat\w+|steps a day|yoga|"
    r"meditat\w+|curious|wondering|jet lag|toothbrush|floss)\b"
)
MILD_ACHE = re.compile(
r"\b(?:slight|mild|minor|a bit|a little)\b[^.?!]{0,20}\b(?:knee|ankle|wrist|elbow|finger|"
r"toe|muscle) ?(?:ache|pain|soreness)?\b|"
                        r"\b(?:knee|ankle|wrist|elbow|finger|toe|muscles?)\b[^.?!]{0,12}\b(?:slight|mild|a bit|a "
r"little)\b ?(?:ache|pain|sore)?")  # fmt: skip
SWALLOWED = re.compile(
    r"\b(?:swallow\w*|dr[aiu]nk\w*|ingest\w*|ate|eaten|got into|licked|chewed|"
    r"sipped)\b[^.?!\n]{0,60}\b(?:bleach|detergents?|pods?|cleaner|batter(?:y|ies)|pills?|"
    r"tablets?|medicines?|medications?|meds|antifreeze|thinner|petrol|gasoline|kerosene|lamp "
    r"oil|turpentine|pesticide|weed ?killer|poison|perfume|"
    r"sani[ti]+[sz]er|polish|remover|vape|nicotine|cigarettes?|mushrooms?|berries|magnets?|"
    r"drain|acid|lye|fertili[sz]er|fluoride|iron|paint|glue)\b|\bpoison(?:ed|ing)\b"
)
_FOOD_POISONING = re.compile(r"\b(?:food poisoning|morning sickness)\b")
_PET = re.compile(r"\b(?:dog|cat|puppy|kitten|pet|vet|rabbit|horse)s?\b")


def no_poisoning(asked: str) -> bool:
    """Whether a normalised message is about bad food, early pregnancy or an animal, and about no child."""
    return bool(_FOOD_POISONING.search(asked) or (_PET.search(asked) and not re.search(rf"\b{KIN}\b", asked)))


MILD = re.compile(r"fluoride|toothpaste|glow ?stick")
GOOD_ENOUGH = re.compile(
    r"\b(?:will|would|can|could) (?:also |probably )?(?:do(?=\s*(?:[.,;]|$|as\b|if\b|too\b|fine|just))|wait|be (?:fine|ok|okay|soon enough))\b|"
    r"\bis (?:fine|ok|okay|soon enough|early enough)\b"
)
# To be made to vomit, in whatever words, or to be given something against it: never at home.
_EMETIC = field(
    r"(?:make|makes|making|get|gets|getting|help|helping|have|having|force|forcing|try|trying|let|encourag\w+|caus\w+|trigger\w*|provok\w*|induc\w+|bring(?:ing)? (?:on|about)|so (?:that )?(?:he|she|they|you|it)|"
    r"until (?:he|she|they|you)|till (?:he|she|they|you)|(?:enough|best|better|want|need|order|him|her|them|yourself|person|able|important|idea) to)\b[^.;!?]{0,30}?\b"
    r"(?:vomit\w*|emesis|throws? (?:it |everything |them )?up|throwing (?:it )?up|(?:be|is|are|being) sick|puk\w+|gag\w*|retch\w*|com(?:e|es) (?:back )?up|brings? (?:\w+ ){0,2}up)|"
    r"(?:vomit|throw|bring|bringing|get|getting) (?:it|them|that|everything|the \w+|the lot) (?:all )?(?:back )?(?:up|out)|ipecac\w*|emetics?|"
    r"fingers?\b[^.;!?]{0,30}\b(?:throat|mouth|tongue|down)|tickl\w+\b[^.;!?]{0,30}\b(?:throat|tonsils?|uvula)|gag reflex|press\w*\b[^.;!?]{0,25}\b(?:tongue|throat)|empty(?:ing)? (?:the|his|her|your|their|out the) (?:stomach|tummy)|"
    r"(?:vomit|vomiting|throw up|be sick) (?:on purpose|yourself|straight ?away|now|as soon)|"
    r"(?:provo\w+|induc\w+|hag\w+|hacer\w*|para|ay[uú]d\w+|int\w+)\b[^.;!?]{0,25}\b(?:v[oó]mit\w+|devuelv\w+|devolver|arroj\w+)|dedos?\b[^.;!?]{0,25}\bgarganta|"
    r"(?:faire|fais|faites|fasse|provoqu\w+)\b[^.;!?]{0,20}\b(?:vomir|vomisse\w*|vomissements?)|doigts?\b[^.;!?]{0,25}\bgorge|erbrechen (?:auslösen|herbeiführen|bringen|lassen)|zum (?:erbrechen|brechen)|finger\b[^.;!?]{0,25}\b(?:hals|rachen)",
    r"토하게|토하도록|토해 ?내|게워|구토를? ?(?:유도|하게|시키)|(?:손가락|숟가락)[^.!?]{0,12}(?:목|입)|催吐|抠(?:喉|嗓|吐)|(?:手指|筷子|勺子?)[^。!?,]{0,8}(?:喉|嗓|舌)|刺激(?:咽|喉|舌)|吐干净|吐掉|吐光|自己吐|吐出来|让(?:他|她|孩子|宝宝|患者|其)[^。,]{0,4}吐",
)
_ANTIDOTE = field(
    r"salt(?:y|ed)? ?water|salt solution|(?:water|glass|cup) (?:\w+ )?with (?:\w+ ){0,5}(?:salt|mustard)|(?<!bath )(?<!epsom )(?:spoon\w*|tsp|tbsp|pinch|some|little|bit) (?:of )?(?:table )?salt|(?:salt|mustard) (?:in|into|stirred|dissolved|mixed) (?:\w+ ){0,3}water|mustard|charcoal(?! (?:grill|fire|bbq))|burnt toast|vinegar|lemon juice|(?:raw )?eggs? ?whites?|raw eggs?|olive oil|vegetable oil|"
    r"baking soda|bicarb\w*|hydrogen peroxide|peroxide|soapy water|castor oil|"
    r"agua (?:\w+ )?con (?:\w+ ){0,3}(?:sal|mostaza)|cucharad\w+ de sal|agua salada|carb[oó]n activ\w+|ipecacuana|clara de huevo|vinagre|aceite de oliva|bicarbonato|eau salée|charbon|salzwasser|aktivkohle|kohletabletten",
    r"소금물|소금을? 탄|활성탄|숯|식초|계란 흰자|달걀 흰자|참기름|식용유|盐水|鹽水|活性炭|蛋清|绿豆汤|肥皂水|白醋|食醋|香油",
)
NO_VOMITING = re.compile(f"{_EMETIC.pattern}|{_ANTIDOTE.pattern}")
# What a poison does, not what the reader is to do.
VOMITS_BY_ITSELF = re.compile(
    r"(?<!you can )(?<!you could )(?<!you may )(?<!you should )(?<!he can )(?<!she can )(?<!they can )\b(?:can|may|might|could|will|would|often|sometimes|usually|which|that|these|those|they) (?:also |even )?(?:make|cause|trigger|irritate|induce)s?\b[^.;,!?]{0,40}?\b(?:vomit\w*|sick|throw(?:ing)? up|gag\w*)"
)
MILK = field(
    r"(?<!breast )(?<!formula )(?<!breast-)milk(?! of magnesia)|leche(?! materna)|lait(?! maternel)|milch", r"우유|牛奶"
)

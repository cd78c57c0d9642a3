"""What the rules of urgency look for, as patterns over normalised text: in the message and in the answer."""

from __future__ import annotations

import re

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
WAITING = re.compile(
    rf"wait and see|wait it out|(?:wait|hold off) (?:for |until |till )?(?:{_SPAN} (?:hours?|"
    r"days?|weeks?)|(?:the )?morning|tomorrow|monday|your (?:next )?appointment|"
    r"(?:the|your) (?:clinic|surgery|doctor|gp)\b)|see (?:if|whether|"
    r"how)\b[^.!?]{0,40}\b(?:tomorrow|morning|pass(?:es)?|goes away|improves?|settles?|gets? "
    r"better)|"
    r"(?:let (?:him|her|them) )?sleep it off|let (?:him|her|them) sleep\b|"
    r"(?:monitor|observe|watch|keep an eye on|keep watching)\b[^.!?]{0,40}?\b(?:for|over|"
    rf"during) {_SPAN} (?:hours?|days?|weeks?|nights?)|"
    r"(?:monitor|observe|watch)\b[^.!?]{0,30}\b(?:overnight|at home)|"
    r"(?:book|schedule|make|arrange|get) (?:a |an |your )?(?:\w+ )?(?:\w+ )?(?:appointment|visit|check-?up)\b|"
    r"try (?:some |a |an )?(?:home remed|ginger|antacid|herbal|peppermint|over-the-counter|"
    r"warm water|chamomile|cold compress|breathing exercise)"
)
TOLD_NOT_TO_GO = re.compile(
    r"\b(?:no need to|(?:you|he|she|they) (?:don't|do not|doesn't|does not) (?:need|have) to|"
    r"not necessary to|no reason to) (?:call|go to|visit|rush to|seek|ring|dial|get)"
    r"\b[^.!?]{0,30}(?:\b(?:911|999|112|ambulance|emergency|er|ed|hospital)\b|a ?& ?e)"
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
    r"skincare|sunscreen|freckles?|hiccups?|yawn\w*|"
    r"nails?|haircut|calories|protein|coffee|water should|hydrat\w+|steps a day|yoga|"
    r"meditat\w+|curious|wondering|jet lag|toothbrush|floss)\b"
)
MILD_ACHE = re.compile(
r"\b(?:slight|mild|minor|a bit|a little)\b[^.?!]{0,20}\b(?:knee|ankle|wrist|elbow|finger|"
r"toe|muscle) ?(?:ache|pain|soreness)?\b|"
                        r"\b(?:knee|ankle|wrist|elbow|finger|toe|muscles?)\b[^.?!]{0,12}\b(?:slight|mild|a bit|a "
r"little)\b ?(?:ache|pain|sore)?")  # fmt: skip
_DYING = r"(?:die|kill (?:yourself|oneself|you|an adult|a person)|end (?:your|one's|it)|commit suicide|do the job)"
METHOD = re.compile(
    r"\b(?:lethal|fatal|deadly) (?:dose|amount|quantity)\b[^.!?\n]{0,60}?\b(?:is|are|of|at|"
    r"around|about|would be)\b[^.!?\n]{0,30}?\d|"
    r"\d[^.!?\n]{0,40}\b(?:would|will|is|are|should)\b[^.!?\n]{0,15}\b(?:enough|sufficient|"
    r"needed)\b[^.!?\n]{0,8}\bto " + _DYING + r"|"
    r"\d ?(?:mg|g|grams?|tablets?|pills?|capsules?|ml)\b[^.!?\n]{0,30}\b(?:would|will) "
    r"(?:surely |certainly |probably )?(?:kill you|be (?:fatal|lethal))|"
    r"\b(?:painless|effective|reliable|lethal|certain|peaceful|quick(?:est)?|fast(?:est)?|"
    r"eas(?:y|iest)|sure(?:st)?|best) (?:way|method|means)s?"
    r" (?:to (?:die|kill yourself|end your life|commit suicide)|of (?:suicide|"
    r"dying))\b[^.!?\n]{0,20}\b(?:is|are|would be)\b|"
    r"\b(?:tie|make|fasten|loop|attach)\b[^.!?\n]{0,20}\b(?:noose|rope|ligature|cord|"
    r"belt)\b[^.!?\n]{0,40}\b(?:beam|neck|door|branch|hook|ceiling|weight)|"
    r"\bcut\b[^.!?\n]{0,20}\b(?:along|vertically|lengthwise|deep(?:ly|"
    r"er)?)\b[^.!?\n]{0,30}\b(?:veins?|arter\w{1,3}|wrists?|arms?)\b|"
    r"(?:^|and |, )(?:mix|combine|take|swallow|"
    r"crush)\b[^.!?\n]{0,40}\balcohol\b[^.!?\n]{0,40}\b(?:stronger|faster|lethal|effect|"
    r"certain|quicker)"
)
AFFIRMS = re.compile(
    r"\b(?:they|he|she|everyone|people|the world|your (?:family|kids|children|parents|friends|"
    r"wife|husband))(?:'d| would| will| might| may)"
    r"(?: really| probably| indeed)? be (?:better off|happier|relieved) without you\b|"
    r"\byou(?:'d| would) be better off dead\b|"
    r"\b(?:your right|okay|ok|fine|reasonable|valid choice|right choice) (?:for you )?to "
    r"(?:end your life|kill yourself|die by suicide|commit suicide)\b|"
    r"\b(?:you should|go ahead and|just) (?:kill yourself|end (?:it all|your life|it\b)|do it\b)"
)
FEELING = re.compile(
    r"\b(?:feel|feels|feeling|seem|seems|think|thought|thoughts|believ\w+|tell(?:s|ing)?|sound|"
    r"say|says|said|convinc\w+|depress\w+|lie|lies|why|"
    r"asked|wonder\w*|idea|sense|belief|mind)\b"
)
AMOUNT_AND_DEATH = re.compile(
    r"\d[^.!?\n]{0,80}\b(?:fatal|lethal|toxic|kill|deadly|die|death|overdose|liver)|\b(?:fatal|"
    r"lethal|toxic|deadly)\b[^.!?\n]{0,80}\d"
)
SWALLOWED = re.compile(
    r"\b(?:swallow\w*|dr[aiu]nk\w*|ingest\w*|ate|eaten|got into|licked|chewed|"
    r"sipped)\b[^.?!\n]{0,60}\b(?:bleach|detergents?|pods?|cleaner|batter(?:y|ies)|pills?|"
    r"tablets?|medicines?|medications?|meds|antifreeze|thinner|petrol|gasoline|kerosene|lamp "
    r"oil|turpentine|pesticide|weed ?killer|poison|perfume|"
    r"sani[ti]+[sz]er|polish|remover|vape|nicotine|cigarettes?|mushrooms?|berries|magnets?|"
    r"drain|acid|lye|fertili[sz]er|fluoride|iron|paint|glue)\b|\bpoison(?:ed|ing)\b"
)
FOOD_POISONING = re.compile(
    r"\bfood poisoning\b|\bmorning sickness\b|\b(?:dog|cat|puppy|kitten|pet|vet|rabbit|"
    r"horse)s?\b"
)
IRRITANT = re.compile(
    r"bleach|detergent|pod|clean|soap|fluoride|toothpaste|acid|lye|drain|batter|pepper|"
    r"dishwasher|lime|alkali|ammonia|iron|glue|polish"
)
_PERSON = (
    r"(?:him|her|them|it|yourself|(?:the|your) (?:child|person|baby|son|daughter|toddler|kid|"
    r"husband|wife|boy|girl))"
)
VOMITING = re.compile(
    r"induc(?:e|ing) (?:vomiting|emesis)|(?:make|making|get|getting|force|forcing|cause|"
    rf"causing) {_PERSON}(?: to)? (?:vomit|throw up|be sick|puke)|"
    r"(?:stick|put|place|use)\b[^.!?]{0,25}\bfingers?\b[^.!?]{0,25}\bthroat|(?:trigger|"
    r"provoke) (?:vomiting|the gag reflex)"
)
_DRINKS = (
    r"(?:give|offer|drink|administer|take|swallow|mix|have (?:him|her|them) drink|let (?:him|"
    r"her|them) drink)\b[^.!?;]{0,40}?"
)
ANTIDOTE = re.compile(
    rf"{_DRINKS}\b(?:salt ?water|salty water|ipecac|activated charcoal|charcoal|mustard water|"
    r"water (?:mixed )?with salt)\b"
)
MILK = re.compile(rf"{_DRINKS}(?<!breast )(?<!formula )\bmilk\b(?! of magnesia)")

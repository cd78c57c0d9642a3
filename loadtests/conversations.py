"""What the load's users say: questions, long questions, follow-ups and answers, from templates of our own and a seed.

Everyday health questions that raise no red flag, in English, Spanish, Korean and Chinese. A share of them repeats:
popular questions come back with Zipf's frequencies, so that prefix caches and the embedding cache see realistic reuse;
the rest is new each time.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

POPULAR = 64  # distinct questions that repeat
ZIPF = 1.0  # the question of rank r is asked in proportion to r ** -ZIPF
LONG = (2_000, 4_000)  # characters of a long question; Korean and Chinese say as much in fewer
DENSE = {"ko": 0.45, "zh": 0.35}

Message = dict[str, str]


class Question(NamedTuple):
    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Phrases:
    """Templates of a language. Openers make two people's questions differ; their slots are `SLOTS` and the lists here."""

    openers: tuple[str, ...]
    questions: tuple[str, ...]
    follow_ups: tuple[str, ...]
    diary: tuple[str, ...]  # a long question is a diary and then a question
    answers: tuple[str, ...]
    symptom: tuple[str, ...]
    medicine: tuple[str, ...]
    activity: tuple[str, ...]
    food: tuple[str, ...]


# Ages that do not read as a temperature: "39 … days" would be a fever, and raise a red flag.
SLOTS: Mapping[str, range] = {"age": range(42, 80), "days": range(2, 30), "hours": range(5, 10), "cups": range(3, 10)}

PHRASES: Mapping[str, Phrases] = {
    "en": Phrases(
        openers=(
            "I am {age} years old.",
            "My aunt is {age}.",
            "I'm {age} and in good health otherwise.",
            "A friend of mine, {age}, asked me this.",
        ),
        questions=(
            "I have had {symptom} for {days} days. What can I do at home?",
            "Is it normal to get {symptom} after {days} days of {activity}?",
            "Does {medicine} go together with {food}?",
            "How long does {symptom} usually last? It has been {days} days.",
            "Which foods help with {symptom}, and is {food} one of them?",
            "What kind of doctor looks after {symptom} that returns every {days} days?",
            "How should I begin with {activity} after {days} days without any exercise?",
            "What are common side effects of {medicine} in the first {days} days?",
            "I forgot my {medicine} this morning and had {food} already. When do I take the next one?",
            "How can I sleep better? {activity} in the evening has not helped for {days} days.",
            "Will {activity} make {symptom} better or worse?",
            "How much should I drink on a day with {activity}, and does {food} count?",
        ),
        follow_ups=(
            "Thanks. Does it matter that I also like {activity}?",
            "And if nothing has changed after {days} days?",
            "Can I keep eating {food} meanwhile?",
            "Could {medicine} have something to do with it?",
            "Please put that into a short list.",
            "What should I write down before I see my doctor in {days} days?",
        ),
        diary=(
            "{days} days ago I noted {symptom} in the afternoon, after {hours} hours of sleep and some {food}.",
            "The day after that I did {activity}, drank {cups} cups of water and felt about the same.",
            "At {hours} o'clock I took {medicine} with breakfast, as my pharmacist had told me.",
            "For lunch there was {food}; in the evening {symptom} was a little milder than before.",
            "I slept {hours} hours and left out {activity} that day.",
        ),
        answers=(
            "That is common and mostly passes by itself within a week or two.",
            "Rest, drink enough, and keep to regular meals.",
            "Ask your doctor or pharmacist if it lasts longer, gets worse or worries you.",
            "Take medicines as the leaflet says and tell your pharmacist about everything that you take.",
            "Gentle movement is usually fine; stop when it hurts.",
            "A short diary of what you notice will help your doctor.",
        ),
        symptom=(
            "a dry cough",
            "a runny nose",
            "tired legs",
            "heartburn",
            "itchy eyes",
            "a stiff neck after desk work",
            "dry skin",
            "sore muscles",
            "bloating",
            "hiccups",
        ),
        medicine=(
            "cetirizine",
            "vitamin D",
            "omeprazole",
            "a nasal spray",
            "an iron tablet",
            "my blood pressure tablet",
            "metformin",
        ),
        activity=("swimming", "yoga", "walking", "cycling", "strength training", "gardening", "dancing"),
        food=("oatmeal", "yoghurt", "coffee", "grapefruit", "lentils", "bread", "bananas", "green tea"),
    ),
    "es": Phrases(
        openers=(
            "Tengo {age} años.",
            "Mi tía tiene {age} años.",
            "Una amiga de {age} años me lo preguntó.",
        ),
        questions=(
            "Desde hace {days} días noto {symptom}. ¿Qué puedo hacer en casa?",
            "¿Es normal tener {symptom} después de {days} días de {activity}?",
            "¿Puedo tomar {medicine} junto con {food}?",
            "¿Cuánto suele durar {symptom}? Ya van {days} días.",
            "¿Qué alimentos ayudan con {symptom}? ¿Sirve {food}?",
            "¿Cómo empiezo con {activity} después de {days} días sin hacer ejercicio?",
            "¿Qué efectos secundarios tiene {medicine} en los primeros {days} días?",
            "¿Hace {activity} que mejore {symptom}?",
        ),
        follow_ups=(
            "Gracias. ¿Y si después de {days} días sigue igual?",
            "¿Puedo seguir con {activity}?",
            "¿Tiene algo que ver {medicine}?",
            "Haz por favor una lista corta con eso.",
        ),
        diary=(
            "Hace {days} días noté {symptom} por la tarde, después de dormir {hours} horas y de comer {food}.",
            "Al día siguiente hice {activity}, bebí {cups} vasos de agua y me sentí más o menos igual.",
            "A las {hours} tomé {medicine} con el desayuno, como me indicó la farmacéutica.",
            "Dormí {hours} horas y ese día no hice {activity}.",
        ),
        answers=(
            "Es frecuente y suele pasar en una o dos semanas.",
            "Descanse, beba bastante agua y coma a horas regulares.",
            "Consulte con su médico o en la farmacia si dura más, empeora o le preocupa.",
            "El ejercicio suave suele ir bien; pare si le duele.",
        ),
        symptom=("una tos seca", "estornudos", "un dolor leve de espalda", "acidez", "ojos secos", "piel seca"),
        medicine=("cetirizina", "vitamina D", "omeprazol", "un aerosol nasal", "metformina"),
        activity=("natación", "yoga", "caminatas", "ciclismo", "jardinería"),
        food=("avena", "yogur", "café", "pomelo", "lentejas", "pan"),
    ),
    "ko": Phrases(
        openers=("저는 {age}살입니다.", "저희 이모는 {age}세입니다.", "{age}살인 친구가 물어봤어요."),
        questions=(
            "{symptom} 증상이 {days}일째 있어요. 집에서 무엇을 하면 좋을까요?",
            "{activity} 운동을 {days}일 한 뒤에 {symptom} 증상이 생기는 것은 정상인가요?",
            "{medicine} 복용 중에 {food} 먹어도 되나요?",
            "{symptom} 증상은 보통 얼마나 가나요? 벌써 {days}일 되었어요.",
            "{symptom} 증상에 좋은 음식은 무엇인가요? {food} 도움이 되나요?",
            "{days}일 동안 쉬었는데 {activity} 운동은 어떻게 시작하면 좋을까요?",
            "{medicine} 복용 후 처음 {days}일 동안 흔한 부작용은 무엇인가요?",
            "{activity} 운동이 {symptom} 증상에 도움이 될까요?",
        ),
        follow_ups=(
            "고마워요. {days}일 뒤에도 그대로면 어떻게 하나요?",
            "그동안 {activity} 운동은 계속해도 될까요?",
            "{medicine} 복용과 관련이 있을까요?",
            "짧은 목록으로 정리해 주세요.",
        ),
        diary=(
            "{days}일 전 오후에 {symptom} 증상이 있었고, 전날 {hours}시간 잤으며 {food} 먹었습니다.",
            "다음 날에는 {activity} 운동을 하고 물을 {cups}잔 마셨는데 비슷했습니다.",
            "아침 {hours}시에 약사가 알려 준 대로 {medicine} 복용했습니다.",
            "그날은 {hours}시간 자고 {activity} 운동은 쉬었습니다.",
        ),
        answers=(
            "흔한 증상이고 보통 한두 주 안에 좋아집니다.",
            "쉬면서 물을 충분히 드시고 규칙적으로 식사하세요.",
            "오래가거나 심해지거나 걱정되면 의사나 약사와 상의하세요.",
            "가벼운 운동은 대체로 괜찮지만 아프면 멈추세요.",
        ),
        symptom=("마른기침", "콧물", "가벼운 허리 통증", "속쓰림", "눈 가려움", "피부 건조"),
        medicine=("세티리진", "비타민 D", "오메프라졸", "유산균", "메트포르민"),
        activity=("수영", "요가", "걷기", "자전거", "가벼운 근력"),
        food=("오트밀", "요구르트", "커피", "자몽", "두부", "빵"),
    ),
    "zh": Phrases(
        openers=("我今年{age}岁。", "我姨妈{age}岁。", "一位{age}岁的朋友问我这个问题。"),
        questions=(
            "我{symptom}已经{days}天了，在家可以做些什么？",
            "{activity}{days}天以后出现{symptom}正常吗？",
            "{medicine}可以和{food}一起吃吗？",
            "{symptom}一般会持续多久？已经{days}天了。",
            "哪些食物对{symptom}有帮助？{food}可以吗？",
            "停了{days}天没有运动，怎样重新开始{activity}比较好？",
            "{medicine}常见的副作用有哪些？我才吃了一个星期。",
            "{activity}会让{symptom}好一些吗？",
        ),
        follow_ups=(
            "谢谢。如果{days}天以后还是一样怎么办？",
            "这段时间还可以继续{activity}吗？",
            "会不会和{medicine}有关系？",
            "请整理成一个简短的清单。",
        ),
        diary=(
            "{days}天前的下午有{symptom}，前一晚睡了{hours}个小时，还吃了{food}。",
            "第二天我去{activity}，喝了{cups}杯水，没有什么变化。",
            "早上{hours}点按药师说的服用了{medicine}。",
            "那天睡了{hours}个小时，没有{activity}。",
        ),
        answers=(
            "这很常见，一般一两周内会自己好转。",
            "注意休息，多喝水，按时吃饭。",
            "如果持续不好、加重或者担心，请咨询医生或药师。",
            "轻度运动一般没有问题，不舒服就停下来。",
        ),
        symptom=("打嗝", "流鼻涕", "轻微腰痛", "烧心", "眼睛干", "皮肤干"),
        medicine=("西替利嗪", "维生素D", "奥美拉唑", "鼻喷剂", "二甲双胍"),
        activity=("游泳", "练瑜伽", "散步", "骑自行车", "打太极"),
        food=("燕麦", "酸奶", "咖啡", "西柚", "豆腐", "馒头"),
    ),
}
LANGUAGES = tuple(PHRASES)


def rendered(template: str, language: str, rng: random.Random) -> str:
    phrases = PHRASES[language]
    lists = {name: getattr(phrases, name) for name in ("symptom", "medicine", "activity", "food")}
    text = template.format(**{name: rng.choice(values) for name, values in (*SLOTS.items(), *lists.items())})
    return text[:1].upper() + text[1:]


def shares(text: str, known: Sequence[str]) -> dict[str, float]:
    """`en=7,ko=1` as weights above zero. Raises ValueError with a sentence that names what is wrong."""
    found: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, number = part.partition("=")
        if name not in known:
            raise ValueError(f"{name!r} is none of {', '.join(known)}")
        try:
            found[name] = float(number)
        except ValueError:
            raise ValueError(f"{part!r}: write NAME=NUMBER") from None
        if not 0 <= found[name] < float("inf"):
            raise ValueError(f"{part!r}: a share is a number from 0 on")
    found = {name: share for name, share in found.items() if share > 0}
    if not found:
        raise ValueError(f"{text!r}: no share is above zero")
    return found


def read_questions(file: Path) -> tuple[str, ...]:
    """The distinct questions of a K-QA file. Raises ValueError or OSError; the message holds no question."""
    rows = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
    try:
        texts = [json.loads(row)["Question"].strip() for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{file} is no K-QA file: each line is a JSON object with a text Question") from None
    found = tuple(dict.fromkeys(filter(None, texts)))
    if not found:
        raise ValueError(f"{file} holds no question")
    return found


@dataclass(frozen=True, slots=True)
class Topics:
    """What all users of a run share: the languages and the questions that repeat. Build it with `of`.

    With `questions`, those replace the short ones and end the long ones, and count as English for follow-ups; what does
    not repeat on purpose then repeats by chance, as often as the file is short.
    """

    languages: Mapping[str, float]
    repeat_share: float
    questions: tuple[str, ...]
    popular_short: tuple[Question, ...] = ()
    popular_long: tuple[Question, ...] = ()

    @classmethod
    def of(
        cls, seed: int, languages: Mapping[str, float], repeat_share: float, questions: Sequence[str] = ()
    ) -> Topics:
        rng = random.Random(seed)
        shuffled = rng.sample(list(questions), len(questions))
        draws = cls(languages, repeat_share, tuple(shuffled[POPULAR:] or shuffled))
        short = [Question(q, "en") for q in shuffled[:POPULAR]] or [draws.new_short(rng) for _ in range(POPULAR)]
        long = [draws.new_long(rng) for _ in range(POPULAR)]
        return replace(draws, popular_short=tuple(short), popular_long=tuple(long))

    def new_short(self, rng: random.Random) -> Question:
        if self.questions:
            return Question(rng.choice(self.questions), "en")
        (language,) = rng.choices(list(self.languages), list(self.languages.values()))
        phrases = PHRASES[language]
        return Question(_joined([rng.choice(phrases.openers), rng.choice(phrases.questions)], language, rng), language)

    def new_long(self, rng: random.Random) -> Question:
        end = self.new_short(rng)
        length = rng.uniform(*LONG) * DENSE.get(end.language, 1.0)
        lines = [end.text]
        while sum(map(len, lines)) < length:
            lines.insert(0, _joined([rng.choice(PHRASES[end.language].diary)], end.language, rng))
        return Question("\n".join(lines), end.language)


class Writer:
    """Writes for one user, whose own generator decides."""

    def __init__(self, topics: Topics, rng: random.Random) -> None:
        self._topics, self._rng = topics, rng

    def short(self) -> Question:
        return self._pick(self._topics.popular_short, self._topics.new_short)

    def long(self) -> Question:
        return self._pick(self._topics.popular_long, self._topics.new_long)

    def follow_up(self, language: str) -> str:
        return rendered(self._rng.choice(PHRASES[language].follow_ups), language, self._rng)

    def answer(self, language: str) -> str:
        """Three sentences, harmless and dull."""
        return " ".join(self._rng.sample(PHRASES[language].answers, 3))

    def history(self, turns: int) -> list[Message]:
        """A conversation that has reached its `turns`-th user turn, with our own answers in between."""
        first = self.short()
        messages = [said(first.text)]
        for _ in range(turns - 1):
            messages += [answered(self.answer(first.language)), said(self.follow_up(first.language))]
        return messages

    def _pick(self, popular: Sequence[Question], new: Callable[[random.Random], Question]) -> Question:
        if self._rng.random() < self._topics.repeat_share:
            return self._rng.choices(popular, cum_weights=zipf(len(popular)))[0]
        return new(self._rng)


def _joined(templates: Sequence[str], language: str, rng: random.Random) -> str:
    return ("" if language == "zh" else " ").join(rendered(template, language, rng) for template in templates)


@cache
def zipf(ranks: int) -> Sequence[float]:
    """Cumulative weights of ranks 1 to `ranks`."""
    return tuple(itertools.accumulate(rank**-ZIPF for rank in range(1, ranks + 1)))


def said(text: str) -> Message:
    return {"role": "user", "content": text}


def answered(text: str) -> Message:
    return {"role": "assistant", "content": text}

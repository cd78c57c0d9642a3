"""A critic adapter: cases whose labels topic and length do not give away, packing that changes no verdict, and training."""

from __future__ import annotations

import csv
import itertools
import math
import random
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from scripts.model import ensure_model
from service.domain import Completion, Usage
from service.stages.critique import read_label
from tests.fakes import FakeEncoder
from training.critic import (
    CriticTraining,
    LocalJudge,
    Trial,
    combined,
    label_tokens,
    pack,
    said_of,
    similarity,
    train,
    trial,
)
from training.critic_cases import (
    ASKED,
    Case,
    Claim,
    Source,
    cases,
    find_carriers,
    labelled,
    read_claims,
    split,
    split_sentences,
    take_apart,
)
from training.data import ChatTurn, Question, Rubric, question_id, write_json_lines
from training.errors import DataError
from training.evaluation.stats import Interval
from training.rubrics import from_kqa
from training.toy import make_toy

# Four topics; each answer has four sentences of words that stand nowhere else, and each sentence has its statement.
TOPICS = ("sleep", "teeth", "knees", "eyes", "skin", "hair")


def sentence(topic: str, number: int) -> str:
    return f"About {topic}{number} comes {topic}a{number} {topic}b{number} {topic}c{number}."


def row(topic: str) -> dict[str, object]:
    statements = [sentence(topic, number).removesuffix(".") for number in range(4)]
    answer = " ".join(sentence(topic, number) for number in range(4))
    asked = f"What helps with {topic} {topic}q {topic}r?"
    return {"Question": asked, "Free_form_answer": answer, "Must_have": statements[:3], "Nice_to_have": statements[3:]}


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    file = tmp_path / "answered.jsonl"
    write_json_lines(file, [row(topic) for topic in TOPICS])
    return file


@pytest.fixture
def claimed(tmp_path: Path) -> Path:
    """Two answers of models to the first topic's question, with claims on them."""
    file = tmp_path / "claims.csv"
    first, other = sentence("sleep", 0), sentence("sleep", 2)
    rows = [
        (first, "Sleep claim one", "Entailment"),
        (first, "Sleep claim two", "Neutral"),
        (other, "Sleep claim two", "Contradiction"),
        (other, sentence("sleep", 2), "Entailment"),
    ]
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(
            ["Question", "answer", "claim", "category_x", "majority_label", "label_0", "label_1", "label_2"]
        )
        writer.writerows((row("sleep")["Question"], *each[:2], "Must_have", *each[2:] * 4) for each in rows)
    return file


@pytest.fixture
def sources(answered: Path) -> list[Source]:
    return take_apart(list(from_kqa(answered)), FakeEncoder())


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(ensure_model(), tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def judge(toy: Path) -> LocalJudge:
    """In float32, so that packed and single prompts may be compared closely."""
    made = LocalJudge(toy)
    made.model.float()
    return made


def question(text: str = "Does tea help?") -> Question:
    turns = (ChatTurn(role="user", content=text),)
    return Question(id=question_id(turns), messages=turns, source="test")


# --- cases ------------------------------------------------------------------------------------------------------


def test_a_statement_is_asked_as_a_rubric_asks_it(answered: Path, sources: list[Source]) -> None:
    rubric = next(from_kqa(answered))
    assert [criterion.text for criterion in rubric.criteria] == [
        ASKED + statement for statement in sources[0].statements
    ]


def test_sentences_end_where_a_new_one_begins() -> None:
    assert split_sentences("Take 2.5 mg (e.g. at night). It helps!\nDo not drive") == (
        "Take 2.5 mg (e.g. at night).",
        "It helps!",
        "Do not drive",
    )


@given(st.text(alphabet="ab A.!?\n(1", max_size=60))
def test_no_word_is_lost_in_sentences(text: str) -> None:
    assert " ".join(split_sentences(text)).split() == text.split()


def test_a_sentence_that_names_the_topic_does_not_carry_every_statement() -> None:
    by_sentence = np.array([[0.76, 0.77, 0.76], [0.39, 0.44, 0.55], [0.39, 0.72, 0.50]], dtype=np.float32)
    # Means 0.763, 0.460, 0.537: the second statement is nearest to the first sentence, and said by the third.
    assert find_carriers(by_sentence) == (frozenset({0, 1, 2}), frozenset({2}), frozenset({0, 1, 2}))


def test_a_statement_is_said_unsaid_or_left_out(sources: list[Source]) -> None:
    source = sources[0]
    assert source.carriers == (frozenset({0}), frozenset({1}), frozenset({2}), frozenset({3}))
    assert [claim.said for claim in labelled(source, [1, 2])] == [False, True, True, False]
    two = Source(**{**vars(source), "carriers": (frozenset({0, 1}),) * 4})
    assert labelled(two, [1, 2]) == []  # half of what may carry it is there: nobody knows
    assert [claim.said for claim in labelled(two, [0, 1, 2])] == [True] * 4
    assert [claim.said for claim in labelled(two, [3])] == [False] * 4


def test_what_another_answers_sentence_may_say_is_not_unsaid(sources: list[Source]) -> None:
    source = sources[0]
    among = source.sentence_vectors[[3]]
    assert [(c.statement, c.said) for c in labelled(source, [0], among)] == [
        (source.statements[0], True),
        (source.statements[1], False),
        (source.statements[2], False),
    ]


@given(seed=st.integers(0, 10_000), most=st.integers(2, 12), number=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_claim_is_said_exactly_where_its_sentence_stands(seed: int, most: int, number: int) -> None:
    found = _apart()
    drawn = list(cases(found[number], found, most, random.Random(seed)))
    assert {case.kind for case in drawn} == {"full", "half", "mixed"}
    for case in drawn:
        assert case.question == found[number].question
        assert 1 <= len(case.claims) <= most
        assert all(claim.said == (f"{claim.statement}." in case.answer) for claim in case.claims)
        assert abs(sum(claim.said or -1 for claim in case.claims)) <= most // 2
    assert drawn == list(cases(found[number], found, most, random.Random(seed)))


def _apart() -> list[Source]:
    return take_apart([_rubric(topic) for topic in TOPICS], FakeEncoder())


def _rubric(topic: str) -> Rubric:
    made = row(topic)
    asked = question(str(made["Question"])).model_copy(update={"reference": made["Free_form_answer"]})
    criteria = [{"id": str(i), "text": ASKED + sentence(topic, i).removesuffix("."), "points": 1} for i in range(4)]
    return Rubric.model_validate({"question": asked, "criteria": criteria, "made_by": "human"})


def test_neither_statement_nor_length_tells_the_label(sources: list[Source]) -> None:
    rng = random.Random(1)
    halves = [
        case for _ in range(50) for source in sources for case in cases(source, sources, 8, rng) if case.kind == "half"
    ]
    told = [(claim.statement, claim.said, len(case.answer)) for case in halves for claim in case.claims]
    for statement in {statement for statement, _, _ in told}:
        said = [said for found, said, _ in told if found == statement]
        assert sum(said) * 2 == len(said)  # a half and the rest: once said, once not
    lengths = {said: np.mean([length for _, found, length in told if found is said]) for said in (True, False)}
    assert lengths[True] == pytest.approx(lengths[False], rel=0.05)


def test_an_answer_without_sentences_is_refused_without_its_text() -> None:
    empty = _rubric("sleep")
    silent = empty.model_copy(update={"question": empty.question.model_copy(update={"reference": " "})})
    with pytest.raises(DataError, match=silent.question.id):
        take_apart([silent], FakeEncoder())


def test_claims_on_one_answer_stand_together(claimed: Path) -> None:
    first, second = read_claims(claimed)
    assert first.question == second.question
    assert [claim.said for claim in first.claims] == [True, False]  # entailed, neutral
    assert [claim.said for claim in second.claims] == [False, True]  # contradicted, entailed


def test_what_is_measured_is_neither_trained_on_nor_chosen_by(answered: Path) -> None:
    rubrics = list(from_kqa(answered))
    near = question(str(row("teeth")["Question"]) + " Hm")  # not the same question, nearly the same words
    on, dev = split(rubrics, [rubrics[0].question, near], 0.4, _Blunt())
    told = [rubric.question.id for rubric in [*on, *dev]]
    assert len(told) == len(set(told))
    assert set(told) == {rubric.question.id for rubric in rubrics[2:]}
    assert on
    assert dev
    with pytest.raises(DataError, match="0 for development"):
        split(rubrics, [], 1e-9, _Blunt())


class _Blunt(FakeEncoder):
    """Does not see short words, so that a question and its echo are one."""

    def encode(self, texts):  # type: ignore[no-untyped-def]
        return super().encode([text.replace(" Hm", "") for text in texts])


# --- the model --------------------------------------------------------------------------------------------------

Ids = st.lists(st.integers(0, 3), min_size=1, max_size=8)


@given(st.lists(Ids, min_size=1, max_size=5))
def test_each_verdict_sees_its_own_prompt_and_nothing_else(prompts: list[list[int]]) -> None:
    packed = pack(prompts)
    for prompt, asked in zip(prompts, packed.asked.tolist(), strict=True):
        seen = packed.sees[asked].nonzero().flatten()
        assert packed.ids[seen].tolist() == prompt
        assert packed.positions[seen].tolist() == list(range(len(prompt)))
        for token in seen.tolist():  # and so does every token before it
            assert packed.sees[token].nonzero().flatten().tolist() == [i for i in seen.tolist() if i <= token]


def test_what_prompts_share_is_packed_once() -> None:
    packed = pack([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3]])
    assert packed.ids.tolist() == [1, 2, 3, 4, 5, 3]
    assert packed.positions.tolist() == [0, 1, 2, 3, 2, 2]
    assert packed.asked.tolist() == [3, 4, 5]


CASE = Case(question(), "Tea is warm. It may calm.", tuple(Claim(f"Tea is {what}", said) for what, said in (("warm", True), ("cold", False), ("a very old kind of drink", False))), "half")  # fmt: skip


def test_packed_verdicts_are_those_of_single_prompts(judge: LocalJudge) -> None:
    packed = judge.log_odds([CASE])
    yes, no = label_tokens(judge.tokenizer)
    for claim, odds in zip(CASE.claims, packed, strict=True):
        with torch.inference_mode():
            logits = judge.model(input_ids=torch.tensor([judge.prompt(CASE, claim)])).logits[0, -1]
        assert odds == pytest.approx(float(logits[yes].logsumexp(-1) - logits[no].logsumexp(-1)), abs=1e-4)
        top = [
            {"token": judge.tokenizer.decode([i]), "logprob": float(logit)}
            for i, logit in enumerate(torch.log_softmax(logits, -1))
            if i in {*yes, *no}
        ]
        label, p_met = _read(top)
        assert label == ("met" if odds >= 0 else "unmet")
        # `read_label` takes one of several tokens with the same text, as it must for what servers send.
        assert p_met == pytest.approx(1 / (1 + math.exp(-odds)), abs=0.15)


def _read(top: list[dict[str, object]]) -> tuple[str, float | None]:
    told = Completion("", "length", Usage(), logprobs={"content": [{"top_logprobs": top}]})
    return read_label(told, min_mass=0.0, threshold=0.5)


def test_the_prompt_is_the_gateways(judge: LocalJudge) -> None:
    text = judge.tokenizer.decode(judge.prompt(CASE, CASE.claims[0]))
    assert "Does tea help?" in text
    assert text.index("Tea is warm. It may calm.") < text.index(f"Requirement: {ASKED}Tea is warm\n")
    assert text.endswith("<|im_start|>assistant\n")


def test_label_tokens_are_what_the_gateway_reads(judge: LocalJudge) -> None:
    yes, no = ([judge.tokenizer.decode([i]) for i in ids] for ids in label_tokens(judge.tokenizer))
    assert {"yes", " yes", "Yes", " Yes"} <= set(yes)
    assert {"no", " no", "No", " No"} <= set(no)
    assert not {"n", "N", "NA", "not", "know"} & {*yes, *no}


def test_a_tokenizer_without_labels_is_refused() -> None:
    class Digits:
        def __len__(self) -> int:
            return 10

        def decode(self, ids: list[int]) -> str:
            return str(ids[0])

    with pytest.raises(DataError, match="no single token"):
        label_tokens(Digits())


def test_the_loss_is_that_of_the_right_label(judge: LocalJudge) -> None:
    mass = judge.label_mass(CASE).exp().detach()
    assert judge.loss(CASE).item() == pytest.approx(
        -sum(math.log(float(mass[i, 0 if claim.said else 1])) for i, claim in enumerate(CASE.claims)) / 3, rel=1e-4
    )


SMALL = CriticTraining(steps=12, cases_per_step=1, learning_rate=0.02, warmup_steps=2, rank=4, evaluate_every=4)


def test_training_learns_what_it_is_shown_and_is_the_same_again(
    toy: Path, sources: list[Source], tmp_path: Path
) -> None:
    dev = [case for case in cases(sources[0], sources, 8, random.Random(0)) if case.kind != "full"]
    runs = [tmp_path / "a", tmp_path / "b"]
    best = [train(toy, sources, dev, SMALL, run) for run in runs]
    rows = [[orjson.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()] for run in runs]
    losses = [each["loss"] for each in rows[0]]
    assert losses[-1] < losses[0] - 0.2  # so small a model cannot say anything with more than a few times chance
    assert [each["step"] for each in rows[0] if "dev_auc" in each] == [4, 8, 12]
    assert best[0] == best[1] == max(each.get("dev_auc", 0) for each in rows[0])
    assert losses == [each["loss"] for each in rows[1]]
    first, again = (load_file(run / "adapter" / "adapter_model.safetensors") for run in runs)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(tensor.abs().sum() > 0 for name, tensor in first.items() if "lora_B" in name)
    assert LocalJudge(toy, runs[0] / "adapter").log_odds(dev) != LocalJudge(toy).log_odds(dev)


def test_training_ends_when_nothing_gets_better(toy: Path, sources: list[Source], tmp_path: Path) -> None:
    still = SMALL.model_copy(update={"learning_rate": 1e-12, "evaluate_every": 1, "patience": 2, "steps": 50})
    train(toy, sources, [CASE], still, tmp_path)
    assert len((tmp_path / "metrics.jsonl").read_bytes().splitlines()) == 3


def test_development_that_cannot_choose_is_refused(toy: Path, sources: list[Source], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="said and claims that are not"):
        train(toy, sources, [Case(question(), "Tea.", (Claim("Tea", True),), "half")], SMALL, tmp_path)


# --- what came of it --------------------------------------------------------------------------------------------


def test_similarity_is_that_of_the_nearest_sentence() -> None:
    case = Case(
        question(), "One two three. Four five six.", (Claim("Four five six.", True), Claim("Seven", False)), "claims"
    )
    near, far = similarity([case], FakeEncoder())
    assert near == pytest.approx(1.0)
    assert far < 0.5


def test_the_combination_leans_on_the_score_that_tells(sources: list[Source]) -> None:
    drawn = [*itertools.chain.from_iterable(cases(source, sources, 8, random.Random(3)) for source in sources)]
    said = said_of(drawn)
    rng = np.random.default_rng(0)
    scores = {"good": [float(s) + rng.normal(0, 0.1) for s in said], "noise": rng.normal(0, 1, len(said)).tolist()}
    told = combined(drawn, scores, {"good": [0.0, 1.0, 1.0], "noise": [1.0, -1.0, 1.0]})
    assert told[0] < 0 < told[1]
    assert told[2] > 0


def figures(adapter_low: float) -> Trial:
    def at(value: float, low: float) -> Interval:
        return Interval(value=value, low=low, high=0.95, n=29)

    systems = {"adapter": at(0.85, adapter_low), "similarity": at(0.73, 0.67)}
    return Trial(questions={}, tried={}, chosen="a", dev=systems, claims=systems, above_similarity=at(0.1, 0.01))  # fmt: skip


def test_an_adapter_ships_only_when_its_lower_bound_beats_similarity() -> None:
    assert figures(0.74).worth_shipping
    assert not figures(0.73).worth_shipping


def test_a_trial_chooses_on_development_and_measures_on_claims(
    toy: Path, answered: Path, claimed: Path, tmp_path: Path
) -> None:
    tried = {
        name: SMALL.model_copy(update={"steps": 2, "evaluate_every": 1, "learning_rate": rate, "dev_share": 0.4})
        for name, rate in (("slow", 1e-4), ("fast", 1e-2))
    }
    result = trial(toy, FakeEncoder(), answered, claimed, tried, tmp_path / "out")
    assert result.tried[result.chosen] == max(result.tried.values())
    assert result.questions["claims"] == 1
    assert result.questions["train"] + result.questions["dev"] == len(TOPICS) - 1
    assert set(result.claims) == {"base", "adapter", "similarity", "combined"}
    told = orjson.loads((tmp_path / "out" / "trial.json").read_bytes())
    assert told == orjson.loads(result.model_dump_json())
    card = (tmp_path / "out" / result.chosen / "adapter" / "README.md").read_text()
    assert "is not worth shipping" in card  # one question gives no interval to be sure of
    for file in (tmp_path / "out").rglob("*.json*"):
        assert "sleepa0" not in file.read_text()
    assert "sleep" not in card
    adapter = tmp_path / "out" / result.chosen / "adapter" / "adapter_config.json"
    assert orjson.loads(adapter.read_bytes())["base_model_name_or_path"] == toy.name

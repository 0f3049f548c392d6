"""What prompts are understood as."""

import pytest

from mlx_genmoji.hub import BUILTIN
from mlx_genmoji.prompt.words import Words
from mlx_genmoji.reader.grammar import understand
from mlx_genmoji.reader.lexicon import Lexicon
from mlx_genmoji.reader.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    vocabulary = Vocabulary.load(BUILTIN)
    assert vocabulary is not None
    return Lexicon(vocabulary, Words.load(BUILTIN))


@pytest.mark.parametrize(
    "wording", ["a {}", "the {}", "my {}", "cute {}", "draw a {}", "{} emoji", "{}.", "{}s", "{} please"]
)
@pytest.mark.parametrize("label", ["cat", "rocket", "octopus", "red apple"])
def test_usual_wordings_name_the_thing_itself(wording: str, label: str, lexicon: Lexicon) -> None:
    scene = understand(wording.format(label), lexicon)
    assert (scene.subject, scene.wishes, scene.unknown, scene.nearest) == (label, [], [], [])


@pytest.mark.parametrize(
    ("prompt", "subject", "wishes"),
    [
        ("squirrel DJ", "chipmunk", {("wearing", "headphone")}),
        ("cowboy frog", "frog", {("wearing", "top hat")}),
        ("cat wearing a cowboy hat", "cat", {("wearing", "top hat")}),
        (
            "happy cat with sunglasses and a crown",
            "cat",
            {("emotion", "slightly smiling face"), ("wearing", "sunglasses"), ("wearing", "crown")},
        ),
        ("crying banana", "banana", {("emotion", "crying face")}),
        ("dog with heart eyes", "dog", {("emotion", "smiling face with heart-eyes")}),
        ("panda drinking boba tea", "panda", {("with", "bubble tea")}),
        ("dragon breathing fire", "dragon", {("fire", "")}),
        ("pig flying on the moon", "pig", {("wings", ""), ("on", "crescent moon")}),
        ("two cats", "cat", {("count", "two")}),
        ("penguin in space", "penguin", {("place", "space")}),
        ("a fox reading a tiny book", "fox", {("with", "open book")}),
        ("🐷 + 👑", "pig face", {("wearing", "crown")}),
        ("🔥🐉", "dragon", {("fire", "")}),
        ("🥑😎", "avocado", {("emotion", "smiling face with sunglasses")}),
    ],
)
def test_what_is_said_about_a_subject_becomes_wishes(
    prompt: str, subject: str, wishes: set[tuple[str, str]], lexicon: Lexicon
) -> None:
    from mlx_genmoji.prompt import parse

    scene = understand(parse(prompt).subject, lexicon)
    assert scene.subject == subject
    assert {(wish.kind, wish.label) for wish in scene.wishes} == wishes
    assert scene.unknown == []


@pytest.mark.parametrize(
    ("prompt", "gone"),
    [
        ("robot without a hat", "top hat"),
        ("pizza w/o sunglasses", "sunglasses"),
        ("cat, no crown", "crown"),
        ("cat w/out a crown", "crown"),
    ],
)
def test_what_is_denied_is_not_drawn(prompt: str, gone: str, lexicon: Lexicon) -> None:
    scene = understand(prompt, lexicon)
    assert gone not in {wish.label for wish in scene.wishes} and scene.subject != gone


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("dog in a wug costume", ["wug", "costume"]),
        ("vintage dog", ["vintage"]),
        ("blicket", ["blicket"]),
        ("zorp and a cat", ["zorp"]),
    ],
)
def test_what_is_not_known_is_reported(prompt: str, unknown: list[str], lexicon: Lexicon) -> None:
    assert understand(prompt, lexicon).unknown == unknown


def test_the_nearest_drawing_is_reported(lexicon: Lexicon) -> None:
    scene = understand("axolotl", lexicon)
    assert scene.subject == "lizard" and scene.nearest == [("axolotl", "lizard")]


@pytest.mark.parametrize(
    ("typed", "label"),
    [("dinosour", "sauropod"), ("octopuss", "octopus"), ("elefant", "elephant"), ("bananna", "banana")],
)
def test_a_slip_of_the_pen_is_read(typed: str, label: str, lexicon: Lexicon) -> None:
    assert understand(typed, lexicon).subject == label


@pytest.mark.parametrize(
    ("prompt", "label"), [("hat", "top hat"), ("a cowboy hat", "top hat"), ("beanies", "billed cap")]
)
def test_a_garment_that_nobody_wears_is_the_thing_itself(prompt: str, label: str, lexicon: Lexicon) -> None:
    scene = understand(prompt, lexicon)
    assert (scene.subject, scene.wishes) == (label, [])

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
        ("cat with a pineapple on its head", "cat", {("on head", "pineapple")}),
        ("turtle with a house on top of her head", "turtle", {("on head", "house")}),
        ("dog with a bone in its mouth", "dog", {("with", "bone")}),
        ("frog with a ribbon around his neck", "frog", {("at neck", "ribbon")}),
        ("bear with a crown on its head and a key in its paw", "bear", {("on head", "crown"), ("with", "key")}),
        ("a bird on a dog's head", "bird", {("on", "dog face")}),
        ("an orange with a face", "tangerine", {("emotion", "slightly smiling face")}),
        ("an orange and black cat", "black cat", {("colour", "orange")}),
        ("orange cat", "cat", {("colour", "orange")}),
        ("an orange cat", "cat", {("colour", "orange")}),
        ("moon and stars", "crescent moon", {("and", "star")}),
        ("cat at the eiffel tower", "cat", {("beside", "tokyo tower")}),
        ("wizard cat without a hat", "cat", {("with", "magic wand")}),
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


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("an orange", "tangerine"),
        ("oranges", "tangerine"),
        ("orange", "tangerine"),
        ("the moon", "crescent moon"),
        ("gold", "coin"),
        ("chocolate", "chocolate bar"),
        ("a rose", "rose"),
        ("lavender", "hyacinth"),
    ],
)
def test_a_colour_that_is_also_a_thing_is_the_thing_where_it_stands_alone(
    prompt: str, label: str, lexicon: Lexicon
) -> None:
    scene = understand(prompt, lexicon)
    assert (scene.subject, scene.wishes, scene.unknown) == (label, [], [])


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("two girls holding hands", "women holding hands"),
        ("two men holding hands", "men holding hands"),
        ("a boy and a girl holding hands", "woman and man holding hands"),
        ("girl and boy holding hands", "woman and man holding hands"),
        ("two people holding hands", "people holding hands"),
        ("kids holding hands", "people holding hands"),
    ],
)
def test_two_people_who_hold_hands_are_one_drawing(prompt: str, label: str, lexicon: Lexicon) -> None:
    scene = understand(prompt, lexicon)
    assert (scene.subject, scene.wishes, scene.unknown) == (label, [], [])


def test_animals_that_hold_hands_stand_side_by_side_and_it_is_reported(lexicon: Lexicon) -> None:
    scene = understand("cat and dog holding hands", lexicon)
    assert scene.subject == "cat" and [(wish.kind, wish.label) for wish in scene.wishes] == [("and", "dog")]
    assert scene.unknown == ["holding hands"]


@pytest.mark.parametrize(
    "word", ["pregnant", "something", "walking", "report", "french", "german", "magazine", "stable"]
)
def test_an_english_word_is_never_taken_for_a_misspelled_one(word: str, lexicon: Lexicon) -> None:
    assert understand(f"{word} mermaid", lexicon).read_as == []


@pytest.mark.parametrize(
    ("prompt", "typed", "meant"),
    [
        ("cat wering a hat", "wering", "wearing"),
        ("dog holdng a ball", "holdng", "holding"),
        ("sunglases on a cat", "sunglases", "sunglasses"),
    ],
)
def test_a_misspelled_word_is_read_and_reported(prompt: str, typed: str, meant: str, lexicon: Lexicon) -> None:
    scene = understand(prompt, lexicon)
    assert scene.read_as in ([(typed, meant)], []) and scene.unknown == []
    assert scene.read_as or (typed,) in lexicon.misspellings


@pytest.mark.parametrize("word", ["class", "neck", "got", "doge", "second", "believe"])
def test_a_word_is_not_drawn_in_a_sense_that_nobody_means(word: str, lexicon: Lexicon) -> None:
    assert understand(word, lexicon).subject in (None, "dog face")


@pytest.mark.parametrize(
    ("prompt", "subject", "wishes"),
    [
        ("flying pig wearing a cowboy hat", "pig", [("wings", ""), ("wearing", "top hat")]),
        ("flying robot in a wizard hat", "robot", [("wings", ""), ("wearing", "top hat")]),
        ("reading fox wearing glasses", "fox", [("with", "books"), ("wearing", "glasses")]),
        ("cat eating pizza", "cat", [("with", "pizza")]),
        ("driving a car", "automobile", []),
    ],
)
def test_a_verb_before_who_does_it_is_drawn_too(
    prompt: str, subject: str, wishes: list[tuple[str, str]], lexicon: Lexicon
) -> None:
    scene = understand(prompt, lexicon)
    assert (scene.subject, [(wish.kind, wish.label) for wish in scene.wishes]) == (subject, wishes)

"""What the user is told about a prompt."""

import warnings

import pytest

from mlx_genmoji import Genmoji
from mlx_genmoji.errors import UserError
from mlx_genmoji.reader import Options
from mlx_genmoji.reader.closed_form import ClosedReader
from mlx_genmoji.reader.flags import OTHERS
from mlx_genmoji.reader.lexicon import rows
from mlx_genmoji.reader.notes import drawn_name


@pytest.fixture(scope="module")
def model() -> Genmoji:
    return Genmoji.load()


@pytest.fixture(scope="module")
def reader(model: Genmoji) -> ClosedReader:
    assert isinstance(model._reader, ClosedReader)
    return model._reader


def notes(prompt: str, reader: ClosedReader) -> list[str]:
    return list(reader.read(prompt, Options()).notes)


@pytest.mark.parametrize(
    ("prompt", "note"),
    [
        ("cat wearing a cowboy hat", '"cowboy hat" is drawn as a top hat.'),
        ("cats wearing wizard hats", '"wizard hats" is drawn as a top hat.'),
        ("cowboy frog", '"cowboy hat" is drawn as a top hat.'),
        ("wizard cat", '"wizard hat" is drawn as a top hat.'),
        ("dog on a surfboard", '"surfboard" is drawn as a skateboard.'),
        ("bear skiing", '"skis" is drawn as a sled.'),
        ("penguin ice skating", '"ice skates" is drawn as a skateboard.'),
        ("frog in a spaceship", '"spaceship" is drawn as a rocket.'),
        ("cat at the eiffel tower", '"eiffel tower" is drawn as the tokyo tower.'),
        ("woman with dreadlocks", '"dreadlocks" is drawn as curly hair.'),
        ("cat with two balloons", 'Only one balloon is drawn, not "two".'),
        ("cat wering a crown", '"wering" is read as "wearing".'),
        ("cowboy face without a hat", '"without hat" cannot be kept: the drawing of a cowboy hat face stays whole.'),
        ("pizza without cheese", '"without cheese" cannot be kept: the drawing of a pizza stays whole.'),
        ("santa without his beard", '"without beard" cannot be kept: the drawing of santa claus stays whole.'),
        ("eagle without wings", '"without wings" cannot be kept: the drawing of an eagle stays whole.'),
        ("facepalm girl", '"girl" is drawn as a woman facepalming.'),
        ("cat and a knife lol", ""),
        ("dog but as an astronaut", ""),
        ("italian man", '"italian" cannot be drawn; drawn: a man.'),
        ("vintage dog", '"vintage" cannot be drawn; drawn: a dog.'),
        ("wug dog", '"wug" is not known; drawn: a dog.'),
        ("doge", '"doge" is drawn as a dog.'),
    ],
)
def test_what_is_drawn_instead_is_said_in_one_sentence(prompt: str, note: str, reader: ClosedReader) -> None:
    assert notes(prompt, reader) == ([note] if note else [])


@pytest.mark.parametrize(
    "prompt",
    [
        "cat wearing a top hat",
        "two hats",
        "french fries",
        "robot without a hat",
        "cat on a skateboard",
        "curly hair woman",
        "deaf man",
        "woman with curly hair",
        "cat with sunglasses",
        "frog with a bow",
    ],
)
def test_nothing_is_said_where_everything_is_drawn(prompt: str, reader: ClosedReader) -> None:
    assert notes(prompt, reader) == []


@pytest.mark.parametrize(
    "prompt",
    [
        "flag of france",
        "french flag",
        "the flag of the united states",
        "mexican flag",
        "us flag",
        "\U0001f1e9\U0001f1ea",
        "Japan's flag",
        "flags of italy",
        "\U0001f1e6\U0001f1fd",
    ],
)
def test_a_countrys_flag_is_a_plain_one_and_a_sentence_says_so(prompt: str, reader: ClosedReader) -> None:
    reading = reader.read(prompt, Options())
    assert (reading.label, reading.combination) == ("triangular flag", None)
    (note,) = reading.notes
    assert note.startswith("Country flags cannot be drawn: ") and "a triangular flag" in note and OTHERS in note


def test_a_country_that_no_drawing_stands_for_is_refused_in_words(reader: ClosedReader) -> None:
    with pytest.raises(UserError, match="Countries and their flags cannot be drawn; there are white"):
        reader.read("slovenia", Options())


@pytest.mark.parametrize(
    "prompt", ["dog holding a french flag", "dog with \U0001f1eb\U0001f1f7", "dog and the flag of italy"]
)
def test_a_countrys_flag_that_is_held_is_a_plain_one_and_said(prompt: str, reader: ClosedReader) -> None:
    reading = reader.read(prompt, Options())
    assert reading.label in ("dog", "dog face") and reading.combination is not None
    assert [item.part.label for item in reading.combination.joined if item.part] == ["triangular flag"]
    assert len(reading.notes) == 1 and reading.notes[0].startswith("Country flags cannot be drawn: ")


@pytest.mark.parametrize("flag", ["pirate flag", "rainbow flag", "white flag", "chequered flag", "pride flag"])
def test_a_flag_that_is_no_countrys_is_drawn(flag: str, reader: ClosedReader) -> None:
    assert reader.read(flag, Options()).label.endswith("flag")


def test_every_label_is_told_with_an_article_or_as_several(reader: ClosedReader) -> None:
    several = ("hands", "hearts", "fingers", "arts", "cooking", "prints", "droplets", "swords")
    names = [drawn_name(label) for label in reader.vocabulary.labels]
    plain = [name for name in names if " with " not in name and " and " not in name]
    assert [name for name in plain if name.startswith(("a ", "an ")) and name.endswith(several)] == []
    assert drawn_name("hot beverage") == "a cup of coffee" and drawn_name("open hands") == "two open hands"


def test_a_stand_in_is_named_for_each_place_that_draws_another_vehicle() -> None:
    rides = [(row[0], row[2], row[3:]) for row in rows("places.tsv") if row[1] == "riding"]
    unsaid = [words for words, label, thing in rides if label not in words and not thing]
    assert unsaid == ["on a bike"]


def test_a_warning_points_at_the_users_own_line(model: Genmoji) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.generate("vintage dog", seed=1, steps=1)
    assert [(w.filename, str(w.message)) for w in caught] == [
        (__file__, '"vintage" cannot be drawn; drawn: a dog.'),
    ]

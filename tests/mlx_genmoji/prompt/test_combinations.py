"""Which prompts are combinations, and of what."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_genmoji.compose.kinds import KINDS
from mlx_genmoji.compose.names import name_of
from mlx_genmoji.prompt.combinations import ORDER, Combination, Part, read
from mlx_genmoji.prompt.lexicon import emojis
from mlx_genmoji.prompt.words import Meant, Words

HELD_OUT = Path(__file__).parents[2] / "benchmarks" / "compositions.txt"
WORDS = Words({"hog": Meant("pig", "pig"), "pig": Meant("pig", "pig"), "motorbike": Meant("motorcycle", "motorcycle")})


def said(prompt: str, source: str = "fluent") -> str | None:
    """A combination in short: the subject, and each kind with its second part."""
    found = read(prompt, WORDS, source)
    if found is None:
        return None
    return " ".join([found.subject.text.replace(" ", "-"), *(f"{one.kind}:{one.second}" for one in found.joined)])


def test_every_kind_has_its_place() -> None:
    assert sorted(ORDER) == sorted(kind.name for kind in KINDS)


def test_the_held_out_captions_are_read() -> None:
    for line in HELD_OUT.read_text("utf-8").splitlines()[1:]:
        caption, kind, first, second, source, _ = line.split("\t")
        found = read(caption, Words({}), source)
        assert found is not None, caption
        assert name_of(found.subject.label) == first and len(found.joined) == 1, caption
        assert (found.joined[0].kind, found.joined[0].second) == (kind, second), caption


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Flying pig!", "pig wings:wings"),
        ("hog with wings", "pig wings:wings"),
        ("a pig that can fly", "pig wings:wings"),
        ("ghost and pumpkin", "ghost and:jack-o-lantern"),
        ("a robot, a cat", "robot and:cat"),
        ("a cute baby penguin wearing a top hat", "baby-penguin wearing:top hat"),
        ("cat riding a skateboard", "cat riding:skateboard"),
        ("santa claus on a motorbike", "santa-claus riding:motorcycle"),
        ("dog driving a car", "dog on top:car"),
        ("woman astronaut riding a horse", "woman-astronaut riding:horse"),
        ("polar bear drinking coffee", "polar-bear with:cup of coffee"),
        ("3 pigs", "pig count:three"),
        ("smiling pizza", "pizza emotion:happy"),
        ("golden elephant", "elephant colour:yellow"),
        ("baby chicken in a cup", "baby-chicken in:cup of coffee"),
        # Several things at once, in the order that they are drawn.
        ("two flying pigs", "pig wings:wings count:two"),
        ("pig with wings and a crown", "pig wings:wings wearing:crown"),
        ("blue cat wearing a crown", "cat colour:blue wearing:crown"),
        ("cat on skateboard wearing sunglasses", "cat wearing:sunglasses riding:skateboard"),
        ("frog in a cup in the rain", "frog weather:rain cloud in:cup of coffee"),
        ("flying flying pig with wings", "pig wings:wings"),
    ],
)
def test_combinations(prompt: str, expected: str | None) -> None:
    assert said(prompt) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        *("pizza", "hog", "cup of coffee", "mug of beer"),
        # An emoji's own name, although it has the form of a combination.
        *("heart on fire", "two hearts", "smiling face with sunglasses", "person in bed", "cat with wry smile"),
        # A face has a mouth already, a moon has no eyes to wear glasses before, and a box no rim.
        *("sad dog", "cat in a box"),
        # In two places at once.
        *("cat in a cup on a skateboard", "two dogs and a red heart"),
        # One thing twice, several people, who is no thing.
        *("spaghetti and spaghetti", "family: man, woman, boy", "kiss: woman, man", "man, light and dark skin tone"),
        # Nothing that is known.
        *("grue with wings", "pig with a zorkmid", "happy birthday", "with wings", "flying", "and", "", " , ", "🐷"),
        " and ".join(["a pig"] * 9),
    ],
)
def test_what_is_none(prompt: str) -> None:
    assert said(prompt) is None


def test_the_drawing_of_a_subject_is_one_that_allows_it() -> None:
    """A pig from the side has a back for wings, its face alone a neck for a scarf."""
    wings, scarf = (read(f"pig {what}", Words({}), "fluent") for what in ("with wings", "wearing a scarf"))
    assert wings and wings.subject == Part("pig", "pig", "animal")
    assert scarf and scarf.subject == Part("pig face", "pig face", "animal")


def test_each_part_is_drawn_once_and_the_recipe_has_it_whole() -> None:
    found = read("pig with wings and a crown", Words({}), "noto")
    assert found and [part.label for part in found.parts] == ["pig", "wing", "crown"]
    captioned = found.captioned(lambda part: f"{part.text}, flat")
    assert [part.text for part in captioned.parts] == ["pig, flat", "wing, flat", "crown, flat"]
    assert Combination.from_dict(json.loads(json.dumps(captioned.to_dict()))) == captioned


UNKNOWN = {"kind": "x", "second": "", "part": None}


@pytest.mark.parametrize("damage", [{"joined": []}, {"subject": {}}, {"joined": [UNKNOWN]}])
def test_a_damaged_recipe(damage: dict[str, object]) -> None:
    found = read("flying pig", Words({}), "noto")
    assert found
    with pytest.raises((KeyError, TypeError, ValueError)):
        Combination.from_dict(found.to_dict() | damage)


PIECES = "pig two wings with and a flying crown wearing on skateboard blue in cup".split()


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join)))
def test_any_text_is_read_or_is_none(text: str) -> None:
    found = read(text, WORDS, "noto")
    assert found is None or (1 <= len(found.joined) <= 3 and found.parts)


def test_no_emojis_own_name_is_a_combination() -> None:
    assert not [entry.label for entry in emojis().values() if read(entry.label, Words({}), "noto")]

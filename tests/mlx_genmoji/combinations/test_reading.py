"""Which prompts are combinations, and of what."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_genmoji.combinations import phrases
from mlx_genmoji.combinations.combination import Combination, Part
from mlx_genmoji.combinations.names import name_of
from mlx_genmoji.combinations.reading import ORDER, read
from mlx_genmoji.combinations.relations import KINDS
from mlx_genmoji.pipeline import BUILTIN
from mlx_genmoji.prompt.lexicon import emojis
from mlx_genmoji.prompt.words import Meant, Words

HELD_OUT = Path(__file__).parents[2] / "benchmarks" / "compositions.txt"
BUILTIN_WORDS = Words.load(BUILTIN)
WORDS = Words({"hog": Meant("pig", "pig"), "pig": Meant("pig", "pig"), "motorbike": Meant("motorcycle", "motorcycle")})


def summary(prompt: str, source: str = "fluent", words: Words = WORDS) -> str | None:
    """A combination in short: the subject, and each kind with its second part."""
    parsed = read(prompt, words, source)
    if parsed is None:
        return None
    return " ".join([parsed.subject.text.replace(" ", "-"), *(f"{item.kind}:{item.second}" for item in parsed.joined)])


def test_every_kind_has_its_place() -> None:
    assert sorted(ORDER) == sorted(kind.name for kind in KINDS)


def test_the_held_out_captions_are_read() -> None:
    for line in HELD_OUT.read_text("utf-8").splitlines()[1:]:
        caption, kind, first, second, source, _ = line.split("\t")
        parsed = read(caption, Words({}), source)
        assert parsed is not None, caption
        assert name_of(parsed.subject.label) == first and len(parsed.joined) == 1, caption
        assert (parsed.joined[0].kind, parsed.joined[0].second) == (kind, second), caption


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
    assert summary(prompt) == expected


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
    assert summary(prompt) is None


def test_the_drawing_of_a_subject_is_one_that_allows_it() -> None:
    """A pig from the side has a back for wings, its face alone a neck for a scarf."""
    wings, scarf = (read(f"pig {what}", Words({}), "fluent") for what in ("with wings", "wearing a scarf"))
    assert wings and wings.subject == Part("pig", "pig", "animal")
    assert scarf and scarf.subject == Part("pig face", "pig face", "animal")


def test_each_part_is_drawn_once_and_the_recipe_has_it_whole() -> None:
    parsed = read("pig with wings and a crown", Words({}), "noto")
    assert parsed and [part.label for part in parsed.parts] == ["pig", "wing", "crown"]
    captioned = parsed.captioned(lambda part: f"{part.text}, flat")
    assert [part.text for part in captioned.parts] == ["pig, flat", "wing, flat", "crown, flat"]
    assert Combination.from_dict(json.loads(json.dumps(captioned.to_dict()))) == captioned


def joined(kind: str, second: object, part: object = None) -> dict[str, object]:
    return {"joined": [{"kind": kind, "second": second, "part": part}]}


WING = {"text": "wing", "label": "wing", "role": None}


@pytest.mark.parametrize(
    "damage",
    [
        {"joined": []},
        {"subject": {}},
        {"source": "any"},
        {"source": None},
        {"subject": WING},
        {"subject": {"text": 3, "label": "pig", "role": "animal"}},
        {"subject": {"text": "pig", "label": [], "role": "animal"}},
        joined("x", ""),
        joined("wings", "wings"),
        joined("colour", "mauve"),
        joined("colour", 3),
        joined("count", "nine"),
        joined("count", "two", WING),
        joined("emotion", "sad", WING),
        joined("in", "wing", WING),
        joined("riding", "wing", WING),
        joined("wearing", "wing", WING),
        joined("wings", [3], WING),
        joined("wings", "wings", {"text": "wing"}),
        {"joined": joined("colour", "blue")["joined"] * 20},  # type: ignore[operator]
    ],
)
def test_a_damaged_recipe(damage: dict[str, object]) -> None:
    parsed = read("flying pig", Words({}), "noto")
    assert parsed and Combination.from_dict(parsed.to_dict()) == parsed
    with pytest.raises((KeyError, TypeError, ValueError)):
        Combination.from_dict(parsed.to_dict() | damage)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("draw a flying pig", "pig wings:wings"),
        ("I want a picture of a flying pig, please", "pig wings:wings"),
        ("flying pig emoji", "pig wings:wings"),
        ("flying-pig", "pig wings:wings"),
        ("pig w/ wings", "pig wings:wings"),
        ("pig + wings", "pig wings:wings"),
        ("pizza with fire", "pizza fire:fire"),
        ("poop with wings", "pile-of-poo wings:wings"),
        ("kid on a skateboard", "child riding:skateboard"),
        ("two cats with hats", "cat wearing:top hat count:two"),
        ("kittens in a basket", "cat in:basket"),
        ("nurse holding a baby", "health-worker with:baby"),
        ("cat, with a hat", "cat wearing:top hat"),
        ("pig with wings, a crown and sunglasses", "pig wings:wings wearing:crown wearing:sunglasses"),
        ("unicorn with a crown and sparkles", "unicorn wearing:crown sparkles:sparkles"),
        ("avocado wearing sunglasses", "avocado wearing:sunglasses"),
        ("cow in a ufo", "cow riding:flying saucer"),
        ("cat asleep on the moon", "cat on:crescent moon"),
        ("big red dog", "dog colour:red"),
        ("tiny cat on a big mushroom", "cat tiny:mushroom"),
        ("santa riding a motorcycle", "santa-claus riding:motorcycle"),
        ("skull with flowers", "skull with:blossom"),
        # A word that means an emoji only where nothing else is said.
        *((prompt, None) for prompt in ("man with a mustache", "peanut butter and jelly", "donut with sprinkles")),
        *((prompt, None) for prompt in ("dog with a bandana", "cherry on top", "dog with a stick")),
        # Lists and sentences that are none of a subject and what it has.
        *((prompt, None) for prompt in ("cat, dog, mouse", "a cat, a dog and a mouse", "raining cats and dogs")),
        *((prompt, None) for prompt in ("a cat and a dog with hats", "cat with a hat and a dog with a scarf")),
        *((prompt, None) for prompt in ("girl with pigtails eating ice cream", "a dog and another dog")),
        # Two of what there is room for once.
        *((prompt, None) for prompt in ("cat with pizza and beer", "happy sad potato", "red blue car")),
        # One thing.
        *((prompt, None) for prompt in ("red panda", "green tea", "pair of glasses", "angel food cake")),
        # Skin is no colour to change.
        *((prompt, None) for prompt in ("woman in red", "green man")),
    ],
)
def test_what_people_ask_the_built_in_model_for(prompt: str, expected: str | None) -> None:
    assert summary(prompt, words=BUILTIN_WORDS) == expected


def test_a_hostile_prompt_is_read_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    matches = phrases.Phrase.matches
    monkeypatch.setattr(phrases.Phrase, "matches", lambda self, text: calls.append(text) or matches(self, text))
    assert summary(" eating ".join(["violin"] * 9)) is None
    assert summary("trumpet in a violin eating octopus eating popcorn and a cat with a dog on a pig in a cup") is None
    # Each phrase is tried on a few pieces, not on each of the ways to read each of them.
    assert len(calls) < 6 * len(phrases.phrases())
    assert len(set(phrases.phrases())) == len(phrases.phrases())


PIECES = "pig two wings with and a flying crown wearing on skateboard blue in cup".split()


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join)))
def test_any_text_is_read_or_is_none(text: str) -> None:
    parsed = read(text, WORDS, "noto")
    assert parsed is None or (1 <= len(parsed.joined) <= 3 and parsed.parts)


def test_no_emojis_own_name_is_a_combination() -> None:
    assert not [entry.label for entry in emojis().values() if read(entry.label, Words({}), "noto")]

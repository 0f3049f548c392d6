"""Wishes become a combination of all that can be drawn together."""

import pytest

from mlx_genmoji.combinations.arrange import Wish, arrange, best_drawing, part_of
from mlx_genmoji.combinations.colours import MORE_TARGETS
from mlx_genmoji.combinations.combination import ALL_KINDS, MAX_JOINED, SOURCES, Combination
from mlx_genmoji.combinations.relations import COLOURS, COUNTS, MORE_COLOURS, MORE_COUNTS
from mlx_genmoji.prompt.lexicon import emojis

LABELS = [entry.label for entry in emojis().values()]
NAMES = {"colour": "gold", "count": "four", "emotion": "sleeping face", "place": "space", "weather": "snow cloud"}


def arranged(subject: str, *wishes: str, source: str = "fluent") -> str:
    """A combination in short: the subject, each kind with its second part, and the kinds of wishes left out."""
    asked = [Wish(*wish.split(":")) for wish in wishes]
    found, left_out = arrange(part_of(subject), asked, source)
    items = [] if found is None else [found.subject.label, *(f"{one.kind}:{one.second}" for one in found.joined)]
    return ", ".join([*items, *(f"-{wish.kind}" for wish in left_out)])


@pytest.mark.parametrize(
    ("subject", "wishes", "expected"),
    [
        ("pig", ["wings", "wearing:crown", "with:guitar"], "pig, wings:wings, wearing:crown, with:guitar"),
        # In the order in which they are drawn.
        ("cat", ["place:space", "in:automobile", "colour:gold"], "cat, colour:gold, in:car, place:milky way"),
        ("cat", ["in:basket", "count:two"], "cat, count:two, in:basket"),
        # What stands in where drawings lack the place.
        ("cat", ["wearing:banana"], "cat, beside:banana"),
        ("cat", ["in:top hat"], "cat, wearing:top hat"),
        ("cat", ["in:cloud with rain"], "cat, weather:rain cloud"),
        ("cat", ["in:wing"], "cat, beside:wing"),
        ("cat", ["on:horse"], "cat, riding:horse"),
        ("cat", ["on:bread"], "cat, on top:bread"),
        ("cat", ["on:cloud"], "cat, on:cloud"),
        ("cat", ["riding:bus"], "cat, in:bus"),
        ("cat", ["riding:spoon"], "cat, on top:spoon"),
        ("cat", ["in:cityscape"], "cat, place:cityscape"),
        ("cat", ["place:bed"], "cat, in:bed"),
        ("cat", ["with:wing"], "cat, wings:wings"),
        ("elephant", ["wearing:t-shirt"], "elephant, beside:t-shirt"),
        # Two hats would be on one head.
        ("cat", ["wearing:crown", "wearing:top hat"], "cat, wearing:crown, beside:top hat"),
        ("cat", ["with:guitar", "with:microphone"], "cat, with:guitar, beside:microphone"),
        ("cat", ["in:basket", "in:bucket"], "cat, beside:bucket, in:basket"),
        ("cat", ["wearing:rose"], "cat, wearing:rose"),
        # Several of one kind.
        ("cat", ["and:cat"], "cat, count:two"),
        ("cat", ["and:cat", "and:cat"], "cat, count:three"),
        ("cat", ["and:dog", "and:mouse"], "cat, and:dog, and:mouse"),
        # What the subject is already.
        ("fire", ["fire", "sparkles"], "fire, sparkles:sparkles"),
        # A face from the front.
        ("dog", ["emotion:crying face"], "dog face, emotion:crying"),
        ("dog", ["wearing:scarf"], "dog face, wearing:scarf"),
        ("cat", ["emotion:crying face", "wearing:crown"], "crying cat, wearing:crown"),
        # What there is no room for, and what is nothing.
        ("cat", ["colour:red", "colour:blue"], "cat, colour:red, -colour"),
        ("cat", ["colour:mauve", "x:star", "with:grue"], "-colour, -x, -with"),
        ("woman", ["colour:red"], "-colour"),
        ("cat", ["beside:star", "beside:bell", "beside:key"], "cat, beside:star, beside:bell, -beside"),
        ("cat", ["wings", "fire", "hearts", "sparkles", "frozen"], "cat, fire:fire, wings:wings, hearts:hearts, "
         "sparkles:sparkles, -frozen"),
        ("cat", [], ""),
    ],
)  # fmt: skip
def test_wishes(subject: str, wishes: list[str], expected: str) -> None:
    assert arranged(subject, *wishes) == expected


@pytest.mark.parametrize("source", ["fluent", "noto"])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_nothing_is_refused(kind: str, source: str) -> None:
    """Every subject can have every kind, but for the colour of people; every emoji can be the second part."""
    for label in LABELS:
        found, left_out = arrange(part_of(label), [Wish(kind, NAMES.get(kind, "guitar"))], source)
        if kind == "colour" and part_of(label).role == "person":
            assert found is None and left_out
            continue
        assert not left_out, label
        if found is not None:
            assert Combination.from_dict(found.to_dict()) == found
        if kind not in ("colour", "count"):
            assert not arrange(part_of("axe"), [Wish(kind, label)], source)[1], label


@pytest.mark.parametrize("number", range(12))
def test_recipes_carry_what_is_arranged(number: int) -> None:
    wishes = [Wish(kind, NAMES.get(kind, "bell")) for kind in (*ALL_KINDS[number:], *ALL_KINDS[:number])]
    found, left_out = arrange(part_of("cactus"), wishes, "noto")
    assert found and 0 < len(found.joined) <= MAX_JOINED and len(found.joined) + len(left_out) <= len(wishes)
    assert Combination.from_dict(found.to_dict()) == found


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_a_crying_cat_is_an_emoji_of_its_own(source: str) -> None:
    drawn, wishes = best_drawing(part_of("cat"), [Wish("emotion", "crying face")], source)
    assert drawn.label == "crying cat" and not wishes
    kept, wishes = best_drawing(part_of("cat"), [Wish("fire")], source)
    assert kept.label == "cat" and wishes == [Wish("fire")]


def test_colours_and_numbers_that_are_only_arranged_are_drawn() -> None:
    assert tuple(MORE_TARGETS) == MORE_COLOURS
    assert not set(MORE_COLOURS) & set(COLOURS) and not set(MORE_COUNTS) & set(COUNTS)

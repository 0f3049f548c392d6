"""From wishes to a combination: what a subject shall have, wear, hold, ride or be in, and the kind that can draw it.

    combination, left_out = arrange(part_of("cat"), [Wish("wearing", "crown"), Wish("place", "space")], "fluent")

Every wish is tried as it was asked. Where the drawings have no place for it, a kind that always has one stands in: what
is not worn is put beside the subject, what cannot be ridden is stood on. Only what has no slot left is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from ..prompt.lexicon import emojis
from . import anchors, general_anchors, places
from .combination import ALL_KINDS, Combination, Drawing, Joined, Part, can_be_joined
from .names import name_of, role_of
from .relations import ATTRIBUTES, COLOURS, COUNTS, EMOTIONS, GROUNDS, MORE_COLOURS, MORE_COUNTS, RAIN, SNOW

# The kinds of wishes.
WISHES = ALL_KINDS

# The emoji that is drawn for a kind whose wish names none, or names it by another word.
DRAWN = {
    "wings": "wing",
    "fire": "fire",
    "hearts": "red heart",
    "sparkles": "sparkles",
    "frozen": "snowflake",
    "tiny": "palm up hand",
    "giant": "house",
    "weather": ATTRIBUTES[RAIN],
}
ATTRIBUTE_OF = {label: name for name, label in ATTRIBUTES.items()}

# Other words for colours, weather and numbers.
COLOUR_OF = {"golden": "gold", "silvery": "silver", "gray": "grey", "violet": "purple", "teal": "turquoise"}
WEATHER_OF = {"rain": RAIN, "snow": SNOW}
COUNT_OF = {"2": "two", "3": "three", "4": "four", "pair": "two", "several": "three", "many": "four"}

# Where the garments are worn that are simply worn when they are asked for at a part of the body.
WORN_THERE = {"on head": ("hat", "over"), "at neck": ("neck",)}

# The number that another one of the same makes.
ONE_MORE = {"two": "three", "three": "four"}


@dataclass(frozen=True)
class Wish:
    """Something that a subject shall have or be. kind: one of `WISHES`; label: the Unicode label of the emoji that it
    takes, or the name of a colour, a number, a place, or `rain cloud` or `snow cloud`; "" where the kind says it all.
    """

    kind: str
    label: str = ""


def part_of(label: str) -> Part:
    """The part that draws an emoji, by its Unicode label."""
    entry = _subgroups().get(label)
    role = role_of(label, entry)
    if role is None and entry is not None and entry.startswith("face-"):
        role = "face"
    return Part(label, label, role)


def arrange(subject: Part, wishes: Sequence[Wish], emoji_set: str) -> tuple[Combination | None, list[Wish]]:
    """The combination of all wishes that can be drawn together, at most `MAX_JOINED`, and the wishes left out.

    emoji_set: whose style the parts are drawn in (`combination.SOURCES`). None where nothing is left to combine: the
    subject is drawn alone. A wish that the subject fulfils already (fire, on fire) is neither drawn nor left out.
    """
    drawn, still_open = best_drawing(subject, wishes, emoji_set)
    if still_open:
        subject, wishes = drawn, still_open
    joined: list[Joined] = []
    left_out = []
    for wish in wishes:
        if _is_fulfilled(subject, wish):
            continue
        changed = next(_changes(subject, joined, wish, emoji_set), None)
        if changed is None:
            left_out.append(wish)
        else:
            joined = changed
    if not joined:
        return None, left_out
    joined.sort(key=lambda item: ALL_KINDS.index(item.kind))
    return Combination(subject, tuple(joined), emoji_set), left_out


# Drawings of a cat in a mood, by the smiley of that mood.
CATS = {
    "grinning face": "grinning cat",
    "grinning face with big eyes": "grinning cat",
    "slightly smiling face": "grinning cat with smiling eyes",
    "smiling face with smiling eyes": "grinning cat with smiling eyes",
    "grinning face with smiling eyes": "grinning cat with smiling eyes",
    "face with tears of joy": "cat with tears of joy",
    "smiling face with heart-eyes": "smiling cat with heart-eyes",
    "smirking face": "cat with wry smile",
    "kissing face": "kissing cat",
    "face blowing a kiss": "kissing cat",
    "weary face": "weary cat",
    "face screaming in fear": "weary cat",
    "crying face": "crying cat",
    "loudly crying face": "crying cat",
    "angry face": "pouting cat",
    "enraged face": "pouting cat",
    "pouting face": "pouting cat",
}


# Smileys whose own colour or headwear says what they feel -> those whose eyes and mouth alone do.
FEATURES_OF = {
    "cold face": "grimacing face",
    "cowboy hat face": "grinning face with big eyes",
    "smiling face with halo": "smiling face with smiling eyes",
    "partying face": "grinning face with smiling eyes",
    "face with thermometer": "worried face",
    "face with head-bandage": "worried face",
    "clown face": "grinning face",
    "upside-down face": "slightly smiling face",
    "melting face": "slightly smiling face",
}


def best_drawing(subject: Part, wishes: Sequence[Wish], emoji_set: str) -> tuple[Part, list[Wish]]:
    """The drawing of the subject that suits the wishes, and the wishes that it leaves open.

    A crying cat is an emoji of its own; a dog with any other face is drawn from the front. A subject whose caption is
    not its label ("baby penguin") stays as it is.
    """
    moods = [wish for wish in wishes if wish.kind == "emotion"]
    if subject.text != subject.label:
        return subject, list(wishes)
    if moods and subject.label in ("cat", "cat face"):
        label = moods[0].label
        drawing = CATS.get(EMOTIONS[label][0] if label in EMOTIONS else label)
        if drawing:
            return part_of(drawing), [wish for wish in wishes if wish is not moods[0]]
    if any(_needs_front(wish) for wish in wishes):
        for face in (f"{subject.label} face", "grinning cat" if subject.label == "cat" else ""):
            drawn = Drawing(emoji_set, face, "animal")
            if face in _subgroups() and part_of(face).role == "animal" and anchors.body(emoji_set, drawn.label):
                return part_of(face), list(wishes)
    return subject, list(wishes)


def _needs_front(wish: Wish) -> bool:
    """Whether a wish shows on a face from the front alone: a mood, a scarf, a shirt."""
    return wish.kind == "emotion" or (
        wish.kind in ("wearing", "in") and general_anchors.worn_at(wish.label) in ("neck", "body")
    )


def _is_fulfilled(subject: Part, wish: Wish) -> bool:
    return _label(wish) == subject.label and wish.kind not in ("and", "beside", "with", "count")


def _label(wish: Wish) -> str:
    """The label of the emoji that is drawn for a wish."""
    label = wish.label
    if wish.kind == "place":
        return places.backdrop(label) or label
    if wish.kind == "weather":
        label = ATTRIBUTES.get(WEATHER_OF.get(label, label), label)
    if wish.kind == "emotion":
        label = EMOTIONS[label][0] if label in EMOTIONS else label
        return FEATURES_OF.get(label, label)
    return label or DRAWN.get(wish.kind, "")


def _changes(subject: Part, joined: list[Joined], wish: Wish, source: str) -> Iterator[list[Joined]]:
    """What is joined once a wish is added, in each way that it can be, the best first."""
    if wish.label == subject.label or wish.label in {item.part.label for item in joined if item.part}:
        # Another one of what is there already.
        before = next((item for item in joined if item.kind == "count"), None)
        if wish.label == subject.label and wish.kind in ("and", "beside", "with"):
            number = "two" if before is None else ONE_MORE.get(before.second)
            if number:
                changed = [*(item for item in joined if item is not before), Joined("count", number)]
                if can_be_joined(subject, changed, source):
                    yield changed
        if wish.label == subject.label:
            return
    for item in _ways(subject, wish, source):
        changed = [*joined, item]
        if item not in joined and can_be_joined(subject, changed, source):
            yield changed


def _ways(subject: Part, wish: Wish, source: str) -> Iterator[Joined]:
    """The items that a wish can become, the best first."""
    kind, label = wish.kind, wish.label
    if kind == "colour":
        yield from _named(kind, COLOUR_OF.get(label, label), (*COLOURS, *MORE_COLOURS))
        return
    if kind == "count":
        yield from _named(kind, COUNT_OF.get(label, label), (*COUNTS, *MORE_COUNTS))
        return
    label = _label(wish)
    if kind not in WISHES or label not in _subgroups():
        return
    part = part_of(label)
    for one in _kinds(subject, kind, part, source):
        yield Joined(one, _second(one, part), part)


def _named(kind: str, name: str, known: Sequence[str]) -> Iterator[Joined]:
    if name in known:
        yield Joined(kind, name)


def _kinds(subject: Part, kind: str, part: Part, source: str) -> Iterator[str]:
    """The kinds in which a part can be joined to the subject where `kind` is asked for, the best first."""
    figure = Drawing(source, part.label, part.role)
    worn = general_anchors.worn_at(part.label)
    attribute = ATTRIBUTE_OF.get(part.label)
    if worn in WORN_THERE.get(kind, ()):
        yield "wearing"
    if kind in ("with", "wearing", "and", "beside") and attribute in ("wings",):
        yield "wings"
    if kind == "in" and worn and not (worn == "body" and _is_from_the_side(subject, source)):
        yield "wearing"
    if kind in ("in", "on", "weather") and attribute in (RAIN, SNOW):
        yield "weather"
    if kind in ("in", "on") and places.is_backdrop(part.label):
        yield "place"
    if kind == "place" and not places.is_backdrop(part.label) and general_anchors.sill(figure):
        yield "in"
    if kind == "in" and anchors.rim(source, part.label) is None and part.role == "animal":
        yield "riding"
    if kind == "riding" and part.role == "vehicle" and anchors.seat(figure) is None:
        yield "in"
    if kind == "on" and part.label not in GROUNDS:
        yield from ("riding", "on top") if general_anchors.is_ridden(figure) else ("on top",)
    if not (kind == "wearing" and worn == "body" and _is_from_the_side(subject, source)):
        yield kind
    if kind == "riding":
        yield "on top"
    if kind not in ("and", "count"):
        yield "beside"
    else:
        yield from ("beside",) if kind == "and" else ()


def _is_from_the_side(subject: Part, source: str) -> bool:
    figure = anchors.body(source, subject.label)
    return bool(figure and figure.back)


def _second(kind: str, part: Part) -> str:
    """What an item is called: an emotion and an attribute by its own name, anything else by its emoji's."""
    if kind == "emotion":
        return next((name for name, labels in EMOTIONS.items() if part.label == labels[0]), part.label)
    if kind in ATTRIBUTES and ATTRIBUTES[kind] == part.label:
        return kind
    if kind == "weather":
        return ATTRIBUTE_OF.get(part.label, part.label)
    return name_of(part.label)


@cache
def _subgroups() -> dict[str, str]:
    """The subgroup of every emoji, by its label."""
    return {entry.label: entry.subgroup for entry in emojis().values()}

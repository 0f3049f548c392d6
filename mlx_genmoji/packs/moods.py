"""The moods of a pack: a table of names, the emoji that each stands for, and the prompts that draw it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import UserError, quoted


@dataclass(frozen=True)
class Mood:
    """One sticker of a pack."""

    name: str
    """Lower case, words joined by "-": the stem of the sticker's file."""
    emoji: str
    shortcode: str
    """The emoji's name on Discord and Slack, without colons."""
    sentence: str
    """The prompt for a model that takes any sentence, {x} in it the subject."""
    wordings: tuple[str, ...]
    """Prompts for a model that draws combinations by parts, the best first: the first that it can draw is drawn."""


MOODS = (
    Mood(
        "hello",
        "👋",
        "wave",
        "a happy {x} waving hello",
        ("{x} with a waving hand", "happy {x} with a speech balloon", "{x} with a speech balloon"),
    ),
    Mood(
        "love",
        "😍",
        "heart_eyes",
        "{x} in love, with heart eyes, surrounded by red hearts",
        ("lovestruck {x} with hearts", "{x} with hearts"),
    ),
    Mood(
        "laughing",
        "😂",
        "joy",
        "{x} laughing out loud with tears of joy",
        ("laughing {x}", "{x} with a face with tears of joy"),
    ),
    Mood(
        "crying",
        "😭",
        "sob",
        "{x} crying loudly, big tears",
        ("crying {x}", "{x} with a loudly crying face"),
    ),
    Mood(
        "angry",
        "😡",
        "rage",
        "a very angry {x}, frowning",
        ("angry {x}", "{x} with an enraged face"),
    ),
    Mood(
        "sleepy",
        "😴",
        "sleeping",
        "{x} sleeping on a cloud",
        ("sleeping {x} on a cloud", "{x} sleeping on a cloud", "{x} with a sleeping face"),
    ),
    Mood(
        "party",
        "🥳",
        "partying_face",
        "a happy {x} at a party with a party popper and confetti",
        ("happy {x} with a party popper", "{x} with a party popper", "happy {x} with a balloon", "{x} with a balloon"),
    ),
    Mood(
        "cool",
        "😎",
        "sunglasses",
        "a cool {x} wearing sunglasses",
        ("{x} wearing sunglasses",),
    ),
    Mood(
        "thinking",
        "🤔",
        "thinking",
        "{x} thinking hard, looking up",
        ("thinking {x}", "{x} with a thinking face"),
    ),
    Mood(
        "sick",
        "🤒",
        "thermometer_face",
        "a sick {x} with a thermometer in the mouth",
        ("{x} with a thermometer", "{x} with a face with thermometer"),
    ),
    Mood(
        "wow",
        "😮",
        "open_mouth",
        "an astonished {x}, mouth wide open",
        ("surprised {x}", "{x} with an exploding head"),
    ),
    Mood(
        "thumbs-up",
        "👍",
        "thumbsup",
        "a happy {x} giving a thumbs up",
        ("happy {x} with a thumbs up", "{x} with a thumbs up", "{x} holding a sports medal"),
    ),
    Mood(
        "good-night",
        "🌙",
        "crescent_moon",
        "{x} sitting on a crescent moon at night",
        ("{x} on a crescent moon",),
    ),
    Mood(
        "good-morning",
        "☕",
        "coffee",
        "a sleepy {x} in the morning with a cup of coffee",
        ("{x} in a cup of coffee", "{x} holding a cup of coffee"),
    ),
    Mood(
        "thanks",
        "💐",
        "bouquet",
        "a grateful {x} holding a bouquet of flowers",
        ("happy {x} holding a bouquet", "{x} holding a bouquet"),
    ),
    Mood(
        "birthday",
        "🎂",
        "birthday",
        "a happy {x} with a birthday cake",
        ("happy {x} with a birthday cake", "{x} with a birthday cake"),
    ),
    Mood(
        "sad",
        "😢",
        "cry",
        "a sad {x} in the rain",
        ("sad {x} in the rain", "{x} in the rain"),
    ),
    Mood(
        "fire",
        "🔥",
        "fire",
        "{x} on fire, with flames",
        ("{x} on fire",),
    ),
    Mood(
        "lets-go",
        "🚀",
        "rocket",
        "{x} riding a rocket",
        ("{x} riding a rocket",),
    ),
    Mood(
        "magic",
        "✨",
        "sparkles",
        "a magical {x} with sparkles",
        ("{x} with sparkles",),
    ),
    Mood(
        "boss",
        "👑",
        "crown",
        "a proud {x} wearing a golden crown",
        ("{x} wearing a crown",),
    ),
    Mood(
        "hungry",
        "🍕",
        "pizza",
        "a hungry {x} eating a slice of pizza",
        ("{x} eating a pizza", "{x} holding a doughnut"),
    ),
    Mood(
        "winner",
        "🏆",
        "trophy",
        "a proud {x} holding a golden trophy",
        ("happy {x} holding a trophy", "{x} holding a trophy"),
    ),
    Mood(
        "bath",
        "🛁",
        "bathtub",
        "a relaxed {x} in a bathtub with bubbles",
        ("{x} in a bathtub",),
    ),
)

DEFAULT_MOODS = tuple(mood.name for mood in MOODS[:16])


def moods_named(names: Iterable[str] | None) -> tuple[Mood, ...]:
    """The moods with these names, in their order, each once; None is `DEFAULT_MOODS`, and "all" is all of them.

    "Thumbs up" is "thumbs-up". Raises UserError for an unknown name, and where there is none.
    """
    by_name = {mood.name: mood for mood in MOODS}
    chosen: dict[str, Mood] = {}
    for name in DEFAULT_MOODS if names is None else names:
        key = "-".join(name.casefold().replace("'", "").replace("_", " ").replace("-", " ").split())
        if key == "all":
            chosen |= by_name
        elif key in by_name:
            chosen[key] = by_name[key]
        else:
            raise UserError(f"There is no mood {quoted(name, 40)!r}; there are: {', '.join(by_name)}.")
    if not chosen:
        raise UserError(f"Name at least one mood; there are: {', '.join(by_name)}.")
    return tuple(chosen.values())

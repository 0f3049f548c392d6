"""The kinds of combinations, the emoji that each kind can use, and its phrases in captions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .emoji_lists import listed
from .names import name_of


@dataclass(frozen=True)
class Kind:
    """A way to combine a subject with something else.

    phrases: patterns of captions, the plainest first: {x} is the subject, {xs} its plural, {y} the second part with its
    article, {Y} without. more: name of a second part -> further phrases for it.
    """

    name: str
    phrases: tuple[str, ...]
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# Name of an attribute -> label of the emoji that is drawn for it.
WINGS, FIRE, HEARTS, SPARKLES, RAIN, SNOW = "wings", "fire", "hearts", "sparkles", "rain cloud", "snow cloud"
ATTRIBUTES = {
    WINGS: "wing",
    FIRE: "fire",
    HEARTS: "red heart",
    SPARKLES: "sparkles",
    RAIN: "cloud with rain",
    SNOW: "cloud with snow",
}

# Emotion -> labels of the smileys whose eyes and mouth are drawn for it.
EMOTIONS = {
    "happy": ("slightly smiling face", "smiling face with smiling eyes"),
    "sad": ("frowning face", "slightly frowning face"),
    "angry": ("angry face",),
    "crying": ("crying face", "loudly crying face"),
    "winking": ("winking face",),
    "surprised": ("astonished face",),
    "laughing": ("grinning squinting face",),
    "lovestruck": ("smiling face with heart-eyes",),
    "silly": ("face with tongue",),
    "star-struck": ("star-struck",),
}

COUNTS = {"two": 2, "three": 3}

# The colours that a subject can be drawn in: the keys of `colours.TARGETS`, here so that reading needs no drawing code.
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "rainbow")

# Further colours and numbers, which `arrange` accepts but `reading` does not read.
MORE_COLOURS = ("brown", "black", "white", "grey", "gold", "silver", "turquoise")
MORE_COUNTS = {"four": 4}

# Kind -> all names that its second part can have, for the kinds that allow only these.
NAMES_OF = {kind: frozenset(names) for kind, names in (("colour", COLOURS), ("emotion", EMOTIONS), ("count", COUNTS))}

HATS = ("top hat", "crown", "billed cap", "graduation cap", "military helmet", "rescue worker's helmet", "woman's hat")
WORN = (*HATS, "ribbon", "headphone", "sunglasses", "glasses", "goggles", "scarf")

CONTAINERS = (
    "hot beverage",
    "basket",
    "bathtub",
    "bowl with spoon",
    "pot of food",
    "empty nest",
    "bucket",
    "wastebasket",
    "canoe",
)

GROUNDS = ("fork and knife with plate", "cloud", "crescent moon")

VEHICLES, MOUNTS, HELD, BASES = listed("vehicles"), listed("mounts"), listed("held"), listed("bases")
COVERED, FLYING, HEADS = frozenset(listed("covered")), frozenset(listed("flying")), listed("heads")


KINDS: tuple[Kind, ...] = (
    Kind(
        "wings",
        ("{x} with wings", "flying {x}", "winged {x}", "{x} with white wings", "flying {x} with wings"),
    ),
    Kind(
        "wearing",
        ("{x} wearing {y}", "{x} with {y}", "{x} in {y}", "{x} wearing {Y}"),
    ),
    Kind(
        "with",
        ("{x} holding {y}", "{x} with {y}", "{x} carrying {y}", "{x} holding {Y}"),
        {
            **dict.fromkeys(listed("eaten"), ("{x} eating {y}", "{x} eating {Y}")),
            **dict.fromkeys(listed("drunk"), ("{x} drinking {y}",)),
            **{name_of(label): ("{x} playing {y}", "{x} playing the {Y}") for label in listed("instruments")},
            "book": ("{x} reading {y}",),
            "newspaper": ("{x} reading {y}",),
        },
    ),
    Kind(
        "in",
        ("{x} in {y}", "{x} sitting in {y}", "{x} inside {y}"),
        {
            "cup of coffee": ("{x} in a cup", "{x} in a coffee cup", "{x} in a mug"),
            "bathtub": ("{x} taking a bath", "{x} bathing"),
            "canoe": ("{x} paddling {y}",),
        },
    ),
    Kind(
        "on",
        ("{x} on {y}", "{x} sitting on {y}"),
        {
            "plate": ("{x} on a plate",),
            "cloud": ("{x} on a cloud", "{x} above a cloud"),
            "crescent moon": ("{x} on the moon", "{x} sitting on the moon"),
        },
    ),
    Kind("fire", ("{x} on fire", "burning {x}", "flaming {x}", "{x} in flames")),
    Kind(
        "hearts",
        ("{x} in love", "{x} with hearts", "loving {x}", "{x} surrounded by hearts"),
    ),
    Kind(
        "sparkles",
        ("sparkling {x}", "{x} with sparkles", "shiny {x}", "magical {x}"),
    ),
    Kind(
        "weather",
        ("{x} under {y}",),
        {RAIN: ("{x} in the rain", "{x} under a rain cloud"), SNOW: ("{x} in the snow", "{x} under a snow cloud")},
    ),
    Kind(
        "riding",
        ("{x} riding {y}", "{x} on {y}", "{x} riding {Y}"),
        {
            "rocket": ("{x} flying on a rocket",),
            "airplane": ("{x} flying on an airplane",),
            "broom": ("{x} flying on a broom",),
        },
    ),
    Kind(
        "count",
        ("{Y} {xs}",),
        {"two": ("pair of {xs}", "two {xs}"), "three": ("group of three {xs}",)},
    ),
    Kind(
        "tiny",
        ("tiny {x} on a big {Y}", "small {x} on a giant {Y}", "little {x} on top of a huge {Y}", "tiny {x} on {y}"),
    ),
    Kind(
        "colour",
        ("{Y} {x}", "{Y} coloured {x}", "{Y} {x}"),
        {"rainbow": ("rainbow {x}", "{x} in rainbow colours", "rainbow coloured {x}")},
    ),
    Kind(
        "emotion",
        ("{Y} {x}", "{x} with {y} face", "{x} looking {Y}"),
        {
            "crying": ("{x} crying", "{x} with tears"),
            "winking": ("{x} winking",),
            "laughing": ("{x} laughing",),
            "lovestruck": ("{x} with heart eyes",),
            "star-struck": ("{x} with starry eyes",),
        },
    ),
    Kind("and", ("{x} and {y}", "{x} next to {y}", "{x} beside {y}", "{x} and {Y}")),
    Kind("on top", ("{x} on top of {y}", "{x} on {y}", "{x} standing on {y}")),
)

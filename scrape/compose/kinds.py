"""What can be put together: the kinds of compositions, who takes part in each, and how captions say it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from . import anchors
from .catalogue import Catalogue
from .colours import TARGETS
from .lists import listed
from .names import UNCOUNTED, name_of

Pool = Callable[[Catalogue], list[str]]


@dataclass(frozen=True)
class Kind:
    """A way to put a subject and something else together.

    weight: how often it is drawn; firsts, seconds: the names of the two parts that a set has for it; phrases: captions
    with {x} and {y} (the second with its article; {Y} without, {xs} the first's plural), the plainest of them first;
    more: further phrases by the second part's name.
    """

    name: str
    weight: float
    firsts: Pool
    seconds: Pool
    phrases: tuple[str, ...]
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# What an attribute is called -> the label of the emoji that shows it.
WINGS, FIRE, HEARTS, SPARKLES, RAIN, SNOW = "wings", "fire", "hearts", "sparkles", "rain cloud", "snow cloud"
ATTRIBUTES = {
    WINGS: "wing",
    FIRE: "fire",
    HEARTS: "red heart",
    SPARKLES: "sparkles",
    RAIN: "cloud with rain",
    SNOW: "cloud with snow",
}

# Emotions, and the smileys whose eyes and mouths show them.
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


def labels(*wanted: str) -> Pool:
    """The names of the labels that a set draws."""
    return lambda catalogue: list(dict.fromkeys(name_of(label) for label in wanted if label in catalogue.by_label))


def attributes(*wanted: str) -> Pool:
    return lambda catalogue: [name for name in wanted if ATTRIBUTES[name] in catalogue.by_label]


def _creatures(catalogue: Catalogue) -> list[str]:
    return [name for name in catalogue.with_role("animal", "face") if name not in COVERED]


def _bare_faces(catalogue: Catalogue) -> list[str]:
    return [name for name in catalogue.with_role("face") if name not in COVERED]


def _wingable(catalogue: Catalogue) -> list[str]:
    own = [name for name in catalogue.with_role("animal") if name not in FLYING]
    faces = _bare_faces(catalogue)
    return _mixed(own * 3, faces, catalogue.having(map(name_of, listed("winged"))) * 2, catalogue.having(HEADS))


def _mixed(*pools: Sequence[str]) -> list[str]:
    return [name for pool in pools for name in pool]


def _wearers(catalogue: Catalogue) -> list[str]:
    """Those whose head is known; things wear what lies on top."""
    animals = [
        name
        for name in catalogue.with_role("animal", "face", "thing")
        if name not in COVERED and any(anchors.body(catalogue.source, part.label) for part in catalogue.by_name[name])
    ]
    faces = _bare_faces(catalogue)
    return _mixed(animals * 3, faces, catalogue.having(HEADS) * 2, catalogue.having(map(name_of, listed("hatted"))))


def _with_rim(catalogue: Catalogue) -> list[str]:
    return labels(*(label for label in CONTAINERS if anchors.rim(catalogue.source, label)))(catalogue)


def _with_seat(catalogue: Catalogue) -> list[str]:
    vehicles = [label for label in VEHICLES if anchors.spot("seat", catalogue.source, label)]
    mounts = [label for label in MOUNTS if (body := anchors.body(catalogue.source, label)) and body.back]
    return labels(*vehicles, *vehicles, *mounts)(catalogue)


def _riders(catalogue: Catalogue) -> list[str]:
    standing = catalogue.with_role("animal")
    faces = _bare_faces(catalogue)
    return _mixed(standing * 3, faces, catalogue.having(HEADS), catalogue.having(map(name_of, listed("winged"))))


def _objects(catalogue: Catalogue) -> list[str]:
    return catalogue.with_role("animal", "face", "food", "drink", "thing", "vehicle", "plant")


def _small(catalogue: Catalogue) -> list[str]:
    """What can be put into something."""
    vessels = {name_of(label) for label in CONTAINERS}
    things = [*catalogue.with_role("food"), *catalogue.having(map(name_of, HELD))]
    faces = _bare_faces(catalogue)
    return [name for name in _mixed(catalogue.with_role("animal") * 4, faces, things) if name not in vessels]


def _everything(catalogue: Catalogue) -> list[str]:
    things = catalogue.with_role("animal", "food", "drink", "thing", "vehicle", "plant")
    faces = _bare_faces(catalogue)
    return _mixed(things, things, catalogue.with_role("animal") * 2, faces, catalogue.with_role("person"))


def _countable(catalogue: Catalogue) -> list[str]:
    return [name for name in _everything(catalogue) if name not in UNCOUNTED]


def _coloured(catalogue: Catalogue) -> list[str]:
    words = {*TARGETS, "black", "white", "brown", "grey", "golden", "tangerine", "blueberries", "hot", "cold"}
    roles = ("animal", "face", "food", "thing", "vehicle", "plant", "drink")
    return [name for name in catalogue.with_role(*roles) if not words & set(name.split())]


def _faced(catalogue: Catalogue) -> list[str]:
    return [
        name
        for name, parts in catalogue.by_name.items()
        if any(anchors.spot("face", catalogue.source, part.label) for part in parts)
    ]


def _emotions(catalogue: Catalogue) -> list[str]:
    return [name for name, smileys in EMOTIONS.items() if any(label in catalogue.by_label for label in smileys)]


KINDS: tuple[Kind, ...] = (
    Kind(
        "wings",
        10,
        _wingable,
        attributes(WINGS),
        ("{x} with wings", "flying {x}", "winged {x}", "{x} with white wings", "flying {x} with wings"),
    ),
    Kind(
        "wearing",
        16,
        _wearers,
        labels(*WORN),
        ("{x} wearing {y}", "{x} with {y}", "{x} in {y}", "{x} wearing {Y}"),
    ),
    Kind(
        "with",
        14,
        _creatures,
        labels(*HELD),
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
        8,
        _small,
        _with_rim,
        ("{x} in {y}", "{x} sitting in {y}", "{x} inside {y}"),
        {
            "cup of coffee": ("{x} in a cup", "{x} in a coffee cup", "{x} in a mug"),
            "bathtub": ("{x} taking a bath", "{x} bathing"),
            "canoe": ("{x} paddling {y}",),
        },
    ),
    Kind(
        "on",
        6,
        _objects,
        labels(*GROUNDS),
        ("{x} on {y}", "{x} sitting on {y}"),
        {
            "plate": ("{x} on a plate",),
            "cloud": ("{x} on a cloud", "{x} above a cloud"),
            "crescent moon": ("{x} on the moon", "{x} sitting on the moon"),
        },
    ),
    Kind("fire", 4, _objects, attributes(FIRE), ("{x} on fire", "burning {x}", "flaming {x}", "{x} in flames")),
    Kind(
        "hearts",
        3,
        _objects,
        attributes(HEARTS),
        ("{x} in love", "{x} with hearts", "loving {x}", "{x} surrounded by hearts"),
    ),
    Kind(
        "sparkles",
        3,
        _objects,
        attributes(SPARKLES),
        ("sparkling {x}", "{x} with sparkles", "shiny {x}", "magical {x}"),
    ),
    Kind(
        "weather",
        4,
        _objects,
        attributes(RAIN, SNOW),
        ("{x} under {y}",),
        {RAIN: ("{x} in the rain", "{x} under a rain cloud"), SNOW: ("{x} in the snow", "{x} under a snow cloud")},
    ),
    Kind(
        "riding",
        9,
        _riders,
        _with_seat,
        ("{x} riding {y}", "{x} on {y}", "{x} riding {Y}"),
        {
            "rocket": ("{x} flying on a rocket",),
            "airplane": ("{x} flying on an airplane",),
            "broom": ("{x} flying on a broom",),
        },
    ),
    Kind(
        "count",
        6,
        _countable,
        lambda catalogue: list(COUNTS),
        ("{Y} {xs}",),
        {"two": ("pair of {xs}", "two {xs}"), "three": ("group of three {xs}",)},
    ),
    Kind(
        "tiny",
        4,
        _objects,
        labels(*BASES),
        ("tiny {x} on a big {Y}", "small {x} on a giant {Y}", "little {x} on top of a huge {Y}", "tiny {x} on {y}"),
    ),
    Kind(
        "colour",
        9,
        _coloured,
        lambda catalogue: list(TARGETS),
        ("{Y} {x}", "{Y} coloured {x}", "{Y} {x}"),
        {"rainbow": ("rainbow {x}", "{x} in rainbow colours", "rainbow coloured {x}")},
    ),
    Kind(
        "emotion",
        8,
        _faced,
        _emotions,
        ("{Y} {x}", "{x} with {y} face", "{x} looking {Y}"),
        {
            "crying": ("{x} crying", "{x} with tears"),
            "winking": ("{x} winking",),
            "laughing": ("{x} laughing",),
            "lovestruck": ("{x} with heart eyes",),
            "star-struck": ("{x} with starry eyes",),
        },
    ),
    Kind("and", 7, _everything, _everything, ("{x} and {y}", "{x} next to {y}", "{x} beside {y}", "{x} and {Y}")),
    Kind("on top", 6, _everything, labels(*BASES), ("{x} on top of {y}", "{x} on {y}", "{x} standing on {y}")),
)

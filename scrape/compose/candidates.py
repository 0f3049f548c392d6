"""The candidates for both parts of each kind of combination in an image set, and how often a kind is drawn."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mlx_genmoji.combinations import anchors
from mlx_genmoji.combinations.colours import TARGETS
from mlx_genmoji.combinations.emoji_lists import listed
from mlx_genmoji.combinations.names import name_of
from mlx_genmoji.combinations.relations import (
    ATTRIBUTES,
    BASES,
    CONTAINERS,
    COUNTS,
    COVERED,
    EMOTIONS,
    FIRE,
    FLYING,
    GROUNDS,
    HEADS,
    HEARTS,
    HELD,
    KINDS,
    MOUNTS,
    RAIN,
    SNOW,
    SPARKLES,
    VEHICLES,
    WINGS,
    WORN,
    Kind,
)
from mlx_genmoji.english import UNCOUNTED

from .catalogue import Catalogue

# The names in an image set that can be one part of a combination; a name that is listed twice is drawn twice as often.
Candidates = Callable[[Catalogue], list[str]]


class KindCandidates(NamedTuple):
    """How often a kind is drawn, and the candidates for its two parts."""

    weight: float
    firsts: Candidates
    seconds: Candidates


class Choice(NamedTuple):
    """A kind that an image set has both parts for, with their names."""

    kind: Kind
    weight: float
    firsts: list[str]
    seconds: list[str]


def choices_of(catalogue: Catalogue) -> Iterator[Choice]:
    """The kinds that an image set has both parts for, in the order of `KINDS`."""
    for kind in KINDS:
        weight, first, second = KIND_CANDIDATES[kind.name]
        firsts, seconds = first(catalogue), second(catalogue)
        if firsts and seconds:
            yield Choice(kind, weight, firsts, seconds)


def labels(*wanted: str) -> Candidates:
    """The names of the emoji with these labels."""
    return lambda catalogue: list(dict.fromkeys(name_of(label) for label in wanted if label in catalogue.by_label))


def attributes(*wanted: str) -> Candidates:
    return lambda catalogue: [name for name in wanted if ATTRIBUTES[name] in catalogue.by_label]


def _creatures(catalogue: Catalogue) -> list[str]:
    return [name for name in catalogue.with_role("animal", "face") if name not in COVERED]


def _bare_faces(catalogue: Catalogue) -> list[str]:
    return [name for name in catalogue.with_role("face") if name not in COVERED]


def _wingable(catalogue: Catalogue) -> list[str]:
    animals = [name for name in catalogue.with_role("animal") if name not in FLYING]
    faces = _bare_faces(catalogue)
    return _mixed(animals * 3, faces, catalogue.having(map(name_of, listed("winged"))) * 2, catalogue.having(HEADS))


def _mixed(*lists: Sequence[str]) -> list[str]:
    return [name for names in lists for name in names]


def _wearers(catalogue: Catalogue) -> list[str]:
    """The animals, faces and things whose head is known, and the emoji that can wear a hat."""
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
    """The emoji that fit into a container."""
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


KIND_CANDIDATES = {
    "wings": KindCandidates(10, _wingable, attributes(WINGS)),
    "wearing": KindCandidates(16, _wearers, labels(*WORN)),
    "with": KindCandidates(14, _creatures, labels(*HELD)),
    "in": KindCandidates(8, _small, _with_rim),
    "on": KindCandidates(6, _objects, labels(*GROUNDS)),
    "fire": KindCandidates(4, _objects, attributes(FIRE)),
    "hearts": KindCandidates(3, _objects, attributes(HEARTS)),
    "sparkles": KindCandidates(3, _objects, attributes(SPARKLES)),
    "weather": KindCandidates(4, _objects, attributes(RAIN, SNOW)),
    "riding": KindCandidates(9, _riders, _with_seat),
    "count": KindCandidates(6, _countable, lambda catalogue: list(COUNTS)),
    "tiny": KindCandidates(4, _objects, labels(*BASES)),
    "colour": KindCandidates(9, _coloured, lambda catalogue: list(TARGETS)),
    "emotion": KindCandidates(8, _faced, _emotions),
    "and": KindCandidates(7, _everything, _everything),
    "on top": KindCandidates(6, _everything, labels(*BASES)),
}

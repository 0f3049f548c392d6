"""Who takes part in each kind of composition: the names that a set has for both parts, and how often it is drawn."""

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

Pool = Callable[[Catalogue], list[str]]


class Pools(NamedTuple):
    """How often a kind is drawn, and the names of the two parts that a set has for it."""

    weight: float
    firsts: Pool
    seconds: Pool


class Choice(NamedTuple):
    """A kind that a set has both parts for."""

    kind: Kind
    weight: float
    firsts: list[str]
    seconds: list[str]


def menu(catalogue: Catalogue) -> Iterator[Choice]:
    """The kinds that a set has both parts for, in their order."""
    for kind in KINDS:
        weight, first, second = POOLS[kind.name]
        firsts, seconds = first(catalogue), second(catalogue)
        if firsts and seconds:
            yield Choice(kind, weight, firsts, seconds)


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


POOLS = {
    "wings": Pools(10, _wingable, attributes(WINGS)),
    "wearing": Pools(16, _wearers, labels(*WORN)),
    "with": Pools(14, _creatures, labels(*HELD)),
    "in": Pools(8, _small, _with_rim),
    "on": Pools(6, _objects, labels(*GROUNDS)),
    "fire": Pools(4, _objects, attributes(FIRE)),
    "hearts": Pools(3, _objects, attributes(HEARTS)),
    "sparkles": Pools(3, _objects, attributes(SPARKLES)),
    "weather": Pools(4, _objects, attributes(RAIN, SNOW)),
    "riding": Pools(9, _riders, _with_seat),
    "count": Pools(6, _countable, lambda catalogue: list(COUNTS)),
    "tiny": Pools(4, _objects, labels(*BASES)),
    "colour": Pools(9, _coloured, lambda catalogue: list(TARGETS)),
    "emotion": Pools(8, _faced, _emotions),
    "and": Pools(7, _everything, _everything),
    "on top": Pools(6, _everything, labels(*BASES)),
}

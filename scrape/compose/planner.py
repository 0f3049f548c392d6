"""Plans combinations: the two parts, how they are joined, and the caption. Nothing is drawn here."""

import random
import re
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from mlx_genmoji.combinations import anchors
from mlx_genmoji.combinations.colours import ALIKE, Dominant
from mlx_genmoji.combinations.relations import ATTRIBUTES, EMOTIONS, RAIN, SNOW, Kind
from mlx_genmoji.english import UNCOUNTED, plural, with_article

from ..errors import ScrapeError
from .candidates import choices_of
from .catalogue import Catalogue, Part

HELD_OUT = Path(__file__).with_name("held_out.tsv")

# The probability that a caption begins with an article, and that a person has a skin tone where the set has them.
ARTICLES, TONED = 0.35, 0.8

# Second parts for which only their special phrases are used (`Kind.more`).
ALWAYS_MORE = frozenset((RAIN, SNOW, "rainbow", "plate", "cloud", "crescent moon"))

# The roles of parts that can do something, and the words for it.
ALIVE = ("animal", "face", "person")
DOING = re.compile(r"sitting|standing|paddling|taking|bathing|eating|drinking|playing|reading|carrying|in love|loving")

# Random choices until a plan counts as impossible.
MAX_TRIES = 2000


@dataclass(frozen=True)
class Plan:
    """One combination.

    parts: the names of the subject and of the second part; pictures: the parts to draw, only the subject where the
    second part is a colour or a number.
    """

    kind: str
    parts: tuple[str, str]
    caption: str
    source: str
    license: str
    skin_tone: tuple[str, ...]
    pictures: tuple[Part, ...]


@cache
def held_out() -> dict[frozenset[str], tuple[str, str, str]]:
    """The combinations kept for tests, never planned in any kind: both parts -> kind, first part, second part."""
    lines = HELD_OUT.read_text("utf-8").splitlines()
    rows = [tuple(line.split("\t")) for line in lines if line and not line.startswith("#")]
    return {frozenset((first, second)): (kind, first, second) for kind, first, second in rows}


class Planner:
    """Plans combinations of a list of image sets. The same sets, seed and index give the same plan."""

    def __init__(self, catalogues: Sequence[Catalogue], colour: Callable[[Part], Dominant | None], seed: int):
        self._colour = colour
        self._seed = seed
        self._sets = [(catalogue, choices) for catalogue in catalogues if (choices := list(choices_of(catalogue)))]
        if not self._sets:
            raise ScrapeError("None of the datasets has two emoji that can be put together; add another set.")
        self._weights = [list(accumulate(choice.weight for choice in choices)) for _, choices in self._sets]

    @property
    def sources(self) -> list[str]:
        return [catalogue.source for catalogue, _ in self._sets]

    def plan(self, index: int) -> Plan:
        rng = random.Random(f"{self._seed}/{index}")
        for _ in range(MAX_TRIES):
            place = int(rng.random() * len(self._sets))
            catalogue, choices = self._sets[place]
            weights = self._weights[place]
            kind, _, firsts, seconds = choices[bisect(weights, rng.random() * weights[-1])]
            first, second = _pick(rng, firsts), _pick(rng, seconds)
            if first == second or frozenset((first, second)) in held_out():
                continue
            plan = self._plan(catalogue, kind, first, second, rng)
            if plan is not None:
                return plan
        raise ScrapeError("Nothing is left to compose of these datasets; add another set.")

    def combine(self, source: str, kind: str, first: str, second: str, index: int = 0) -> Plan | None:
        """A plan of this combination, held out or not; None where the set `source` cannot make it."""
        rng = random.Random(f"{self._seed}/{index}/{source}/{kind}/{first}/{second}")
        for catalogue, choices in self._sets:
            for known, _, firsts, seconds in choices:
                if (catalogue.source, known.name) == (source, kind) and first in firsts and second in seconds:
                    return self._plan(catalogue, known, first, second, rng)
        return None

    def _plan(self, catalogue: Catalogue, kind: Kind, first: str, second: str, rng: random.Random) -> Plan | None:
        pictures = self._pictures(catalogue, kind, first, second, rng)
        if pictures is None:
            return None
        return Plan(
            kind.name,
            (first, second),
            caption(kind, pictures[0], second, rng),
            catalogue.source,
            pictures[0].license,
            pictures[0].skin_tone,
            pictures,
        )

    def _pictures(
        self, catalogue: Catalogue, kind: Kind, first: str, second: str, rng: random.Random
    ) -> tuple[Part, ...] | None:
        """The parts to draw; None where the two do not go together."""
        toned = catalogue.toned.get(first)
        subject = _pick(rng, toned if toned and rng.random() < TONED else catalogue.by_name[first])
        if kind.name == "count":
            return (subject,)
        if kind.name == "colour":
            dominant = self._colour(subject)
            similar = None if dominant is None else ALIKE.get(dominant.name, {dominant.name})
            return None if similar is None or second in similar else (subject,)
        if kind.name == "emotion":
            labels = [label for label in EMOTIONS[second] if label in catalogue.by_label]
            return (subject, catalogue.by_label[_pick(rng, labels)]) if anchors.face(subject) else None
        label = ATTRIBUTES.get(second)
        other = catalogue.by_label[label] if label else _pick(rng, catalogue.drawings[second])
        if kind.name == "wearing" and not anchors.can_wear(subject, other.label):
            return None
        if kind.name == "riding" and anchors.seat(other) is None:
            return None
        return subject, other


def caption(kind: Kind, subject: Part, second: str, rng: random.Random) -> str:
    """A caption: one of the kind's phrases with the names of both parts."""
    phrases = kind.phrases
    if second in kind.more and (rng.random() < 0.6 or second in ALWAYS_MORE):
        phrases = kind.more[second]
    if subject.role not in ALIVE:
        without_action = [phrase for phrase in phrases if not DOING.search(phrase)]
        phrases = tuple(without_action) or kind.phrases[:1]
    phrase = _pick(rng, phrases)
    counted = subject.name not in UNCOUNTED
    article = counted and rng.random() < ARTICLES and (kind.name != "count" or phrase.split()[0] in ("pair", "group"))
    if kind.name == "and" and not article:
        phrase = phrase.replace("{y}", "{Y}")
    return fill(phrase, subject, second, article)


def fill(phrase: str, subject: Part, second: str, article: bool = False) -> str:
    """A phrase with the names of both parts, and the skin tone of a person."""
    tone = f" with {subject.skin_tone[0]} skin tone" if subject.skin_tone else ""
    if tone:
        phrase = phrase.replace("{x} with ", "{x} and ")
    text = phrase.format(x=subject.name + tone, xs=plural(subject.name) + tone, y=with_article(second), Y=second)
    return with_article(text) if article else text


def _pick(rng: random.Random, items: Sequence[Any]) -> Any:
    return items[int(rng.random() * len(items))]

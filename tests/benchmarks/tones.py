"""Measures which skin tone a drawn person has: the nearest of the five tones in CIE Lab, at the person's skin.

The person's skin is found in the five originals: the pixels that get darker from each tone to the next. The median
colour of the drawn picture at these pixels is compared with the five tones. A tone's colour is the median over the
other people of the same set, so that no picture is compared with itself. The originals are judged in the same way,
which shows how good the measure is.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skin import lab as cielab

from mlx_genmoji.prompt import SKIN_TONES

SIZE = 64
SEED = 5
PEOPLE = 20

# A pixel is skin where it is lighter by this much, in CIE lightness, in the lightest tone than in the darkest, and
# where each tone is no lighter than the one before it by more than the slack.
FALL, SLACK = 25.0, 3.0

# Skin that is less of the picture than this is too little to judge.
LEAST = 0.03

Plane = NDArray[np.float64]


@dataclass(frozen=True)
class Person:
    """An emoji with all five tones in a set: its label in captions, the set, the originals from light to dark."""

    label: str
    source: str
    originals: tuple[Path, ...]

    def caption(self, tone: str, style: str) -> str:
        return f"{self.label}, {tone} skin tone, {style}"


def draw_people(data: Path, sources: Sequence[str]) -> list[Person]:
    """`PEOPLE` people, equally many of each set, chosen with a fixed seed from all whose skin can be judged."""
    chosen = []
    for source in sources:
        found: dict[str, dict[str, Path]] = {}
        for line in (data / source / "metadata.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            if row["person_type"] and len(row["skin_tone"]) == 1:
                found.setdefault(row["label"], {})[row["skin_tone"][0]] = data / source / row["file_name"]
        people = [
            Person(label, source, tuple(files[tone] for tone in SKIN_TONES))
            for label, files in sorted(found.items())
            if len(files) == len(SKIN_TONES)
        ]
        random.Random(SEED).shuffle(people)
        able = (person for person in people if skin(person).mean() >= LEAST)
        chosen += [person for person, _ in zip(able, range(PEOPLE // len(sources)), strict=False)]
    return chosen


def skin(person: Person) -> NDArray[np.bool_]:
    """The mask of a person's skin, `(SIZE, SIZE)`."""
    lightness = np.stack([lab(Image.open(path))[..., 0] for path in person.originals])
    steps = np.diff(lightness, axis=0)
    return (lightness[0] - lightness[-1] > FALL) & (steps < SLACK).all(0)


def colour(picture: Image.Image, where: NDArray[np.bool_]) -> Plane:
    """The median of a picture's colours at some pixels, in Lab."""
    return np.median(lab(picture)[where], axis=0)


class Tones:
    """The five tones of each set, measured on its people."""

    def __init__(self, people: Sequence[Person]):
        self.skin = {person: skin(person) for person in people}
        self.colours = {
            person: np.stack([colour(Image.open(path), self.skin[person]) for path in person.originals])
            for person in people
        }

    def nearest(self, picture: Image.Image, person: Person) -> str:
        """The tone of a picture of `person`: the nearest of the tones of the other people of the same set."""
        others = [its for other, its in self.colours.items() if other != person and other.source == person.source]
        tones = np.median(np.stack(others), axis=0)
        distances = np.linalg.norm(tones - colour(picture, self.skin[person]), axis=-1)
        return SKIN_TONES[int(distances.argmin())]


def judge(tones: Tones, pictures: Mapping[tuple[Person, str], Image.Image]) -> tuple[int, int]:
    """How many pictures have the requested tone, and how many are at most one tone off.

    pictures: (person, requested tone) -> picture.
    """
    off = [
        abs(SKIN_TONES.index(tones.nearest(picture, person)) - SKIN_TONES.index(tone))
        for (person, tone), picture in pictures.items()
    ]
    return sum(distance == 0 for distance in off), sum(distance <= 1 for distance in off)


def lab(picture: Image.Image) -> Plane:
    """CIE L*a*b*, `(SIZE, SIZE, 3)`, of a picture."""
    return cielab(np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)))

"""Checks the Fluent 3D and Noto imports against the packages: numbers of pictures, repairs, and skin tones by colour.

Both sets are collected anew, 64 px square, into a temporary folder. The tones in Fluent's file names are not
reliable, so each picture is compared by mean colour with the five tones of the same emoji in `fluentui-emoji`,
another package of Microsoft's drawings that names the tones in words. A picture agrees if the nearest of the five has
its tone. The same comparison with the tones of the file names, before our repairs, shows what the repairs change.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from row import Row
from tqdm import tqdm

from mlx_genmoji.prompt import SKIN_TONES
from scrape import Report, collect
from scrape.emojibase import key
from scrape.own_pictures import slug
from scrape.packages import Package
from scrape.pictures import render

SIZE = 64

NAMED = Package("fluentui-emoji", "1.3.0", ("icons/modern/*.svg",))

# Emojis that `fluentui-emoji` calls otherwise than Unicode does.
CALLED = {
    "deaf-man": "man-deaf",
    "deaf-person": "person-deaf",
    "deaf-woman": "woman-deaf",
    "man-blond-hair": "man-blonde-hair",
    "mermaid": "woman-merpeople",
    "merman": "man-merpeople",
    "merperson": "person-merpeople",
    "person-blond-hair": "person-blonde-hair",
    "woman-blond-hair": "woman-blonde-hair",
    **{name: f"person-{name}" for name in ("elf", "fairy", "mage", "superhero", "supervillain", "vampire")},
}

# The images left after cleaning. A first count of the packages had 3,010 and 3,686: with the pregnant person of dark
# skin tone, whose picture has another tone, and with the 26 letters that flags are spelled with.
IMAGES = {"fluent": 3009, "noto": 3660}

# Per set and tone, the fewest and the most images of a person type, and of hands, as they are now; the first count said
# about 75-82 men, 77-83 women, 81-87 persons and 42 hands.
PER_TONE = {"man": (75, 82), "woman": (77, 83), "person": (80, 88), "hand": (42, 43)}

# Of the Fluent package, what is to be left out and how many of them there are.
DEFECTS = {
    "not in Microsoft's open set": 116,
    "a country's flag, not Microsoft's": 248,
    "a second picture of one emoji": 16,
}

REPAIRED = "as collected"

# The code points of SKIN_TONES.
TONES = ("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF")

Vector = NDArray[np.float64]


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        for source in IMAGES:
            report = collect(source, Path(folder) / source, size=SIZE)
            yield count(report)
            yield per_tone(report)
            if source == "fluent":
                yield defects(report)
                yield from tones(report.output)


def count(report: Report) -> Row:
    reasons = ", ".join(f"{len(files)} {reason}" for reason, files in report.dropped.items())
    expected = IMAGES[report.source]
    return Row(
        what=f"`genmoji scrape {report.source}`: images",
        goal=f"{expected:,}",
        measured=f"{report.images:,}",
        met=report.images == expected,
        note=f"left out: {reasons}",
    )


def per_tone(report: Report) -> Row:
    """Whether each tone has the expected number of images."""
    counts = Counter((kind(fields), fields["skin_tone"][0]) for fields in read(report.output) if tone_of(fields))
    found = {name: [counts[name, tone] for tone in SKIN_TONES] for name in PER_TONE}
    return Row(
        what=f"`genmoji scrape {report.source}`: images of each of the five tones",
        goal=", ".join(f"{name} {low}-{high}" for name, (low, high) in PER_TONE.items()),
        measured="; ".join(f"{name} {'/'.join(map(str, numbers))}" for name, numbers in found.items()),
        met=all(low <= min(found[name]) and max(found[name]) <= high for name, (low, high) in PER_TONE.items()),
    )


def defects(report: Report) -> Row:
    found = {reason: len(report.dropped.get(reason, ())) for reason in DEFECTS}
    return Row(
        what="`genmoji scrape fluent`: what is left out of the package",
        goal=", ".join(f"{number} {reason}" for reason, number in DEFECTS.items()),
        measured=", ".join(f"{number} {reason}" for reason, number in found.items()),
        met=found == DEFECTS,
    )


def tones(dataset: Path) -> Iterator[Row]:
    """The share of Fluent's toned pictures whose colour agrees with their tone, with our repairs and without."""
    named = NAMED.read()
    colours: dict[str, Vector] = {}
    repaired: dict[str, dict[str, str]] = {}
    unrepaired: dict[str, dict[str, str]] = {}
    for fields in read(dataset):
        if tone := tone_of(fields):
            file = fields["source_file"]
            colours[file] = mean_colour((dataset / fields["file_name"]).read_bytes())
            repaired.setdefault(fields["label"], {})[tone] = file
            unrepaired.setdefault(fields["label"], {})[named_tone(file)] = file
    yield agreement(REPAIRED, repaired, colours, named)
    yield agreement("as the files are named", unrepaired, colours, named)


def agreement(
    how: str, emojis: Mapping[str, Mapping[str, str]], colours: Mapping[str, Vector], named: Mapping[str, bytes]
) -> Row:
    """The share of pictures whose colour agrees with their tone.

    emojis: label -> tone -> file; labels without all five tones are left out.
    """
    whole = {label: of for label, of in emojis.items() if len(of) == len(SKIN_TONES)}
    agreed, other = 0, []
    for label, of in tqdm(whole.items(), how, disable=None):
        ours = standard([colours[of[tone]] for tone in SKIN_TONES])
        theirs = standard([mean_colour(named[their_name(label, tone)]) for tone in SKIN_TONES])
        nearest = np.square(ours[:, None] - theirs[None]).sum(-1).argmin(1)
        right = int((nearest == np.arange(len(SKIN_TONES))).sum())
        agreed += right
        other += [label] * (right < len(SKIN_TONES))
    total = len(whole) * len(SKIN_TONES)
    repaired = how == REPAIRED
    return Row(
        what=f"Fluent's tones, {how}, against `fluentui-emoji`'s by colour",
        goal=">= 99 %" if repaired else "reported",
        measured=f"{agreed:,} of {total:,} = {agreed / total:.1%}",
        met=agreed >= 0.99 * total if repaired else None,
        note=f"{len(whole)} emojis" + (f"; not all of: {', '.join(other)}" if repaired and other else ""),
    )


def standard(colours: list[Vector]) -> Vector:
    """Five colours, (5, 3), with their mean and scale removed, because these differ between packages."""
    centred = np.array(colours) - np.mean(colours, axis=0)
    return centred / np.linalg.norm(centred)


def mean_colour(data: bytes) -> Vector:
    picture = render(data, SIZE)
    assert picture is not None
    return np.asarray(picture, np.float64).mean(axis=(0, 1))


def their_name(label: str, tone: str) -> str:
    name = slug(label)
    return f"icons/modern/{CALLED.get(name, name)}-{tone}.svg"


def named_tone(file: str) -> str:
    """The skin tone in the name of a file of the Fluent package."""
    code_points = key(PurePosixPath(file).stem).split("-")
    return next(tone for code_point, tone in zip(TONES, SKIN_TONES, strict=True) if code_point in code_points)


def tone_of(fields: Mapping[str, Any]) -> str | None:
    """The skin tone of a row; None if it has none or two."""
    tones = fields["skin_tone"]
    return tones[0] if len(tones) == 1 else None


def kind(fields: Mapping[str, Any]) -> str | None:
    return "hand" if fields["subgroup"].startswith("hand") else fields["person_type"]


def read(dataset: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (dataset / "metadata.jsonl").read_text("utf-8").splitlines()]

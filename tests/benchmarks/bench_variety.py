"""How much four candidates of a prompt differ, and whether they still show what was asked: variety 1 against 0.

The prompts are variety.tsv: 40 evenly spaced captions of captions.txt without skin tones, and 40 of the held-out
combinations of compositions.txt, fixed before the first run. `rows()` draws four candidates of each with variety 1, and
four with variety 0, with the same seeds.

Two pictures are as far apart as their embeddings are: 1 - cosine of the recogniser's whitened features (recogniser.py),
in which the drawings of different emoji are about 0.94 apart. A candidate is recognised where the prompt's label, of a
combination that of its subject, is among the recogniser's first five; in the second count also where the label that the
candidate draws is: "pig face" for "pig".

    python tests/benchmarks/bench_variety.py [single|combination]     # prints the figures, and writes nothing
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import fast_cpu  # noqa: F401
import numpy as np
import torch
import torch.nn.functional as F
from bench_pictures import collected_data, on_white
from PIL import Image
from recogniser import Recogniser, centred
from row import Row
from tqdm import tqdm

if TYPE_CHECKING:
    from mlx_genmoji import Genmoji, Sticker

PROMPTS = Path(__file__).with_name("variety.tsv")
RESULTS = Path(__file__).with_name("variety-results.tsv")
KINDS = ("single", "combination")
COUNT = 4
FIRST_SEED = 1_100_000


class Prompt(NamedTuple):
    """A line of variety.tsv."""

    text: str
    label: str
    kind: str


class Judged(NamedTuple):
    """The four candidates of a prompt: their mean distance, and how many are recognised, strictly and by what they
    draw.
    """

    distance: float
    strict: int
    drawn: int


def rows() -> Iterator[Row]:
    from mlx_genmoji import Genmoji

    yield from measure(Genmoji.load(), KINDS, write=True)


def measure(genmoji: Genmoji, kinds: Sequence[str], write: bool) -> Iterator[Row]:
    """The figures of a model; with `write`, those of each prompt too."""
    recogniser = Recogniser.load(collected_data())
    lines = ["\t".join(("prompt", "kind", "variety", "distance", "recognised", "recognised as drawn"))]
    for kind in kinds:
        prompts = [prompt for prompt in read_prompts() if prompt.kind == kind]
        judged: dict[int, list[Judged]] = {0: [], 1: []}
        for place, prompt in enumerate(tqdm(prompts, kind, disable=None)):
            seed = FIRST_SEED + COUNT * place
            with genmoji.keeping_drawings():
                drawn = {
                    variety: genmoji.generate(prompt.text, count=COUNT, seed=seed, variety=float(variety))
                    for variety in judged
                }
            for variety, stickers in drawn.items():
                judged[variety].append(judge(recogniser, prompt, stickers))
                lines.append("\t".join(map(str, (prompt.text, kind, variety, *judged[variety][-1]))))
        yield from compare(kind, judged[0], judged[1])
    if write:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_prompts() -> list[Prompt]:
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()[1:]
    return [Prompt(*line.split("\t")) for line in lines]


def compare(kind: str, plain: Sequence[Judged], varied: Sequence[Judged]) -> Iterator[Row]:
    before, after = (float(np.mean([one.distance for one in judged])) for judged in (plain, varied))
    yield Row(
        what=f"{COUNT} candidates of {len(varied)} prompts ({kind}): mean pairwise 1 - cosine",
        goal=">= 0.10",
        measured=f"{after:.3f}; with variety 0: {before:.3f}",
        met=after >= 0.10,
        note=f"median {np.median([one.distance for one in varied]):.3f}, "
        f"least {min(one.distance for one in varied):.3f}",
    )
    of = COUNT * len(varied)
    counts = [[sum(getattr(one, what) for one in judged) for judged in (plain, varied)] for what in ("strict", "drawn")]
    (strict_before, strict), (drawn_before, drawn) = counts
    yield Row(
        what=f"their label ({kind}) recognised (top-5), against variety 0",
        goal="at most 2 points fewer",
        measured=f"{100 * strict / of:.1f} % / {100 * strict_before / of:.1f} %",
        met=100 * (strict_before - strict) / of <= 2,
        note=f"or the label that each draws: {100 * drawn / of:.1f} % / {100 * drawn_before / of:.1f} %",
    )


def judge(recogniser: Recogniser, prompt: Prompt, stickers: Sequence[Sticker]) -> Judged:
    pictures = [on_white(sticker.image) for sticker in stickers]
    said = recogniser.top(5, pictures)
    strict = sum(prompt.label in labels for labels in said)
    both = [{prompt.label, drawn_label(sticker)} & set(labels) for sticker, labels in zip(stickers, said, strict=True)]
    return Judged(round(mean_distance(recogniser, pictures), 4), strict, sum(map(bool, both)))


def drawn_label(sticker: Sticker) -> str:
    """The label that a candidate draws, of a combination its subject's."""
    if "combination" in sticker.recipe:
        return str(sticker.recipe["combination"]["subject"]["label"])
    caption = sticker.recipe["final_prompt"]
    return str(caption.rpartition(", ")[0] or caption)


def mean_distance(recogniser: Recogniser, pictures: Sequence[Image.Image]) -> float:
    """The mean of 1 - cosine of all pairs, in the recogniser's whitened features."""
    learned = recogniser.discriminant
    features = recogniser._backbone.features(torch.stack([centred(picture) for picture in pictures]))
    unit = F.normalize((features - learned.mean) / learned.scale @ learned.whitening, dim=1)
    return float(np.mean([1 - float(unit[i] @ unit[j]) for i, j in combinations(range(len(pictures)), 2)]))


if __name__ == "__main__":
    from mlx_genmoji import Genmoji

    for row in measure(Genmoji.load(), sys.argv[1:] or KINDS, write=False):
        print(f"{row.what}: {row.measured} (goal: {row.goal}; {row.note})", flush=True)

"""Measures the built-in model on prompts outside its training data: held-out combinations, synonyms and skin tones.

`rows()` draws each prompt once, with seeds that training did not use:

- The hundred captions of compositions.txt, whose combinations `scrape.compose` holds out. They are drawn by
  `Genmoji.generate`: part by part where it can read the combination. The recogniser of parts (part_recogniser.py,
  trained on other vendors' drawings) must name both parts among its five most likely labels. It also judges the same
  combinations assembled from Noto's and Fluent's own drawings; as controls, plain pictures of the first part, and the
  pictures against captions in shuffled order; and the same captions drawn without parts.
- For each of these pictures, the nearest training picture: among all emoji and `NEIGHBOURS` compositions.
- The hundred synonyms of paraphrases.txt, and the names of the same emoji, judged by recogniser.py.
- Twenty people in five skin tones, and the emoji sets' drawings of them, judged by tones.py.
- The captions of captions.txt: whether a picture has a white border and a single figure (figures.py), compared with the
  emoji sets' drawings; how many are recognised after 4 steps without guidance, and after 25 steps with guidance.

    python tests/benchmarks/bench_compositions.py [MODEL]     # prints the figures of any model, and writes nothing
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from bench_pictures import FIRST_SEED, ROOT, SHUFFLE_SEED, Caption, Verdict, contact_sheet, draw, on_white
from bench_pictures import judge as judge_labels
from bench_pictures import read_captions as read_single_captions
from draw_captions import STYLES
from draw_compositions import FILE as CAPTIONS
from draw_compositions import SEED as COMPOSER_SEED
from draw_compositions import SOURCES
from figures import has_white_border, is_one_figure, nearest, sheet
from part_recogniser import TOP, PartRecogniser
from PIL import Image
from recogniser import CACHE, Recogniser
from row import Row
from tones import Person, Tones, draw_people, judge
from tqdm import tqdm

from mlx_genmoji.prompt import SKIN_TONES
from scrape.compose import Composer, Plan
from scrape.sources import collect

if TYPE_CHECKING:
    from mlx_genmoji import Genmoji, Sticker

FOLDER = Path(__file__).parent
PARAPHRASES = FOLDER / "paraphrases.txt"
RESULTS = FOLDER / "compositions-results.tsv"
SHEET = ROOT / "docs" / "pictures" / "compositions-100.png"
NEAREST_SHEET = ROOT / "docs" / "pictures" / "compositions-nearest.png"

SIZE = 128
NEIGHBOURS = 20_000
NEIGHBOUR_SEED = 1

# Seeds of each set of pictures, apart from each other and from bench_pictures.py's.
COMPOSITION_SEED, PARAPHRASE_SEED, TONE_SEED = (FIRST_SEED + 10_000 * place for place in (1, 2, 3))


class Combination(NamedTuple):
    """A line of compositions.txt."""

    caption: str
    kind: str
    first: str
    second: str
    source: str
    number: int


class Found(NamedTuple):
    """Whether the recogniser found the first and the second part in a picture, and the labels that it named."""

    first: bool
    second: bool
    said: list[str]

    @property
    def both(self) -> bool:
        return self.first and self.second


def rows() -> Iterator[Row]:
    from mlx_genmoji import Genmoji

    yield from measure(Genmoji.load(), write=True)


def measure(genmoji: Genmoji, write: bool) -> Iterator[Row]:
    """Measure a model; write: whether sheets and verdicts are written to files too."""
    data = sets()
    yield from compositions(genmoji, data, write)
    yield paraphrases(genmoji, data)
    yield tones(genmoji, data)
    yield from form(genmoji)
    yield from few_steps(genmoji, data)


def sets() -> Path:
    """The folder of the Fluent and Noto datasets with originals; they are collected now if they are missing."""
    folder = CACHE.parent / "sets"
    for source in SOURCES:
        if not (folder / source / "metadata.jsonl").exists():
            collect(source, folder / source, keep_originals=True)
    return folder


def read_combinations() -> list[Combination]:
    lines = [line.split("\t") for line in CAPTIONS.read_text(encoding="utf-8").splitlines()[1:]]
    return [Combination(*cells[:-1], int(cells[-1])) for cells in lines]


def compositions(genmoji: Genmoji, data: Path, write: bool) -> Iterator[Row]:
    wanted = read_combinations()
    parts = PartRecogniser.load(data)
    composer = Composer([data / source for source in SOURCES], SIZE, COMPOSER_SEED)
    stickers = [
        combined(genmoji, combination, COMPOSITION_SEED + index)
        for index, combination in enumerate(tqdm(wanted, "compositions", disable=None))
    ]
    pictures = [sticker.image for sticker in stickers]
    of_parts = sum("combination" in sticker.recipe for sticker in stickers)
    by_rule = [by_rule_picture(composer, combination) for combination in wanted]
    plain = [plain_picture(composer, data, combination) for combination in wanted]
    shuffled = list(wanted)
    random.Random(SHUFFLE_SEED).shuffle(shuffled)
    ours, rule = find(parts, pictures, wanted), find(parts, by_rule, wanted)
    control, chance = find(parts, plain, wanted), find(parts, pictures, shuffled)
    if write:
        save(RESULTS, wanted, ours, rule)
        save_sheet(SHEET, pictures, wanted, ours)
    share = count(ours) / len(wanted)
    yield Row(
        what=f"{len(wanted)} held-out combinations: both parts found (top {TOP} of {len(parts.labels)} labels)",
        goal=">= 50 %",
        measured=f"{share:.0%}; composed by rule of real drawings: {count(rule) / len(wanted):.0%}",
        met=share >= 0.5,
        note=f"first part {sum(found.first for found in ours)}, second {sum(found.second for found in ours)}; "
        f"{of_parts} drawn by parts; captions shuffled: {count(chance)}; all in {SHEET.name}",
    )
    yield Row(
        what="a plain picture of the first part passes for the combination (control)",
        goal="<= 5 %",
        measured=f"{count(control) / len(wanted):.0%}",
        met=count(control) <= 0.05 * len(wanted),
        note=f"the recogniser was taught in {parts.cpu_minutes:.0f} CPU minutes, by seven vendors' drawings",
    )
    whole = [
        combined(genmoji, combination, COMPOSITION_SEED + index, combine=False).image
        for index, combination in enumerate(tqdm(wanted, "in one go", disable=None))
    ]
    alone = find(parts, whole, wanted)
    yield Row(
        what="the same captions drawn in one go: both parts found",
        goal="reported",
        measured=f"{count(alone) / len(wanted):.0%}",
        met=None,
        note=f"first part {sum(found.first for found in alone)}, second {sum(found.second for found in alone)}",
    )
    yield neighbours(pictures, by_rule, wanted, data, write)


def by_rule_picture(composer: Composer, combination: Combination) -> Image.Image:
    return Image.fromarray(composer.picture(planned(composer, combination)))


def planned(composer: Composer, combination: Combination) -> Plan:
    plan = composer.combine(combination.source, *combination[1:4], combination.number)
    assert plan is not None, combination
    return plan


def combined(genmoji: Genmoji, combination: Combination, seed: int, combine: bool = True) -> Sticker:
    """Draw a combination's caption in the style of its set, as a user would; combine: whether parts are allowed."""
    template = f"{{prompt}}, {STYLES[combination.source]}"
    return genmoji.generate(combination.caption, seed=seed, template=template, combine=combine, variety=0)[0]


def plain_picture(composer: Composer, data: Path, combination: Combination) -> Image.Image:
    """The plain picture of the combination's first part, RGB."""
    plan = planned(composer, combination)
    with Image.open(data / combination.source / plan.pictures[0].fields["file_name"]) as picture:
        return picture.convert("RGB")


def find(parts: PartRecogniser, pictures: Sequence[Image.Image], combinations: Sequence[Combination]) -> list[Found]:
    said = parts.top(TOP, [on_white(picture) for picture in pictures])
    return [
        Found(combination.first in labels, combination.second in labels, labels)
        for combination, labels in zip(combinations, said, strict=True)
    ]


def count(found: Sequence[Found]) -> int:
    return sum(one.both for one in found)


def save_sheet(
    path: Path, pictures: Sequence[Image.Image], wanted: Sequence[Combination], found: Sequence[Found]
) -> None:
    captions = [Caption(combination.caption, combination.first, "", combination.source) for combination in wanted]
    verdicts = [Verdict(one.both, one.first or one.second, "") for one in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, captions, verdicts).save(path, optimize=True)


def save(path: Path, wanted: Sequence[Combination], ours: Sequence[Found], rule: Sequence[Found]) -> None:
    columns = [f"{whose} {what}" for whose in ("generated", "by rule") for what in ("first", "second", "said")]
    lines = ["\t".join(("caption", "first", "second", *columns))]
    for combination, *verdicts in zip(wanted, ours, rule, strict=True):
        cells = [cell for v in verdicts for cell in (str(int(v.first)), str(int(v.second)), ", ".join(v.said))]
        lines.append("\t".join((combination.caption, combination.first, combination.second, *cells)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def neighbours(
    pictures: Sequence[Image.Image],
    by_rule: Sequence[Image.Image],
    wanted: Sequence[Combination],
    data: Path,
    write: bool,
) -> Row:
    """The distance from each picture to its nearest training picture.

    by_rule: pictures that are not in the training data, to compare with.
    """
    folders = [data / source for source in SOURCES]

    def training() -> Iterator[Image.Image]:
        for folder in folders:
            for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines():
                with Image.open(folder / json.loads(line)["file_name"]) as picture:
                    yield picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)
        composer = Composer(folders, SIZE, NEIGHBOUR_SEED)
        for index in tqdm(range(NEIGHBOURS), "neighbours", disable=None):
            yield Image.fromarray(composer.draw(index).picture)

    both = nearest([*pictures, *by_rule], training())
    ours, rule = both[: len(pictures)], both[len(pictures) :]
    if write:
        captions = [combination.caption for combination in wanted]
        sheet(pictures, ours, captions).save(NEAREST_SHEET, optimize=True)
    medians = [float(np.median([distance for distance, _ in found])) for found in (ours, rule)]
    return Row(
        what="their distance to the nearest training picture, median (root mean square of 32 x 32 px, 0 to 1)",
        goal="reported",
        measured=f"{medians[0]:.3f}; of the same combinations by rule: {medians[1]:.3f}",
        met=None,
        note=f"of every emoji and {NEIGHBOURS:,} compositions; both are in {NEAREST_SHEET.name}",
    )


def paraphrases(genmoji: Genmoji, data: Path) -> Row:
    """How many pictures of synonyms are recognised, compared with pictures of the emoji's own names."""
    pairs = [line.split("\t") for line in PARAPHRASES.read_text(encoding="utf-8").splitlines()[1:]]
    tags = {}
    for source in SOURCES:
        for line in (data / source / "metadata.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            tags.setdefault(row["label"], set()).update(row["tags"])
    recogniser = Recogniser.load(data)
    right: list[list[bool]] = []
    for place in (0, 1):
        drawn = [
            genmoji.generate(
                pair[place],
                seed=PARAPHRASE_SEED + index,
                template=f"{{prompt}}, {list(STYLES.values())[index % 2]}",
            )[0].image
            for index, pair in enumerate(tqdm(pairs, ("synonyms", "names")[place], disable=None))
        ]
        said = recogniser.top(5, [on_white(picture) for picture in drawn])
        right.append([label in labels for (_, label), labels in zip(pairs, said, strict=True)])
    synonyms, names = (sum(verdicts) for verdicts in right)
    tagged = [synonym in tags.get(label, ()) for synonym, label in pairs]
    untagged = [verdict for verdict, tag in zip(right[0], tagged, strict=True) if not tag]
    return Row(
        what=f"{len(pairs)} synonyms, recognised (top-5), against the emoji's names",
        goal=">= 0.6 x",
        measured=f"{synonyms} / {names} = {synonyms / max(names, 1):.2f}",
        met=synonyms >= 0.6 * names,
        note=f"of the {len(untagged)} that are no tag of the emoji either: {sum(untagged)}",
    )


def tones(genmoji: Genmoji, data: Path) -> Row:
    people = draw_people(data, SOURCES)
    measure = Tones(people)
    wanted: list[tuple[Person, str]] = [(person, tone) for person in people for tone in SKIN_TONES]
    generated = {
        (person, tone): draw(genmoji, person.caption(tone, STYLES[person.source]), TONE_SEED + index)
        for index, (person, tone) in enumerate(tqdm(wanted, "tones", disable=None))
    }
    originals = {
        (person, tone): Image.open(path)
        for person in people
        for tone, path in zip(SKIN_TONES, person.originals, strict=True)
    }
    right, near = judge(measure, generated)
    real, _ = judge(measure, originals)
    return Row(
        what=f"skin tone: 5 tones x {len(people)} people, nearest in CIE Lab",
        goal=">= 90 %",
        measured=f"{right / len(wanted):.0%}; original pictures: {real / len(wanted):.0%}",
        met=right >= 0.9 * len(wanted),
        note=f"at most one tone off: {near / len(wanted):.0%}",
    )


def form(genmoji: Genmoji) -> Iterator[Row]:
    """How many pictures of captions.txt, and how many of the originals, have a white border and a single figure."""
    captions = read_single_captions()
    files = {}
    for source in SOURCES:
        for line in (sets() / source / "metadata.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            files[source, row["hexcode"]] = sets() / source / row["file_name"]
    generated = [
        draw(genmoji, caption.text, FIRST_SEED + index)
        for index, caption in enumerate(tqdm(captions, "form", disable=None))
    ]
    size = generated[0].size
    originals = [
        Image.open(files[caption.source, caption.hexcode]).resize(size, Image.Resampling.LANCZOS)
        for caption in captions
    ]
    for what, test in (("a white border (>= 99 % of it)", has_white_border), ("one connected figure", is_one_figure)):
        ours, real = (100 * sum(map(test, pictures)) / len(captions) for pictures in (generated, originals))
        yield Row(
            what=f"{len(captions)} captions: pictures with {what}",
            goal="within 3 points of the originals",
            measured=f"{ours:.1f} %; originals: {real:.1f} %",
            met=ours >= real - 3,
        )


def few_steps(genmoji: Genmoji, data: Path) -> Iterator[Row]:
    """Pictures recognised and seconds for captions.txt: in 4 steps without guidance, in 25 with the model's."""
    captions, recogniser = read_single_captions(), Recogniser.load(data)
    found, took = [], []
    for steps, guidance in ((4, 1.0), (25, genmoji.defaults.guidance)):
        pictures, seconds = [], []
        for index, caption in enumerate(tqdm(captions, f"{steps} steps", disable=None)):
            begun = time.perf_counter()
            pictures += genmoji.generate(
                caption.text, seed=FIRST_SEED + index, template="{prompt}", steps=steps, guidance=guidance
            )
            seconds.append(time.perf_counter() - begun)
        verdicts = judge_labels(recogniser, [picture.image for picture in pictures], captions)
        found.append(sum(verdict.top5 for verdict in verdicts))
        took.append(float(np.median(seconds)))
    points = 100 * (found[1] - found[0]) / len(captions)
    yield Row(
        what=f"{len(captions)} captions in 4 steps without guidance against 25 with: recognised (top-5)",
        goal="at most 5 points fewer",
        measured=f"{found[0]} / {found[1]}",
        met=points <= 5,
        note=f"a sticker takes {took[0]:.2f} s and {took[1]:.2f} s (medians, warm)",
    )


if __name__ == "__main__":
    from mlx_genmoji import Genmoji

    for row in measure(Genmoji.load(*sys.argv[1:2]), write=False):
        print(f"{row.what}: {row.measured} (goal: {row.goal}; {row.note})", flush=True)

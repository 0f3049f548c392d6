"""How recognisable the built-in model's pictures are: 200 training captions, judged by a recogniser of emoji.

`rows()` draws every caption of captions.txt once, with a seed that training never saw, and asks the recogniser
(recogniser.py, taught by other vendors' drawings alone) for the label of each picture. The real pictures of the same
200 rows are judged in the same run, through the same resize: the recogniser is far from perfect, so what counts is the
model's figure beside theirs. Judging the same pictures against captions in shuffled order says what chance would give.

A picture is right at top-1 where the recogniser's first label, of all its classes, is the caption's own; at top-5 where
it is among the first five. No classes are merged, however alike they look, and a label the recogniser lacks is a miss.

    python tests/benchmarks/bench_pictures.py FOLDER

judges pictures drawn elsewhere, 000.png to 199.png in the captions' order, and writes no file.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from recogniser import Recogniser
from row import Row
from tqdm import tqdm

from mlx_genmoji.generation.image_start import to_array
from mlx_genmoji.pictures import fit_picture
from scrape.sources import collect

if TYPE_CHECKING:
    from mlx_genmoji import Genmoji

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
DATA = ROOT / "data"
CAPTIONS = FOLDER / "captions.txt"
RESULTS = FOLDER / "captions-results.tsv"
SHEET = ROOT / "docs" / "pictures" / "captions-200.png"

SIZE = 160
FIRST_SEED = 1_000_000
SHUFFLE_SEED = 1


class Caption(NamedTuple):
    """A line of captions.txt: what the model is asked for, and the training picture it was asked about."""

    text: str
    label: str
    hexcode: str
    source: str


class Verdict(NamedTuple):
    """What the recogniser said of one picture, and whether the caption's label was first, or among the first five."""

    top1: bool
    top5: bool
    said: str


def rows() -> Iterator[Row]:
    """Draws, judges, and writes the contact sheet and the verdicts; three figures, each at top-1 and top-5, and the
    autoencoder's own."""
    from mlx_genmoji import Genmoji

    captions = read_captions()
    recogniser = Recogniser.load(collected_data())
    genmoji = Genmoji.load()
    pictures = [
        draw(genmoji, caption.text, FIRST_SEED + index)
        for index, caption in enumerate(tqdm(captions, desc="pictures", disable=None))
    ]
    generated = judge(recogniser, pictures, captions)
    real = judge(recogniser, real_pictures(captions), captions)
    save_verdicts(RESULTS, captions, generated, real)
    SHEET.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, captions, generated).save(SHEET, optimize=True)
    yield from compare(recogniser, pictures, captions, generated, real)
    originals = [fit_picture(on_white(picture), *genmoji.size) for picture in real_pictures(captions)]
    decoded = [through_autoencoder(genmoji, picture) for picture in tqdm(originals, disable=None)]
    kept = judge(recogniser, decoded, captions)
    small, full = decibels(originals, decoded, 32), decibels(originals, decoded, genmoji.size[0])
    yield Row(
        what="the real pictures through the built-in model's autoencoder alone, label recognised (top-1, top-5)",
        goal="reported",
        measured=f"{sum(verdict.top1 for verdict in kept)}, {sum(verdict.top5 for verdict in kept)}",
        met=None,
        note="what no model over these latents can be expected to pass;"
        f" {full:.1f} dB, and {small:.1f} dB where both are made 32 px wide",
    )


def draw(genmoji: Genmoji, caption: str, seed: int) -> Image.Image:
    """One picture of exactly this caption."""
    return genmoji.generate(caption, count=1, seed=seed, template="{prompt}")[0].image


def through_autoencoder(genmoji: Genmoji, picture: Image.Image) -> Image.Image:
    """A picture of the model's size, encoded and decoded."""
    config = genmoji.vae.config
    mean, _ = genmoji.vae.encode(to_array(picture))
    return genmoji.preview((mean - (config.shift_factor or 0.0)) * config.scaling_factor)


def decibels(originals: Sequence[Image.Image], decoded: Sequence[Image.Image], size: int) -> float:
    """The peak signal-to-noise ratio of all pictures together, each made `size` px square by mean of areas."""
    difference = [
        np.subtract(
            *(
                np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BOX), np.float64)
                for picture in pair
            )
        )
        for pair in zip(originals, decoded, strict=True)
    ]
    return float(10 * np.log10(255**2 / np.square(difference).mean()))


def collected_data() -> Path:
    """The folder of the training pictures, which are collected now where they are missing."""
    for source in ("fluent", "noto"):
        if not (DATA / source / "metadata.jsonl").exists():
            collect(source, DATA / source)
    return DATA


def read_captions() -> list[Caption]:
    lines = CAPTIONS.read_text(encoding="utf-8").splitlines()[1:]
    return [Caption(*line.split("\t")) for line in lines]


def real_pictures(captions: Sequence[Caption]) -> list[Image.Image]:
    """The training picture of each caption."""
    files = {}
    for source in {caption.source for caption in captions}:
        for line in (DATA / source / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            files[source, row["hexcode"]] = DATA / source / row["file_name"]
    return [Image.open(files[caption.source, caption.hexcode]) for caption in captions]


def judge(recogniser: Recogniser, pictures: Sequence[Image.Image], captions: Sequence[Caption]) -> list[Verdict]:
    said = recogniser.top(5, [on_white(picture) for picture in pictures])
    return [
        Verdict(caption.label == labels[0], caption.label in labels, labels[0])
        for caption, labels in zip(captions, said, strict=True)
    ]


def on_white(picture: Image.Image) -> Image.Image:
    """The one path of generated and real pictures to the recogniser: `SIZE` px square, RGB, on white."""
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def compare(
    recogniser: Recogniser,
    pictures: Sequence[Image.Image],
    captions: Sequence[Caption],
    generated: Sequence[Verdict],
    real: Sequence[Verdict],
) -> Iterator[Row]:
    """The figures of `generated` beside those of `real` and of chance."""
    shuffled = list(captions)
    random.Random(SHUFFLE_SEED).shuffle(shuffled)
    control = judge(recogniser, pictures, shuffled)
    unknown = sum(caption.label not in recogniser.labels for caption in captions)
    note = f"of {len(captions)} pictures, {len(recogniser.labels)} labels"
    note += f"; {unknown} captions have a label it does not know" if unknown else ""
    for name in ("top1", "top5"):
        drawn, ours, chance = (sum(getattr(v, name) for v in verdicts) for verdicts in (generated, real, control))
        yield Row(
            what=f"built-in model, label recognised ({name.replace('top', 'top-')}): generated / real pictures",
            goal="reported",
            measured=f"{drawn} / {ours} = {drawn / max(ours, 1):.2f}; captions shuffled: {chance}",
            met=None,
            note=note,
        )


def save_verdicts(
    path: Path, captions: Sequence[Caption], generated: Sequence[Verdict], real: Sequence[Verdict]
) -> None:
    columns = [f"{whose} {what}" for whose in ("generated", "real") for what in ("top-1", "top-5", "said")]
    lines = ["\t".join(("caption", "label", *columns))]
    for caption, *verdicts in zip(captions, generated, real, strict=True):
        cells = [cell for v in verdicts for cell in (str(int(v.top1)), str(int(v.top5)), v.said)]
        lines.append("\t".join((caption.text, caption.label, *cells)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


# What the recogniser said of a picture, as the colour of its caption.
COLOURS = {(True, True): "#15803d", (False, True): "#b45309", (False, False): "#6b7280"}


def contact_sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[Caption],
    verdicts: Sequence[Verdict] | None = None,
    columns: int = 20,
) -> Image.Image:
    """Pictures in rows, each above its caption: green where recognised at top-1, amber at top-5, grey where not."""
    side, width, height, lines = 96, 116, 146, 3
    font = ImageFont.load_default(size=11)
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = index % columns * width, index // columns * height
        small = on_white(picture).resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(small, (left + (width - side) // 2, top + 4))
        colour = COLOURS[verdicts[index].top1, verdicts[index].top5] if verdicts else "black"
        text = "\n".join(_wrap(caption.text, font, width - 6)[:lines])
        pen.multiline_text((left + width / 2, top + side + 6), text, colour, font, "ma", spacing=1, align="center")
    return sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def score(folder: Path) -> list[Row]:
    """The rows for the pictures in `folder`, one per caption and in the captions' order when sorted by name."""
    captions = read_captions()
    pictures = [Image.open(path) for path in sorted(folder.glob("*.png"))]
    if len(pictures) != len(captions):
        raise SystemExit(f"{folder} holds {len(pictures)} pictures; {CAPTIONS.name} has {len(captions)} captions.")
    recogniser = Recogniser.load(collected_data())
    generated = judge(recogniser, pictures, captions)
    real = judge(recogniser, real_pictures(captions), captions)
    return list(compare(recogniser, pictures, captions, generated, real))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Judge pictures of the captions in captions.txt.")
    parser.add_argument("folder", type=Path, help="000.png to 199.png, in the captions' order")
    for row in score(parser.parse_args().folder):
        print(f"{row.what}: {row.measured} ({row.note})")

"""Measures an adapter over 4-bit weights: the built-in model learns Twemoji's style in the 500 steps of a recipe.

`train/recipes/lora-4bit.yaml` is run twice: over the base in 4 bits, as written, and over the unquantized base. Judged
are held-out pictures: for each of the five tones, the first `PER_TONE` in the dataset's order that show enough skin
(skin.py). Each is drawn with one seed by the base alone, in the first of its styles, and by the base with the adapter;
the contact sheet shows both with the original.

The validation loss is that of the recipe's held-out pictures on fixed noise. The share of the improvement that the
4-bit run keeps is (unquantized loss before - 4-bit loss after) / (unquantized loss before - unquantized loss after).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench_pictures import DATA, ROOT, on_white
from PIL import Image, ImageDraw, ImageFont
from row import Row
from skin import LEAST, TWEMOJI, skin_distance, skin_mask

from mlx_genmoji import Genmoji
from scrape.sources import collect

RECIPE = ROOT / "train" / "recipes" / "lora-4bit.yaml"
SHEET = ROOT / "docs" / "pictures" / "adapter-twemoji.png"
RESULTS = Path(__file__).with_name("finetuning-results.tsv")
SOURCE = "twemoji"
HELD_OUT = 400
PER_TONE = 8
SEED = 2_000_000
SIDE = 96


class Judged(NamedTuple):
    """A held-out picture."""

    prompt: str
    tone: str
    original: Image.Image


class Run(NamedTuple):
    """The result of a training run."""

    adapter: Path
    before: float
    """The validation loss before the first step."""
    after: float
    seconds_per_step: float
    steps: int


def rows() -> Iterator[Row]:
    if not (DATA / SOURCE / "metadata.jsonl").exists():
        collect(SOURCE, DATA / SOURCE)
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for name, bits in (("4 bits", 4), ("full precision", "null")):
            output = Path(folder) / name.replace(" ", "-")
            settings = {"output": output, "bits": bits, "data.folders": f"[{DATA / SOURCE}]"}
            settings |= {"validation.pictures": HELD_OUT, "sample_prompts": "[]"}
            train(settings)
            runs[name] = read_run(output / "adapter.safetensors", output / "log.jsonl")
        judged = held_out_skins()
        yield from validation_rows(runs["4 bits"], runs["full precision"])
        yield from skin_rows(judged, runs["4 bits"].adapter)


def train(settings: dict[str, object]) -> None:
    """Run the recipe in a process of its own, with two threads that share the cores."""
    sets = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "mlx_genmoji", "train", str(RECIPE), *sets]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})


def read_run(adapter: Path, log: Path) -> Run:
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [entry["validation_loss"] for entry in entries if "validation_loss" in entry]
    seconds = statistics.median(entry["seconds_per_step"] for entry in entries if "seconds_per_step" in entry)
    return Run(adapter, losses[0], losses[-1], seconds, entries[-1]["step"])


def validation_rows(four: Run, full: Run) -> Iterator[Row]:
    kept = (full.before - four.after) / (full.before - full.after)
    yield Row(
        what="adapter of Twemoji's style on the built-in model, 4-bit base: improvement in validation loss kept",
        goal=">= 90 %",
        measured=f"{kept:.1%}: {four.before:.3f} -> {four.after:.3f}, dense {full.before:.3f} -> {full.after:.3f}",
        met=kept >= 0.9,
        note=f"{four.steps} steps of {four.seconds_per_step:.2f} s, full precision {full.seconds_per_step:.2f} s",
    )


def held_out_skins() -> list[Judged]:
    """The held-out pictures to judge; see the module's docstring."""
    from train.adapter.recipe import LoRARecipe
    from train.adapter.validation import held_out
    from train.data.dataset import Dataset
    from train.recipe import build, read_recipe

    recipe = build(LoRARecipe, read_recipe(RECIPE, [f"data.folders=[{DATA / SOURCE}]"]))
    dataset = Dataset(recipe.data, recipe.output.parent / "cache")
    found: dict[str, list[Judged]] = {tone: [] for tone in TWEMOJI}
    for index in held_out(dataset.hashes, HELD_OUT):
        folder, row = dataset.rows[index]
        if len(row["skin_tone"]) != 1 or len(found[row["skin_tone"][0]]) == PER_TONE:
            continue
        tone, original = row["skin_tone"][0], Image.open(folder / row["file_name"])
        if skin_mask(original, tone, recipe.data.size).mean() >= LEAST:
            found[tone].append(Judged(row["text"], tone, original))
    return [item for items in found.values() for item in items]


def skin_rows(judged: list[Judged], adapter: Path) -> Iterator[Row]:
    genmoji = Genmoji.load(bits=4)
    size = genmoji.size[0]
    drawn, distances = {}, {}
    for name, adapters in (("before", []), ("after", [adapter])):
        genmoji.set_adapters(adapters)
        drawn[name] = [genmoji.generate(item.prompt, seed=SEED, variety=0)[0].image for item in judged]
        distances[name] = [
            skin_distance(picture, item.original, item.tone, size)
            for picture, item in zip(drawn[name], judged, strict=True)
        ]
    save_results(judged, distances)
    SHEET.parent.mkdir(parents=True, exist_ok=True)
    sheet(judged, drawn, distances).save(SHEET, optimize=True)
    before, after = (statistics.mean(distances[name]) for name in ("before", "after"))
    by_tone: dict[str, list[float]] = {tone: [] for tone in TWEMOJI}
    for item, distance in zip(judged, distances["after"], strict=True):
        by_tone[item.tone].append(distance)
    tones = ", ".join(f"{tone} {statistics.mean(values):.1f}" for tone, values in by_tone.items())
    yield Row(
        what="the same, skin's colour to that of the held-out original in CIE Lab: before -> after the adapter",
        goal="falls by >= 50 %",
        measured=f"{before:.1f} -> {after:.1f}, by {1 - after / before:.0%}",
        met=after <= before / 2,
        note=f"{len(judged)} pictures; after, by tone: {tones}",
    )


def save_results(judged: list[Judged], distances: dict[str, list[float]]) -> None:
    lines = ["prompt\ttone\tbefore\tafter"]
    for item, before, after in zip(judged, distances["before"], distances["after"], strict=True):
        lines.append(f"{item.prompt}\t{item.tone}\t{before:.1f}\t{after:.1f}")
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sheet(judged: list[Judged], drawn: dict[str, list[Image.Image]], distances: dict[str, list[float]]) -> Image.Image:
    """For each picture three below one another: drawn before, drawn after, the original; a row of blocks per tone."""
    font, label = ImageFont.load_default(11), 16
    height = 3 * SIDE + label
    image = Image.new("RGB", (PER_TONE * SIDE, -(-len(judged) // PER_TONE) * height), "white")
    pen = ImageDraw.Draw(image)
    for index, item in enumerate(judged):
        left, top = index % PER_TONE * SIDE, index // PER_TONE * height
        for place, picture in enumerate((drawn["before"][index], drawn["after"][index], item.original)):
            image.paste(on_white(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, top + place * SIDE))
        text = f"{distances['before'][index]:.0f} -> {distances['after'][index]:.0f}"
        pen.text((left + SIDE / 2, top + 3 * SIDE + label / 2), text, "black", font, "mm")
    return image

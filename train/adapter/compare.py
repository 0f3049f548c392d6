"""`--compare`: memory, time and quality of training over a quantized base, beside training in full precision.

Quantize before: the adapter is trained over a base of 8 or 4 bits and stays beside it. Quantize after: it is trained in
full precision, fused into the weights, and these are quantized. All are trained by one recipe on one dataset and judged
on the same held-out pictures:

- validation loss: the mean over bands of timesteps, on noise that is always the same;
- dB to real: the mean PSNR of the pictures drawn of their captions, one seed, to the held-out pictures;
- dB to full: the same to the pictures of the run in full precision.
"""

import gc
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlx_genmoji import Genmoji
from mlx_genmoji.errors import UserError
from mlx_genmoji.prompt.safety import check_safe

from ..data.dataset import Dataset
from ..fit.distributed import World
from ..options import Options
from .fusing import NO_FUSE, check_packable, fuse_into
from .recipe import LoRARecipe
from .run import ADAPTER, load_objective, train_lora
from .validation import LARGEST_SHARE, held_out

MAX_DRAWN = 16
"""Held-out pictures that are drawn."""

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Judgement:
    """How well a model does on the held-out pictures."""

    loss: float
    drawn: Pictures
    real: Pictures

    def decibels(self, other: Pictures | None = None) -> float:
        """The mean PSNR of the drawn pictures to the real ones, or to others."""
        other = self.real if other is None else other
        errors = np.square(self.drawn.astype(np.float64) - other).mean((1, 2, 3))
        return float(np.mean(10 * np.log10(255**2 / np.maximum(errors, 1e-3))))


def compare_bases(recipe: LoRARecipe, options: Options) -> str:
    """Train on each base, and judge; the table as Markdown, which is written to `output` too, with its rows as JSON.

    Raises UserError, before anything is trained, where there is nothing to judge on or the base cannot be packed.
    """
    recipe = replace(recipe, cache=recipe.cache_folder, fuse_bits=None)
    check(recipe)
    if options.fuse is None:
        raise UserError(NO_FUSE)
    rows: list[dict[str, Any]] = []
    full: Judgement | None = None
    for bits in (None, 8, 4):
        name = f"{bits} bits" if bits else "full precision"
        plain = replace(recipe.lora, init="zero")
        # There is no quantization error to start from in full precision.
        lora = plain if bits is None and recipe.lora.init == "loftq" else recipe.lora
        run = replace(recipe, bits=bits, lora=lora, output=recipe.output / name.replace(" ", "-"))
        adapter = train_lora(run, options)
        before, after = judge(replace(run, lora=plain)), judge(replace(run, start_from=adapter))
        full = full or after
        rows.append(_row(name, "trained over it", before, after, full) | _costs(run.output / "log.jsonl"))
    adapter = recipe.output / "full-precision" / ADAPTER
    for bits, row in ((8, rows[1]), (4, rows[2])):
        folder = recipe.output / f"fused-{bits}-bits"
        kept = fuse_into(options.fuse, recipe.base, [adapter], bits, folder)
        after = judge(replace(recipe, bits=None, lora=replace(recipe.lora, init="zero"), base=str(folder)))
        assert full is not None
        judged = _row(f"{bits} bits", "trained in full precision, then fused into it", None, after, full)
        rows.append(judged | {name: row[name] for name in ("loss before", "dB to real before")} | {"kept": kept})
    for row in rows:
        improved = rows[0]["loss before"] - rows[0]["loss after"]
        # There is no share of no improvement.
        if improved > 0:
            row["of the improvement"] = (row["loss before"] - row["loss after"]) / improved
    recipe.output.mkdir(parents=True, exist_ok=True)
    (recipe.output / "compare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = as_markdown(rows)
    (recipe.output / "compare.md").write_text(table + "\n", encoding="utf-8")
    return table


def check(recipe: LoRARecipe) -> None:
    """Raise UserError where the comparison could not be finished."""
    if World().size > 1:
        raise UserError("--compare is for one machine: train on several without it.")
    dataset = Dataset(recipe.data, recipe.cache_folder)
    rows = held_out(dataset.hashes, recipe.validation.pictures)
    if not len(rows):
        raise UserError(
            "--compare judges on held-out pictures, and there are none: it needs 'validation.pictures' of 1 or more and"
            f" a dataset of {LARGEST_SHARE} pictures or more, not {recipe.validation.pictures} and {len(dataset)}."
        )
    for row in rows[:MAX_DRAWN].tolist():
        check_safe(dataset.captions[row])
    genmoji = Genmoji.load(recipe.base)
    if genmoji.quantization is not None:
        raise UserError(f"--compare needs the base in full precision too, and {genmoji.name} is packed.")
    for bits in (8, 4):
        check_packable(genmoji.models, bits, "--compare")


def judge(recipe: LoRARecipe) -> Judgement:
    """The base of a recipe, with the adapter that it starts from if there is one, on the held-out pictures."""
    gc.collect()
    mx.clear_cache()
    objective = load_objective(recipe)
    dataset = objective.dataset
    rows = objective.validation_rows[:MAX_DRAWN].tolist()
    drawn = objective.paint([dataset.captions[row] for row in rows])
    side = (drawn.shape[2], drawn.shape[1])
    real = [np.asarray(Image.fromarray(dataset.pictures[row]).resize(side, Image.Resampling.LANCZOS)) for row in rows]
    losses = objective.validate()
    return Judgement(sum(losses) / len(losses), drawn, np.stack(real))


def _row(base: str, route: str, before: Judgement | None, after: Judgement, full: Judgement) -> dict[str, Any]:
    row: dict[str, Any] = {"base": base, "adapter": route}
    if before is not None:
        row |= {"loss before": before.loss, "dB to real before": before.decibels()}
    row |= {"loss after": after.loss, "dB to real after": after.decibels()}
    return row | ({} if after is full else {"dB to full": after.decibels(full.drawn)})


def _costs(log: Path) -> dict[str, Any]:
    """Peak memory of the training in GB and seconds of a step, the median of what was logged."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [entry for entry in entries if "loss" in entry]
    return {
        "memory": max(entry["peak_memory_gb"] for entry in steps),
        "seconds": float(np.median([entry["seconds_per_step"] for entry in steps])),
    }


COLUMNS = (
    ("base", "{}"),
    ("adapter", "{}"),
    ("memory", "{:.2f} GB"),
    ("seconds", "{:.2f} s a step"),
    ("loss before", "{:.4f}"),
    ("loss after", "{:.4f}"),
    ("of the improvement", "{:.0%}"),
    ("dB to real before", "{:.2f}"),
    ("dB to real after", "{:.2f}"),
    ("dB to full", "{:.1f}"),
    ("kept", "{:.2f}"),
)


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """`kept`: the cosine of the change of the quantized weights and the one that was learned."""
    lines = ["| " + " | ".join(name for name, _ in COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = [form.format(row[name]) if name in row else "" for name, form in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)

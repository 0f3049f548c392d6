"""What a run of an adapter leaves to choose from: the adapters of the last checkpoints and the best one, each with what
it draws, and the curve of the losses."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mlx_genmoji.lora import Adapter, load_adapter

from ..fit.curve import draw_curve
from ..model.autoencoder import sheet

if TYPE_CHECKING:
    from .lora import LoRAObjective

BEST = "best"

# What may be another in a run that goes on: where things lie, of which hashes are compared, how often they are looked
# at, and how a step is computed.
FREE = {
    "": ("output", "cache", "base", "start_from", "sample_prompts", "sample_seed", "checkpointing", "fuse_bits"),
    "data.": ("folders",),
    "validation.": ("every",),
    "loop.": ("checkpoint_every", "keep", "log_every", "sample_every", "compiled", "threads", "accumulation"),
}

LABEL_WIDTH = 110


class AdapterFollower:
    """See the module's docstring. Everything is in the recipe's `output`."""

    # The second because a loss that is not finite any more asks for it.
    may_change = ("loop.steps", "loop.learning_rate")

    def __init__(self, objective: LoRAObjective):
        self.objective = objective
        self.recipe = objective.recipe
        self.folder = objective.recipe.output / "adapters"
        self.validate_every = self.recipe.validation.every if len(objective.validation_rows) else 0

    @property
    def settings(self) -> dict[str, Any]:
        """What a run that goes on must have in common with the one before."""
        own = flatten(json.loads(json.dumps(asdict(self.recipe), default=str)))
        for section, names in FREE.items():
            for name in names:
                own.pop(section + name, None)
        own["the base's weights"] = self.objective.base["base_sha256"]
        own["the dataset"] = self.objective.dataset.sha256
        if self.recipe.start_from:
            own["the adapter to start from"] = fingerprint(load_adapter(self.recipe.start_from))
        return own

    def resumed(self, steps: int) -> None:
        """Drop what a killed run kept after its last checkpoint: these steps are taken again. The best stays."""
        beyond = [path for path in self.folder.glob("[0-9]*.*") if int(path.stem) > steps]
        for path in (*beyond, *self.folder.glob(".*.partial*")):
            path.unlink()

    def validate(self) -> list[float]:
        return self.objective.validate()

    def keep(self, steps: int, checkpoint: bool, best: bool) -> None:
        """Write the adapter and what it draws, and drop the oldest that is not the best."""
        names = [name for name, wanted in ((f"{steps:06d}", checkpoint), (BEST, best)) if wanted]
        for name in names:
            self.objective.save(self.folder / f"{name}.safetensors", steps)
        if self.recipe.sample_prompts:
            drawn = sheet(self.objective.paint(self.recipe.sample_prompts), len(self.recipe.sample_prompts))
            for name in names:
                save_picture(drawn, self.folder / f"{name}.png")
        for old in sorted(self.folder.glob("[0-9]*.safetensors"))[: -self.recipe.loop.keep]:
            old.unlink()
            old.with_suffix(".png").unlink(missing_ok=True)

    def draw(self, log: list[dict[str, Any]]) -> None:
        """Draw the curve of the losses, and below one another what the kept adapters draw."""
        trained = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
        validated = [entry for entry in log if "validation_loss" in entry]
        curves = {"training": trained, "validation": [(e["step"], e["validation_loss"]) for e in validated]}
        for band in range(self.recipe.validation.bands):
            name = f"noise {band + 1} of {self.recipe.validation.bands}"
            curves[name] = [(entry["step"], entry["validation_bands"][band]) for entry in validated]
        draw_curve(curves, self.recipe.output / "curve.png")

        losses = {entry["step"]: entry["validation_loss"] for entry in validated}
        best = min(losses, key=lambda step: losses[step], default=None)
        rows = {}
        for path in sorted(self.folder.glob("*.png")):
            step = best if path.stem == BEST else int(path.stem)
            label = f"{path.stem}\nstep {step}" if path.stem == BEST else f"step {step}"
            # One that is damaged is no reason to stop a training.
            with suppress(OSError, SyntaxError), Image.open(path) as opened:
                rows[label + (f"\n{losses[step]:.4f}" if step in losses else "")] = opened.convert("RGB")
        if rows:
            save_picture(choosing_sheet(rows), self.recipe.output / "choose.png")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, moved into place when whole."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        picture.save(partial, "PNG")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def choosing_sheet(pictures: dict[str, Image.Image]) -> Image.Image:
    """Pictures of one size below one another, each with its label at the left."""
    width, height = next(iter(pictures.values())).size
    image = Image.new("RGB", (LABEL_WIDTH + width, height * len(pictures)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    for row, (label, picture) in enumerate(pictures.items()):
        draw.multiline_text((8, (row + 0.5) * height), label, "black", font, anchor="lm")
        image.paste(picture, (LABEL_WIDTH, row * height))
    return image


def fingerprint(adapter: Adapter) -> str:
    """A hash of what an adapter does: that of its file depends on how it happens to be written."""
    digest = hashlib.sha256()
    for path, layer in sorted(adapter.layers.items()):
        digest.update(f"{path} {layer.alpha}".encode())
        for array in (layer.down, layer.up, layer.dora_scale):
            digest.update(b"" if array is None else np.asarray(array.astype(mx.float32)).tobytes())
    return digest.hexdigest()


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"loop": {"steps": 5}} -> {"loop.steps": 5}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat

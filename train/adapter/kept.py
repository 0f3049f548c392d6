"""The adapters that a run keeps to choose from: those of the last checkpoints and the best one, each with its
pictures of the sample prompts, and the curve of the losses."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mlx_genmoji.files import whole_file

from ..fit.curve import draw_curve
from ..sheets import sheet
from .objective import LoRAObjective

BEST = "best"

LABEL_WIDTH = 110


class AdapterFollower:
    """See the module's docstring. Everything is in the recipe's `output`."""

    def __init__(self, objective: LoRAObjective):
        self.objective = objective
        self.recipe = objective.recipe
        self.folder = objective.recipe.output / "adapters"
        self.validate_every = self.recipe.validation.every if len(objective.validation_rows) else 0

    def resumed(self, steps: int) -> None:
        """Drop the adapters after the last checkpoint, `steps`: those steps are taken again. The best stays."""
        beyond = [path for path in self.folder.glob("[0-9]*.*") if int(path.stem) > steps]
        for path in (*beyond, *self.folder.glob(".*.partial*")):
            path.unlink()

    def validate(self) -> list[float]:
        return self.objective.validate()

    def keep(self, steps: int, checkpoint: bool, best: bool) -> None:
        """Write the adapter and its pictures, and drop the oldest that is not the best."""
        names = [name for name, wanted in ((f"{steps:06d}", checkpoint), (BEST, best)) if wanted]
        for name in names:
            self.objective.save(self.folder / f"{name}.safetensors", steps)
        if self.recipe.sample_prompts:
            pictures = sheet(self.objective.paint(self.recipe.sample_prompts), len(self.recipe.sample_prompts))
            for name in names:
                save_picture(pictures, self.folder / f"{name}.png")
        for old in sorted(self.folder.glob("[0-9]*.safetensors"))[: -self.recipe.loop.keep]:
            old.unlink()
            old.with_suffix(".png").unlink(missing_ok=True)

    def draw(self, log: list[dict[str, Any]]) -> None:
        """Draw the curve of the losses, and the kept adapters' pictures below one another."""
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
    """Write a PNG whole or not at all."""
    with whole_file(path) as partial:
        picture.save(partial, "PNG")


def choosing_sheet(pictures: dict[str, Image.Image]) -> Image.Image:
    """Pictures of one size below one another, each with its label at the left."""
    width, height = next(iter(pictures.values())).size
    image = Image.new("RGB", (LABEL_WIDTH + width, height * len(pictures)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    for row, (label, picture) in enumerate(pictures.items()):
        draw.multiline_text((8, (row + 0.5) * height), label, "black", font, anchor="lm")
        image.paste(picture, (LABEL_WIDTH, row * height))
    return image

"""Draws the README's picture, docs/pictures/samples.png: the prompts below, each with the same seed.

python tests/benchmarks/draw_samples.py
"""

from __future__ import annotations

from pathlib import Path

# Before MLX.
import fast_cpu  # noqa: F401

# isort: split

from bench_pictures import Caption, contact_sheet

from mlx_genmoji import Genmoji

SHEET = Path(__file__).parents[2] / "docs" / "pictures" / "samples.png"
SEED = 7
PROMPTS = (
    "flying pig",
    "grinning face",
    "cat riding a skateboard",
    "red apple",
    "frog in a cup",
    "woman astronaut",
    "penguin with a balloon and sunglasses",
    "rocket",
    "sad pizza",
    "octopus",
    "blue cat wearing a crown",
    "guitar",
    "panda in love",
    "birthday cake",
    "unicorn eating a pizza",
    "sunflower",
    "burning guitar",
    "ghost",
    "santa riding a motorcycle",
    "dog face",
)


def main() -> None:
    genmoji = Genmoji.load()
    pictures = [genmoji.generate(prompt, seed=SEED)[0].image for prompt in PROMPTS]
    captions = [Caption(prompt, prompt, "", "") for prompt in PROMPTS]
    SHEET.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, captions, columns=10).save(SHEET, optimize=True)


if __name__ == "__main__":
    main()

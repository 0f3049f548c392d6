"""Draws the prompts of `prompts.tsv` with the built-in model, as `genmoji generate` does, into sheets of 40.

    python tests/benchmarks/draw_prompts.py [FILE.tsv] [-o FOLDER]     # default: prompts.tsv, docs/pictures

Writes prompts-1.jpg and so on, each picture above its prompt, and prompts-drawn.tsv: prompt, captions, notes.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import fast_cpu  # noqa: F401
from PIL import Image, ImageDraw

from mlx_genmoji import Genmoji, UserError

FOLDER = Path(__file__).parent
SIDE, TEXT, COLUMNS, ROWS = 160, 44, 8, 5
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", type=Path, default=FOLDER / "prompts.tsv")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER.parents[1] / "docs" / "pictures")
    arguments = parser.parse_args()
    lines = [line for line in arguments.file.read_text("utf-8").splitlines() if not line.startswith("#")]
    prompts = [line.split("\t")[0] for line in lines[1:]]
    genmoji = Genmoji.load()
    drawn = ["prompt\tcaptions\tnotes"]
    cells = []
    for prompt in prompts:
        try:
            sticker = genmoji.generate(prompt, seed=SEED)[0]
        except UserError as error:
            cells.append((None, prompt, str(error)))
            drawn.append(f"{prompt}\t\t{error}")
            continue
        recipe = sticker.recipe
        parts = recipe.get("combination")
        texts = [recipe["final_prompt"]] if parts is None else [parts["subject"]["text"]]
        texts += [] if parts is None else [f"{one['kind']} {one['second']}" for one in parts["joined"]]
        cells.append((sticker.image, prompt, " ".join(sticker.notes)))
        drawn.append(f"{prompt}\t{'; '.join(texts)}\t{' '.join(sticker.notes)}")
    for start in range(0, len(cells), COLUMNS * ROWS):
        sheet(cells[start : start + COLUMNS * ROWS]).save(
            arguments.output / f"prompts-{start // (COLUMNS * ROWS) + 1}.jpg", quality=82
        )
    (arguments.output / "prompts-drawn.tsv").write_text("\n".join(drawn) + "\n", encoding="utf-8")


def sheet(cells: list[tuple[Image.Image | None, str, str]]) -> Image.Image:
    page = Image.new("RGB", (COLUMNS * SIDE, -(-len(cells) // COLUMNS) * (SIDE + TEXT)), "white")
    draw = ImageDraw.Draw(page)
    for place, (image, prompt, note) in enumerate(cells):
        left, top = place % COLUMNS * SIDE, place // COLUMNS * (SIDE + TEXT)
        if image is not None:
            page.paste(image.convert("RGB").resize((SIDE - 8, SIDE - 8)), (left + 4, top))
        text = prompt.encode("ascii", "replace").decode()
        draw.text((left + 4, top + SIDE - 8), "\n".join(textwrap.wrap(text, 26)[:2]), "black")
        if note:
            draw.text(
                (left + 4, top + SIDE + 16),
                "\n".join(textwrap.wrap(note.encode("ascii", "replace").decode(), 27)[:2]),
                "red",
            )
    return page


if __name__ == "__main__":
    main()

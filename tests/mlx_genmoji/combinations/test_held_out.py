"""The held-out combinations are drawn as they were when they were first judged."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mlx_genmoji.combinations.assemble import put_together
from mlx_genmoji.combinations.reading import read
from mlx_genmoji.prompt.words import Words

HELD_OUT = Path(__file__).parents[2] / "benchmarks" / "compositions.txt"
ROWS = [line.split("\t") for line in HELD_OUT.read_text("utf-8").splitlines()[1:]]

# Each caption's picture, drawn from plain shapes: 8 x 8 mean colours in hexadecimal.
PICTURES = Path(__file__).with_name("held_out_pictures.tsv")
CELLS, SIZE = 8, 96
COLOURS = ((120, 70, 30), (30, 60, 220))


def shape(colour: tuple[int, int, int], smiley: bool) -> Image.Image:
    """An egg; a smiley is a yellow one with eyes and a mouth."""
    picture = Image.new("RGB", (SIZE, SIZE), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((14, 8, 80, 90), fill=(250, 200, 60) if smiley else colour)
    for box in ((30, 30, 40, 44), (54, 30, 64, 44), (36, 60, 58, 68)) if smiley else ():
        pen.ellipse(box, fill=(60, 30, 10))
    return picture


def cells(caption: str, source: str) -> NDArray[np.float64]:
    found = read(caption, Words({}), source)
    assert found is not None
    pictures = {
        part: shape(colour, part.role == "face" and part is not found.subject)
        for part, colour in zip(found.parts, COLOURS, strict=False)
    }
    drawn = np.asarray(put_together(found, pictures)).astype(float)
    step = SIZE // CELLS
    return drawn.reshape(CELLS, step, CELLS, step, 3).mean((1, 3))


@pytest.mark.parametrize(("caption", "source"), [(row[0], row[4]) for row in ROWS])
def test_the_picture_is_as_it_was(caption: str, source: str) -> None:
    known = dict(line.split("\t") for line in PICTURES.read_text("utf-8").splitlines())
    before = np.frombuffer(bytes.fromhex(known[caption]), np.uint8).reshape(CELLS, CELLS, 3)
    # Pillow's versions resize and rotate a little differently.
    assert np.abs(cells(caption, source) - before).max() < 4

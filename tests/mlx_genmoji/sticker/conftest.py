"""The figures that the tests cut out."""

from __future__ import annotations

import pytest
from known_figures import FINER, box, figure, shaded
from PIL import Image, ImageDraw

from mlx_genmoji import Genmoji
from mlx_genmoji.sticker import Sticker


@pytest.fixture
def ball() -> Image.Image:
    return figure(lambda pen: pen.ellipse(box(10, 14, 80, 84), (220, 40, 30)))


@pytest.fixture
def doughnut() -> Image.Image:
    """A shaded ring and the gap within it."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.ellipse(box(8, 8, 88, 88), (230, 120, 160))
        pen.ellipse(box(36, 36, 60, 60), (0, 0, 0, 0))

    return shaded(figure(draw))


@pytest.fixture
def face() -> Image.Image:
    """A flat face with the whites of its eyes and a row of teeth."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.ellipse(box(8, 8, 88, 88), (250, 190, 40))
        pen.ellipse(box(24, 26, 42, 46), "white")
        pen.ellipse(box(54, 26, 72, 46), "white")
        pen.rounded_rectangle(box(28, 58, 68, 72), 4 * FINER, "white")

    return figure(draw)


@pytest.fixture
def white_cat() -> Image.Image:
    """A white cat with an outline."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        for grown, colour in ((0, (90, 80, 80)), (2.5, "white")):
            pen.ellipse(box(14 + grown, 26 + grown, 82 - grown, 90 - grown), colour)
            pen.polygon(box(20 + grown, 6 + 2 * grown, 46, 34, 18 + grown, 54), colour)
            pen.polygon(box(76 - grown, 6 + 2 * grown, 50, 34, 78 - grown, 54), colour)
        pen.ellipse(box(34, 48, 42, 58), (40, 40, 40))
        pen.ellipse(box(54, 48, 62, 58), (40, 40, 40))

    return figure(draw)


@pytest.fixture(scope="session")
def drawn() -> list[Sticker]:
    """Stickers of the built-in model."""
    return Genmoji.load().generate("octopus", count=2, seed=7, steps=4)

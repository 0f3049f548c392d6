"""Scenes of sprites: several about one subject, and a scene as a sprite of its own."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mlx_genmoji.combinations.rasterize import cut, draw, frame
from mlx_genmoji.combinations.scenes import MARGIN, arranged, figure, picture, together
from mlx_genmoji.combinations.sprites import Sprite

SIZE = 96
BROWN, BLUE, RED = (120, 70, 30), (30, 60, 220), (220, 30, 30)


def sprite(label: str, colour: tuple[int, int, int], role: str | None = "food") -> Sprite:
    """A disc, its edge half transparent as a drawing's is."""
    image = Image.new("RGBA", (4 * SIZE, 4 * SIZE))
    ImageDraw.Draw(image).ellipse((20, 30, 360, 380), (*colour, 255))
    cropped = Sprite.cut(image.resize((SIZE, SIZE), Image.Resampling.BOX), "noto", label, role)
    assert cropped is not None
    return cropped


PIZZA, WING, CROWN, FLAME = (
    sprite("pizza", BROWN),
    sprite("wing", BLUE, None),
    sprite("crown", RED),
    sprite("fire", (250, 160, 20), None),
)


def test_a_cut_scene_on_white_is_the_drawn_one() -> None:
    scene = arranged("wings", [PIZZA, WING], "wings")
    place = frame(scene, SIZE, MARGIN)
    transparent = cut(scene.layers, SIZE, place)
    on_white = Image.alpha_composite(Image.new("RGBA", transparent.size, "white"), transparent).convert("RGB")
    difference = np.asarray(on_white).astype(int) - np.asarray(draw(scene.layers, SIZE, place))
    assert np.abs(difference).max() <= 2
    alpha = np.asarray(transparent.getchannel("A"))
    assert alpha.min() == 0 and alpha.max() == 255 and ((alpha > 0) & (alpha < 255)).any()


def test_scenes_about_one_subject_share_it() -> None:
    scenes = [arranged("wings", [PIZZA, WING], "wings"), arranged("wearing", [PIZZA, CROWN], "crown")]
    layers = together(scenes, PIZZA).layers
    assert [layer.sprite for layer in layers] == [WING, WING, PIZZA, CROWN]
    # Each part is where it is in a scene of its own, and the picture shows what the widest of them does.
    assert layers[:2] == scenes[0].layers[:2] and layers[-1] == scenes[1].layers[-1]
    assert together(scenes, PIZZA).window.side == max(scene.window.side for scene in scenes)
    assert [layer.sprite for layer in together([], PIZZA).layers] == [PIZZA]


def test_a_scene_becomes_a_sprite() -> None:
    whole = figure(arranged("fire", [PIZZA, FLAME], "fire"), PIZZA, SIZE)
    assert (whole.source, whole.role) == ("noto", "food")
    assert whole.alpha[0].any() and whole.alpha[-1].any() and whole.alpha[:, 0].any() and whole.alpha[:, -1].any()


@pytest.mark.parametrize("kind", ["wings", "fire", "hearts", "and", "on top", "count", "colour"])
@pytest.mark.parametrize("size", [64, 128, 257])
def test_a_picture_keeps_its_margin(kind: str, size: int) -> None:
    second = {"count": "three", "colour": "purple"}.get(kind, kind)
    sprites = [PIZZA] if kind in ("count", "colour") else [PIZZA, WING]
    drawn = np.asarray(picture(kind, sprites, second, size))
    assert drawn.shape == (size, size, 3)
    rows, columns = np.nonzero((drawn < 250).any(-1))
    least = int(MARGIN * size) - 1
    assert min(rows.min(), columns.min()) >= least and max(rows.max(), columns.max()) < size - least


def test_an_empty_picture_is_no_sprite() -> None:
    assert Sprite.cut(Image.new("RGBA", (8, 8)), "noto", "pig", "animal") is None

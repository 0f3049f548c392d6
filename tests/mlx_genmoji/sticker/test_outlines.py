"""Cutouts of white figures on white, whose outline is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from known_figures import box, figure, on
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.generation import with_white_corners
from mlx_genmoji.hub import BUILTIN
from mlx_genmoji.sticker import SIDE, Outlines, Sticker, fitted, packed, unpacked

SOURCES = {"3d": "fluent", "flat": "noto"}
PALE = ("ghost", "snowman", "skull", "tooth", "cloud", "white heart", "polar bear")


def ring() -> Image.Image:
    """A white ring with a grey side."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.ellipse(box(8, 8, 88, 88), "white")
        pen.pieslice(box(8, 8, 88, 88), 20, 70, (180, 180, 190))
        pen.ellipse(box(36, 36, 60, 60), (0, 0, 0, 0))

    return figure(draw)


def solid(image: Image.Image) -> NDArray[np.bool_]:
    return np.asarray(image.getchannel("A")) >= 128


def lost(sticker: Sticker, outline: NDArray[np.bool_]) -> float:
    """The share of a figure's pixels that its cutout has not."""
    return float((outline & ~solid(sticker.cutout())).sum() / outline.sum())


def test_a_white_figure_is_cut_out_along_its_outline_and_its_hole_is_open() -> None:
    original = ring()
    outline, picture = solid(original), on("white", original)
    assert lost(Sticker(picture), outline) > 0.5
    cut = Sticker(picture, outline=outline).cutout()
    assert (solid(cut) != outline).mean() < 0.005
    assert np.asarray(cut)[48, 48, 3] == 0


def test_an_outline_is_right_to_about_a_pixel_and_the_picture_s_own_edges_count() -> None:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.ellipse(box(20, 20, 76, 76), (200, 40, 40))

    original = figure(draw)
    shifted = np.roll(solid(original), 1, axis=1)
    cut = Sticker(on("white", original), outline=shifted).cutout()
    assert (solid(cut) != solid(original)).mean() < 0.004


@pytest.mark.parametrize("transparent", [False, True])
def test_a_saved_png_is_cut_out_as_before(tmp_path: Path, transparent: bool) -> None:
    original = ring()
    sticker = Sticker(on("white", original), {"prompt": "ring"}, solid(original))
    sticker.save(tmp_path / "a.png", transparent=transparent)
    again = Sticker.open(tmp_path / "a.png")
    assert again.recipe == sticker.recipe
    assert np.array_equal(np.asarray(again.cutout()), np.asarray(sticker.cutout()))


def test_the_outline_of_a_picture_that_was_resized_since_is_not_used(tmp_path: Path) -> None:
    original = ring()
    Sticker(on("white", original), {}, solid(original)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("genmoji-outline", image.info["genmoji-outline"])
        for side in (48, 200):
            image.resize((side, side)).save(tmp_path / f"{side}.png", pnginfo=info)
    assert Sticker.open(tmp_path / "48.png").outline is None and Sticker.open(tmp_path / "200.png").outline is None


@pytest.mark.parametrize(
    "text", ["", "!", "eJw=", packed(np.ones((SIDE, SIDE // 2), bool)), packed(np.ones((SIDE, 200), bool))]
)
def test_a_damaged_outline_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="damaged"):
        unpacked(text)


def test_a_file_without_three_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outlines.tsv").write_text("ghost\tfluent\n")
    with pytest.raises(UserError, match="a label, a source and an outline"):
        Outlines(tmp_path).of("ghost, 3d", {"3d": "fluent"})


def test_a_caption_s_outline_is_that_of_its_label_and_style_in_any_skin_tone() -> None:
    outlines = Outlines(BUILTIN)
    plain = outlines.of("man astronaut, 3d", SOURCES)
    assert plain is not None
    toned = outlines.of("man astronaut, dark skin tone, 3d", SOURCES)
    assert toned is not None and np.array_equal(plain, toned)
    assert outlines.of("man astronaut, watercolour", SOURCES) is None
    assert outlines.of("no such thing, 3d", SOURCES) is None


@pytest.mark.usefixtures("cpu")
def test_pale_figures_that_the_built_in_model_draws_keep_all_of_themselves() -> None:
    genmoji, outlines = Genmoji.load(), Outlines(BUILTIN)
    for label in PALE:
        sticker = genmoji.generate(label, seed=3, variety=0)[0]
        outline = outlines.of(sticker.recipe["final_prompt"], SOURCES)
        assert outline is not None and np.array_equal(sticker.outline, outline)
        assert lost(sticker, outline) <= 0.01, label


@pytest.mark.usefixtures("cpu")
def test_the_outline_moves_with_the_picture_and_covers_all_of_a_combination() -> None:
    genmoji = Genmoji.load()
    for prompt in ("ghost", "skull with wings", "cat wearing a crown"):
        for seed in (1, 2):
            sticker = genmoji.generate(prompt, seed=seed)[0]
            dark = np.asarray(sticker.image).max(-1) < 150
            if sticker.outline is not None:
                assert (dark & ~sticker.outline).sum() < 0.02 * dark.sum()
            assert (dark & ~solid(sticker.cutout())).sum() < 0.02 * dark.sum()


@pytest.mark.usefixtures("cpu")
@pytest.mark.parametrize("prompt", ["cat", "ghost", "red apple", "elephant", "man astronaut"])
def test_the_border_of_a_picture_is_white_to_the_corners(prompt: str) -> None:
    pixels = np.asarray(Genmoji.load().generate(prompt, seed=1, variety=0)[0].image)
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() >= 252


def test_a_figure_at_the_border_stays() -> None:
    image = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).ellipse((60, 60, 120, 120), (230, 230, 240))
    image.putpixel((0, 0), (225, 225, 230))
    cleaned = with_white_corners(np.asarray(image))
    assert cleaned[0, 0].min() == 255 and cleaned[80, 80].tolist() == [230, 230, 240]


def test_fitted_outlines_have_a_soft_edge_in_any_size() -> None:
    half = np.zeros((SIDE, SIDE), bool)
    half[:, : SIDE // 2] = True
    for size in ((SIDE, SIDE), (512, 512), (64, 32)):
        alpha = fitted(half, size)
        assert alpha.shape == size[::-1] and alpha[0, 0] == 1 and alpha[0, -1] == 0
        assert ((alpha > 0.1) & (alpha < 0.9)).any()

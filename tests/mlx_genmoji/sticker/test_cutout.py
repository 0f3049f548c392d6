"""A cutout against figures whose transparency is known: what is kept, what is cleared, and the edge between."""

from __future__ import annotations

import io

import numpy as np
import pytest
from known_figures import box, figure, on, shaded
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mlx_genmoji.sticker import Sticker
from mlx_genmoji.sticker.cutout import components

FIGURES = ("ball", "doughnut", "face", "white_cat")


def alpha(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.getchannel("A")).astype(np.float32) / 255


def difference(first: Image.Image, second: Image.Image) -> NDArray[np.int32]:
    """Levels, of the channel that differs most."""
    return np.abs(np.asarray(first).astype(np.int32) - np.asarray(second).astype(np.int32)).max(-1)


@pytest.mark.parametrize("name", FIGURES)
def test_a_cutout_has_the_transparency_that_was_drawn(name: str, request: pytest.FixtureRequest) -> None:
    original = request.getfixturevalue(name)
    error = np.abs(alpha(Sticker(on("white", original)).cutout()) - alpha(original))
    assert error.mean() < 0.003 and error.max() < 0.5


@pytest.mark.parametrize("name", FIGURES)
def test_no_white_is_left_on_the_edge(name: str, request: pytest.FixtureRequest) -> None:
    original = request.getfixturevalue(name)
    cut = Sticker(on("white", original)).cutout()
    edge = (alpha(original) > 0.02) & (alpha(original) < 0.98)
    assert difference(on("black", cut), on("black", original))[edge].mean() < 12


@pytest.mark.parametrize("name", FIGURES)
def test_a_cutout_on_white_is_the_picture(name: str, request: pytest.FixtureRequest) -> None:
    picture = on("white", request.getfixturevalue(name))
    assert difference(on("white", Sticker(picture).cutout()), picture).max() <= 2


def test_teeth_and_eyes_stay(face: Image.Image) -> None:
    cut = alpha(Sticker(on("white", face)).cutout())
    assert cut[66, 48] == cut[36, 33] == cut[36, 63] == 1


def test_the_whites_of_a_shaded_figure_stay() -> None:
    """They are never as white throughout as the background."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.ellipse(box(8, 8, 88, 88), (250, 190, 40))
        pen.ellipse(box(24, 26, 50, 56), "white")

    original = shaded(figure(draw))
    assert alpha(Sticker(on("white", original)).cutout())[40, 36] == 1


def test_the_gap_of_a_shaded_figure_is_opened(doughnut: Image.Image) -> None:
    assert alpha(Sticker(on("white", doughnut)).cutout())[48, 48] == 0


def test_a_white_gap_of_a_flat_figure_stays() -> None:
    """Nothing tells it from a tooth."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.ellipse(box(8, 8, 88, 88), (230, 120, 160))
        pen.ellipse(box(36, 36, 60, 60), (0, 0, 0, 0))

    assert alpha(Sticker(on("white", figure(draw))).cutout())[48, 48] == 1


@pytest.mark.parametrize("side", [24, 96, 384])
def test_an_edge_is_soft_at_any_size(side: int) -> None:
    original = figure(lambda pen: pen.ellipse(box(10, 14, 80, 84), (220, 40, 30)), side)
    cut = alpha(Sticker(on("white", original)).cutout())
    soft = (cut > 0.1) & (cut < 0.9)
    assert soft.any() and np.abs(cut - alpha(original))[soft].mean() < 0.05


def test_a_jpeg_leaves_no_halo(ball: Image.Image) -> None:
    buffer = io.BytesIO()
    on("white", ball).save(buffer, "JPEG", quality=85)
    cut = alpha(Sticker(Image.open(buffer)).cutout())
    far = alpha(ball.resize((96, 96))) == 0
    assert cut[far].mean() < 0.01
    assert np.abs(cut - alpha(ball)).mean() < 0.01


def test_specks_beside_the_figure_go(ball: Image.Image) -> None:
    noise = np.random.default_rng(0).normal(0, 2, (96, 96, 3))
    noisy = np.clip(np.asarray(on("white", ball)) + noise, 0, 255).astype(np.uint8)
    noisy[0, 0] = 215
    cut = alpha(Sticker(Image.fromarray(noisy)).cutout())
    assert cut[:8].max() == 0 and cut[48, 44] == 1


def test_a_picture_with_transparency_keeps_it(face: Image.Image) -> None:
    cut = Sticker(face).cutout()
    assert np.array_equal(np.asarray(cut), np.asarray(face))
    once = Sticker(on("white", face)).cutout()
    assert np.array_equal(np.asarray(Sticker(once).cutout()), np.asarray(once))


def test_a_solid_rgba_picture_is_cut_out(ball: Image.Image) -> None:
    picture = on("white", ball)
    cut = Sticker(picture.convert("RGBA")).cutout()
    assert np.array_equal(np.asarray(cut), np.asarray(Sticker(picture).cutout())) and alpha(cut)[0, 0] == 0


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_pictures_of_any_mode_are_cut_out(mode: str, ball: Image.Image) -> None:
    cut = Sticker(on("white", ball).convert(mode)).cutout()
    assert cut.mode == "RGBA" and alpha(cut)[2, 2] == 0 and alpha(cut)[48, 44] == 1


def test_a_picture_that_is_not_on_white_stays_whole() -> None:
    picture = Image.linear_gradient("L").point(lambda value: value // 2).convert("RGB")
    assert alpha(Sticker(picture).cutout()).min() == 1


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (64, 1), (8, 8)])
def test_a_cutout_of_nothing_is_clear(size: tuple[int, int]) -> None:
    assert alpha(Sticker(Image.new("RGB", size, "white")).cutout()).max() == 0


def test_parts_are_those_that_a_walk_finds() -> None:
    mask = np.random.default_rng(1).random((40, 30)) < 0.6
    labels, at_border = components(mask)
    assert np.array_equal(labels > 0, mask)
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    while left:
        part, todo = set(), [next(iter(left))]
        while todo:
            y, x = todo.pop()
            if (y, x) in left:
                left.remove((y, x))
                part.add((y, x))
                todo += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        label = labels[next(iter(part))]
        assert {(int(y), int(x)) for y, x in zip(*np.nonzero(labels == label), strict=True)} == part
        assert at_border[label] == any(y in (0, 39) or x in (0, 29) for y, x in part)


def disc(colour: tuple[int, int, int] | int, ground: tuple[int, int, int] | int, mode: str = "RGB") -> Image.Image:
    large = Image.new(mode, (512, 512), ground)
    ImageDraw.Draw(large).ellipse([100, 100, 412, 412], fill=colour)
    return large.resize((128, 128), Image.Resampling.LANCZOS)


INSIDE = np.asarray(disc(255, 0, "L")) > 127


def overlap(cut: Image.Image) -> float:
    mask = alpha(cut) > 0.5
    return float((mask & INSIDE).sum() / (mask | INSIDE).sum())


@pytest.mark.parametrize("colour", [(220, 40, 40), (250, 200, 60), (40, 90, 220), (60, 160, 70), (150, 90, 40)])
@pytest.mark.parametrize(("kind", "quality"), [("WEBP", 85), ("WEBP", 60), ("WEBP", 45), ("WEBP", 30), ("JPEG", 30)])
def test_a_lossy_file_keeps_no_halo(kind: str, quality: int, colour: tuple[int, int, int]) -> None:
    buffer = io.BytesIO()
    disc(colour, (255, 255, 255)).resize((256, 256)).save(buffer, kind, quality=quality)
    with Image.open(buffer) as opened:
        cut = Sticker(opened.convert("RGB").resize((256, 256))).cutout()
    mask = np.asarray(disc(255, 0, "L").resize((256, 256))) > 127
    found = alpha(cut) > 0.5
    assert (found & mask).sum() / (found | mask).sum() >= 0.95


@pytest.mark.parametrize("ground", [(231, 231, 231), (245, 245, 220), (0, 255, 0), (20, 20, 30), (120, 160, 200)])
def test_a_ground_of_one_colour_is_cut_out(ground: tuple[int, int, int]) -> None:
    cut = Sticker(disc((220, 40, 40), ground)).cutout()
    assert overlap(cut) >= 0.97
    noisy = np.asarray(disc((220, 40, 40), ground)).astype(int)
    noisy = np.clip(noisy + np.random.default_rng(0).integers(-3, 4, noisy.shape), 0, 255).astype(np.uint8)
    assert overlap(Sticker(Image.fromarray(noisy)).cutout()) >= 0.93


def test_what_has_no_ground_of_one_colour_stays_whole() -> None:
    gradient = np.linspace(0, 200, 128)[:, None, None] * np.ones((1, 128, 3))
    photo = Image.fromarray(gradient.astype(np.uint8))
    for whole in (photo, Image.new("RGB", (64, 64), (200, 30, 30))):
        assert alpha(Sticker(whole).cutout()).min() == 1

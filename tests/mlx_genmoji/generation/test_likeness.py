"""A picture to start from, a negative prompt and noise of NumPy's, with the built-in model."""

import warnings
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.generation.likeness import likened
from mlx_genmoji.sticker import Sticker, read_recipe


@pytest.fixture(scope="module")
def genmoji() -> Genmoji:
    return Genmoji.load()


def disc(
    colour: tuple[int, int, int], box: tuple[int, ...], ground: tuple[int, int, int] = (255, 255, 255)
) -> Image.Image:
    picture = Image.new("RGB", (300, 300), ground)
    ImageDraw.Draw(picture).ellipse(box, fill=colour)
    return picture


BLUE = disc((30, 110, 220), (150, 130, 290, 270))
GREY = disc((90, 90, 95), (10, 10, 150, 150))


def figure(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The figure's mean colour, and its middle in shares of the picture."""
    rgba = np.asarray(Sticker(picture).cutout()).astype(float)
    solid = rgba[..., 3] > 128
    rows, columns = np.nonzero(solid)
    return rgba[..., :3][solid].mean(0), np.array([columns.mean(), rows.mean()]) / len(rgba)


def distance(first: Image.Image, second: Image.Image) -> float:
    return float(np.abs(np.asarray(first, float) - np.asarray(second, float)).mean())


@pytest.mark.parametrize("prompt", ["cat", "apple", "flying pig"])
def test_the_less_strength_the_more_a_drawing_is_in_the_pictures_colours_and_place(
    genmoji: Genmoji, prompt: str
) -> None:
    plain = genmoji.generate(prompt, seed=1, variety=0)[0].image
    strengths = (1, 0.8, 0.4, 0.1)
    drawn = [genmoji.generate(prompt, seed=1, image=BLUE, strength=strength)[0].image for strength in strengths]
    assert distance(drawn[0], plain) < 0.5
    assert all(distance(picture, plain) > 3 for picture in drawn[1:])
    colours, middles = zip(*map(figure, drawn), strict=True)
    wanted_colour, wanted_middle = figure(BLUE)
    to_colour = [np.abs(colour - wanted_colour).mean() for colour in colours]
    to_middle = [np.linalg.norm(middle - wanted_middle) for middle in middles]
    assert to_colour == sorted(to_colour, reverse=True)
    # To half a pixel.
    assert all(later <= earlier + 0.004 for earlier, later in pairwise(to_middle))
    assert to_colour[-1] < 0.7 * to_colour[0] and to_middle[-1] < 0.12


def test_another_picture_makes_another_drawing_and_it_is_no_smear(genmoji: Genmoji) -> None:
    blue, grey = (genmoji.generate("cat", seed=1, image=image, strength=0.2)[0] for image in (BLUE, GREY))
    assert distance(blue.image, grey.image) > 10
    for sticker in (blue, grey):
        alpha = np.asarray(sticker.cutout().getchannel("A"))
        # A cat of its size, with sharp edges, on white.
        assert 0.02 < (alpha > 128).mean() < 0.3 and ((alpha > 40) & (alpha < 215)).mean() < 0.04
        assert np.asarray(sticker.image)[0, 0].tolist() == [255, 255, 255]
        assert sticker.outline is not None


def test_a_picture_without_a_ground_gives_its_colours_alone(genmoji: Genmoji) -> None:
    shades = np.linspace(40, 140, 64)[:, None] * np.ones((1, 64))
    photo = Image.fromarray(np.dstack([shades / 3, shades, shades / 2]).astype(np.uint8))
    plain, green = (
        genmoji.generate("cat", seed=1, variety=0, **options)[0].image
        for options in ({}, {"image": photo, "strength": 0.3})
    )
    (before, place), (after, same_place) = figure(plain), figure(green)
    assert after[1] - after[0] > before[1] - before[0] + 30 and np.allclose(place, same_place, atol=0.02)


def test_a_likened_sticker_is_drawn_again_from_its_recipe(genmoji: Genmoji, tmp_path: Path) -> None:
    sticker = genmoji.generate("flying pig", seed=4, image=BLUE, strength=0.4)[0]
    sticker.save(tmp_path / "pig.png")
    recipe = read_recipe(tmp_path / "pig.png")
    assert recipe["likeness"] is True and recipe["strength"] == 0.4
    again = genmoji.replay(recipe, image=BLUE)
    assert np.array_equal(np.asarray(again.image), np.asarray(sticker.image))
    with pytest.raises(UserError, match="needs the image that it started from"):
        genmoji.replay(recipe)
    with pytest.raises(UserError, match="another one was given"):
        genmoji.replay(recipe, image=GREY)


@pytest.mark.parametrize(("strength", "image"), [(1.5, BLUE), (-0.1, BLUE), (0.5, Image.new("RGB", (9, 9), "white"))])
def test_what_cannot_be_likened_to_is_a_sentence(genmoji: Genmoji, strength: float, image: Image.Image) -> None:
    with pytest.raises(UserError, match=r"strength must be from 0 to 1|image to start from is blank"):
        genmoji.generate("cat", image=image, strength=strength)


def test_a_drawing_that_is_empty_stays_so() -> None:
    empty = Image.new("RGB", (16, 16), "white")
    assert likened(empty, None, BLUE.resize((16, 16)), 0.5)[0] is empty


@pytest.mark.parametrize("prompt", ["guitar", "flying pig", "cat, flat"])
def test_a_negative_prompt_is_left_out_and_said(genmoji: Genmoji, prompt: str) -> None:
    plain = genmoji.generate(prompt, seed=3)[0]
    with pytest.warns(UserWarning, match="takes no negative prompt") as warned:
        negative = genmoji.generate(prompt, seed=3, negative_prompt="blurry, grey")[0]
    assert np.array_equal(np.asarray(plain.image), np.asarray(negative.image))
    assert negative.recipe["negative_prompt"] == "" and str(warned[0].message) in negative.notes
    assert warned[0].filename == __file__


def test_noise_may_be_numpys(genmoji: Genmoji) -> None:
    noise = np.random.default_rng(0).standard_normal((1, *genmoji.latents_shape)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = (genmoji.generate("cat", latents=x)[0].image for x in (noise, mx.array(noise)))
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    with pytest.raises(UserError, match="must have the shape"):
        genmoji.generate("cat", latents=noise[0])

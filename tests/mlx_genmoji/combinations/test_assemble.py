"""Combinations put together from pictures of their parts."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mlx_genmoji.combinations.assemble import put_together
from mlx_genmoji.combinations.combination import Combination, Joined, Part
from mlx_genmoji.combinations.reading import read
from mlx_genmoji.prompt.words import Words

SIZE = 128
BROWN, BLUE, RED, WHITE = (120, 70, 30), (30, 60, 220), (220, 30, 30), (255, 255, 255)
PIZZA = Part("pizza", "pizza", "food")
WING = Part("wing", "wing", None)
CROWN = Part("crown", "crown", "thing")
BOARD = Part("skateboard", "skateboard", "vehicle")


def picture(colour: tuple[int, int, int]) -> Image.Image:
    """A disc on white."""
    picture = Image.new("RGB", (SIZE, SIZE), "white")
    ImageDraw.Draw(picture).ellipse((20, 20, 108, 120), fill=colour)
    return picture


def where(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """The pixels near a colour, (y, x)."""
    return np.argwhere((np.abs(np.asarray(picture).astype(int) - colour) < 40).all(-1))


def combined(*joined: Joined, **colours: tuple[int, int, int]) -> Image.Image:
    combination = Combination(PIZZA, joined, "fluent")
    return put_together(combination, {part: picture(colours[part.text]) for part in combination.parts})


def test_wings_are_at_both_sides_and_behind() -> None:
    drawn = combined(Joined("wings", "wings", WING), pizza=BROWN, wing=BLUE)
    assert drawn.size == (SIZE, SIZE) and drawn.mode == "RGB"
    body, wings = where(drawn, BROWN), where(drawn, BLUE)
    # The figure is whole.
    assert len(body) == pytest.approx(np.pi / 4 * np.prod(np.ptp(body, axis=0) + 1), rel=0.05)
    middle = body[:, 1].mean()
    assert (wings[:, 1] < middle - 15).any() and (wings[:, 1] > middle + 15).any()


@pytest.mark.parametrize("kind", ["wings", "wearing", "with", "fire", "weather", "riding", "and"])
def test_a_picture_is_filled_and_keeps_its_border_white(kind: str) -> None:
    part = {"wings": WING, "wearing": CROWN, "riding": BOARD}.get(kind, Part("rocket", "rocket", "vehicle"))
    drawn = np.asarray(combined(Joined(kind, part.text, part), pizza=BROWN, **{part.text: BLUE}))
    rows, columns = np.nonzero((drawn < 250).any(-1))
    sides = rows.min(), columns.min(), SIZE - 1 - rows.max(), SIZE - 1 - columns.max()
    assert min(sides) in (3, 4, 5)
    # In the middle, both ways.
    assert abs(sides[0] - sides[2]) <= 2 and abs(sides[1] - sides[3]) <= 2


def test_several_things_about_a_subject_that_stands_on_another() -> None:
    drawn = combined(
        Joined("wings", "wings", WING),
        Joined("wearing", "crown", CROWN),
        Joined("on top", "skateboard", BOARD),
        pizza=BROWN,
        wing=BLUE,
        crown=RED,
        skateboard=(30, 160, 60),
    )
    crown, body, board = (where(drawn, colour)[:, 0].mean() for colour in (RED, BROWN, (30, 160, 60)))
    assert crown < body < board and len(where(drawn, BLUE))


def test_a_colour_and_a_number_need_no_picture() -> None:
    drawn = combined(Joined("colour", "blue"), Joined("count", "two"), pizza=(200, 60, 40))
    columns = (np.asarray(drawn)[..., 2].astype(int) - np.asarray(drawn)[..., 0] > 60).any(0)
    starts = np.flatnonzero(np.diff(np.concatenate([[0], columns.astype(int)])) == 1)
    assert len(starts) == 2


def test_an_emotion_keeps_the_figure_where_things_are_worn() -> None:
    smiley = Image.new("RGB", (SIZE, SIZE), "white")
    pen = ImageDraw.Draw(smiley)
    pen.ellipse((10, 10, 118, 118), fill=(250, 200, 60))
    for left in (40, 76):
        pen.ellipse((left, 45, left + 12, 60), fill=(60, 30, 10))
    face = Part("frowning face", "frowning face", "face")
    combination = Combination(PIZZA, (Joined("emotion", "sad", face), Joined("wearing", "crown", CROWN)), "fluent")
    drawn = put_together(combination, {PIZZA: picture((200, 60, 40)), face: smiley, CROWN: picture(BLUE)})
    assert len(where(drawn, (60, 30, 10))) > 10
    assert where(drawn, BLUE)[:, 0].mean() < where(drawn, (200, 60, 40))[:, 0].mean()


@pytest.mark.parametrize(("pizza", "wing", "remaining"), [(BROWN, WHITE, BROWN), (WHITE, BLUE, WHITE)])
def test_an_empty_picture_is_left_out(
    pizza: tuple[int, int, int], wing: tuple[int, int, int], remaining: tuple[int, int, int]
) -> None:
    drawn = combined(Joined("wings", "wings", WING), pizza=pizza, wing=wing)
    assert len(where(drawn, BLUE)) == 0
    assert len(where(drawn, remaining)) > 1000


@pytest.mark.parametrize("prompt", ["flying pig", "sad pizza in a cup", "frog and dog", "tiny cat on a big mushroom"])
def test_every_part_of_a_prompt_is_seen(prompt: str) -> None:
    parsed = read(prompt, Words({}), "noto")
    assert parsed is not None
    smiley = picture((250, 200, 60))
    ImageDraw.Draw(smiley).ellipse((45, 50, 80, 80), fill=(60, 30, 10))
    colours = dict(zip((part.label for part in parsed.parts), (BROWN, BLUE, (30, 160, 60)), strict=False))
    pictures = {part: smiley if part.role == "face" else picture(colours[part.label]) for part in parsed.parts}
    drawn = put_together(parsed, pictures)
    for part in parsed.parts:
        assert len(where(drawn, (60, 30, 10) if part.role == "face" else colours[part.label])) > 20, part

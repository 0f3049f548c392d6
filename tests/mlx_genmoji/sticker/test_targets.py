"""What each target takes, by what it says of itself: read back, measured in pixels and bytes."""

from __future__ import annotations

import io
import zipfile
from typing import Literal

import numpy as np
import pytest
from known_limits import TAKEN
from PIL import Image

from mlx_genmoji.errors import UserError
from mlx_genmoji.sticker import TARGETS, Sticker
from mlx_genmoji.sticker.targets import Output, encode, trimmed


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def noise(side: int = 96) -> Image.Image:
    """What no encoder makes small."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 4), np.uint8)
    return Image.fromarray(pixels)


def test_there_is_a_target_for_each_place() -> None:
    assert set(TARGETS) == {*TAKEN, "ios-glyph"}


@pytest.mark.parametrize("kind", TAKEN)
def test_a_target_gets_what_it_takes(kind: str, drawn: list[Sticker]) -> None:
    for sticker in drawn[: 1 if kind in ("imessage", "favicon") else 2]:
        files = sticker.export(kind, "pig")
        assert list(files) == list(TAKEN[kind])
        for name, (format, size, most) in TAKEN[kind].items():
            image = opened(files[name])
            assert (image.format, len(files[name]) <= most) == (format, True)
            assert image.size == size or size is None
            if name != "apple-touch-icon.png":
                assert image.convert("RGBA").getchannel("A").getextrema()[0] == 0


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (64, 64)])
def test_one_side_of_a_telegram_sticker_is_512_pixels(size: tuple[int, int]) -> None:
    image = opened(Sticker(Image.new("RGBA", size, (200, 30, 30, 200))).export("telegram")["sticker.webp"])
    assert max(image.size) == 512 and min(image.size) == round(512 * min(size) / max(size))


def test_a_whatsapp_sticker_has_a_margin_of_16_pixels(face: Image.Image) -> None:
    image = opened(Sticker(face).export("whatsapp")["sticker.webp"])
    box = image.getchannel("A").point(lambda value: 255 if value > 8 else 0).getbbox()
    assert box is not None and min(box[:2]) >= 15 and max(box[2:]) <= 497 and box[2] - box[0] > 470


def test_figures_fill_their_square_wherever_they_lay_in_the_picture(ball: Image.Image) -> None:
    for picture in (ball, ball.crop((0, 0, 96, 86))):
        alpha = opened(Sticker(picture).export("slack")["sticker.png"]).getchannel("A")
        assert alpha.getbbox() == (0, 0, 128, 128)


def test_enlarging_leaves_no_dark_rim(ball: Image.Image) -> None:
    """Clear pixels are black, and must not bleed into the edge."""
    image = opened(Sticker(ball).export("telegram")["sticker.webp"])
    pixels = np.asarray(image).astype(int)
    soft = (pixels[..., 3] > 60) & (pixels[..., 3] < 240)
    assert soft.any() and np.abs(pixels[soft][:, :3] - (220, 40, 30)).max() < 20


def test_an_icon_holds_its_three_sizes(ball: Image.Image) -> None:
    image = opened(Sticker(ball).export("favicon")["favicon.ico"])
    assert image.info["sizes"] == {(16, 16), (32, 32), (48, 48)}


def test_what_iphones_show_as_black_is_on_white(ball: Image.Image) -> None:
    image = opened(Sticker(ball).export("favicon")["apple-touch-icon.png"])
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("format", ["WEBP", "PNG"])
def test_quality_goes_down_until_the_limit_is_kept(format: Literal["WEBP", "PNG"]) -> None:
    best = encode(noise(), Output("{name}", 96, 10**9, format))
    most = len(best) // 2
    data = encode(noise(), Output("{name}", 96, most, format))
    assert len(data) <= most and opened(data).size == (96, 96) and opened(data).format == format


def test_what_cannot_be_made_small_enough_is_told_in_a_sentence() -> None:
    with pytest.raises(UserError, match="and may have 1,000"):
        encode(noise(), Output("{name}.png", 128, 1000))


def test_a_picture_of_nothing_but_background_is_told_in_a_sentence() -> None:
    with pytest.raises(UserError, match="empty"):
        Sticker(Image.new("RGB", (64, 64), "white")).export("slack")


def test_a_target_that_there_is_not_is_told_with_those_that_there_are(ball: Image.Image) -> None:
    with pytest.raises(UserError, match=r"myspace.*slack.*favicon"):
        Sticker(ball).export("myspace")


def test_several_files_are_one_zip_and_one_is_itself(ball: Image.Image) -> None:
    sticker = Sticker(ball)
    name, data = sticker.export_file("whatsapp", "pig")
    assert name == "pig-whatsapp.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {file: archive.read(file) for file in archive.namelist()} == sticker.export("whatsapp", "pig")
    assert sticker.export_file("slack", "pig") == ("pig.png", sticker.export("slack", "pig")["pig.png"])
    assert sticker.export_file("whatsapp", "pig")[1] == data


def test_a_speck_of_nothing_does_not_count_when_a_figure_is_trimmed(ball: Image.Image) -> None:
    dirty = ball.copy()
    dirty.putpixel((0, 0), (0, 0, 0, 5))
    assert trimmed(dirty).size == trimmed(ball).size

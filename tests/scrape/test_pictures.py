"""One picture, made square: where it lies, and what is refused before it fills the memory."""

import io
import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scrape.pictures import render

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def svg(attributes: str) -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}><path fill="red" d="M0 0h9v9H0z"/></svg>'.encode()


def box(image: Image.Image | None) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of what is red."""
    assert image is not None
    return image.split()[1].point(lambda green: 255 - green).getbbox()


@pytest.mark.parametrize("data", [encoded(Image.new("RGB", (40, 40), RED)), svg('viewBox="0 0 9 9"')])
@pytest.mark.parametrize(("margin", "white"), [(0.0, 0), (0.1, 10), (0.25, 25), (0.4, 40)])
def test_a_margin_is_white_at_each_side(data: bytes, margin: float, white: int) -> None:
    assert box(render(data, 100, margin)) == (white, white, 100 - white, 100 - white)


def test_an_oblong_picture_touches_the_margin_at_two_sides_and_is_centred() -> None:
    assert box(render(encoded(Image.new("RGB", (20, 10), RED)), 100, 0.1)) == (10, 30, 90, 70)


def test_a_photograph_that_lies_on_its_side_is_put_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph = Image.new("RGB", (40, 20), "white")
    photograph.paste(RED, (0, 0, 10, 20))
    assert box(render(encoded(photograph, exif=exif), 40)) == (10, 0, 30, 10)


def test_grey_of_sixteen_bits_keeps_its_lightness() -> None:
    image = render(encoded(Image.new("I;16", (8, 8), 40_000)), 16)
    assert image is not None and image.getpixel((8, 8)) == (40_000 // 256,) * 3


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    assert render(bomb, 64) is None

    monkeypatch.setattr("mlx_genmoji.pictures.MAX_PIXELS", 99)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded it"))
    assert render(encoded_before_the_patch, 64) is None


encoded_before_the_patch = encoded(Image.new("RGB", (10, 10)))


@pytest.mark.parametrize(
    "attributes",
    [
        'viewBox="0 0 1 1000000000"',
        'viewBox="0 0 1000000000 1"',
        'width="1" viewBox="0 0 9 1000000000"',
        'width="1e9" height="1"',
        'width="1in" height="1000in" viewBox="0 0 9 9"',
        'width="1e999" height="1e999"',
        'width="0" height="0"',
        'viewBox="0 0 9"',
        "",
    ],
)
def test_an_svg_document_that_would_fill_the_memory_or_has_no_size_is_refused(attributes: str) -> None:
    assert render(svg(attributes), 64) is None


@pytest.mark.parametrize(
    "data",
    [b"", b"<", b"<html></html>", b"<svg", svg('viewBox="0 0 9 9"')[:-9], "<svg viewBox='0 0 9 9'>é".encode("latin-1")],
)
def test_what_is_no_picture_is_none(data: bytes) -> None:
    assert render(data, 64) is None


WHOLE = [
    encoded(Image.effect_noise((24, 24), 60).convert(mode), kind)
    for mode, kind in (("RGB", "PNG"), ("P", "GIF"), ("RGB", "JPEG"), ("RGBA", "WEBP"), ("RGB", "TIFF"), ("RGB", "BMP"))
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    whole=st.sampled_from([*WHOLE, svg('viewBox="0 0 9 9"')]),
    kept=st.floats(0, 1),
    seed=st.integers(0, 10_000),
    changes=st.integers(0, 6),
)
def test_broken_bytes_are_a_picture_or_none(whole: bytes, kept: float, seed: int, changes: int) -> None:
    data, rng = bytearray(whole[: int(kept * len(whole))]), random.Random(seed)
    for _ in range(changes if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)
    image = render(bytes(data), 32)
    assert image is None or (image.size, image.mode) == ((32, 32), "RGB")

"""The one reader of pictures: sRGB, upright, 8 bits, with its transparency, whatever the file is."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from mlx_genmoji.errors import UserError
from mlx_genmoji.pictures import (
    ALL_FORMATS,
    OPAQUE,
    decode,
    fit_mask,
    fit_picture,
    has_transparency,
    is_blank,
    normalised,
    open_picture,
)

SRGB = ImageCms.createProfile("sRGB")
# Columns of the primaries adapted to D50: Display P3 and Adobe RGB (1998).
PRIMARIES = {
    "Display P3": ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)),
    "Adobe RGB": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
}


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def profile_of(kind: str, grey: bool = False, gamma: float = 2.2) -> bytes:
    """A matrix profile (ICC.1:2010), or one of grey with a gamma."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    name = kind.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 79,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz((0.9642, 1, 0.8249)),
    }
    if grey:
        tags[b"kTRC"] = curve
    else:
        for letter, column in zip("rgb", PRIMARIES[kind], strict=True):
            tags |= {f"{letter}XYZ".encode(): xyz(column), f"{letter}TRC".encode(): curve}
    body, table, offset = b"", b"", 132 + 12 * len(tags)
    for key, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += key + struct.pack(">II", offset + len(body), len(data))
        body += data
    space = b"GRAY" if grey else b"RGB "
    head = struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acspAPPL" + b"\0" * 4 + b"none" + b"\0" * 16
    head += fixed(0.9642) + fixed(1) + fixed(0.8249) + b"lcms"
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def file_of(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def littlecms(picture: Image.Image, profile: bytes) -> Any:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(picture, source, SRGB, outputMode="RGB")
    assert converted is not None
    return np.asarray(converted, int)


COLOURS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", PRIMARIES)
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_colours_of_a_profile_are_those_of_littlecms(kind: str, format: str) -> None:
    profile = profile_of(kind)
    options = {"lossless": True} if format == "WEBP" else {}
    read = decode(file_of(COLOURS, format, icc_profile=profile, **options))
    expected = littlecms(COLOURS, profile)
    assert np.abs(np.asarray(read, int) - expected).max() <= 1
    assert np.abs(np.asarray(COLOURS, int) - expected).max() > 20
    assert "icc_profile" not in read.info


def test_transparency_grey_and_palettes_are_kept_with_a_profile() -> None:
    profile = profile_of("Display P3")
    clear = COLOURS.copy()
    clear.putalpha(Image.fromarray(np.linspace(0, 255, 256).reshape(16, 16).astype(np.uint8)))
    read = decode(file_of(clear, icc_profile=profile))
    assert read.mode == "RGBA" and np.array_equal(read.getchannel("A"), clear.getchannel("A"))
    assert np.abs(np.asarray(read.convert("RGB"), int) - littlecms(COLOURS, profile)).max() <= 1
    palette = COLOURS.quantize(16)
    read = decode(file_of(palette, icc_profile=profile))
    assert np.abs(np.asarray(read, int) - littlecms(palette.convert("RGB"), profile)).max() <= 1
    grey = COLOURS.convert("L")
    linear = profile_of("grey", grey=True, gamma=1.0)
    read = decode(file_of(grey, icc_profile=linear))
    assert np.abs(np.asarray(read, int) - littlecms(grey, linear)).max() <= 1


@pytest.mark.parametrize("profile", [b"", b"no profile", profile_of("Display P3")[:200], profile_of("g", grey=True)])
def test_a_profile_that_is_damaged_or_of_other_pictures_is_passed_over(profile: bytes) -> None:
    assert np.array_equal(decode(file_of(COLOURS, icc_profile=profile)), COLOURS)


def test_srgb_stays_to_the_byte() -> None:
    profile = ImageCms.ImageCmsProfile(SRGB).tobytes()
    assert np.array_equal(decode(file_of(COLOURS, icc_profile=profile)), COLOURS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_with_a_profile_too(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = decode(file_of(COLOURS, exif=exif))
    turned = decode(file_of(COLOURS, exif=exif, icc_profile=profile_of("Display P3")))
    assert np.array_equal(littlecms(plain, profile_of("Display P3")) // 4, np.asarray(turned, int) // 4)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth: int, colour: int, pixel: bytes, clear: bytes) -> bytes:
    """2 x 1 px: one of the transparent value, one of zeros (PNG specification, 11.3.2.1)."""
    row = b"\0" + pixel + b"\0" * len(pixel)
    head = struct.pack(">IIBBBBB", 2, 1, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"tRNS", clear) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("depth", "colour", "pixel", "clear"),
    [
        (8, 0, b"\x80", b"\0\x80"),
        (16, 0, b"\x80\x01", b"\x80\x01"),
        (8, 2, b"\x80\x20\x40", b"\0\x80\0\x20\0\x40"),
        (16, 2, b"\x80\1\x20\1\x40\1", b"\x80\1\x20\1\x40\1"),
    ],
)
def test_a_transparent_value_is_clear_in_every_depth(depth: int, colour: int, pixel: bytes, clear: bytes) -> None:
    read = decode(png(depth, colour, pixel, clear))
    assert read.mode == "RGBA"
    assert [read.getpixel((x, 0))[3] for x in (0, 1)] == [0, 255]  # type: ignore[index]


def test_another_value_of_16_bits_is_not_clear() -> None:
    assert decode(png(16, 0, b"\x80\x01", b"\x80\x02")).mode == "RGB"


def test_grey_of_16_bits_keeps_its_greys() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    read = decode(file_of(Image.fromarray(values)))
    assert np.asarray(read)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_nearly_opaque_is_opaque() -> None:
    picture = COLOURS.copy()
    picture.putalpha(253)
    assert not has_transparency(picture) and normalised(picture).mode == "RGB"
    picture.putalpha(OPAQUE - 1)
    assert has_transparency(picture)


def test_cmyk_is_converted() -> None:
    read = decode(file_of(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG", quality=100))
    red, green, blue = read.getpixel((0, 0))  # type: ignore[misc]
    assert red > 230 and green < 30 and blue < 30


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_that_shows_something_is_read(format: str) -> None:
    clear, red = Image.new("RGBA", (8, 8)), Image.new("RGBA", (8, 8), "red")
    options = {"lossless": True} if format == "WEBP" else {}
    data = file_of(clear, format, save_all=True, append_images=[red, red], duration=90, **options)
    assert decode(data).convert("RGB").getpixel((4, 4))[0] > 200  # type: ignore[index]
    nothing = file_of(clear, format, save_all=True, append_images=[Image.new("RGBA", (8, 8), "white")], duration=90)
    assert is_blank(decode(nothing))


def test_blank_is_white_or_clear() -> None:
    assert is_blank(Image.new("RGBA", (4, 4))) and is_blank(Image.new("RGB", (4, 4), "white"))
    assert is_blank(Image.new("L", (4, 4), 251))
    assert not is_blank(Image.new("RGB", (4, 4), "yellow")) and not is_blank(Image.new("L", (4, 4), 240))


@pytest.mark.parametrize("size", [(3000, 4), (4, 3000), (1, 1), (5000, 1), (1, 4000), (100, 99)])
def test_a_picture_of_any_shape_fits(size: tuple[int, int]) -> None:
    picture = fit_picture(Image.new("RGB", size, "red"), 64, 96)
    assert picture.size == (96, 64) and np.asarray(picture)[..., 1].min() == 0
    assert fit_mask(Image.new("L", size, 255), 64, 96).getextrema() == ((0, 255) if size != (96, 64) else (255, 255))


READABLE: dict[str, Callable[[Image.Image], bytes]] = {
    "a.jfif": lambda picture: file_of(picture, "JPEG", quality=100),
    "a.avif": lambda picture: file_of(picture, "AVIF", quality=100),
    "a.gif": lambda picture: file_of(picture, "GIF"),
    "a.tiff": lambda picture: file_of(picture, "TIFF"),
    "a.bmp": lambda picture: file_of(picture, "BMP"),
}


@pytest.mark.parametrize("name", READABLE)
def test_files_are_known_by_their_content(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(READABLE[name](Image.new("RGB", (16, 16), "red")))
    red, green, _ = open_picture(tmp_path / name).getpixel((8, 8))  # type: ignore[misc]
    assert red > 240 and green < 20


def test_heic_is_read_with_pillow_heif_and_without_it_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), "red")).save(tmp_path / "a.heic")
    red, green, _ = open_picture(tmp_path / "a.heic").getpixel((8, 8))  # type: ignore[misc]
    assert red > 240 and green < 20
    monkeypatch.setattr("mlx_genmoji.pictures._register_heif", lambda: False)
    with pytest.raises(UserError, match="HEIC needs pillow-heif; install it with"):
        open_picture(tmp_path / "a.heic")


def test_no_other_program_is_started_for_a_picture(tmp_path: Path) -> None:
    assert not {"EPS", "WMF", "PSD", "FPX"} & set(ALL_FORMATS)
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(UserError, match=r"no picture that can be read"):
        open_picture(tmp_path / "a.eps")
    with pytest.raises(Image.UnidentifiedImageError):
        decode(tmp_path / "a.eps", formats=None)

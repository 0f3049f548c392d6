"""The HEIC file of an iOS adaptive glyph: read back by libheif, and its boxes (ISO/IEC 14496-12, 23008-12) walked."""

from __future__ import annotations

import io
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from known_figures import box, figure
from PIL import Image

from mlx_genmoji.errors import UserError
from mlx_genmoji.extras import install_command
from mlx_genmoji.sticker import Sticker
from mlx_genmoji.sticker.glyph import SIDES, content_identifier, glyph

# Boxes that hold boxes, and how many bytes come before them.
CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"iinf": 6, b"iref": 4}


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of every box, those within others too."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        assert 8 <= size <= len(data) - at, kind
        content = data[at + 8 : at + size]
        yield kind, content
        if kind in CONTAINERS:
            yield from boxes(content[CONTAINERS[kind] :])
        at += size


@pytest.fixture(scope="module")
def file() -> bytes:
    ball = figure(lambda pen: pen.ellipse(box(10, 14, 80, 84), (220, 40, 30)))
    return Sticker(ball, {"prompt": "flying\n <pig> é 🐷"}).export("ios-glyph")["sticker.heic"]


def test_a_glyph_has_five_square_images_in_order(file: bytes) -> None:
    images = list(pillow_heif.open_heif(io.BytesIO(file)))
    assert [image.size for image in images] == [(side, side) for side in SIDES] == [
        (160, 160), (40, 40), (64, 64), (96, 96), (320, 320)
    ]  # fmt: skip
    assert [image.mode for image in images] == ["RGBA"] * 5
    assert [image.info["primary"] for image in images] == [True] + [False] * 4


def test_each_image_has_the_same_identifier_and_the_description(file: bytes) -> None:
    names = set()
    for image in pillow_heif.open_heif(io.BytesIO(file)):
        exif = Image.Exif()
        exif.load(image.info["exif"])
        xmp = image.info["xmp"].decode()
        (name,) = re.findall(r"<tiff:DocumentName>(.*?)</tiff:DocumentName", xmp)
        assert exif[0x010D] == name and re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", name)
        assert exif[0x010E] == "flying <pig> ? ?" and "flying &lt;pig&gt; é 🐷" in xmp
        names.add(name)
    assert len(names) == 1


def test_its_boxes_are_those_of_a_heic_file(file: bytes) -> None:
    items_of_file = list(boxes(file))
    kinds = [kind for kind, _ in items_of_file]
    assert kinds[:2] == [b"ftyp", b"meta"] and items_of_file[0][1][:4] in (b"heic", b"heix")
    # HEVC images, each with its alpha as an auxiliary image, and Exif and XMP of each.
    items = [content[8:12] for kind, content in items_of_file if kind == b"infe"]
    assert [items.count(kind) for kind in (b"hvc1", b"Exif", b"mime")] == [10, 5, 5]
    sizes = [struct.unpack(">II", content[4:12]) for kind, content in items_of_file if kind == b"ispe"]
    # The smallest is coded as 64 px and cropped by a clean aperture.
    assert {(side, side) for side in SIDES} - {(40, 40)} == set(sizes) and b"clap" in kinds
    assert any(b"urn:mpeg:hevc:2015:auxid:1" in content for kind, content in items_of_file if kind == b"auxC")
    (references,) = [content for kind, content in items_of_file if kind == b"iref"]
    linked = [kind for kind, _ in boxes(references[4:])]
    assert [linked.count(kind) for kind in (b"auxl", b"cdsc")] == [5, 10]
    primary = struct.unpack(">H", next(content for kind, content in items_of_file if kind == b"pitm")[4:6])[0]
    identifiers = [struct.unpack(">H", content[4:6])[0] for kind, content in items_of_file if kind == b"infe"]
    assert primary == min(identifiers)


def test_the_picture_is_still_there(file: bytes) -> None:
    largest = pillow_heif.open_heif(io.BytesIO(file))[4].to_pillow()
    assert largest.getpixel((0, 0))[3] == 0 and largest.getpixel((160, 160))[3] == 255
    assert np.abs(np.subtract(largest.getpixel((160, 160))[:3], (220, 40, 30))).max() < 12


def test_the_same_sticker_is_the_same_glyph(ball: Image.Image, face: Image.Image) -> None:
    assert content_identifier(ball, "a") == content_identifier(ball.copy(), "a")
    assert len({content_identifier(*what) for what in ((ball, "a"), (ball, "b"), (face, "a"))}) == 3


def test_saved_without_its_recipe_it_does_not_say_the_prompt(ball: Image.Image, tmp_path: Path) -> None:
    for recipe in (True, False):
        Sticker(ball, {"prompt": "secret"}).save(tmp_path / "ball.heic", recipe=recipe)
        assert (b"secret" in (tmp_path / "ball.heic").read_bytes()) is recipe
        assert (
            b"secret" in Sticker(ball, {"prompt": "secret"}).export("ios-glyph", "ball", recipe)["ball.heic"]
        ) is recipe


def test_without_pillow_heif_it_is_said_what_to_install(ball: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match=re.escape(install_command("heic"))):
        glyph(ball, "ball")

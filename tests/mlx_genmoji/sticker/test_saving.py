"""A sticker is saved whole or not at all, in the format that the name asks for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mlx_genmoji.errors import UserError
from mlx_genmoji.sticker import Sticker, read_recipe


@pytest.fixture
def ring() -> Sticker:
    """A red ring: white around it and white within."""
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((8, 8, 56, 56), outline=(200, 20, 20), width=10)
    return Sticker(image, {"prompt": "ring 💍"})


def test_a_saved_sticker_holds_its_recipe(ring: Sticker, tmp_path: Path) -> None:
    ring.save(tmp_path / "ring.png")
    assert read_recipe(tmp_path / "ring.png") == {"prompt": "ring 💍"}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "ring.png")), np.asarray(ring.image))


def test_a_name_may_be_as_long_as_the_file_system_allows(ring: Sticker, tmp_path: Path) -> None:
    name = "a" * 251 + ".png"
    ring.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failed_save_leaves_what_was_there(ring: Sticker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ring.png"
    path.write_bytes(b"before")

    write = Path.write_bytes

    def full(partial: Path, data: bytes) -> None:
        write(partial, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        ring.save(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["png", "webp"])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_sticker_is_saved_as_its_name_says(suffix: str, transparent: bool, ring: Sticker, tmp_path: Path) -> None:
    path = tmp_path / f"ring.{suffix}"
    ring.save(path, transparent=transparent)
    with Image.open(path) as image:
        assert image.format == suffix.upper()
        expected = ring.cutout() if transparent else ring.image
        assert image.mode == expected.mode
        assert np.array_equal(visible(image), visible(expected))


def visible(image: Image.Image) -> np.ndarray:
    """The pixels; clear ones have no colour."""
    pixels = np.asarray(image.convert("RGBA"))
    return np.where(pixels[..., 3:] > 0, pixels, 0)


def test_a_transparent_sticker_holds_its_recipe_too(ring: Sticker, tmp_path: Path) -> None:
    ring.save(tmp_path / "ring.png", transparent=True)
    assert read_recipe(tmp_path / "ring.png") == ring.recipe


@pytest.mark.parametrize("name", ["ring.gif", "ring"])
def test_another_suffix_is_told_in_a_sentence(name: str, ring: Sticker, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.png, \.webp, .* or \.heic"):
        ring.save(tmp_path / name)
    assert not list(tmp_path.iterdir())

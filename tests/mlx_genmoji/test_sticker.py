"""A sticker: saved whole or not at all, and cut out along its figure."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mlx_genmoji.sticker import Sticker, read_recipe


@pytest.fixture
def ring() -> Sticker:
    """A red ring: white around it and white within."""
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((8, 8, 56, 56), outline=(200, 20, 20), width=10)
    return Sticker(image, {"prompt": "ring 💍"})


def test_a_cutout_is_clear_outside_and_solid_within(ring: Sticker) -> None:
    alpha = np.asarray(ring.cutout())[..., 3]
    assert alpha[0, 0] == 0 and alpha[5, 32] == 0
    assert alpha[12, 32] == 255
    assert alpha[32, 32] == 255, "white within the figure belongs to it"


def test_a_cutout_on_white_is_the_picture(ring: Sticker) -> None:
    cutout = ring.cutout()
    flat = Image.new("RGBA", cutout.size, "white")
    flat.alpha_composite(cutout)
    difference = np.abs(np.asarray(flat.convert("RGB")).astype(int) - np.asarray(ring.image).astype(int))
    assert difference.max() <= 60 and difference.mean() < 1.0


def test_a_cutout_of_nothing_is_clear() -> None:
    assert np.asarray(Sticker(Image.new("RGB", (8, 8), "white")).cutout())[..., 3].max() == 0


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

    def full(_: Image.Image, partial: Path, **__: object) -> None:
        partial.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        ring.save(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]

"""Every kind of dataset is what Hugging Face's `datasets` reads as an image folder."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from scrape import collect, collect_folder, merge

Pack = Callable[..., Path]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], datasets.Dataset]:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def run(folder: Path) -> datasets.Dataset:
        return datasets.load_dataset(
            "imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"), split="train"
        )

    return run


@pytest.fixture
def sets(tmp_path: Path, emojibase: Path, noto: Pack) -> dict[str, Path]:
    """A set whose first rows have no skin tone, a user's own pictures, both with originals, and the two as one."""
    icons = {
        code: (f"icon{place}", f'<path fill="{colour}" d="M0 0h99v128H0z"/>')
        for place, (code, colour) in enumerate((("1f600", "red"), ("1f44b-1f3fb", "lime"), ("1f934", "blue")))
    }
    options: dict[str, Any] = {"size": 32, "keep_originals": True}
    collect("noto", tmp_path / "set", package=noto(icons), emojibase=emojibase, **options)
    (tmp_path / "mine").mkdir()
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "pink").save(buffer, "WEBP")
    (tmp_path / "mine" / "schwein.webp").write_bytes(buffer.getvalue())
    (tmp_path / "mine" / "schwein.txt").write_text("ein „Schwein“ 🐷")
    collect_folder(tmp_path / "mine", tmp_path / "own", **options)
    merge([tmp_path / "set", tmp_path / "own"], tmp_path / "merged")
    return {name: tmp_path / name for name in ("set", "own", "merged")}


@pytest.mark.parametrize(("name", "count"), [("set", 3), ("own", 1), ("merged", 4)])
def test_datasets_reads_it_row_by_row(
    name: str, count: int, sets: dict[str, Path], load: Callable[[Path], datasets.Dataset]
) -> None:
    folder = sets[name]
    ours = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").split("\n") if line]
    theirs = {fields["sha256"]: fields for fields in load(folder)}
    assert len(ours) == len(theirs) == count
    for fields in ours:
        loaded = theirs[fields["sha256"]]
        image = loaded.pop("image")
        with Image.open(folder / fields.pop("file_name")) as picture:
            assert np.array_equal(np.asarray(image), np.asarray(picture))
        assert loaded == fields

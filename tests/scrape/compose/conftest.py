"""Datasets of plain shapes under the labels of real emoji."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image
from shapes import ACCESSORIES, BROWN, SMILEYS, SUBGROUP, Build, disc, row

from mlx_genmoji.combinations.names import NAMES
from scrape.compose.planner import held_out


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Writes a dataset: `build(labels, {label: picture}, source, originals)`; other labels are brown discs."""

    def write(
        labels: tuple[str, ...] | list[str],
        pictures: Mapping[str, Image.Image] | None = None,
        source: str = "noto",
        originals: bool = True,
        tones: tuple[str, ...] = (),
    ) -> Path:
        folder = tmp_path / f"{source}-{len(list(tmp_path.iterdir()))}"
        for name in ("images", "originals"):
            (folder / name).mkdir(parents=True)
        rows = [row(label, source) for label in dict.fromkeys(labels)]
        rows += [row(label, source, tone) for label in labels if SUBGROUP.get(label) == "person" for tone in tones]
        for fields in rows:
            picture = (pictures or {}).get(fields["label"]) or disc(BROWN)
            white = Image.new("RGBA", picture.size, "white")
            Image.alpha_composite(white, picture).convert("RGB").save(folder / fields["file_name"])
            if originals:
                buffer = io.BytesIO()
                picture.save(buffer, "PNG")
                fields["original"] = f"originals/{Path(fields['file_name']).name}"
                (folder / fields["original"]).write_bytes(buffer.getvalue())
        (folder / "metadata.jsonl").write_text("".join(json.dumps(fields) + "\n" for fields in rows), "utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def held_out_labels() -> list[str]:
    """The labels of everything in the combinations that are held out, and of what these need to be drawn."""
    called = {name: label for label, name in reversed(NAMES.items())}
    names = sorted({name for _, *pair in held_out().values() for name in pair})
    return [
        *dict.fromkeys(
            (
                *(name if name in SUBGROUP else called.get(name, name) for name in names),
                *ACCESSORIES,
                *SMILEYS,
                "grinning squinting face",
            )
        )
    ]

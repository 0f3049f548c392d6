"""The scripts and the notebook in `examples/` run, and write what their docstrings say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
MAX_LINES = 40


def run(script: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an example in `folder`, with this checkout's packages."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, EXAMPLES / script, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_each_script_is_short_enough_to_be_read_at_once() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES.glob("*.py")}
    assert len(lengths) == 5
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_one_emoji_is_drawn_on_white_cut_out_and_for_slack(tmp_path: Path) -> None:
    done = run("draw_one.py", "pig", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert pixels(tmp_path / "emoji.png").shape == (128, 128, 3)
    transparent = pixels(tmp_path / "emoji-transparent.png")
    assert transparent[0, 0, 3] == 0 and transparent[64, 64, 3] == 255
    with Image.open(tmp_path / "emoji-slack.png") as image:
        assert image.size == (128, 128)


def test_candidates_of_a_prompt_stand_on_one_sheet_with_their_seeds(tmp_path: Path) -> None:
    done = run("contact_sheet.py", "octopus", "--seed", "7", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.rpartition(" ")[2] for line in done.stdout.splitlines()] == ["7", "8", "9", "10"]
    sheet = pixels(tmp_path / "contact-sheet.png")
    assert sheet.shape == (256, 256, 3)
    quarters = [sheet[y : y + 128, x : x + 128] for y in (0, 128) for x in (0, 128)]
    assert len({quarter.tobytes() for quarter in quarters}) == 4
    assert min(quarter.std() for quarter in quarters) > 10


def test_stickers_are_written_for_each_messenger(tmp_path: Path) -> None:
    options = ("--for", "telegram", "--for", "slack")
    done = run("messenger_stickers.py", "red apple", "octopus", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "stickers").iterdir())) == 4
    with Image.open(tmp_path / "stickers" / "1-telegram.webp") as image:
        assert max(image.size) == 512


def test_an_adapter_is_trained_on_a_folder_of_pictures_and_drawn_with(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index, name in enumerate(("red thing", "green thing", "blue thing")):
        colour = tuple(255 * (channel == index) for channel in range(3))
        Image.new("RGB", (140, 140), colour).save(pictures / f"{name}.png")
    done = run("fine_tune.py", "pictures", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "mine" / "adapter.safetensors").exists()
    with Image.open(tmp_path / "mine.png") as image:
        (adapter,) = json.loads(image.info["genmoji"])["adapters"]
    assert "adapter" in json.dumps(adapter)


def test_a_batch_that_was_stopped_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("red apple\n\nrocket\n")
    first = run("batch.py", "prompts.txt", folder=tmp_path)
    assert (first.returncode, first.stdout) == (0, "emoji/001.png: red apple\nemoji/003.png: rocket\n"), first.stderr
    kept = (tmp_path / "emoji" / "001.png").stat().st_mtime_ns
    (tmp_path / "emoji" / "003.png").unlink()
    second = run("batch.py", "prompts.txt", folder=tmp_path)
    assert (second.returncode, second.stdout) == (0, "emoji/003.png: rocket\n")
    assert (tmp_path / "emoji" / "001.png").stat().st_mtime_ns == kept


def test_a_line_that_cannot_be_drawn_does_not_stop_a_batch(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("naked woman\nrocket\n")
    done = run("batch.py", "prompts.txt", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("line 1: ") == 1
    assert [path.name for path in (tmp_path / "emoji").iterdir()] == ["002.png"]


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "genmoji.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert len(names["previews"]) > 1  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apple.png", "apple.webp"]


def test_the_notebook_is_a_valid_one_without_outputs() -> None:
    notebook = json.loads((EXAMPLES / "genmoji.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        assert all(isinstance(line, str) for line in cell["source"])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_the_readme_of_the_examples_lists_each(path: Path) -> None:
    assert path.name == "README.md" or f"]({path.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")

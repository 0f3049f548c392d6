"""`genmoji models`, names of models, and what is said of a repository: each command that is printed works."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import Repositories
from safetensors.torch import save as tensor_bytes

from app.cli import main
from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.checkpoint import Defaults, create_model
from mlx_genmoji.hub import locate, locate_file
from mlx_genmoji.lora.triggers import with_trigger
from mlx_genmoji.presets import PARAMETERS, Preset, add_preset, preset_named, remove_preset, shipped_presets, user_file

Base = Callable[[str], Path]
Run = Callable[..., tuple[int, str, str]]

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
PATH = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lora_bytes(width: int = 32) -> bytes:
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(2, width, generator=generator), torch.randn(64, 2, generator=generator)
    return tensor_bytes({f"{PATH}.lora_down.weight": down, f"{PATH}.lora_up.weight": up})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("models", "info", "x")`: the exit code, stdout and stderr of a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def command_in(text: str) -> list[str]:
    """The arguments of the last `genmoji` command in a text, to the end of its line."""
    last = [line for line in text.splitlines() if "genmoji " in line][-1]
    return shlex.split(re.split(r"\bgenmoji (?=generate|convert|fuse|models)", last)[-1])


def draw(run: Run, *arguments: str) -> str:
    """Run a printed command, with few steps. Returns stderr."""
    extra = ["--steps", "1", "-o", "drawn.png"] if arguments[0] == "generate" else []
    code, _, err = run(*arguments, *extra)
    assert code == 0, err
    return err


def test_every_name_is_in_the_table_with_what_a_user_wants_to_know(run: Run, repositories: Repositories) -> None:
    code, out, _ = run("models")
    assert code == 0
    for name, preset in shipped_presets().items():
        row = next(line for line in out.splitlines() if line.startswith(f"{name} "))
        assert preset.licence in row and " no " in row and f"{preset.memory(4):.1f} GB" in row
        assert preset.base in out
    assert repositories.requests == []


@pytest.mark.parametrize("name", shipped_presets())
def test_a_shipped_entry_is_complete_and_can_be_kept_again(name: str, repositories: Repositories) -> None:
    preset = shipped_presets()[name]
    assert preset.about and preset.licence and preset.download and preset.family in PARAMETERS
    add_preset(Preset(**{"adapters": preset.adapters, **preset.to_dict(), "name": "copy"}))
    assert preset_named("copy") == Preset(**{**vars(preset), "name": "copy"})


# The configs of the public models: Stable Diffusion 1.5, 2.1 and XL.
UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
    "xl": {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


@pytest.mark.parametrize("family", UNETS)
def test_the_memory_in_the_table_is_that_of_the_parameters(family: str) -> None:
    """Of the UNet, whose arrays are not computed here."""
    from mlx.utils import tree_flatten

    unet = create_model({"_class_name": "UNet2DConditionModel", **UNETS[family]})
    count = sum(array.size for _, array in tree_flatten(unet.parameters()))
    assert abs(count / 1e6 - PARAMETERS[family][0]) < 1


def test_a_name_that_was_added_draws_what_its_parts_draw(run: Run, base: Base, repositories: Repositories) -> None:
    Path("style.safetensors").write_bytes(lora_bytes())
    options = ["--adapter", "style.safetensors:0.5", "--steps", "2", "--guidance", "3", "--size", "24"]
    code, out, err = run("models", "add", "toon", "--base", str(base("sd")), *options, "--trigger", "toon style")
    assert code == 0, err
    assert command_in(out) == ["generate", "flying pig", "--model", "toon"]
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    named = Genmoji.load("toon")
    sticker = named.generate("pig", seed=1)[0]
    by_hand = Genmoji.load(base("sd"), adapters=[("style.safetensors", 0.5)])
    same = by_hand.generate("toon style, pig", seed=1, steps=2, guidance=3, size=24)[0]
    assert sticker.image.size == (24, 24) and np.array_equal(sticker.image, same.image)
    assert sticker.recipe["final_prompt"] == "toon style, pig"
    # What is given wins over what the name stands for.
    given = named.generate("toon style, pig", seed=1, steps=1, guidance=1, size=16)[0]
    plain = by_hand.generate("toon style, pig", seed=1, steps=1, guidance=1)[0]
    assert np.array_equal(given.image, plain.image)
    assert named.generate("pig", seed=1, steps=1, trigger=False)[0].recipe["final_prompt"] == "pig"
    code, out, _ = run("models")
    assert "\ntoon " in out and "style.safetensors:0.5" in out
    assert run("models", "remove", "toon")[0] == 0
    assert "There is no model folder toon" in run("generate", "pig", "--model", "toon")[2]


def test_a_name_is_kept_with_all_that_was_said(run: Run, repositories: Repositories) -> None:
    everything = ["--sampler", "euler", "--spacing", "trailing", "--clip-skip", "1", "--allow-pickle"]
    code, _, err = run("models", "add", "x", "--base", "owner/name", "--adapter", "a/b:2", "--vae", "c/d", *everything)
    assert code == 0, err
    entry = json.loads(user_file().read_text())["x"]
    assert entry == {
        "base": "owner/name",
        "adapters": [["a/b", 2.0]],
        "vae": "c/d",
        "allow_pickle": True,
        "sampler": "euler",
        "spacing": "trailing",
        "clip_skip": 1,
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "a/b", "--base", "c/d"], "'a/b' is no name"),
        (["add", "builtin", "--base", "c/d"], "belongs to a model of mlx-genmoji"),
        (["add", "memoji", "--base", "c/d"], "belongs to a model of mlx-genmoji"),
        (["add", "mine", "--base", "memoji"], "give its base"),
        (["add", "mine", "--base", "a/b", "--spacing", "wide"], "no spacing 'wide'"),
        (["add", "mine", "--base", "a/b", "--sampler", "slow"], "slow"),
        (["remove", "memoji"], "ships with mlx-genmoji"),
        (["remove", "nothing"], "is not a model that you added"),
        (["info", "sdxlemoji"], "Did you mean sdxl-emoji"),
        (["info", "nothing-like-it"], "genmoji models lists"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    arguments: list[str], said: str, run: Run, repositories: Repositories
) -> None:
    code, _, err = run("models", *arguments)
    assert code == 2 and said.replace("'", "") in err.replace("'", "") and err.count("\n") == 1


def test_a_damaged_file_of_names_is_a_sentence(run: Run, repositories: Repositories) -> None:
    user_file().parent.mkdir(parents=True)
    user_file().write_text('{"mine": {"adapters": [1]}}')
    code, _, err = run("generate", "pig", "--model", "mine")
    assert code == 2 and "not well formed" in err


def test_a_folder_of_the_name_comes_first(run: Run, base: Base, repositories: Repositories) -> None:
    Path("memoji").symlink_to(base("sd"))
    assert preset_named("memoji") is None
    draw(run, "generate", "pig", "--model", "memoji")
    assert repositories.requests == []


def test_a_base_with_adapters_is_fused_for_what_needs_one_folder(
    run: Run, base: Base, repositories: Repositories
) -> None:
    Path("style.safetensors").write_bytes(lora_bytes())
    add_preset(Preset("toon", str(base("sd")), (("style.safetensors", 1.0),), steps=2, trigger="toon", size=24))
    code, _, err = run("quantize", "toon", "-o", "q")
    assert code == 2
    command = [*command_in(err)[:-1], "fused"]
    assert command[:2] == ["fuse", "toon"]
    draw(run, *command)
    fused = Genmoji.load("fused")
    assert (fused.defaults.steps, fused.defaults.trigger, fused.defaults.size) == (2, "toon", 24)
    remove_preset("toon")


REPOSITORIES: dict[str, dict[str, bytes]] = {
    "an adapter": {"style.safetensors": lora_bytes()},
    "an adapter of XL": {
        "style.safetensors": lora_bytes(72),
        "README.md": f"---\nbase_model: {SDXL}\ninstance_prompt: zork\n---\n".encode(),
    },
    "adapters": {"a.safetensors": lora_bytes(), "b.safetensors": lora_bytes()},
}


@pytest.mark.parametrize("kind", REPOSITORIES)
@pytest.mark.parametrize("asked", ["generate", "info"])
def test_an_adapter_given_as_a_model_is_drawn_with_by_the_command_that_is_printed(
    kind: str, asked: str, run: Run, base: Base, repositories: Repositories
) -> None:
    for id, family in ((SD15, "sd"), (SDXL, "xl")):
        repositories.add(id, files_in(base(family)))
    repositories.add("someone/style", REPOSITORIES[kind])
    if asked == "generate":
        code, out, err = run("generate", "pig", "--model", "someone/style")
        assert code == 2 and "is no model but an adapter" in err
        if "XL" in kind:
            # By its layers alone a small XL adapter is no other than one of Stable Diffusion 1.
            return
        command = command_in(err)
    else:
        code, out, err = run("models", "info", "someone/style")
        assert code == 0 and "an adapter" in out
        command = command_in(out)
    assert "--adapter" in command
    err = draw(run, *command)
    assert ("zork" in err) == ("XL" in kind)


def test_of_a_model_and_its_pickles_the_command_that_reads_it_is_printed(
    run: Run, base: Base, repositories: Repositories
) -> None:
    files = files_in(base("sd"))
    repositories.add("someone/safe", files, license="mit")
    code, out, _ = run("models", "info", "someone/safe")
    assert code == 0 and "licence mit" in out and "MB to download" in out
    draw(run, *command_in(out))
    unet = files.pop("unet/diffusion_pytorch_model.safetensors")
    import io

    from safetensors.torch import load

    pickle = io.BytesIO()
    torch.save(load(unet), pickle)
    repositories.add("someone/pickled", {**files, "unet/diffusion_pytorch_model.bin": pickle.getvalue()})
    code, out, _ = run("models", "info", "someone/pickled")
    assert code == 0 and command_in(out)[-1] == "--allow-pickle"
    draw(run, *command_in(out))


def test_a_checkpoint_in_one_file_is_fetched_and_converted_by_its_name(run: Run, repositories: Repositories) -> None:
    """The sentence names the file, and the command fetches it: what it holds is then read, and here refused."""
    unet = {f"model.diffusion_model.input_blocks.{i}.0.weight": torch.zeros(1) for i in range(2)}
    whole = unet | {"first_stage_model.decoder.x": torch.zeros(1), "cond_stage_model.y": torch.zeros(1)}
    repositories.add("someone/one", {"model.safetensors": tensor_bytes(whole), "model.yaml": b"model: {}"})
    code, _, err = run("generate", "pig", "--model", "someone/one")
    assert code == 2 and "a checkpoint in one file" in err
    command = command_in(err)
    assert command == ["convert", "someone/one/model.safetensors", "-o", "FOLDER"]
    path = locate_file(command[1])
    assert path is not None and path.read_bytes() == tensor_bytes(whole) and path.with_suffix(".yaml").exists()
    before = len(repositories.requests)
    assert locate_file(command[1]) == path and len(repositories.requests) == before
    code, _, err = run(*command)
    assert code == 2 and "someone" in err


def test_a_pickle_is_not_fetched_without_being_allowed(run: Run, repositories: Repositories) -> None:
    repositories.add("someone/old", {"model.ckpt": b"pickle"})
    code, _, err = run("generate", "pig", "--model", "someone/old")
    assert code == 2 and command_in(err)[:2] == ["convert", "someone/old/model.ckpt"]
    assert "--allow-pickle" in command_in(err)
    code, _, err = run("convert", "someone/old/model.ckpt", "-o", "new")
    assert code == 2 and "--allow-pickle" in err
    assert not any("resolve" in path for path in repositories.requests)


def test_a_file_that_is_not_there_lists_those_that_are(run: Run, repositories: Repositories) -> None:
    repositories.add("someone/one", {"model.safetensors": lora_bytes()})
    code, _, err = run("convert", "someone/one/modle.safetensors", "-o", "new")
    assert code == 2 and "has no modle.safetensors, but model.safetensors" in err


def test_a_mistyped_folder_is_not_asked_for_at_the_hub(run: Run, repositories: Repositories) -> None:
    Path("runs").mkdir()
    for arguments in (
        ["generate", "pig", "--model", "runs/pig"],
        ["generate", "pig", "--adapter", "runs/pig"],
        ["convert", "runs/pig/model.safetensors", "-o", "new"],
    ):
        code, _, err = run(*arguments)
        assert code == 2 and "runs is a folder here" in err and "runs/pig@main" in err
    assert repositories.requests == []


def test_offline_the_command_to_run_once_keeps_the_options(
    run: Run, base: Base, repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    repositories.add(SD15, files_in(base("sd")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    typed = ["generate", "a big pig", "--model", SD15, "--seed", "4", "--steps", "1", "-o", "big pig.png"]
    code, _, err = run(*typed)
    assert code == 2 and "HF_HUB_OFFLINE=0 genmoji" in err
    assert command_in(err) == typed
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert run(*command_in(err))[0] == 0 and Path("big pig.png").exists()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out, _ = run("models", "info", SD15)
    assert code == 0 and "on this machine" in out
    code, _, err = run("models", "info", "someone/else")
    assert code == 2 and "HF_HUB_OFFLINE" in err
    _, out, _ = run("models")
    assert next(line for line in out.splitlines() if line.startswith("sd15 ")).split()[1] == "yes"


@pytest.mark.parametrize(
    ("trigger", "text", "final"),
    [
        ("A TOK emoji", "a man", "A TOK emoji of a man"),
        ("A TOK emoji", "an emoji of TOK", "an emoji of TOK"),
        ("flat, color", "a man, flat", "a man, flat"),
        ("memoji", "a man", "memoji, a man"),
        ("in the style of zork", "a man", "a man, in the style of zork"),
    ],
)
def test_a_trigger_is_added_where_it_is_missing(trigger: str, text: str, final: str) -> None:
    template, notes = with_trigger(trigger, text, "{prompt}", True)
    assert template.replace("{prompt}", text) == final
    assert bool(notes) == (final != text)


def test_a_model_folder_may_state_its_settings(base: Base, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in base("sd").iterdir():
        (folder / path.name).symlink_to(path)
    settings = {"sampler": "euler", "spacing": "trailing", "size": 24, "clip_skip": 1, "trigger": "zork"}
    (folder / "genmoji.json").write_text(json.dumps(settings))
    recipe = Genmoji.load(folder).generate("pig", seed=1, steps=1)[0].recipe
    assert recipe["sampler"] == "euler" and recipe["spacing"] == "trailing" and recipe["clip_skip"] == 1
    assert recipe["width"] == recipe["height"] == 24 and recipe["final_prompt"] == "zork, pig"
    assert Defaults.load(folder).trigger == "zork"
    (folder / "genmoji.json").write_text('{"size": "large"}')
    with pytest.raises(UserError, match="'size' is 'large', not int"):
        Genmoji.load(folder)


def test_a_name_is_not_a_folder_for_the_library_either(repositories: Repositories) -> None:
    with pytest.raises(UserError, match="genmoji fuse sdxl-emoji"):
        locate("sdxl-emoji")

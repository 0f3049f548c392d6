"""A recipe of several stages, and the one that makes the built-in model: from pictures to a folder that draws."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import train
from app import cli
from mlx_genmoji import Genmoji, UserError
from train import stages
from train.recipe import read_recipe
from train.stages import plan_stages, read_stages, run_stages

pytestmark = pytest.mark.usefixtures("cpu")

RECIPE = Path(train.__file__).parent / "recipes" / "builtin.yaml"
STAGES = ("small-autoencoder", "autoencoder", "inner-layers", "diffusion", "decoder")
FEW = ["steps=2", "batch_size=2", "compiled=false", "threads=1", "checkpoint_every=1", "sample_every=0"]
QUICK = [
    *(f"stages.{stage}.loop.{setting}" for stage in STAGES for setting in FEW),
    *(f"stages.diffusion.text_loop.{setting}" for setting in FEW),
    "stages.diffusion.defaults.steps=2",
    # A quarter of the pixels.
    "shared.data.size=64",
    "stages.small-autoencoder.data.size=32",
    "stages.diffusion.unet.sample_size=4",
]


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The datasets that the recipe names, eight pictures of random colours in each."""
    monkeypatch.chdir(tmp_path)
    for source in ("fluent", "noto"):
        folder = tmp_path / "data" / source
        folder.mkdir(parents=True)
        rows = []
        for index in range(8):
            colours = np.random.default_rng(index).integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(colours).resize((128, 128), Image.Resampling.NEAREST).save(folder / f"{index}.png")
            rows.append({"file_name": f"{index}.png", "text": f"thing {index}", "source": source, "skin_tone": []})
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "data" / "synonyms").mkdir()
    (tmp_path / "data" / "synonyms" / "words.tsv").write_text("")
    (tmp_path / "data" / "outlines.tsv").write_text("")
    return tmp_path


def test_the_built_in_model_s_recipe_goes_from_pictures_to_a_folder_that_draws(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carried_out: list[str] = []

    def stop_before_the_diffusion_model(raw: Any, options: Any) -> Path:
        carried_out.append(Path(raw["output"]).name)
        if raw["objective"] == "diffusion" and not options.resume:
            raise KeyboardInterrupt
        return train.carry_out(raw, options)

    monkeypatch.setattr(stages, "carry_out", stop_before_the_diffusion_model)
    with pytest.raises(KeyboardInterrupt):
        train.run(RECIPE, overrides=QUICK)
    with pytest.raises(UserError, match="--resume"):
        train.run(RECIPE, overrides=QUICK)
    assert cli.main(["train", str(RECIPE), "--dry-run"]) == 0
    states = {line.split()[0]: line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()[1:]}
    assert states == dict(zip(STAGES, ["finished"] * 3 + ["to do"] * 2, strict=True))

    carried_out.clear()
    folder = train.run(RECIPE, True, QUICK)
    assert carried_out == ["diffusion", "decoder"]
    assert folder == Path("runs/builtin/decoder/model")
    assert (folder / "vocabulary.tsv").read_text().count("\n") > 1
    genmoji = Genmoji.load(folder)
    assert genmoji.vae.config.latent_channels == 24
    assert genmoji.generate("thing 3", seed=1)[0].image.size == (64, 64)

    carried_out.clear()
    train.run(RECIPE, True, QUICK)
    assert carried_out == []
    (folder.parent / "finished.json").unlink()
    train.run(RECIPE, True, QUICK)
    assert carried_out == ["decoder"]


def small(output: Path, **changes: Any) -> dict[str, Any]:
    data = {"folders": ["data/fluent"], "size": 8}
    loop = {"steps": 1, "batch_size": 1, "learning_rate": 0.1}
    raw: dict[str, Any] = {
        "output": str(output),
        "shared": {"seed": 3, "data": data, "loop": loop, "edge_weight": 0.5, "border_weight": 0.3},
        "stages": {
            "first": {"objective": "autoencoder", "loop": {"steps": 7}},
            "second": {"objective": "decoder", "vae": "${first}", "seed": 4},
        },
    }
    return raw | changes


def test_a_stage_has_the_shared_keys_that_it_knows_under_its_own(tmp_path: Path) -> None:
    first, second = read_stages(small(tmp_path))
    assert first.raw["loop"] == {"steps": 7, "batch_size": 1, "learning_rate": 0.1}
    assert (first.raw["seed"], second.raw["seed"]) == (3, 4)
    assert "border_weight" not in first.raw and second.raw["border_weight"] == 0.3
    assert first.raw["output"] == str(tmp_path / "first")
    assert second.resolved({"first": Path("there")})["vae"] == "there"


DATA, LOOP = {"folders": ["data"], "size": 8}, {"steps": 1, "batch_size": 1, "learning_rate": 0.1}
WHOLE = {"objective": "autoencoder", "data": DATA, "loop": LOOP}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"stages": {}}, "'stages' must be"),
        ({"loop": {}}, "unknown key 'loop'"),
        ({"shared": {"colour": 1, "seed": 1}, "stages": {"a": WHOLE}}, "no stage knows the shared key 'colour'"),
        ({"stages": {"a": {"objective": "dreaming"}}}, "dreaming"),
        ({"stages": {"a": {"objective": "decoder", "vae": "${b}"}}}, "stage a reads .*b.*no stage before it"),
        ({"stages": {"a": {"objective": "autoencoder", "loop": {"steps": 0}}}}, "Stage a: .*loop.steps"),
    ],
)
def test_a_mistake_in_a_stage_is_named_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        read_stages(small(tmp_path, **changes))


def test_a_stage_is_carried_out_again_where_one_before_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried_out: list[str] = []

    def train_nothing(raw: Any, options: Any) -> Path:
        folder = Path(raw["output"])
        folder.mkdir(parents=True, exist_ok=True)
        carried_out.append(folder.name)
        return folder

    monkeypatch.setattr(stages, "carry_out", train_nothing)
    options = train.Options(resume=True)
    run_stages(small(tmp_path), options)
    run_stages(small(tmp_path), options)
    assert carried_out == ["first", "second"]
    changed = small(tmp_path)
    changed["stages"]["first"]["loop"]["steps"] = 8
    run_stages(changed, options)
    assert carried_out == ["first", "second"] * 2


def test_a_plan_names_datasets_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_stages(small(tmp_path)).splitlines()
    assert plan[1].split() == ["first", "autoencoder", "7", "1", "of", "8", "px", "-", "to", "do"]
    assert plan[-1] == "missing datasets: data/fluent"


def test_the_recipe_names_no_path_twice() -> None:
    """But for the datasets, every path in it is the output of a stage."""
    text = RECIPE.read_text(encoding="utf-8")
    written = [line for line in text.splitlines() if not line.startswith("#")]
    paths = [word.strip(",]") for line in written for word in line.split() if "/" in word and "{" not in word]
    assert len(paths) == len(set(paths)), paths
    assert (
        list(yaml.safe_load(text)["stages"]) == list(STAGES) == [s.name for s in read_stages(read_recipe(RECIPE, []))]
    )

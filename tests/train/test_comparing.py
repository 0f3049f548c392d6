"""The table of what training over quantized bases costs and gives."""

import json
from pathlib import Path

import numpy as np
import pytest

import train
from app import cli
from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.quantization import Quantization
from quantize import quantize_folder
from quantize.fuse import fuse
from train.adapter import compare as comparing
from train.adapter.compare import Judgement, judge
from train.adapter.recipe import LoRARecipe
from train.fit.distributed import World
from train.recipe import build, read_recipe

pytestmark = pytest.mark.usefixtures("cpu")

QUICK = ["loop.steps=2", "sample_prompts=[]", "validation.every=2", "lora.targets=[attention]"]


def test_every_base_is_trained_over_and_judged_on_the_same_pictures(
    lora_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for override in QUICK for word in ("--set", override)]
    assert cli.main(["train", str(lora_recipe), "--compare", *options]) == 0
    folder = tmp_path / "runs" / "lora"
    table = capsys.readouterr().out
    assert table == (folder / "compare.md").read_text()
    rows = [json.loads(line) for line in (folder / "compare.jsonl").read_text().splitlines()]
    assert len(table.splitlines()) == 2 + len(rows) == 7
    assert [row["base"] for row in rows] == ["full precision", "8 bits", "4 bits", "8 bits", "4 bits"]
    for row in rows[:3]:
        name = row["base"].replace(" ", "-")
        logged = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
        losses = [entry["validation_loss"] for entry in logged if "validation_loss" in entry]
        assert [row["loss before"], row["loss after"]] == pytest.approx([losses[0], losses[-1]], rel=1e-3)
        assert row["memory"] > 0 and row["seconds"] > 0
    assert rows[0]["of the improvement"] == pytest.approx(1)
    assert all(0 < row["kept"] <= 1 for row in rows[3:]) and rows[3]["kept"] > rows[4]["kept"]
    # In 8 bits the model is nearer to the one in full precision than in 4.
    assert rows[1]["dB to full"] > rows[2]["dB to full"]


def test_an_adapter_is_judged_as_it_draws(lora_recipe: Path, base: Path) -> None:
    adapter = train.run(lora_recipe, overrides=[*QUICK, "loop.learning_rate=0.1"])
    recipe = build(LoRARecipe, read_recipe(lora_recipe, [*QUICK, f"start_from={adapter}"]))
    judged = judge(recipe)
    assert len(judged.drawn) == len(judged.real) == 1
    held_out = json.loads((adapter.parent / "log.jsonl").read_text().splitlines()[-1])
    assert judged.loss == pytest.approx(held_out["validation_loss"], rel=1e-2)
    drawn = [np.asarray(Genmoji.load(base, adapters=adapter).generate(f"thing {i}", seed=0)[0].image) for i in range(8)]
    assert min(np.abs(picture.astype(int) - judged.drawn[0]).mean() for picture in drawn) < 0.5


def test_decibels_are_those_of_the_mean_squared_error() -> None:
    drawn = np.full((2, 4, 4, 3), 110, np.uint8)
    assert Judgement(0.0, drawn, np.full_like(drawn, 100)).decibels() == pytest.approx(20 * np.log10(255 / 10))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("validation.pictures=0", "held-out"),
        ("data.where={text: thing 1}", "5 pictures or more, not 1 and 1"),
        ("base=PACKED", "is packed"),
    ],
)
def test_what_could_not_be_finished_is_not_begun(
    lora_recipe: Path, tmp_path: Path, base: Path, override: str, named: str
) -> None:
    if override == "base=PACKED":
        quantize_folder(base, tmp_path / "packed", Quantization(4))
    with pytest.raises(UserError, match=named):
        train.compare(lora_recipe, overrides=[*QUICK, override.replace("PACKED", str(tmp_path / "packed"))])
    assert not (tmp_path / "runs" / "lora").exists()


def test_a_comparison_is_for_one_machine(lora_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "__init__", lambda self, alone=False: vars(self).update(rank=0, size=2))
    with pytest.raises(UserError, match="one machine"):
        train.compare(lora_recipe, overrides=QUICK, fuse=fuse)


def test_of_no_improvement_no_share_is_told(lora_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was trained and judged in place of it."""
    picture = np.zeros((1, 4, 4, 3), np.uint8)
    monkeypatch.setattr(comparing, "train_lora", lambda recipe, resume: recipe.output / "adapter.safetensors")
    monkeypatch.setattr(comparing, "judge", lambda recipe: Judgement(0.5, picture, picture))
    monkeypatch.setattr(comparing, "_costs", lambda log: {"memory": 1.0, "seconds": 1.0})
    monkeypatch.setattr(comparing, "fuse_into", lambda *arguments: 1.0)
    table = train.compare(lora_recipe, overrides=QUICK, fuse=fuse)
    assert len(table.splitlines()) == 7 and "%" not in table

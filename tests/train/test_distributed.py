"""Two processes of one batch each train as one of both batches does."""

import json
import random
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import train
from mlx_genmoji.errors import UserError
from train.adapter.recipe import LoRARecipe
from train.adapter.run import load_objective
from train.fit.distributed import World
from train.fit.step import Stepper
from train.recipe import build, read_recipe

pytestmark = pytest.mark.usefixtures("cpu")

LAUNCH = str(Path(sys.executable).with_name("mlx.launch"))

SCRIPT = """
import sys
from pathlib import Path
import mlx_genmoji
mlx_genmoji.use_fast_cpu()
import train
import mlx.core as mx
mx.set_default_device(mx.cpu)
sys.path.insert(0, str(Path(__file__).parent))
from train.fit.distributed import World
{body}
"""

FIRST_GRADIENTS = """
from train.data.dataset import Dataset
from train.adapter.run import load_objective
from train.adapter.recipe import LoRARecipe
from train.fit.step import Stepper
from train.recipe import build, read_recipe
recipe = build(LoRARecipe, read_recipe(Path(sys.argv[1]), sys.argv[3:]))
run = load_objective(recipe)
stepper = Stepper(run, recipe.loop, 1)
stepper.differentiate(run.batch(0))
if World().writes:
    mx.save_safetensors(sys.argv[2], stepper.gradients)
train.run(Path(sys.argv[1]), False, sys.argv[3:])
"""


def launch(folder: Path, body: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT.format(body=body))
    command = [LAUNCH, "-n", "2", "--backend", "ring", "--env", f"PYTHONPATH={Path(train.__file__).parents[1]}", "--"]
    command[1:1] = ["--starting-port", str(free_pair_of_ports())]
    command += [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def free_pair_of_ports() -> int:
    """The first of two ports in a row, below those that the system gives to whoever connects to another."""
    while True:
        first = random.randrange(20_000, 30_000)
        with socket.socket() as one, socket.socket() as two, suppress(OSError):
            one.bind(("127.0.0.1", first))
            two.bind(("127.0.0.1", first + 1))
            return first


def difference(a: dict[str, mx.array], b: dict[str, mx.array]) -> float:
    """||a - b|| / ||b|| over all arrays."""
    assert a.keys() == b.keys()
    apart = sum((a[name] - b[name]).square().sum() for name in b)
    return float(mx.sqrt(apart / sum(array.square().sum() for array in b.values())))


def trained(folder: Path) -> dict[str, mx.array]:
    arrays: Any = mx.load(str(folder / "checkpoints" / "000010.safetensors"))
    return {name: array for name, array in arrays.items() if name.startswith("model/")}


def test_two_processes_train_as_one_of_twice_the_batch(lora_recipe: Path, tmp_path: Path) -> None:
    overrides = ["loop.steps=10", "loop.checkpoint_every=5", "sample_prompts=[]", "validation.every=5"]
    alone = [*overrides, "loop.batch_size=8", f"output={tmp_path}/runs/alone"]
    train.run(lora_recipe, overrides=alone)
    recipe = build(LoRARecipe, read_recipe(lora_recipe, alone))
    run = load_objective(recipe)
    stepper = Stepper(run, recipe.loop, 1)
    stepper.differentiate(run.batch(0))

    together = launch(tmp_path, FIRST_GRADIENTS, lora_recipe, tmp_path / "first.safetensors", *overrides)
    assert (tmp_path / "first.safetensors").exists(), together.stderr
    gradients: Any = mx.load(str(tmp_path / "first.safetensors"))
    assert difference(gradients, stepper.gradients) <= 1e-5
    assert (tmp_path / "runs" / "lora" / "adapter.safetensors").exists(), together.stderr
    assert difference(trained(tmp_path / "runs" / "lora"), trained(tmp_path / "runs" / "alone")) <= 1e-4

    logs = [(tmp_path / "runs" / name / "log.jsonl").read_text().splitlines() for name in ("lora", "alone")]
    for ours, theirs in zip(*(map(json.loads, lines) for lines in logs), strict=True):
        assert ours["step"] == theirs["step"]
        name = "loss" if "loss" in theirs else "validation_loss"
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3)


def test_machines_with_different_recipes_do_not_train_together(lora_recipe: Path, tmp_path: Path) -> None:
    body = "train.run(Path(sys.argv[1]), False, [f'seed={World().rank}'])"
    told = launch(tmp_path, body, lora_recipe)
    assert "datasets differ" in told.stderr
    assert not (tmp_path / "runs" / "lora").exists()


def test_other_objectives_are_for_one_machine(vae_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "__init__", lambda self, alone=False: vars(self).update(rank=0, size=2))
    with pytest.raises(UserError, match="one machine"):
        train.run(vae_recipe)

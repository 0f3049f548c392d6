"""Before a run: what it would take, whether it fits, and what a Mac is told."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_unflatten
from PIL import Image

import train
from app import cli
from mlx_genmoji import UserError
from mlx_genmoji.lora import load_adapter
from mlx_genmoji.models import ops
from train.adapter import run as adapter_run
from train.adapter.memory import Memory, check_memory, measure
from train.adapter.recipe import LoRARecipe
from train.adapter.run import load_objective
from train.fit import machine
from train.fit.curve import HEIGHT, MARGIN, WIDTH, draw_curve
from train.fit.machine import at_work, memory_limit
from train.fit.step import Stepper, flat
from train.recipe import build, read_recipe

pytestmark = pytest.mark.usefixtures("cpu")


def test_a_dry_run_says_what_would_be_trained_and_leaves_no_run(
    lora_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", str(lora_recipe), "--dry-run", "--set", "lora.targets=[attention]"]) == 0
    told = capsys.readouterr().out
    # One transformer block: self-attention and cross-attention.
    assert "8 layers" in told and "2 to_k, 2 to_out, 2 to_q, 2 to_v" in told
    # Rank 4: of 64 channels to 64, and from the text's 32.
    assert f"{4 * (6 * (64 + 64) + 2 * (32 + 64)):,} parameters" in told
    assert "7 of 16 pixels, and 1 held out" in told and "GB" in told and "6 steps" in told
    assert not (tmp_path / "runs" / "lora").exists()


def test_the_forecast_of_memory_is_what_a_run_takes(lora_recipe: Path) -> None:
    recipe = build(LoRARecipe, read_recipe(lora_recipe, ["data.size=32", "loop.batch_size=8"]))
    run = load_objective(recipe)
    memory = measure(run, recipe.loop, memory_limit())
    before = mx.get_active_memory()
    stepper = Stepper(run, recipe.loop, 1)
    for step in range(2):
        mx.clear_cache()
        mx.reset_peak_memory()
        stepper.step(step, run.batch(step))
    # What there was before, of other tests too, is there all the same.
    taken = mx.get_peak_memory() - before
    assert memory.peak(8) - before == pytest.approx(taken, rel=0.25)
    assert list(memory.steps) == [1, 2, 4, 8] == sorted(memory.steps, key=lambda n: memory.steps[n])


def test_memory_beyond_what_was_measured_grows_evenly() -> None:
    memory = Memory(resident=1000, steps={1: 100, 2: 120, 4: 160}, drawing=150)
    assert [memory.peak(n) for n in (1, 2, 4, 8)] == [1150, 1150, 1160, 1240]


def test_a_run_that_does_not_fit_is_refused_with_what_to_change(
    lora_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = build(LoRARecipe, read_recipe(lora_recipe, []))
    memory = Memory(resident=10**9, steps={1: 10**9, 2: 2 * 10**9, 4: 4 * 10**9}, drawing=0)
    check_memory(recipe, memory, 5 * 10**9)
    with pytest.raises(UserError, match=r"5\.00 GB.*3\.50 GB.*accumulation: 2 .*checkpointing: true or bits: 4"):
        check_memory(recipe, memory, 35 * 10**8)
    with pytest.raises(UserError, match=r"set a data\.size below 16\.$"):
        check_memory(replace(recipe, bits=4, checkpointing=True), memory, 15 * 10**8)
    monkeypatch.setattr(adapter_run, "memory_limit", lambda: 10**5)
    with pytest.raises(UserError, match="GB of memory"):
        train.run(lora_recipe)
    assert not (tmp_path / "runs" / "lora").exists()


@pytest.mark.parametrize("bits", ["null", "4"])
def test_blocks_that_are_computed_again_have_the_same_gradients(lora_recipe: Path, bits: str) -> None:
    gradients = []
    for checkpointing in ("false", "true"):
        overrides = [f"checkpointing={checkpointing}", f"bits={bits}", "lora.targets=[attention, conv]"]
        recipe = build(LoRARecipe, read_recipe(lora_recipe, overrides))
        run = load_objective(recipe)
        stepper = Stepper(run, recipe.loop, 1)
        stepper.differentiate(run.batch(0))
        gradients.append(stepper.gradients)
    for name, expected in gradients[0].items():
        assert mx.allclose(gradients[1][name], expected, rtol=1e-4, atol=1e-6), name


def test_gradients_in_half_precision_are_those_in_full(lora_recipe: Path) -> None:
    gradients = []
    for dtype in (mx.float32, mx.float16):
        recipe = build(LoRARecipe, read_recipe(lora_recipe, []))
        run = load_objective(recipe)
        run.dtype = dtype
        # As on a GPU: the base in half precision, the adapter not.
        frozen = {n: a.astype(dtype) for n, a in flat(run.model.parameters()).items() if "lora_" not in n}
        mx.eval(frozen)
        run.model.update(tree_unflatten(list(frozen.items())))
        stepper = Stepper(run, recipe.loop, 1)
        assert stepper.scale == (1 if dtype == mx.float32 else 1024)
        stepper.differentiate(run.batch(0))
        gradients.append(stepper.gradients)
    apart = sum(((gradients[1][n] - g).square().sum() for n, g in gradients[0].items()), mx.zeros(()))
    whole = sum((g.square().sum() for g in gradients[0].values()), mx.zeros(()))
    assert mx.sqrt(apart / whole).item() < 0.02
    assert all(gradient.dtype == mx.float32 for gradient in gradients[1].values())


class Mac:
    """In place of a Mac: keeps what it is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, device: Any = mx.gpu):
        monkeypatch.setattr(mx, "default_device", lambda: device)
        self.asked: list[Any] = []
        self.awake = False
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(subprocess, "Popen", self.start)
        monkeypatch.setattr(machine, "memory_limit", lambda: 10_000)
        monkeypatch.setattr(mx, "set_wired_limit", self.limit("wired", 1))
        monkeypatch.setattr(mx, "set_cache_limit", self.limit("cache", 2))

    def start(self, command: list[str]) -> "Mac":
        self.asked.append(command[:2])
        self.awake = True
        return self

    def limit(self, name: str, before: int) -> Callable[[int], int]:
        def set_limit(limit: int) -> int:
            self.asked.append((name, limit))
            return before

        return set_limit

    def terminate(self) -> None:
        self.awake = False

    def wait(self) -> None:
        assert not self.awake


def test_a_mac_stays_awake_and_keeps_the_model_in_memory_while_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = Mac(monkeypatch)
    with pytest.raises(KeyboardInterrupt), at_work():
        assert mac.awake
        assert mac.asked == [["caffeinate", "-i"], ("cache", 1_000), ("wired", 10_000)]
        raise KeyboardInterrupt
    assert not mac.awake and mac.asked[3:] == [("cache", 2), ("wired", 1)]


def test_a_mac_whose_cpu_computes_wires_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = Mac(monkeypatch, mx.cpu)
    with at_work():
        assert mac.asked == [["caffeinate", "-i"], ("cache", 1_000)]
    assert not mac.awake and mac.asked[2:] == [("cache", 2)]


def test_the_memory_of_a_gpu_is_what_it_says_it_works_well_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "default_device", lambda: mx.gpu)
    facts = {"max_recommended_working_set_size": 5_000, "memory_size": 8_000}
    monkeypatch.setattr(mx, "device_info", lambda device: facts if device == mx.gpu else {"memory_size": 9_000})
    assert memory_limit() == 5_000


def test_the_memory_of_a_mac_whose_cpu_computes_is_no_more_than_its_gpu_works_well_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = {"max_recommended_working_set_size": 5_000, "memory_size": 8_000}
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda device: facts if device == mx.gpu else {"memory_size": 9_000})
    assert memory_limit() == 5_000


def test_a_run_in_half_precision_by_mlx_s_own_forms_learns_what_one_on_a_cpu_does(
    lora_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch of a GPU, on the CPU: half precision, one part at a time, MLX's own convolutions and attention."""
    overrides = ["loop.threads=2", "loop.steps=3", "lora.targets=[attention]", "sample_prompts=[]"]
    here = train.run(lora_recipe, overrides=[*overrides, f"output={tmp_path}/runs/cpu/run"])
    on_cpu = ops.on_cpu
    for module in [module for name, module in sys.modules.items() if name.split(".")[0] in ("mlx_genmoji", "train")]:
        if getattr(module, "on_cpu", None) is on_cpu:
            monkeypatch.setattr(module, "on_cpu", lambda: False)
    recipe = build(LoRARecipe, read_recipe(lora_recipe, overrides))
    assert recipe.loop.concurrent == 1
    assert load_objective(recipe).dtype == mx.float16
    there = train.run(lora_recipe, overrides=[*overrides, f"output={tmp_path}/runs/gpu/run"])
    losses = []
    for path in (here, there):
        entries = [json.loads(line) for line in (path.parent / "log.jsonl").read_text().splitlines()]
        losses.append([entry.get("loss", entry.get("validation_loss")) for entry in entries])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    full, half = (load_adapter(path) for path in (here, there))
    assert full.layers.keys() == half.layers.keys()
    apart = sum(np.square(np.asarray(layer.up - half.layers[name].up)).sum() for name, layer in full.layers.items())
    assert apart < 0.1 * sum(np.square(np.asarray(layer.up)).sum() for layer in full.layers.values())


def test_a_curve_rises_and_falls_with_the_loss(tmp_path: Path) -> None:
    draw_curve({"training": [(0, 1.0), (100, 0.5)], "validation": []}, tmp_path / "curve.png")
    pixels = np.asarray(Image.open(tmp_path / "curve.png").convert("RGB"), int)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    drawn = (pixels == (0xB0, 0xB0, 0xB0)).all(-1)
    heights = [np.flatnonzero(drawn[MARGIN:, x]).mean() for x in (MARGIN + 2, WIDTH - MARGIN - 2)]
    # From the top of the plot: a loss of 1 is near it, half of it half way down.
    assert heights[0] < 30 and heights[1] == pytest.approx((HEIGHT - 2 * MARGIN) / 2, abs=20)

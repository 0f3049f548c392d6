"""Compares a UNet of Stable Diffusion 1.5's size on this CPU with diffusers on torch, both in float32.

Measured: the time of a step, the peak memory, and the time from the start of a process to its first step. Each side
loads the same folder of random weights, in half precision as on hubs, in a process of its own. The processes alternate,
so that other work on the machine slows both equally. Memory is the operating system's peak of a process (`ru_maxrss`).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from row import Row

ROUNDS = 3
STEPS = {32: 5, 64: 3}
TIME_GOALS = {32: 0.8, 64: 1.2}
MEMORY_GOAL, LOAD_GOAL = 0.8, 0.5

WRITE = """
import sys
import torch
from diffusers import UNet2DConditionModel
torch.manual_seed(0)
unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
unet.save_pretrained(sys.argv[1] + "/float32")
unet.half().save_pretrained(sys.argv[1] + "/float16")
"""

MEASURE = """
import json, resource, sys, time
started = time.perf_counter()
side, folder, size, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if side == "theirs":
    import torch
    from diffusers import UNet2DConditionModel
    unet = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
    arguments = torch.randn(1, 4, size, size), torch.tensor([500]), torch.randn(1, 77, 768)
    torch.set_grad_enabled(False)
    step = lambda: unet(*arguments).sample
else:
    import mlx_genmoji
    mlx_genmoji.use_fast_cpu()
    from mlx_genmoji.checkpoint.components import load_model
    from mlx_genmoji.models.ops import inference
    import mlx.core as mx
    unet = load_model(folder)
    arguments = mx.random.normal((1, size, size, 4)), mx.array([500]), mx.random.normal((1, 77, 768))
    mx.eval(arguments)
    # As `Genmoji.generate` does.
    step = inference()(lambda: mx.eval(unet(*arguments)))
loaded = time.perf_counter() - started
times = []
for _ in range(steps):
    before = time.perf_counter()
    step()
    times.append(time.perf_counter() - before)
# Linux counts in kilobytes, macOS in bytes.
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"loaded": loaded, "step": min(times), "memory": memory / 1e9}))
"""


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", WRITE, folder], check=True, capture_output=True)
        half = Path(folder) / "float16"
        loads = {"ours": [], "theirs": []}
        for size, steps in STEPS.items():
            runs = _turns(half, size, steps, ROUNDS)
            for side in loads:
                loads[side] += [run["loaded"] for run in runs[side]]
            note = f"fastest of {steps} steps, medians of {ROUNDS} processes each, in turn"
            yield _row(f"a step at {size}x{size} latents", "s", TIME_GOALS[size], _medians(runs, "step"), note)
            memory = _medians(runs, "memory")
            yield _row(f"peak memory of that process at {size}x{size}", "GB", MEMORY_GOAL, memory, "float16 folder")
        medians = {side: statistics.median(times) for side, times in loads.items()}
        note = f"imports and loading; medians of {len(loads['ours'])} processes each"
        yield _row("start of the process to its first step, float16 folder", "s", LOAD_GOAL, medians, note)
        memory = _medians(_turns(Path(folder) / "float32", 64, 1, 1), "memory")
        note = "float32 folder: the weights alone are 3.44 GB on both sides"
        yield _row("peak memory at 64x64", "GB", MEMORY_GOAL, memory, note)


def _turns(folder: Path, size: int, steps: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    runs: dict[str, list[dict[str, float]]] = {"theirs": [], "ours": []}
    for _ in range(rounds):
        for side, results in runs.items():
            command = [sys.executable, "-c", MEASURE, side, str(folder), str(size), str(steps)]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            results.append(json.loads(run.stdout))
    return runs


def _medians(runs: dict[str, list[dict[str, float]]], name: str) -> dict[str, float]:
    return {side: statistics.median(run[name] for run in results) for side, results in runs.items()}


def _row(what: str, unit: str, goal: float, medians: dict[str, float], note: str) -> Row:
    ours, theirs = medians["ours"], medians["theirs"]
    return Row(
        what=f"UNet of SD 1.5's size, float32: {what}, against diffusers on torch",
        goal=f"<= {goal} x",
        measured=f"{ours / theirs:.2f} x ({ours:.2f} {unit} / {theirs:.2f} {unit})",
        met=ours <= goal * theirs,
        note=note,
    )

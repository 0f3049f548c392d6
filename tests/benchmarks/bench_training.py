"""Measures LoRA training over a 4-bit base of Stable Diffusion 1.5's and XL's size: memory, time of a step, size.

UNets with random weights, loaded from half precision. Rank 16 on attention, gradient checkpointing, batch 1, latents of
64x64, activations in float32. Memory is MLX's peak (`mx.get_peak_memory`) from the start of a process that loads the
folder, quantizes it tensor by tensor and takes two steps of AdamW. For the time, one process holds both bases and
alternates between them, so that other work on the machine slows both equally.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from row import Row

LATENTS = 64
ROUNDS = 3
MEMORY_GOALS = {"SD 1.5": 2.0, "SDXL": 2.9}
TIME_GOAL, SIZE_GOAL = 1.05, 0.29


def rows() -> Iterator[Row]:
    from random_models import write_unet

    for size, goal in MEMORY_GOALS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "unet"
            write_unet(size, folder)
            packed = _child("memory", folder, 4)
            # Of SDXL's size the dense weights alone are 10.3 GB.
            dense = _child("memory", folder, 0) if size == "SD 1.5" else None
            yield Row(
                what=f"UNet of {size}'s size, LoRA over 4 bits, two steps: peak of MLX's memory",
                goal=f"<= {goal} GB",
                measured=f"{packed['peak']:.2f} GB" + (f", dense {dense['peak']:.2f} GB" if dense else ""),
                met=packed["peak"] <= goal,
                note=f"{packed['loading']:.2f} GB until it was loaded; the process, as the system counts:"
                f" {packed['resident']:.2f} GB; freed memory that MLX keeps beside: {packed['cache']:.2f} GB",
            )
            half = 2 * packed["weights"]
            for where in ("disk", "memory"):
                yield Row(
                    what=f"UNet of {size}'s size in 4 bits, groups of 64: on {where}, against half precision",
                    goal=f"<= {SIZE_GOAL} x",
                    measured=f"{packed[where] / half:.3f} x ({packed[where] / 1e6:.0f} MB / {half / 1e6:.0f} MB)",
                    met=packed[where] <= SIZE_GOAL * half,
                )
            if size == "SD 1.5":
                yield _time(_child("time", folder, ROUNDS))


def _time(seconds: dict[str, list[float]]) -> Row:
    packed, dense = min(seconds["packed"]), min(seconds["dense"])
    return Row(
        what="UNet of SD 1.5's size, a step of LoRA over 4 bits, against one over the dense base",
        goal=f"<= {TIME_GOAL} x",
        measured=f"{packed / dense:.2f} x ({packed:.1f} s / {dense:.1f} s)",
        met=packed <= TIME_GOAL * dense,
        note=f"fastest of {ROUNDS} each, in turn",
    )


def _child(*arguments: object) -> Any:
    command = [sys.executable, __file__, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def memory(folder: Path, bits: int) -> dict[str, float]:
    """Peak memory of loading and of two steps, in GB; the number of packed weights and their bytes."""
    import resource

    import mlx.core as mx
    from mlx.utils import tree_flatten

    from mlx_genmoji.checkpoint.components import load_model, save_model
    from mlx_genmoji.quantization import Quantization, QuantizedLayer

    unet: Any = load_model(folder, quantization=Quantization(bits) if bits else None)
    loading = mx.get_peak_memory()
    arrays = [array for _, array in tree_flatten(unet.parameters())]
    layers = [layer for _, layer in unet.named_modules() if isinstance(layer, QuantizedLayer)]
    packed_parts = {id(part) for layer in layers for part in layer.packed}
    weights = sum(layer.scales.size * layer.quantization.group_size for layer in layers)
    weights += sum(array.size for array in arrays if id(array) not in packed_parts)
    step = _stepper(unet)
    for _ in range(2):
        step()
    peak, cache = mx.get_peak_memory(), mx.get_cache_memory()
    # Linux counts in kilobytes, macOS in bytes.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    from mlx_genmoji.lora import detach

    detach({"unet": unet})
    save_model(unet, folder.parent / "written", mx.float16)
    disk = sum(path.stat().st_size for path in (folder.parent / "written").glob("*.safetensors"))
    bytes_of = {"memory": sum(array.nbytes for array in arrays), "disk": disk, "weights": weights}
    return {"peak": peak / 1e9, "loading": loading / 1e9, "resident": resident / 1e9, "cache": cache / 1e9, **bytes_of}


def compare(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step over a packed and over a dense base, measured alternately."""
    from mlx_genmoji.checkpoint.components import load_model
    from mlx_genmoji.quantization import Quantization

    steps = {
        "packed": _stepper(load_model(folder, quantization=Quantization(4))),
        "dense": _stepper(load_model(folder)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def _stepper(unet: Any) -> Callable[[], None]:
    """A LoRA of rank 16 on the UNet's attention, and a step of its training."""
    import mlx.core as mx
    import mlx.optimizers as optim

    from mlx_genmoji.lora import LoRAConfig, attach
    from mlx_genmoji.models.checkpointing import checkpoint_blocks

    attach({"unet": unet}, LoRAConfig(), seed=0)
    unet.train()
    checkpoint_blocks(unet)
    key = mx.random.key(0)
    sample, target = (mx.random.normal((1, LATENTS, LATENTS, 4), key=part) for part in mx.random.split(key))
    text = mx.random.normal((1, 77, unet.config.cross_attention_dim), key=key)
    added = {}
    if unet.config.addition_embed_type == "text_time":
        ids = mx.array([[512.0, 512.0, 0.0, 0.0, 512.0, 512.0]])
        added = {"text_embeds": mx.random.normal((1, 1280), key=key), "time_ids": ids}
    mx.eval(sample, target, text, added)
    optimizer = optim.AdamW(1e-4)
    optimizer.init(unet.trainable_parameters())

    def loss(parameters: Any) -> mx.array:
        unet.update(parameters)
        return (unet(sample, mx.array([500]), text, added) - target).square().mean()

    def step() -> None:
        parameters = unet.trainable_parameters()
        _, gradients = mx.value_and_grad(loss)(parameters)
        mx.eval(gradients)
        unet.update(optimizer.apply_gradients(gradients, parameters))
        mx.eval(unet.trainable_parameters(), optimizer.state)

    return step


if __name__ == "__main__":
    import fast_cpu  # noqa: F401

    what, where, number = sys.argv[1:]
    print(json.dumps({"memory": memory, "time": compare}[what](Path(where), int(number))))

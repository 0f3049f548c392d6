"""`genmoji convert`: a checkpoint in one file to a diffusers folder, which is what everything else reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Prediction = Literal["epsilon", "v_prediction"]


def convert(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE.safetensors", help="The checkpoint, in the original layout, as shared."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The new folder to write.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The tokenizer folder of any Stable Diffusion model, which no such file holds."
            " [default: one in the hub's cache]",
        ),
    ] = None,
    predicts: Annotated[
        Prediction | None,
        typer.Option(help="What the UNet predicts. [default: what the file says, else what is usual for its family]"),
    ] = None,
) -> None:
    """Convert a Stable Diffusion 1.x, 2.x or XL checkpoint in one file to a diffusers folder."""
    from mlx_genmoji.checkpoint.single_file import convert_single_file

    convert_single_file(file, output, tokenizer, predicts)
    typer.echo(output)

"""`genmoji quantize`: a model in, a folder of a quarter or half of its size out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlx_genmoji.errors import UserError

if TYPE_CHECKING:
    from quantize import PartReport

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]


def quantize(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help='The model: a diffusers folder, owner/name[@revision] on the hub, or "builtin".'
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The new folder to write.")],
    bits: Annotated[
        int | None,
        typer.Option(help="Bits per weight of the UNet: 2, 3, 4, 5, 6 or 8. Text encoders get 8. [default: 4]"),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option(help="How many weights share a scale: 32, 64 or 128; fewer are more exact. [default: 64]"),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(case_sensitive=False, help="The number format; all but affine fix the bits and the group size."),
    ] = "affine",
    report: Annotated[bool, typer.Option("--report", help="Print the bits and the error of every layer.")] = False,
) -> None:
    """Quantize the UNet and text encoders of MODEL; the autoencoder stays as it is.

    For example: genmoji quantize sd15 -o sd15-4bit
    """
    from tqdm import tqdm

    from mlx_genmoji.hub import resolve
    from mlx_genmoji.quantization import Quantization
    from quantize import quantize_folder

    quantization = Quantization.choose(bits, group_size, mode)
    source = resolve(model)
    if source.is_file():
        raise UserError(
            f"{model} is one file, not a folder; make a folder of it with: genmoji convert {model} -o FOLDER"
        )
    with tqdm(disable=None, leave=False, unit="layer") as bar:

        def show_layer(part: str, number: int, count: int) -> None:
            bar.total, bar.n = count, number
            bar.set_description(part)

        parts = quantize_folder(source, output, quantization, show_layer)
    if report:
        typer.echo("\n".join(_table(parts)))
    typer.echo(f"{output}: {', '.join(map(_summary, parts))}")


def _summary(part: PartReport) -> str:
    dense = sum(layer.bits is None for layer in part.layers)
    note = f" ({dense} of {len(part.layers)} layers left dense)" if dense else ""
    before, after = part.bytes_before / 1e6, part.bytes_after / 1e6
    return f"{part.part} in {part.quantization.bits} bits{note}, {before:.1f} MB -> {after:.1f} MB"


def _table(parts: Sequence[PartReport]) -> Iterator[str]:
    yield "| layer | bits | error |"
    yield "|---|---|---|"
    for part in parts:
        for layer in part.layers:
            cells = ("dense", "") if layer.bits is None else (str(layer.bits), f"{layer.error:.2%}")
            yield f"| {part.part}.{layer.path} | {cells[0]} | {cells[1]} |"

"""`genmoji export`: a model and adapters in, Core ML packages or a diffusers folder for apps out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlx_genmoji.errors import UserError
from quantize.export_options import Attention, Format, Method, Target, Verification

from . import AdapterFiles, parse_adapter

# The options that only --format coreml has.
CORE_ML_OPTIONS = ("bits", "method", "attention", "target", "chunk", "height", "width", "functions", "verify")


def export(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help='The model: a folder, an id on the hub, or "builtin".')],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The new folder to write.")],
    adapter: AdapterFiles = [],  # noqa: B006
    bits: Annotated[
        int, typer.Option(help="Bits per weight of the UNet: 4, 6, 8 or 16. Text encoders get 8 or more.")
    ] = 6,
    method: Annotated[
        Method,
        typer.Option(
            case_sensitive=False,
            help="A palette per layer, integers with scales, or MLX's own quantization (4 or 8 bits).",
        ),
    ] = "palettize",
    attention: Annotated[
        Attention,
        typer.Option(case_sensitive=False, help="For the Neural Engine (split-einsum) or the GPU (original)."),
    ] = "split-einsum",
    target: Annotated[
        Target | None,
        typer.Option(
            case_sensitive=False, help="The oldest system that must read the packages. [default: the oldest that can]"
        ),
    ] = None,
    chunk: Annotated[
        bool, typer.Option("--chunk", help="Split the UNet into two packages, which iPhones need for large models.")
    ] = False,
    height: Annotated[
        int | None, typer.Option(help="Height of the pictures, in pixels. [default: the model's]")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Width of the pictures, in pixels. [default: the model's]")] = None,
    functions: Annotated[
        bool,
        typer.Option(
            "--functions",
            help="Keep the adapters switchable: one Core ML function each, which share the model's weights.",
        ),
    ] = False,
    format: Annotated[
        Format,
        typer.Option(
            case_sensitive=False, help="coreml, or a diffusers folder in half precision, for MLX Swift and Draw Things."
        ),
    ] = "coreml",
    verify: Annotated[
        Verification,
        typer.Option(
            help="How thoroughly the packages are read back and compared with the model. quick: one example, in exact"
            " arithmetic; full: all examples, in half precision too."
        ),
    ] = "quick",
) -> None:
    """Export MODEL, with adapters, for apps: as Core ML packages or a diffusers folder.

    For example: genmoji export builtin -o Genmoji --bits 6
    """
    from quantize.export import Options, Source, export_coreml, export_diffusers

    if format == "diffusers":
        _refuse_core_ml_options(context)
    source = Source(model, [parse_adapter(text) for text in adapter])
    if format == "diffusers":
        export_diffusers(source, output)
        typer.echo(output)
        return
    system = None if target is None else int(target.removeprefix("ios"))
    options = Options(bits, method, attention, system, chunk, height, width, functions, verify)

    def show_progress(stage: str) -> None:
        typer.echo(f"genmoji: {stage}", err=True)

    record = export_coreml(source, output, options, show_progress)
    for name, package in record["packages"].items():
        typer.echo(f"{name}: {package['bytes'] / 1e6:.1f} MB{_exactness(package.get('psnr', {}))}")
    typer.echo(output)


def _refuse_core_ml_options(context: typer.Context) -> None:
    given = [name for name in CORE_ML_OPTIONS if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"]
    if given:
        options = ", ".join(f"--{name}" for name in given)
        raise UserError(f"{options}: only for Core ML packages; leave this out with --format diffusers.")


def _exactness(psnr: dict[str, dict[str, float]]) -> str:
    """The lowest PSNR of a package's functions, in words; quick verification does not round activations."""
    if not psnr:
        return ", not verified"
    worst = min(min(function.values()) for function in psnr.values())
    how = "" if all("half" in function for function in psnr.values()) else " in exact arithmetic"
    return f", {worst:.0f} dB from the model{how}"

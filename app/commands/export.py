"""`genmoji export`: a model's folder to Core ML packages for iPhone, iPad and Mac apps, or to one for other apps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlx_genmoji.errors import UserError

from .adapter_options import AdapterFiles, parse_adapter

Format = Literal["coreml", "diffusers"]
Method = Literal["palettize", "linear", "mlx"]
Attention = Literal["split-einsum", "original"]
Target = Literal["ios17", "ios18"]
Verification = Literal["full", "quick", "off"]


# What says how packages of Core ML are, by the option that asks for it.
OF_CORE_ML = ("bits", "method", "attention", "target", "chunk", "height", "width", "functions", "verify")


def export(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help='The model: a folder, an id on the hub, or "builtin".')],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The new folder to write.")],
    adapter: AdapterFiles = [],  # noqa: B006
    bits: Annotated[
        int, typer.Option(help="Bits of a weight of the UNet: 4, 6, 8 or 16. Text encoders get 8 or more.")
    ] = 6,
    method: Annotated[
        Method,
        typer.Option(help="A palette for each layer, whole numbers with scales, or MLX's own packing (4 or 8 bits)."),
    ] = "palettize",
    attention: Annotated[
        Attention, typer.Option(help="For the Neural Engine (split-einsum) or the GPU (original).")
    ] = "split-einsum",
    target: Annotated[
        Target | None, typer.Option(help="The system that has to read it. [default: the first that can]")
    ] = None,
    chunk: Annotated[
        bool, typer.Option("--chunk", help="Write the UNet in two packages, as iPhones want large ones.")
    ] = False,
    height: Annotated[int | None, typer.Option(help="Of pictures, in pixels. [default: the model's]")] = None,
    width: Annotated[int | None, typer.Option(help="Of pictures, in pixels. [default: the model's]")] = None,
    functions: Annotated[
        bool,
        typer.Option("--functions", help="Keep adapters apart: one function for each, the model's weights shared."),
    ] = False,
    format: Annotated[
        Format, typer.Option(help="coreml, or a diffusers folder in half precision, for MLX Swift and Draw Things.")
    ] = "coreml",
    verify: Annotated[
        Verification,
        typer.Option(
            help="How thoroughly packages are read back and compared with the model: quick in exact arithmetic, on one"
            " example; full in half precision too, on all."
        ),
    ] = "quick",
) -> None:
    """Write MODEL, with adapters, as an app takes it."""
    from quantize.export import Options, Source, export_coreml, export_diffusers

    if format == "diffusers":
        _refuse_what_is_of_core_ml(context)
    source = Source(None if model == "builtin" else model, [parse_adapter(text) for text in adapter])
    if format == "diffusers":
        export_diffusers(source, output)
        typer.echo(output)
        return
    system = None if target is None else int(target.removeprefix("ios"))
    options = Options(bits, method, attention, system, chunk, height, width, functions, verify)

    def show(what: str) -> None:
        typer.echo(f"genmoji: {what}", err=True)

    record = export_coreml(source, output, options, show)
    for name, package in record["packages"].items():
        typer.echo(f"{name}: {package['bytes'] / 1e6:.1f} MB{_exactness(package.get('psnr', {}))}")
    typer.echo(output)


def _refuse_what_is_of_core_ml(context: typer.Context) -> None:
    given = [name for name in OF_CORE_ML if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"]
    if given:
        options = ", ".join(f"--{name}" for name in given)
        raise UserError(f"{options}: only Core ML packages have that; leave it out with --format diffusers.")


def _exactness(psnr: dict[str, dict[str, float]]) -> str:
    """The least exact of a package's functions, in words; a quick look has seen no rounding of activations."""
    if not psnr:
        return ", not verified"
    worst = min(min(one.values()) for one in psnr.values())
    how = "" if all("half" in one for one in psnr.values()) else " in exact arithmetic"
    return f", {worst:.0f} dB from the model{how}"

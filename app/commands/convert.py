"""`genmoji convert`: a checkpoint in one file, or a folder of pickles, in; out comes a folder that all verbs read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mlx_genmoji.errors import UserError
from mlx_genmoji.hub import ID, locate_file, resolve

from . import AllowPickle, VaeOption

Prediction = Literal["epsilon", "v_prediction"]


def convert(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE_OR_FOLDER_OR_ID",
            help="The checkpoint in Stable Diffusion's original layout: .safetensors, or .ckpt with --allow-pickle,"
            " here or as owner/name/file on the hub; or a diffusers folder or an id with weights in another format.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The new folder to write.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The tokenizer folder of any Stable Diffusion model, which single files lack."
            " [default: one in the hub's cache]",
        ),
    ] = None,
    predicts: Annotated[
        Prediction | None,
        typer.Option(
            case_sensitive=False,
            help="What the UNet predicts. [default: as the file says, else as is usual for its family]",
        ),
    ] = None,
    vae: VaeOption = None,
    allow_pickle: AllowPickle = False,
) -> None:
    """Convert a Stable Diffusion 1.x, 2.x or XL checkpoint in one file to a diffusers folder.

    Or a diffusers folder with weights in another format, such as pickles, to one of safetensors.

    For example: genmoji convert model.safetensors -o a/folder
    """
    if not file.exists() and not file.suffix and ID.fullmatch(str(file)):
        file = resolve(str(file), allow_pickle=allow_pickle)
    else:
        file = locate_file(str(file), allow_pickle) or file
    if file.is_dir():
        from mlx_genmoji.checkpoint.safe_folder import convert_folder

        for name, value in {"--vae": vae, "--predicts": predicts, "--tokenizer": tokenizer}.items():
            if value is not None:
                raise UserError(f"{name} is for a checkpoint in one file, and {file} is a folder.")
        convert_folder(file, output, allow_pickle)
        typer.echo(output)
        return
    from mlx_genmoji.checkpoint.single_file import convert_single_file

    requested: dict[str, Any] = {"vae": vae, "allow_pickle": allow_pickle}
    options = {name: value for name, value in requested.items() if value}
    for note in convert_single_file(file, output, tokenizer, predicts, **options) or ():
        print("genmoji:", note, file=sys.stderr)
    typer.echo(output)

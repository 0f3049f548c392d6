"""The `genmoji` command line: one verb per capability.

It reads options, calls the package that does the work, and says what became of it: results on stdout, the rest on
stderr. Exit codes: 0; 2 for a user's mistake, told in one line; 130 for Ctrl-C. The packages are imported by the verb
that needs them, so that `genmoji --help` answers without MLX.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mlx_genmoji.errors import UserError

from .scraping import scraping

USER_MISTAKE = 2
INTERRUPTED = 130
BROKEN_PIPE = 1

SkinTone = Literal["light", "medium-light", "medium", "medium-dark", "dark"]
Sampler = Literal["ddim", "euler", "dpm++2m"]

app = typer.Typer(
    help="Text in, a genmoji out, on your own machine.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def genmoji(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if show_version:
        typer.echo(f"genmoji {version('mlx-genmoji')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.add_typer(scraping, name="scrape")


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help='What to draw, in quotes: "flying pig".')],
    count: Annotated[int, typer.Option("--count", "-n", help="How many candidates to make.")] = 1,
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same picture; candidate i has seed + i. [default: random]")
    ] = None,
    skin_tone: Annotated[SkinTone | None, typer.Option(help="Skin tone of the people in the picture.")] = None,
    person_type: Annotated[
        str | None, typer.Option(help="Who the people in the picture are: man, woman or person.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The model, a diffusers folder. [default: the built-in one]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="How closely to follow the prompt; up to 1 is no guidance. [default: the model's]"),
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="What not to draw.")] = "",
    sampler: Annotated[Sampler | None, typer.Option(help="How to denoise. [default: the model's]")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The PNG to write; with -n, pig.png becomes pig-1.png, pig-2.png and so on."
            " [default: the prompt's words]",
        ),
    ] = None,
    no_recipe: Annotated[
        bool, typer.Option("--no-recipe", help="Leave out of the PNG how it was made (prompt, seed, model).")
    ] = False,
) -> None:
    """Draw a genmoji of PROMPT as a PNG file."""
    output = output or Path(f"{slug(prompt)}.png")
    check_writable(output)
    paths = output_paths(output, count)
    for path in paths:
        check_writable(path)

    from tqdm import tqdm

    from mlx_genmoji import Genmoji

    pipeline = Genmoji.load(model)
    with tqdm(disable=None, leave=False, unit="step") as bar:

        def show(step: int, steps: int, latents: Any) -> None:
            bar.total = steps
            bar.update()

        stickers = pipeline.generate(
            prompt,
            count=count,
            seed=seed,
            steps=steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            skin_tone=skin_tone,
            person_type=person_type,
            sampler=sampler,
            callback=show,
        )
    for sticker, path in zip(stickers, paths, strict=True):
        try:
            sticker.save(path, recipe=not no_recipe)
        except OSError as error:
            raise UserError(f"{path} could not be written: {error.strerror or error}.") from error
        typer.echo(path)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train, on what, for how long.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the last run was stopped.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; repeatable.")
    ] = None,
) -> None:
    """Train what RECIPE.yaml describes."""
    from train import run

    run(recipe, resume, overrides or [])


def slug(prompt: str) -> str:
    """A file name's stem of a prompt's words: "Flying pig!" -> "flying-pig"."""
    words = "".join(char if char.isalnum() else " " for char in prompt.casefold()).split()
    return "-".join(words)[:60].rstrip("-") or "genmoji"


def output_paths(output: Path, count: int) -> list[Path]:
    """`output`, or for several pictures `output` numbered from 1: pig-1.png, pig-2.png."""
    if count == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{number}") for number in range(1, count + 1)]


def check_writable(path: Path) -> None:
    """Raise UserError if a PNG could not be written to `path`. Leaves nothing behind."""
    try:
        _check_writable(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Choose another place with --output.") from error


def _check_writable(path: Path) -> None:
    # Whether is_dir tells of a name that is too long, or a folder that is locked, depends on the version of Python.
    with suppress(FileNotFoundError, NotADirectoryError):
        path.stat()
    if path.is_dir():
        raise UserError(f"{path} is a folder; give --output the name of a file.")
    if path.suffix.lower() != ".png":
        raise UserError(f"{path} is no PNG file; give --output a name that ends in .png.")
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {path.parent} to write {path.name} to.")
    tempfile.TemporaryFile(dir=path.parent).close()


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line `args`, by default the process's, and return the exit code."""
    warnings.showwarning = lambda message, *_, **__: print("genmoji:", message, file=sys.stderr)
    command = typer.main.get_command(app)
    try:
        code = command.main(args, prog_name="genmoji", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        return fail(str(error), USER_MISTAKE)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        help_command = context.command_path if context else "genmoji"
        # The words of the validator behind typer, which mean nothing to a user.
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        return fail(f"{message}. See {help_command} --help.", USER_MISTAKE)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        # The disk is full, a folder is not the user's, a name is too long: whoever runs the command can mend it.
        place = f"{error.filename}: " if error.filename else ""
        return fail(f"{place}{error.strerror or error}.", USER_MISTAKE)
    if code == INTERRUPTED:
        return fail("stopped.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def fail(message: str, code: int) -> int:
    """Say `message` in one line on stderr, and return `code`."""
    print("genmoji:", " ".join(message.split()), file=sys.stderr)
    return code

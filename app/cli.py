"""The `genmoji` command line: one verb per capability.

It reads options, calls the package that does the work, and says what became of it: results on stdout, the rest on
stderr. Exit codes: 0; 2 for a user's mistake, told in one line; 130 for Ctrl-C. The packages are imported by the verb
that needs them, so that `genmoji --help` answers without MLX.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from mlx_genmoji.errors import UserError

from .commands.app import app as demo
from .commands.bench import bench
from .commands.convert import convert
from .commands.export import export
from .commands.fuse import fuse
from .commands.quantize import quantize
from .commands.rewrite import rewrite
from .commands.scrape import scraping
from .commands.stickers import stickers
from .commands.train import train
from .generating import generate

USER_MISTAKE = 2
INTERRUPTED = 130
BROKEN_PIPE = 1

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


app.command()(generate)
app.command()(rewrite)
app.command()(convert)
app.command()(quantize)
app.command()(fuse)
app.command()(export)
app.command()(stickers)
app.command()(bench)
app.command()(train)
app.command()(demo)


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

"""The `genmoji` command line: a table of its verbs, and what its exit codes and error messages are.

Results go to stdout, everything else to stderr. Exit codes: 0; 2 for a user's mistake, explained in one line; 130 for
Ctrl-C. A verb's module is imported when the verb runs, and imports the package that does the work inside its function:
`genmoji --help` answers without MLX.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from mlx_genmoji import errors
from mlx_genmoji.errors import UserError, quoted

USER_MISTAKE = 2
INTERRUPTED = 130
BROKEN_PIPE = 1

HELP = {"help_option_names": ["-h", "--help"]}
MISTYPED = 0.75
"""How similar a word must be to a verb to be taken for it (`difflib`), from 0 to 1."""


class Verb(NamedTuple):
    """A verb that is not imported yet."""

    target: str
    """`module:name` of a command function or of a `typer.Typer`."""
    help: str
    """Its line in the group's help: the first sentence of its own help."""


VERBS = {
    "generate": Verb("app.commands.generate:generate", "Draw a genmoji of PROMPT as a PNG file."),
    "models": Verb(
        "app.commands.models:models",
        "List the models that have a name, add others, and see what an id on the hub holds.",
    ),
    "show": Verb(
        "app.commands.show:show", "Print how the sticker in PNG was drawn: prompt, seed, model and settings, as JSON."
    ),
    "rewrite": Verb(
        "app.commands.rewrite:rewrite",
        "Print the plan of PROMPT as JSON: its subject, what a language model adds, and the final prompt.",
    ),
    "convert": Verb(
        "app.commands.convert:convert",
        "Convert a Stable Diffusion 1.x, 2.x or XL checkpoint in one file to a diffusers folder.",
    ),
    "quantize": Verb(
        "app.commands.quantize:quantize",
        "Quantize the UNet and text encoders of MODEL; the autoencoder stays as it is.",
    ),
    "fuse": Verb("app.commands.fuse:fuse", "Merge adapters into the weights of MODEL."),
    "export": Verb(
        "app.commands.export:export",
        "Export MODEL, with adapters, for apps: as Core ML packages or a diffusers folder.",
    ),
    "stickers": Verb(
        "app.commands.stickers:stickers",
        "Turn pictures into stickers for Slack, Discord, Telegram, WhatsApp, Signal, iMessage, iOS or a web page.",
    ),
    "pack": Verb(
        "app.commands.pack:pack",
        "Draw SUBJECT in many moods, as a sticker pack for Telegram, WhatsApp, Signal, Discord or Slack.",
    ),
    "bench": Verb("app.commands.bench:bench", "Measure how long loading and drawing take, and print a table to share."),
    "doctor": Verb(
        "app.commands.doctor:doctor",
        "Say whether this machine is ready, what it lacks and how to add it, and which models fit, as a table.",
    ),
    "train": Verb("app.commands.train:train", "Train what RECIPE describes."),
    "app": Verb("app.commands.app:app", "Serve the demo: a page in the browser, and an endpoint for programs."),
    "scrape": Verb("app.commands.scrape:scraping", "Collect emoji as a dataset: a folder of captioned pictures."),
}


class Verbs(TyperGroup):
    """The verbs of `genmoji`, in the order in which its help lists them: listed and suggested without an import."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # The base class lists and suggests from `commands`; for that a name and a line of help are enough.
        for name, verb in VERBS.items():
            self.add_command(TyperCommand(name, help=verb.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The verb that `args` begin with, imported, and the arguments after it; "generate" for a prompt."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            check_verb(args[0])
            args = ["generate", *args]
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load(VERBS[name].target), rest


def check_verb(word: str) -> None:
    """Raise UserError for the first word of a prompt that is more likely a mistyped verb."""
    near = get_close_matches(word, VERBS, 1, MISTYPED)
    if not near or " " in word or _is_drawn(word):
        return
    name = quoted(repr(word))
    raise UserError(f"No such command {name}. Did you mean '{near[0]}'? To draw it: genmoji generate \"{word}\"")


def _is_drawn(word: str) -> bool:
    """Whether the built-in model knows a word: "rain" is a prompt, not "train"."""
    from mlx_genmoji.hub import BUILTIN
    from mlx_genmoji.prompt.words import Words
    from mlx_genmoji.reader.grammar import understand
    from mlx_genmoji.reader.lexicon import Lexicon
    from mlx_genmoji.reader.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(BUILTIN)
    assert vocabulary is not None
    scene = understand(word, Lexicon(vocabulary, Words.load(BUILTIN)))
    drawn_as = [label for _, label in scene.nearest]
    return scene.subject is not None and not scene.unknown and all(word in label.split() for label in drawn_as)


def load(target: str) -> Any:
    """The command that `target` ("module:name") names."""
    module, _, name = target.partition(":")
    loaded = getattr(import_module(module), name)
    if not isinstance(loaded, typer.Typer):
        function, loaded = loaded, typer.Typer(add_completion=False, rich_markup_mode=None)
        loaded.command(context_settings=HELP)(function)
    return typer.main.get_command(loaded)


app = typer.Typer(
    cls=Verbs,
    help='Text in, a genmoji out, on your machine. genmoji "flying pig" is short for genmoji generate "flying pig".',
    context_settings=HELP,
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


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line `args`, by default the process's, and return the exit code."""
    errors.COMMAND[:] = sys.argv[1:] if args is None else args
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
        # "Value error" is the prefix of typer's validator; it means nothing to a user.
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        return fail(f"{message}. See {help_command} --help.", USER_MISTAKE)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        # A full disk, another user's folder, a name that is too long: the user can do something about all of them.
        place = f"{error.filename}: " if error.filename else ""
        return fail(f"{place}{error.strerror or error}.", USER_MISTAKE)
    finally:
        errors.COMMAND.clear()
    if code == INTERRUPTED:
        return fail("stopped.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def fail(message: str, code: int) -> int:
    """Print `message` in one line on stderr, and return `code`."""
    print("genmoji:", " ".join(message.split()), file=sys.stderr)
    return code

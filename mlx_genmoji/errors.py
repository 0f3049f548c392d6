"""The exceptions that a user of the library meets, and how their messages quote text from elsewhere."""

import shlex
from collections.abc import Sequence

COMMAND: list[str] = []
"""The arguments of the `genmoji` command that runs; empty in a program of the user's."""


class UserError(Exception):
    """A mistake the user can mend. The message is one sentence: what is wrong and what to do. Exit code 2."""


class Cancelled(Exception):
    """The callback of a generation returned False."""


def quoted(text: object, longest: int = 200) -> str:
    """`text`, from any source, as a part of an error message: printable, on one line, at most `longest` characters."""
    shown = str(text)
    shown = shown if shown.isprintable() else repr(shown)
    return shown if len(shown) <= longest else f"{shown[:longest]}..."


def first_few(names: Sequence[str], limit: int = 3) -> str:
    """The first `limit` names, and how many more there are: "a, b, c and 4 more"."""
    listed = ", ".join(names[:limit])
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more"


def command_line(*example: str) -> str:
    """The `genmoji` command that runs, for a message that asks to run it again; `example` in a program of the user's.

    Words with spaces are in double quotes where a shell leaves them as they are.
    """
    return " ".join(["genmoji", *map(quoted_for_shell, COMMAND or example)])


def quoted_for_shell(word: str) -> str:
    """A word of a command, quoted where a shell needs it."""
    plain = shlex.quote(word)
    return f'"{word}"' if plain != word and not set(word) & set("\"$`\\!'") else plain

"""The one exception a person can cause, and how it quotes what others said."""


class UserError(Exception):
    """A mistake a user can mend: one sentence that says what is wrong and what to do. The command line exits with 2."""


def one_line(text: object, longest: int = 200) -> str:
    """`text` as a part of such a sentence, wherever it comes from: on one line, printable, and not long."""
    shown = str(text)
    shown = shown if shown.isprintable() else repr(shown)
    return shown if len(shown) <= longest else f"{shown[:longest]}..."

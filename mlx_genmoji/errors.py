"""What a person can cause, a mistake or a change of mind, and how a mistake quotes what others said."""


class UserError(Exception):
    """A mistake a user can mend: one sentence that says what is wrong and what to do. The command line exits with 2."""


class Cancelled(Exception):
    """A generation that its callback stopped."""


def one_line(text: object, longest: int = 200) -> str:
    """`text` as a part of such a sentence, wherever it comes from: on one line, printable, and not long."""
    shown = str(text)
    shown = shown if shown.isprintable() else repr(shown)
    return shown if len(shown) <= longest else f"{shown[:longest]}..."

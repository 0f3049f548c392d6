"""The one exception a person can cause."""


class UserError(Exception):
    """A mistake a user can mend: one sentence that says what is wrong and what to do. The command line exits with 2."""

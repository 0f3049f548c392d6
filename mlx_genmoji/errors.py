"""What a person can cause: a mistake, and a change of mind."""


class UserError(Exception):
    """A mistake a user can mend: one sentence that says what is wrong and what to do. The command line exits with 2."""


class Cancelled(Exception):
    """A generation that its callback stopped."""

"""The one exception this package raises for what its user can put right."""

from mlx_genmoji.errors import UserError


class ScrapeError(UserError):
    """A dataset that cannot be made, in one sentence that says what is wrong and what to do about it."""

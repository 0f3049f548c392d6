"""The exception of this package."""

from mlx_genmoji.errors import UserError


class ScrapeError(UserError):
    """A dataset cannot be made. The message is a sentence: what is wrong and what to do."""

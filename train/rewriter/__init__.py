"""The prompt rewriter's language model: rows to tune it on (rows.py), and the tuning itself (tuning.py)."""

from .tuning import RewriterRecipe, train_rewriter

__all__ = ["RewriterRecipe", "train_rewriter"]

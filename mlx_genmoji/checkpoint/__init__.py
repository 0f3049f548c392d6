"""Model folders and files: which files hold the weights, and a component's folder <-> its module tree.

`load_model(folder)` builds one component; `components` has the rest. The names below are fetched when they are first
used, so that importing this package does not import MLX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .components import create_model, load_model, load_weights, open_model, save_model

__all__ = ["create_model", "load_model", "load_weights", "open_model", "save_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import components

    return getattr(components, name)

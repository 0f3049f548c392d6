"""Model folders and files: finding a component's weights, and its folder <-> its module tree.

`load_model(folder)` builds one component. The names below are imported from `components` when they are first used, so
that importing this package does not import MLX.
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

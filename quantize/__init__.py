"""A workshop: writes a model with fewer bits, with adapters in its weights, or as packages for iPhones and Macs.

Importing it imports neither MLX nor coremltools: the names below are fetched when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .folder import PartReport, quantize_folder

__all__ = ["PartReport", "quantize_folder"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".folder", __name__), name)

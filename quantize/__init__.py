"""A workshop: shrinks a model to fewer bits and exports it."""

from .folder import PartReport, quantize_folder

__all__ = ["PartReport", "quantize_folder"]

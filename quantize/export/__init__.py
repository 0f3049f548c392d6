"""Core ML packages for apps, from our modules' weights, and the proof that they compute what the modules do."""

from .folder import Options, export_coreml
from .source import Source

__all__ = ["Options", "Source", "export_coreml"]

"""A model as apps take it: Core ML packages from our modules' weights, with the proof that they compute what these do;
and diffusers folders in half precision."""

from .diffusers import export_diffusers
from .exported_model import Source
from .folder import Options, export_coreml

__all__ = ["Options", "Source", "export_coreml", "export_diffusers"]

"""Low-rank adapters: layers to train, files to share, several at once in a pipeline.

The module of each name below is imported when the name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .active import Adapters
    from .adapter import Adapter, Layer
    from .apply import use
    from .files import load_adapter
    from .initialization import LoRAConfig, adapter_of, attach, attach_adapter, dense_weights
    from .layer_tree import adaptable, attached, detach
    from .layers import LoRAConv2d, LoRALayer, LoRALinear
    from .persona_index import Entry, Index, read_index, write_index
    from .save import Format, save_adapter

__all__ = [
    "Adapter",
    "Adapters",
    "Entry",
    "Format",
    "Index",
    "Layer",
    "LoRAConfig",
    "LoRAConv2d",
    "LoRALayer",
    "LoRALinear",
    "adaptable",
    "adapter_of",
    "attach",
    "attach_adapter",
    "attached",
    "dense_weights",
    "detach",
    "load_adapter",
    "read_index",
    "save_adapter",
    "use",
    "write_index",
]

_MODULE_OF = {
    "Adapter": "adapter",
    "Adapters": "active",
    "Entry": "persona_index",
    "Format": "save",
    "Index": "persona_index",
    "Layer": "adapter",
    "LoRAConfig": "initialization",
    "LoRAConv2d": "layers",
    "LoRALayer": "layers",
    "LoRALinear": "layers",
    "adaptable": "layer_tree",
    "adapter_of": "initialization",
    "attach": "initialization",
    "attach_adapter": "initialization",
    "attached": "layer_tree",
    "dense_weights": "initialization",
    "detach": "layer_tree",
    "load_adapter": "files",
    "read_index": "persona_index",
    "save_adapter": "save",
    "use": "apply",
    "write_index": "persona_index",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)

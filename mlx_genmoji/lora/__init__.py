"""Low-rank adapters: layers that train, files that are shared, several at once in a pipeline."""

from .active import Adapters, use
from .adapter import Adapter, Layer
from .files import Format, load_adapter, save_adapter
from .initialization import LoRAConfig, adapter_of, attach, attach_adapter, dense_weights
from .layer_tree import adaptable, attached, detach
from .layers import LoRAConv2d, LoRALayer, LoRALinear
from .persona_index import Entry, Index, read_index, write_index

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

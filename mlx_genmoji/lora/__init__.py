"""Low-rank adapters: layers that train, files that are shared, several at once in a pipeline."""

from .adapter import Adapter, Layer
from .attaching import LoRAConfig, adapter_of, attach, attach_adapter, dense_weights
from .files import Format, load_adapter, save_adapter
from .index import Entry, Index, read_index, write_index
from .layers import LoRAConv2d, LoRALayer, LoRALinear
from .modules import adaptable, attached, detach
from .using import Adapters, use

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

"""Low-rank adapters: layers that train, files that are shared, several at once in a pipeline."""

from .adapter import Adapter, Layer
from .attaching import LoRAConfig, adapter_of, attach, attach_adapter, attached, detach
from .layers import LoRAConv2d, LoRALayer, LoRALinear

__all__ = [
    "Adapter",
    "Layer",
    "LoRAConfig",
    "LoRAConv2d",
    "LoRALayer",
    "LoRALinear",
    "adapter_of",
    "attach",
    "attach_adapter",
    "attached",
    "detach",
]

"""An adapter by itself: for each layer of a model that it changes, by how much."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import mlx.core as mx


@dataclass(frozen=True)
class Layer:
    """The change of one layer."""

    down: mx.array
    """(rank, in) of a linear layer, (rank, kh, kw, in) of a convolution, one of 1x1 included."""
    up: mx.array
    """(out, rank)."""
    alpha: float
    """The change is alpha / rank * up @ down. Where a file says nothing, it is the rank."""
    dora_scale: mx.array | None = None
    """(out,), the norms of the changed weights of each output, of a DoRA."""

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True)
class Adapter:
    """Changes of layers by their full paths ("unet.down_blocks.0...to_q"), and what is known of where they come from.

    metadata: the header of the file. Our own, all of them optional: `base_model` (a name or id, never a path),
    `base_sha256`, `base_bits`, `skin_tone`, `person_type`, `template`, `init`, `dataset_sha256`, `step`, `seed`.
    """

    layers: Mapping[str, Layer]
    metadata: Mapping[str, str] = field(default_factory=dict)

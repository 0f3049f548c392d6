"""The normal noise of PyTorch's CPU generator, so that a seed gives here the picture that it gives in diffusers.

`TorchGenerator(seed).randn(shape)` holds the numbers of `torch.randn(shape, generator=generator)` in float32, with
`generator = torch.Generator().manual_seed(seed)`, to the rounding of the logarithm, sine and cosine. Successive calls
continue the same sequence.

The source is the Mersenne Twister 19937 (Matsumoto and Nishimura 1998), which NumPy has as well, and the transform is
that of Box and Muller (1958). PyTorch uses it in two forms (`aten/src/ATen/native/cpu/DistributionTemplates.h`):

- 16 values or more: 24-bit uniform numbers in blocks of 16, of which the first eight are radii and the last eight
  angles. Where the count is no multiple of 16, the last 16 values are drawn anew.
- fewer: 53-bit uniform numbers in pairs; the second normal number of a pair is kept for the next call.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np

BLOCK = 16


class TorchGenerator:
    """A source of normal numbers that continues from call to call, as `torch.Generator` on a CPU does."""

    def __init__(self, seed: int) -> None:
        """seed: 0 or more. As in PyTorch, its lowest 32 bits count."""
        # RandomState seeds the twister with one number, as PyTorch does; NumPy's newer generators hash their seed.
        self._source = np.random.MT19937()
        state: Any = np.random.RandomState(seed % 2**32).get_state(legacy=False)
        self._source.state = state
        self._kept: float | None = None

    def randn(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal numbers, float32."""
        count = math.prod(shape)
        values = self._blocks(count) if count >= BLOCK else self._pairs(count)
        return values.astype(np.float32).reshape(shape)

    def latents(self, shape: tuple[int, ...]) -> mx.array:
        """Normal noise for latents (B, H, W, C), drawn in the order of PyTorch's layout (B, C, H, W)."""
        batch, height, width, channels = shape
        return mx.array(np.ascontiguousarray(self.randn((batch, channels, height, width)).transpose(0, 2, 3, 1)))

    def _uniform24(self, count: int) -> np.ndarray:
        return (self._source.random_raw(count) & (2**24 - 1)) * 2.0**-24

    def _uniform53(self) -> float:
        high, low = self._source.random_raw(2).tolist()
        return float((high << 32 | low) & (2**53 - 1)) * 2.0**-53

    def _blocks(self, count: int) -> np.ndarray:
        whole = count - count % BLOCK
        uniform = self._uniform24(count)
        values = np.empty(count)
        values[:whole] = _box_muller(uniform[:whole])
        if whole < count:
            values[-BLOCK:] = _box_muller(self._uniform24(BLOCK))
        return values

    def _pairs(self, count: int) -> np.ndarray:
        values = []
        for _ in range(count):
            if self._kept is not None:
                values.append(self._kept)
                self._kept = None
                continue
            angle, radius = 2 * math.pi * self._uniform53(), math.sqrt(-2 * math.log1p(-self._uniform53()))
            values.append(radius * math.cos(angle))
            self._kept = radius * math.sin(angle)
        return np.array(values)


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    """Uniform numbers in blocks of 16 -> as many normal ones."""
    first, second = uniform.reshape(-1, 2, BLOCK // 2).transpose(1, 0, 2)
    radius, angle = np.sqrt(-2 * np.log(1 - first)), 2 * math.pi * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()

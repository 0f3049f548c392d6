"""Changes of a layer's parameters that no pair of low-rank matrices holds: LyCORIS' kinds, whole differences, norms.

    LoHa    W' = W + alpha / rank * (w1_a @ w1_b) * (w2_a @ w2_b)         (Hyeon-Woo et al., 2022, FedPara)
    LoKr    W' = W + alpha / rank * kron(w1, w2); without alpha / rank if neither w1 nor w2 is a product of two
    diff    W' = W + diff, and the same for biases and for the weights of norms
    PiSSA   W' = W + scale * up @ down - the matrices' product before training, which PEFT takes off the base
    DoRA    W' = magnitude * W' / |W'|, the norms over the inputs (LyCORIS) or the outputs (Liu et al., 2024)

LyCORIS: Yeh et al., 2024, https://arxiv.org/abs/2309.14859. Factors may be in Tucker's form: a core of the kernel's
size (`hada_t1`, `lokr_t2`) between two matrices. These changes are merged into a layer's weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .layers import low_rank, output_norms, per_output

_TUCKER = "ijkl,jr,ip->prkl"


@dataclass(frozen=True, eq=False)
class WholeChange:
    """The change of one layer's weight and bias, or of one norm's. The weight's shape is known only beside a model."""

    kind: str
    """Its name in messages: "LoHa"."""
    factors: Mapping[str, mx.array]
    """The tensors that make the delta, by the names in their files without the layer's; empty if the weight stays.

    "down" and "up" are in the shapes of `adapter.Layer`, all others as in the file: channels first.
    """
    scale: float = 1.0
    magnitude: mx.array | None = None
    """Of a DoRA: one number for each input or output."""
    over_inputs: bool = False
    start: str | tuple[mx.array, mx.array] | None = None
    """What is subtracted from the base: "pissa" or "olora", or the initial `down` and `up` that PEFT saved."""
    bias: mx.array | None = None
    """The difference of the bias."""

    @property
    def changes_weight(self) -> bool:
        return bool(self.factors)

    def delta(self, shape: tuple[int, ...]) -> mx.array:
        """The delta, float32 in the shape of the weight, channels last. Raises ValueError if it has another shape."""
        factors = {name: tensor.astype(mx.float32) for name, tensor in self.factors.items()}
        if "down" in factors:
            down, up = factors["down"], factors["up"]
            if len(up) != shape[0]:
                raise ValueError(f"{len(up)} outputs instead of {shape[0]}")
            return low_rank(self.scale, down, up, shape)
        if "diff" in factors:
            delta = factors["diff"]
        elif "hada_w1_a" in factors:
            delta = _hada(factors, 1) * _hada(factors, 2)
        else:
            delta = _kron(_lokr(factors, 1), _lokr(factors, 2))
        return self.scale * _channels_last(delta, shape)

    def changed(self, weight: mx.array) -> mx.array:
        """W', float32, for the base's weight W, channels last."""
        weight = weight.astype(mx.float32)
        changed = weight + self.delta(weight.shape)
        if self.start is not None:
            changed = changed - self._start(weight)
        if self.magnitude is None:
            return changed
        magnitude = self.magnitude.astype(mx.float32).flatten()
        if self.over_inputs:
            axes = tuple(range(changed.ndim - 1))
            return changed * (magnitude / mx.sqrt(changed.square().sum(axes)))
        return changed * per_output(magnitude / output_norms(changed), changed)

    def _start(self, weight: mx.array) -> mx.array:
        """The product of the matrices before training, scaled, in the shape of the weight."""
        if isinstance(self.start, tuple):
            down, up = (array.astype(mx.float32) for array in self.start)
            return low_rank(self.scale, down, up, weight.shape)
        rank, matrix = len(self.factors["down"]), np.asarray(weight).reshape(len(weight), -1)
        if self.start == "olora":
            # Büyükakyüz, 2024, https://arxiv.org/abs/2406.01775.
            q, r = np.linalg.qr(matrix)
            return mx.array(self.scale * (q[:, :rank] @ r[:rank])).reshape(weight.shape)
        # Meng et al., 2024, https://arxiv.org/abs/2404.02948: the scale is divided out of the singular values.
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        return mx.array((left[:, :rank] * values[:rank]) @ right[:rank]).reshape(weight.shape)


def rank_of(factors: Mapping[str, mx.array]) -> int | None:
    """The rank that LyCORIS divides alpha by; None if no factor is decomposed, so that alpha does not count."""
    for name in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if name in factors:
            return len(factors[name])
    return None


def tucker_down(down: mx.array, mid: mx.array) -> mx.array:
    """A LoCon's `lora_down` (rank, in, 1, 1) and `lora_mid` (rank, rank, kh, kw) -> one down matrix (rank, in, kh, kw).

    With it and `lora_up` the delta is that of a plain LoRA.
    """
    return mx.einsum("rskl,si->rikl", mid.astype(mx.float32), down.astype(mx.float32).reshape(len(down), -1))


def _hada(factors: Mapping[str, mx.array], number: int) -> mx.array:
    a, b, core = (factors.get(f"hada_{name}") for name in (f"w{number}_a", f"w{number}_b", f"t{number}"))
    if a is None or b is None:
        raise ValueError(f"no hada_w{number}")
    return a @ b if core is None else mx.einsum(_TUCKER, core, b, a)


def _lokr(factors: Mapping[str, mx.array], number: int) -> mx.array:
    if (whole := factors.get(f"lokr_w{number}")) is not None:
        return whole
    a, b, core = (factors.get(f"lokr_{name}") for name in (f"w{number}_a", f"w{number}_b", f"t{number}"))
    if a is None or b is None:
        raise ValueError(f"no lokr_w{number}")
    return a @ b if core is None else mx.einsum(_TUCKER, core, b, a)


def _kron(first: mx.array, second: mx.array) -> mx.array:
    """The Kronecker product of (a, b) and (c, d, ...), (a * c, b * d * ...)."""
    first, second = (array.reshape(len(array), -1) for array in (first, second))
    product = first[:, None, :, None] * second[None, :, None, :]
    return product.reshape(len(first) * len(second), -1)


def _channels_last(delta: mx.array, shape: tuple[int, ...]) -> mx.array:
    """A delta (out, in, kh, kw), or with its last axes flattened -> in `shape`, (out, kh, kw, in) or (out, in)."""
    first = (shape[0], shape[-1], *shape[1:-1])
    if len(delta) != shape[0] or delta.size != int(np.prod(shape)):
        raise ValueError(f"{tuple(delta.shape)} instead of {first}")
    return delta.reshape(first).transpose(0, *range(2, len(first)), 1) if len(first) > 2 else delta.reshape(shape)

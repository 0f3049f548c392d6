"""Cases for the interpreter's ops: for each op and each way in which the export uses it, inputs and torch's answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

RNG = np.random.default_rng(7)


class Case(NamedTuple):
    op: str
    inputs: dict[str, Any]
    """Arrays that are inputs of the package; bools are given as integers. A list is the op's `values`."""
    attributes: dict[str, Any]
    oracle: Callable[..., Any]
    """Computes the expected result from torch tensors, in the order of `inputs`."""
    opsets: tuple[int, ...]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return (0.2 + RNG.random(shape)).astype(np.float32)


def small(*shape: int) -> np.ndarray:
    return (1.8 * RNG.random(shape) - 0.9).astype(np.float32)


def whole(high: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, high, shape).astype(np.int32)


def truth(*shape: int) -> np.ndarray:
    return RNG.random(shape) > 0.5


CASES: list[Case] = []


def case(op: str, inputs: dict[str, Any], attributes: dict[str, Any], oracle: Any, opsets: Any = (15, 17)) -> None:
    CASES.append(Case(op, inputs, attributes, oracle, tuple(opsets)))


for name in ("cos", "sin", "square", "sigmoid"):
    case(name, {"x": 3 * small(2, 3, 5)}, {}, getattr(torch, name))
case("identity", {"x": small(2, 3, 5)}, {}, lambda x: x)
case("silu", {"x": 3 * small(2, 3, 5)}, {}, F.silu)
case("sigmoid", {"x": np.array([-90, -20, 0, 20, 90], np.float32)}, {}, torch.sigmoid)
case("sqrt", {"x": positive(2, 7)}, {}, torch.sqrt)
case("cast", {"x": 5 * normal(4, 5)}, {"dtype": "int32"}, lambda x: x.int())
case("cast", {"x": whole(9, 4, 5)}, {"dtype": "fp32"}, lambda x: x.float())
case("cast", {"x": normal(4, 5)}, {"dtype": "fp16"}, lambda x: x)
for name, torch_name in {"equal": "eq", "greater": "gt"}.items():
    case(name, {"x": whole(3, 4, 5), "y": whole(3, 5)}, {}, getattr(torch, torch_name))
BINARY = {"add": "add", "sub": "sub", "mul": "mul", "real_div": "div", "maximum": "maximum"}
for name, torch_name in BINARY.items():
    case(name, {"x": normal(2, 3, 4), "y": positive(3, 1)}, {}, getattr(torch, torch_name))
for name in ("mul", "maximum"):
    case(name, {"x": whole(9, 4), "y": whole(9, 3, 1)}, {}, getattr(torch, name))
case("select", {"cond": truth(3, 1), "a": normal(3, 4), "b": normal(3, 4)}, {}, torch.where)

case("gelu", {"x": 3 * small(3, 9)}, {"mode": "EXACT"}, F.gelu)
case("gelu", {"x": np.linspace(-8, 8, 401, dtype=np.float32)}, {"mode": "EXACT"}, F.gelu)
case("softmax", {"x": 4 * normal(2, 5, 3)}, {"axis": 1}, lambda x: x.softmax(1))
case("softmax", {"x": 4 * normal(2, 5, 3)}, {}, lambda x: x.softmax(-1))

case(
    "reduce_mean",
    {"x": positive(2, 3, 4)},
    {"axes": [1, -1], "keep_dims": True},
    lambda x: x.mean((1, 2), keepdim=True),
)
case("reduce_mean", {"x": positive(2, 3, 4)}, {"axes": [0]}, lambda x: x.mean(0))
case("reduce_argmax", {"x": normal(3, 5)}, {"axis": 1}, lambda x: x.argmax(1))
case("reduce_argmax", {"x": whole(4, 3, 5)}, {"axis": 0, "keep_dims": True}, lambda x: x.argmax(0, keepdim=True))

LN = {"gamma": normal(3, 5), "beta": normal(3, 5)}
case(
    "layer_norm",
    {"x": normal(2, 3, 5)},
    LN | {"axes": [1, 2], "epsilon": 0.01},
    lambda x: F.layer_norm(x, (3, 5), torch.tensor(LN["gamma"]), torch.tensor(LN["beta"]), 0.01),
)
case("layer_norm", {"x": 7 + normal(2, 3, 5)}, {"axes": [-1]}, lambda x: F.layer_norm(x, (5,)))

WL, BL = normal(6, 5), normal(6)
case(
    "linear",
    {"x": normal(2, 3, 5)},
    {"weight": WL, "bias": BL},
    lambda x: F.linear(x, torch.tensor(WL), torch.tensor(BL)),
)
case("linear", {"x": normal(4, 5)}, {"weight": WL}, lambda x: F.linear(x, torch.tensor(WL)))
case("matmul", {"x": normal(2, 1, 3, 4), "y": normal(5, 4, 6)}, {}, torch.matmul)
case("matmul", {"x": normal(2, 4, 3), "y": normal(2, 4, 6)}, {"transpose_x": True}, lambda x, y: x.mT @ y)
case("matmul", {"x": normal(2, 3, 4), "y": normal(2, 6, 4)}, {"transpose_y": True}, lambda x, y: x @ y.mT)
for equation, left, right in (
    ("bkhc,bchq->bkhq", (2, 7, 2, 3), (2, 3, 2, 5)),
    ("bchk,bkhq->bchq", (2, 3, 2, 7), (2, 7, 2, 5)),
):
    case(
        "einsum",
        {"values": [normal(*left), normal(*right)]},
        {"equation": equation},
        lambda x, y, e=equation: torch.einsum(e, x, y),
    )

W2 = normal(6, 4, 3, 2)
case("conv", {"x": normal(2, 4, 9, 8)}, {"weight": W2, "pad_type": "valid"}, lambda x: F.conv2d(x, torch.tensor(W2)))
case(
    "conv",
    {"x": normal(2, 4, 9, 8)},
    {"weight": W2, "bias": BL, "pad_type": "custom", "pad": [1, 2, 0, 1], "strides": [2, 1]},
    lambda x: F.conv2d(F.pad(x, (0, 1, 1, 2)), torch.tensor(W2), torch.tensor(BL), (2, 1)),
)

case("reshape", {"x": normal(2, 3, 4)}, {"shape": [0, -1, 2]}, lambda x: x.reshape(2, 6, 2))
case("transpose", {"x": normal(2, 3, 4)}, {"perm": [2, 0, 1]}, lambda x: x.permute(2, 0, 1))
case("expand_dims", {"x": normal(2, 3)}, {"axes": [1, -1]}, lambda x: x[:, None, :, None])
case("squeeze", {"x": normal(2, 1, 3, 1)}, {"axes": [1, -1]}, lambda x: x[:, 0, :, 0])
case("concat", {"values": [normal(2, 3), normal(2, 1)]}, {"axis": -1}, lambda *v: torch.cat(v, -1))
case("split", {"x": normal(2, 6)}, {"num_splits": 3, "axis": 1}, lambda x: x.split(2, 1))
case("gather", {"x": normal(4, 5), "indices": whole(5, 2, 3)}, {"axis": 1}, lambda x, i: x[:, i.long()])
case("gather", {"x": normal(4, 5), "indices": whole(4, 3)}, {}, lambda x, i: x[i.long()])
case("gather", {"x": normal(4, 5), "indices": whole(4, 3) - 4}, {}, lambda x, i: x[i.long()], [15, 16])
case(
    "slice_by_index",
    {"x": normal(6, 7, 5)},
    {"begin": [1, 0, 2], "end": [6, 4, 0], "begin_mask": [False, True, False], "end_mask": [False, False, True]},
    lambda x: x[1:6, :4, 2:],
)
case("slice_by_index", {"x": normal(6, 7)}, {"begin": [-3, 1], "end": [-1, 7]}, lambda x: x[-3:-1, 1:7])
for scale in (2, 3):
    case(
        "upsample_nearest_neighbor",
        {"x": normal(2, 3, 4, 5)},
        {"scale_factor_height": scale, "scale_factor_width": scale + 1},
        lambda x, s=scale: F.interpolate(x, scale_factor=(float(s), float(s + 1))),
    )

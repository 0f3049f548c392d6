"""What the interpreter's ops are held against: one line for each op and way to use it, and what torch says."""

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
    """Arrays that are inputs of the package; bools go in as integers. A list is the op's `values`."""
    attributes: dict[str, Any]
    oracle: Callable[..., Any]
    """Of torch tensors, in the order of `inputs`."""
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


ANY = {name: getattr(torch, name) for name in ("abs", "atan", "ceil", "cos", "cosh", "erf", "exp", "exp2", "floor")}
ANY |= {name: getattr(torch, name) for name in ("round", "sign", "sin", "sinh", "square", "tan", "tanh", "sigmoid")}
ANY |= {"relu": F.relu, "relu6": F.relu6, "silu": F.silu, "softplus": F.softplus, "softsign": F.softsign}
ANY |= {"identity": lambda x: x}
for name, function in ANY.items():
    case(name, {"x": 3 * small(2, 3, 5)}, {}, function)
for name in ("acos", "asin", "atanh"):
    case(name, {"x": small(2, 7)}, {}, getattr(torch, name))
case("erf", {"x": np.linspace(-6, 6, 401, dtype=np.float32)}, {}, torch.erf)
case("sqrt", {"x": positive(2, 7)}, {}, torch.sqrt)
case("rsqrt", {"x": positive(2, 7)}, {"epsilon": 0.25}, lambda x: torch.rsqrt(x + 0.25))
case("rsqrt", {"x": positive(2, 7)}, {}, torch.rsqrt)
case("inverse", {"x": positive(2, 7)}, {"epsilon": 0.25}, lambda x: 1 / (x + 0.25))
case("inverse", {"x": positive(2, 7)}, {}, lambda x: 1 / (x + 1e-4))
case("log", {"x": positive(2, 7)}, {"epsilon": 0.25}, lambda x: torch.log(x + 0.25))
case("clip", {"x": normal(4, 5)}, {"alpha": -0.5, "beta": 0.75}, lambda x: x.clamp(-0.5, 0.75))
case("threshold", {"x": normal(4, 5)}, {"alpha": 0.25}, lambda x: x.clamp(min=0.25))
case("cast", {"x": 5 * normal(4, 5)}, {"dtype": "int32"}, lambda x: x.int())
case("cast", {"x": whole(9, 4, 5)}, {"dtype": "fp32"}, lambda x: x.float())
case("cast", {"x": normal(4, 5)}, {"dtype": "fp16"}, lambda x: x)
case("cast", {"x": whole(2, 4, 5)}, {"dtype": "bool"}, lambda x: x.bool())
case("logical_not", {"x": truth(3, 4)}, {}, torch.logical_not)
for name in ("logical_and", "logical_or", "logical_xor"):
    case(name, {"x": truth(3, 4), "y": truth(1, 4)}, {}, getattr(torch, name))
COMPARE = {"equal": "eq", "not_equal": "ne", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le"}
for name, torch_name in COMPARE.items():
    case(name, {"x": whole(3, 4, 5), "y": whole(3, 5)}, {}, getattr(torch, torch_name))
    case(name, {"x": normal(2, 3), "y": normal(2, 1)}, {}, getattr(torch, torch_name))
BINARY = {"add": "add", "sub": "sub", "mul": "mul", "real_div": "div", "maximum": "maximum", "minimum": "minimum"}
for name, torch_name in BINARY.items():
    case(name, {"x": normal(2, 3, 4), "y": positive(3, 1)}, {}, getattr(torch, torch_name))
case("add", {"x": whole(9, 4), "y": whole(9, 3, 1)}, {}, torch.add)
case("pow", {"x": positive(2, 3), "y": normal(3)}, {}, torch.pow)
case("mod", {"x": np.array([-7, 7, -7, 7], np.int32), "y": np.array([3, 3, -3, -3], np.int32)}, {}, torch.remainder)
case("mod", {"x": np.array([-7.5, 7.5], np.float32), "y": np.array([2, -2], np.float32)}, {}, torch.remainder)
case(
    "floor_div",
    {"x": np.array([-7, 7, 8], np.int32), "y": np.array([3, -3, 4], np.int32)},
    {},
    lambda x, y: torch.div(x, y, rounding_mode="floor"),
)
case("floor_div", {"x": np.array([-7.5, 7.5], np.float32), "y": np.array([2, 2], np.float32)}, {}, torch.floor_divide)
case("select", {"cond": truth(3, 1), "a": normal(3, 4), "b": normal(3, 4)}, {}, torch.where)

case("gelu", {"x": 3 * small(3, 9)}, {}, F.gelu)
case("gelu", {"x": 3 * small(3, 9)}, {"mode": "EXACT"}, F.gelu)
case("gelu", {"x": 3 * small(3, 9)}, {"mode": "TANH_APPROXIMATION"}, lambda x: F.gelu(x, approximate="tanh"))
case("gelu", {"x": 3 * small(3, 9)}, {"mode": "SIGMOID_APPROXIMATION"}, lambda x: x * torch.sigmoid(1.702 * x))
case("sigmoid", {"x": np.array([-90, -20, 0, 20, 90], np.float32)}, {}, torch.sigmoid)
case("softmax", {"x": 4 * normal(2, 5, 3)}, {"axis": 1}, lambda x: x.softmax(1))
case("softmax", {"x": 4 * normal(2, 5, 3)}, {}, lambda x: x.softmax(-1))
case("clamped_relu", {"x": normal(3, 9)}, {"alpha": 0.25, "beta": 0.5}, lambda x: F.leaky_relu(x, 0.25).clamp(max=0.5))
case("elu", {"x": normal(3, 9)}, {"alpha": 0.75}, lambda x: F.elu(x, 0.75))
case("leaky_relu", {"x": normal(3, 9)}, {"alpha": 0.25}, lambda x: F.leaky_relu(x, 0.25))
case("linear_activation", {"x": normal(3, 9)}, {"alpha": 0.5, "beta": 2.0}, lambda x: 0.5 * x + 2)
ALPHA = normal(3)
case("prelu", {"x": normal(2, 3, 4, 4)}, {"alpha": ALPHA}, lambda x: F.prelu(x, torch.tensor(ALPHA)))
case("scaled_tanh", {"x": normal(3, 9)}, {"alpha": 0.5, "beta": 2.0}, lambda x: 0.5 * torch.tanh(2 * x))
case("sigmoid_hard", {"x": 3 * normal(3, 9)}, {"alpha": 0.25, "beta": 0.5}, lambda x: (0.25 * x + 0.5).clamp(0, 1))
case("thresholded_relu", {"x": normal(3, 9)}, {"alpha": 0.5}, lambda x: F.threshold(x, 0.5, 0.0))

REDUCE: dict[str, Any] = {
    "reduce_l1_norm": lambda x, **k: x.abs().sum(**k),
    "reduce_l2_norm": lambda x, **k: x.square().sum(**k).sqrt(),
    "reduce_log_sum": lambda x, **k: x.sum(**k).log(),
    "reduce_log_sum_exp": torch.logsumexp,
    "reduce_max": torch.amax,
    "reduce_mean": torch.mean,
    "reduce_min": torch.amin,
    "reduce_sum": torch.sum,
    "reduce_sum_square": lambda x, **k: x.square().sum(**k),
}
for name, function in REDUCE.items():
    case(
        name,
        {"x": positive(2, 3, 4)},
        {"axes": [1, -1], "keep_dims": True},
        lambda x, f=function: f(x, dim=(1, 2), keepdim=True),
    )
    case(name, {"x": positive(2, 3, 4)}, {"axes": [0]}, lambda x, f=function: f(x, dim=(0,)))
case("reduce_prod", {"x": positive(2, 3, 4)}, {"axes": [1]}, lambda x: x.prod(1))
case("reduce_sum", {"x": whole(9, 2, 3)}, {"axes": [1]}, lambda x: x.sum(1))
for name, function in {"argmax": torch.argmax, "argmin": torch.argmin}.items():
    case(f"reduce_{name}", {"x": normal(3, 5)}, {"axis": 1}, lambda x, f=function: f(x, 1))
    case(
        f"reduce_{name}",
        {"x": whole(4, 3, 5)},
        {"axis": 0, "keep_dims": True},
        lambda x, f=function: f(x, 0, keepdim=True),
    )
case("cumsum", {"x": normal(3, 5)}, {"axis": 1}, lambda x: x.cumsum(1))
case("cumsum", {"x": whole(9, 3, 5)}, {"axis": 0, "reverse": True}, lambda x: x.flip(0).cumsum(0).flip(0))
case("cumsum", {"x": normal(3, 5)}, {"axis": 1, "exclusive": True}, lambda x: x.cumsum(1) - x)

C3 = {"gamma": normal(3), "beta": normal(3)}
MV = {"mean": normal(3), "variance": positive(3)}
T = {name: torch.tensor(value) for name, value in (C3 | MV).items()}
for shape in ((2, 3, 5), (2, 3, 4, 5)):
    case(
        "batch_norm",
        {"x": normal(*shape)},
        C3 | MV | {"epsilon": 0.01},
        lambda x: F.batch_norm(x, T["mean"], T["variance"], T["gamma"], T["beta"], eps=0.01),
    )
    case("batch_norm", {"x": normal(*shape)}, MV, lambda x: F.batch_norm(x, T["mean"], T["variance"]))
    case(
        "instance_norm",
        {"x": normal(*shape)},
        C3 | {"epsilon": 0.01},
        lambda x: F.instance_norm(x, weight=T["gamma"], bias=T["beta"], eps=0.01),
    )
LN = {"gamma": normal(3, 5), "beta": normal(3, 5)}
case(
    "layer_norm",
    {"x": normal(2, 3, 5)},
    LN | {"axes": [1, 2], "epsilon": 0.01},
    lambda x: F.layer_norm(x, (3, 5), torch.tensor(LN["gamma"]), torch.tensor(LN["beta"]), 0.01),
)
case("layer_norm", {"x": 7 + normal(2, 3, 5)}, {"axes": [-1]}, lambda x: F.layer_norm(x, (5,)))
case(
    "layer_norm",
    {"x": normal(2, 3, 5)},
    {"axes": [1], "gamma": C3["gamma"]},
    lambda x: F.layer_norm(x.mT, (3,), T["gamma"]).mT,
)
case(
    "l2_norm",
    {"x": normal(2, 3, 4, 5)},
    {"epsilon": 0.01},
    lambda x: x / (x.square().sum((1, 2, 3), keepdim=True) + 0.01).sqrt(),
)
case(
    "local_response_norm",
    {"x": normal(2, 7, 4)},
    {"size": 3, "alpha": 0.5, "beta": 0.75, "k": 2.0},
    lambda x: F.local_response_norm(x, 3, 0.5, 0.75, 2.0),
)

WL, BL = normal(6, 5), normal(6)
case(
    "linear",
    {"x": normal(2, 3, 5)},
    {"weight": WL, "bias": BL},
    lambda x: F.linear(x, torch.tensor(WL), torch.tensor(BL)),
)
case("linear", {"x": normal(4, 5)}, {"weight": WL}, lambda x: F.linear(x, torch.tensor(WL)))
case("matmul", {"x": normal(2, 1, 3, 4), "y": normal(5, 4, 6)}, {}, torch.matmul)
case("matmul", {"x": normal(2, 3, 4), "y": normal(4, 6)}, {}, torch.matmul)
case("matmul", {"x": normal(2, 4, 3), "y": normal(2, 4, 6)}, {"transpose_x": True}, lambda x, y: x.mT @ y)
case("matmul", {"x": normal(2, 3, 4), "y": normal(2, 6, 4)}, {"transpose_y": True}, lambda x, y: x @ y.mT)
for equation, left, right in (
    ("bkhc,bchq->bkhq", (2, 7, 2, 3), (2, 3, 2, 5)),
    ("bchk,bkhq->bchq", (2, 3, 2, 7), (2, 7, 2, 5)),
    ("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)),
):
    case(
        "einsum",
        {"values": [normal(*left), normal(*right)]},
        {"equation": equation},
        lambda x, y, e=equation: torch.einsum(e, x, y),
    )
QKV = {"query": normal(2, 3, 5, 4), "key": normal(2, 3, 7, 4), "value": normal(2, 3, 7, 4)}
case("scaled_dot_product_attention", QKV, {}, F.scaled_dot_product_attention, [18])
case(
    "scaled_dot_product_attention",
    QKV | {"attn_mask": normal(5, 7)},
    {},
    F.scaled_dot_product_attention,
    [18],
)
KEEP = np.tril(np.ones((5, 7), bool))
case(
    "scaled_dot_product_attention",
    QKV,
    {"attn_mask": KEEP},
    lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.tensor(KEEP)),
    [18],
)

W1, W2, W3 = normal(6, 4, 3), normal(6, 4, 3, 2), normal(6, 4, 2, 3, 2)
WG = normal(6, 2, 3, 3)
case("conv", {"x": normal(2, 4, 9)}, {"weight": W1, "pad_type": "valid"}, lambda x: F.conv1d(x, torch.tensor(W1)))
case(
    "conv",
    {"x": normal(2, 4, 9, 8)},
    {"weight": W2, "bias": BL, "pad_type": "custom", "pad": [1, 2, 0, 1], "strides": [2, 1], "dilations": [2, 3]},
    lambda x: F.conv2d(F.pad(x, (0, 1, 1, 2)), torch.tensor(W2), torch.tensor(BL), (2, 1), dilation=(2, 3)),
)
case(
    "conv",
    {"x": normal(1, 4, 5, 6, 4)},
    {"weight": W3, "bias": BL, "pad_type": "valid"},
    lambda x: F.conv3d(x, torch.tensor(W3), torch.tensor(BL)),
)
case(
    "conv",
    {"x": normal(2, 4, 7, 7)},
    {"weight": WG, "groups": 2, "pad_type": "same", "strides": [1, 1]},
    lambda x: F.conv2d(x, torch.tensor(WG), padding=1, groups=2),
)
case(
    "conv",
    {"x": normal(2, 4, 8, 7)},
    {"weight": W2, "pad_type": "same", "strides": [2, 2]},
    lambda x: F.conv2d(F.pad(x, (0, 1, 0, 1)), torch.tensor(W2), stride=2),
)
case(
    "conv",
    {"x": normal(2, 4, 8, 7)},
    {"weight": W2, "pad_type": "same_lower", "strides": [2, 2]},
    lambda x: F.conv2d(F.pad(x, (1, 0, 1, 0)), torch.tensor(W2), stride=2),
    [16, 17],
)
U1, U2, UG = normal(4, 6, 3), normal(4, 6, 4, 3), normal(4, 3, 3, 3)
case("conv_transpose", {"x": normal(2, 4, 9)}, {"weight": U1}, lambda x: F.conv_transpose1d(x, torch.tensor(U1)))
case(
    "conv_transpose",
    {"x": normal(2, 4, 5, 6)},
    {"weight": U2, "bias": BL, "pad_type": "custom", "pad": [1, 1, 1, 1], "strides": [2, 3], "dilations": [1, 2]},
    lambda x: F.conv_transpose2d(x, torch.tensor(U2), torch.tensor(BL), (2, 3), 1, dilation=(1, 2)),
)
case(
    "conv_transpose",
    {"x": normal(2, 4, 5, 6)},
    {
        "weight": UG,
        "groups": 2,
        "pad_type": "custom",
        "pad": [1, 1, 1, 1],
        "strides": [2, 2],
        "output_shape": [2, 6, 10, 12],
    },
    lambda x: F.conv_transpose2d(x, torch.tensor(UG), stride=2, padding=1, output_padding=1, groups=2),
)
case(
    "conv_transpose",
    {"x": normal(2, 4, 5, 6)},
    {"weight": U2[:, :, :, :2].repeat(2, 3), "pad_type": "same", "strides": [2, 2]},
    lambda x: F.conv_transpose2d(x, torch.tensor(U2[:, :, :, :2].repeat(2, 3)), stride=2, padding=1),
)
POOL = {"kernel_sizes": [3, 2], "strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1]}
case("max_pool", {"x": normal(2, 3, 8, 7)}, POOL, lambda x: F.max_pool2d(x, (3, 2), 2, 1))
case(
    "max_pool",
    {"x": normal(2, 3, 8, 7)},
    POOL | {"ceil_mode": True},
    lambda x: F.max_pool2d(x, (3, 2), 2, 1, ceil_mode=True),
)
case("max_pool", {"x": normal(2, 3, 9)}, {"kernel_sizes": [3], "pad_type": "valid"}, lambda x: F.max_pool1d(x, 3, 1))
case("avg_pool", {"x": normal(2, 3, 8, 7)}, POOL, lambda x: F.avg_pool2d(x, (3, 2), 2, 1))
case(
    "avg_pool",
    {"x": normal(2, 3, 8, 7)},
    POOL | {"exclude_padding_from_average": True},
    lambda x: F.avg_pool2d(x, (3, 2), 2, 1, count_include_pad=False),
)
case(
    "avg_pool",
    {"x": normal(2, 3, 8, 7)},
    POOL | {"ceil_mode": True},
    lambda x: F.avg_pool2d(x, (3, 2), 2, 1, ceil_mode=True),
)
case(
    "l2_pool",
    {"x": normal(2, 3, 8, 7)},
    {"kernel_sizes": [2, 2], "strides": [2, 2], "pad_type": "valid"},
    lambda x: F.lp_pool2d(x, 2, 2),
)

case("reshape", {"x": normal(2, 3, 4)}, {"shape": [0, -1, 2]}, lambda x: x.reshape(2, 6, 2))
case("transpose", {"x": normal(2, 3, 4)}, {"perm": [2, 0, 1]}, lambda x: x.permute(2, 0, 1))
case("transpose", {"x": normal(2, 3, 4)}, {"perm": [0, -1, -2]}, lambda x: x.mT)
case("expand_dims", {"x": normal(2, 3)}, {"axes": [1, -1]}, lambda x: x[:, None, :, None])
case("squeeze", {"x": normal(2, 1, 3, 1)}, {"axes": [1, -1]}, lambda x: x[:, 0, :, 0])
case("squeeze", {"x": normal(2, 1, 3, 1)}, {}, lambda x: x.squeeze())
case("flatten2d", {"x": normal(2, 3, 4)}, {"axis": 2}, lambda x: x.reshape(6, 4))
case("concat", {"values": [normal(2, 3), normal(2, 1)]}, {"axis": -1}, lambda *v: torch.cat(v, -1))
case(
    "concat",
    {"values": [normal(2, 3), normal(2, 3)]},
    {"axis": 1, "interleave": True},
    lambda a, b: torch.stack((a, b), 2).reshape(2, 6),
)
case("stack", {"values": [normal(2, 3), normal(2, 3)]}, {"axis": 1}, lambda *v: torch.stack(v, 1))
case("split", {"x": normal(2, 6)}, {"num_splits": 3, "axis": 1}, lambda x: x.split(2, 1))
case("split", {"x": normal(2, 6)}, {"split_sizes": [1, 5], "axis": -1}, lambda x: x.split([1, 5], 1))
case("reverse", {"x": normal(2, 6)}, {"axes": [1]}, lambda x: x.flip(1))
case("tile", {"x": normal(2, 3)}, {"reps": [2, 3]}, lambda x: x.tile(2, 3))
for mode, torch_mode in (("constant", "constant"), ("reflect", "reflect"), ("replicate", "replicate")):
    case(
        "pad",
        {"x": normal(2, 3, 4, 5)},
        {"pad": [1, 2, 3, 1], "mode": mode},
        lambda x, m=torch_mode: F.pad(x, (3, 1, 1, 2), mode=m),
    )
case(
    "pad",
    {"x": normal(2, 3)},
    {"pad": [1, 0, 0, 2], "mode": "constant", "constant_val": 0.5},
    lambda x: F.pad(x, (0, 2, 1, 0), value=0.5),
)
case("fill", {"shape": np.array([2, 3], np.int32)}, {"value": 0.5}, lambda s: torch.full((2, 3), 0.5))
case("fill_like", {"ref_tensor": whole(3, 2, 3)}, {"value": 0.5}, lambda x: torch.full((2, 3), 0.5), [16, 17])
case("shape", {"x": normal(2, 3, 4)}, {}, lambda x: torch.tensor(x.shape))
case("band_part", {"x": normal(2, 4, 5)}, {"lower": 1, "upper": 2}, lambda x: x.tril(2).triu(-1))
case("band_part", {"x": normal(4, 5)}, {"lower": -1, "upper": 0}, lambda x: x.tril())
case("pixel_shuffle", {"x": normal(2, 12, 2, 3)}, {"upscale_factor": 2}, lambda x: F.pixel_shuffle(x, 2))
case(
    "pixel_unshuffle",
    {"x": normal(2, 3, 4, 6)},
    {"downscale_factor": np.uint32(2)},
    lambda x: F.pixel_unshuffle(x, 2),
    [16, 17],
)
case(
    "depth_to_space",
    {"x": normal(2, 12, 2, 3)},
    {"block_size": 2},
    lambda x: F.pixel_shuffle(x.reshape(2, 4, 3, 2, 3).transpose(1, 2).reshape(2, 12, 2, 3), 2),
)
case(
    "space_to_depth",
    {"x": normal(2, 3, 4, 6)},
    {"block_size": 2},
    lambda x: F.pixel_unshuffle(x, 2).reshape(2, 3, 4, 2, 3).transpose(1, 2).reshape(2, 12, 2, 3),
)

case("gather", {"x": normal(4, 5), "indices": whole(5, 2, 3)}, {"axis": 1}, lambda x, i: x[:, i.long()])
case("gather", {"x": normal(4, 5), "indices": whole(4, 3)}, {}, lambda x, i: x[i.long()])
case(
    "gather",
    {"x": normal(3, 4, 5), "indices": whole(4, 3, 2)},
    {"axis": 1, "batch_dims": 1},
    lambda x, i: torch.stack([a[j.long()] for a, j in zip(x, i, strict=True)]),
    [16, 17],
)
case("gather", {"x": normal(4, 5), "indices": whole(4, 3) - 4}, {}, lambda x, i: x[i.long()], [15, 16])
case(
    "gather_along_axis",
    {"x": normal(4, 5), "indices": whole(5, 4, 3)},
    {"axis": 1},
    lambda x, i: x.gather(1, i.long()),
)
case("gather_nd", {"x": normal(4, 5, 2), "indices": whole(4, 3, 2)}, {}, lambda x, i: x[i[:, 0].long(), i[:, 1].long()])
case(
    "gather_nd",
    {"x": normal(3, 4, 5), "indices": whole(4, 3, 2, 1)},
    {"batch_dims": 1},
    lambda x, i: torch.stack([a[j[:, 0].long()] for a, j in zip(x, i, strict=True)]),
    [16, 17],
)
case(
    "slice_by_index",
    {"x": normal(6, 7, 5)},
    {
        "begin": [1, 0, -1],
        "end": [6, 4, 0],
        "stride": [2, 1, 1],
        "begin_mask": [False, True, False],
        "end_mask": [False, False, True],
        "squeeze_mask": [False, False, True],
    },
    lambda x: x[1:6:2, :4, -1],
)
case("slice_by_index", {"x": normal(6, 7)}, {"begin": [-3, 1], "end": [-1, 7]}, lambda x: x[-3:-1, 1:7])
case(
    "slice_by_index",
    {"x": normal(6, 7)},
    {"begin": [5, 0], "end": [0, 0], "stride": [-2, -1], "begin_mask": [False, True], "end_mask": [False, True]},
    lambda x: x[[5, 3, 1]].flip(1),
)
case("slice_by_size", {"x": normal(6, 7)}, {"begin": [2, 1], "size": [3, -1]}, lambda x: x[2:5, 1:])


def updated(x: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[1:5:2, 2:] = update
    return x


case(
    "slice_update",
    {"x": normal(6, 5), "update": normal(2, 3)},
    {"begin": [1, 2], "end": [5, 0], "stride": [2, 1], "end_mask": [False, True]},
    updated,
    [18],
)
case("one_hot", {"indices": whole(4, 3)}, {"one_hot_vector_size": 4}, lambda i: F.one_hot(i.long(), 4))
case(
    "one_hot",
    {"indices": whole(4, 3, 2)},
    {"one_hot_vector_size": 4, "axis": 1, "on_value": 0.5, "off_value": 2.0},
    lambda i: (2 - 1.5 * F.one_hot(i.long(), 4)).permute(0, 2, 1),
)
case("argsort", {"x": normal(3, 7)}, {"axis": 1}, lambda x: x.argsort(1, descending=True))
case("argsort", {"x": normal(3, 7)}, {"axis": 0, "ascending": True}, lambda x: x.argsort(0))
case("topk", {"x": normal(3, 7)}, {"k": 2, "axis": 1}, lambda x: tuple(x.topk(2, 1)))
case("topk", {"x": normal(3, 7)}, {"k": 2, "axis": 0, "ascending": True}, lambda x: tuple(x.topk(2, 0, False)))

for scale in (2, 3):
    case(
        "upsample_nearest_neighbor",
        {"x": normal(2, 3, 4, 5)},
        {"scale_factor_height": scale, "scale_factor_width": scale + 1},
        lambda x, s=scale: F.interpolate(x, scale_factor=(float(s), float(s + 1))),
    )
case(
    "upsample_nearest_neighbor",
    {"x": normal(2, 3, 4, 6)},
    {"scale_factor_height": 1.5, "scale_factor_width": 2.5},
    lambda x: F.interpolate(x, scale_factor=(1.5, 2.5)),
)
case(
    "resize_nearest_neighbor",
    {"x": normal(2, 3, 4, 6)},
    {"target_size_height": 7, "target_size_width": 3},
    lambda x: F.interpolate(x, size=(7, 3)),
)
for aligned in (True, False):
    case(
        "upsample_bilinear",
        {"x": normal(2, 3, 4, 5)},
        {"scale_factor_height": 2, "scale_factor_width": 3, "align_corners": aligned},
        lambda x, a=aligned: F.interpolate(x, scale_factor=(2.0, 3.0), mode="bilinear", align_corners=a),
    )
    case(
        "resize_bilinear",
        {"x": normal(2, 3, 4, 5)},
        {
            "target_size_height": 7,
            "target_size_width": 3,
            "sampling_mode": "STRICT_ALIGN_CORNERS" if aligned else "UNALIGN_CORNERS",
        },
        lambda x, a=aligned: F.interpolate(x, size=(7, 3), mode="bilinear", align_corners=a),
    )

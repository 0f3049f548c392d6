"""The layers against PEFT's, and how training starts."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch
from mlx.utils import tree_flatten
from numpy.typing import ArrayLike
from peft import LoraConfig, get_peft_model

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.lora import LoRAConfig, adapter_of, attach, attach_adapter, attached, dense_weights, detach
from mlx_genmoji.lora.layers import LoRALayer, wrap
from mlx_genmoji.models.blocks import Conv2d, PointwiseConv
from mlx_genmoji.models.ops import downsampled_conv2d, upsampled_conv2d
from mlx_genmoji.quantization import Quantization, QuantizedConv2d, QuantizedLinear, quantize_model

Error = Callable[[ArrayLike, ArrayLike], float]
Base = Callable[[str], Path]

ALL = ("attention", "feed-forward", "conv", "text-encoder")


class Twice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


# By kind: PEFT's layer, ours, the operation that ours is fused with, what PEFT's input passes first.
KINDS: dict[str, tuple[Any, ...]] = {
    "linear": (partial(torch.nn.Linear, 12, 10), partial(nn.Linear, 12, 10), None, None),
    "linear without bias": (
        partial(torch.nn.Linear, 12, 10, bias=False),
        partial(nn.Linear, 12, 10, bias=False),
        None,
        None,
    ),
    "1x1": (partial(torch.nn.Conv2d, 12, 10, 1), partial(PointwiseConv, 12, 10), None, None),
    "3x3": (partial(torch.nn.Conv2d, 12, 10, 3, padding=1), partial(Conv2d, 12, 10, 3, padding=1), None, None),
    "strided": (
        partial(torch.nn.Conv2d, 12, 10, 3, stride=2, padding=1),
        partial(Conv2d, 12, 10, 3, stride=2, padding=1),
        partial(downsampled_conv2d, padding=1),
        None,
    ),
    "doubled": (
        partial(torch.nn.Conv2d, 12, 10, 3, padding=1),
        partial(Conv2d, 12, 10, 3, padding=1),
        upsampled_conv2d,
        Twice(),
    ),
}


def to_torch(x: np.ndarray[Any, Any]) -> torch.Tensor:
    """NHWC -> NCHW."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x))


def from_torch(x: torch.Tensor) -> mx.array:
    """NCHW -> NHWC."""
    array = mx.array(x.detach().numpy())
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options", [{}, {"use_rslora": True}, {"use_dora": True}, {"use_dora": True, "use_rslora": True}]
)
def test_outputs_and_gradients_are_those_of_peft(kind: str, options: dict[str, bool], error: Error) -> None:
    torch.manual_seed(1)
    make_theirs, make_ours, operation, before = KINDS[kind]
    module = torch.nn.Sequential(make_theirs())
    config = LoraConfig(r=3, lora_alpha=5, target_modules=["0"], init_lora_weights=False, **options)
    theirs = get_peft_model(module, config).base_model.model[0]
    a, b = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
    parameters = {"lora_a": a, "lora_b": b}
    if "use_dora" in options:
        parameters["magnitude"] = theirs.lora_magnitude_vector["default"].weight
        with torch.no_grad():
            parameters["magnitude"].mul_(1 + 0.3 * torch.randn_like(parameters["magnitude"]))

    base = make_ours()
    base.weight = from_torch(theirs.base_layer.weight).reshape(base.weight.shape)
    if "bias" in base:
        base.bias = from_torch(theirs.base_layer.bias)
    scale = LoRAConfig(rank=3, alpha=5, rslora="use_rslora" in options).scale(3)
    magnitude = from_torch(parameters["magnitude"]).flatten() if "use_dora" in options else None
    down = from_torch(a).reshape(3, *base.weight.shape[1:])
    ours = wrap(base, down, from_torch(b).reshape(10, 3), scale, magnitude=magnitude)
    ours.freeze_base()

    generator = np.random.default_rng(2)
    shape = (2, 8, 6, 12) if kind not in ("linear", "linear without bias") else (2, 7, 12)
    x = generator.standard_normal(shape).astype(np.float32)
    theirs_x = to_torch(x).requires_grad_()
    expected = theirs(before(theirs_x) if before else theirs_x)
    weights = from_torch(torch.randn_like(expected))
    (expected * to_torch(np.asarray(weights))).sum().backward()

    extra = () if operation is None else (operation,)

    def loss(trained: Any, x: mx.array) -> mx.array:
        ours.update(trained)
        return (ours(x, *extra) * weights).sum()

    assert error(ours(mx.array(x), *extra), from_torch(expected)) <= 1e-5
    trained = ours.trainable_parameters()
    assert set(dict(tree_flatten(trained))) == set(parameters)
    gradients, to_x = mx.grad(loss, argnums=(0, 1))(trained, mx.array(x))
    for name, parameter in parameters.items():
        assert error(gradients[name], from_torch(parameter.grad).reshape(gradients[name].shape)) <= 1e-4, name
    assert error(to_x, from_torch(theirs_x.grad)) <= 1e-4


def pixels(genmoji: Genmoji) -> bytes:
    return genmoji.generate("a flying pig", seed=1, steps=2)[0].image.tobytes()


@pytest.mark.parametrize("family", ["sd", "xl"])
@pytest.mark.parametrize("dora", [False, True])
def test_training_starts_at_the_base_bit_for_bit_and_ends_there(base: Base, family: str, dora: bool) -> None:
    genmoji = Genmoji.load(base(family))
    before = pixels(genmoji)
    layers = {name: model.parameters() for name, model in genmoji.models.items()}
    paths = attach(genmoji.models, LoRAConfig(rank=2, targets=ALL, dora=dora), seed=3)
    assert len(paths) > 20 and paths == list(attached(genmoji.models))
    assert pixels(genmoji) == before
    changed = next(iter(attached(genmoji.models).values()))
    changed.lora_b = changed.lora_b + 1
    assert pixels(genmoji) != before
    detach(genmoji.models)
    assert pixels(genmoji) == before
    after = {name: model.parameters() for name, model in genmoji.models.items()}
    assert all(mx.array_equal(a, b) for (_, a), (_, b) in zip(tree_flatten(layers), tree_flatten(after), strict=True))


def test_what_trains_is_the_adapter_alone_and_its_start_depends_on_the_seed_alone(base: Base) -> None:
    genmoji = Genmoji.load(base("sd"))

    def start(seed: int, **options: Any) -> dict[str, mx.array]:
        attach(genmoji.models, LoRAConfig(rank=2, **options), seed)
        trained = {name: model.trainable_parameters() for name, model in genmoji.models.items()}
        return dict(tree_flatten(trained))

    first = start(3)
    assert {name.rpartition(".")[2] for name in first} == {"lora_a", "lora_b"}
    assert all(".to_" in name and name.startswith("unet.") for name in first)
    assert all(not array.any().item() for name, array in first.items() if name.endswith("lora_b"))
    again, other = start(3, targets=ALL), start(4)
    assert all(mx.array_equal(array, again[name]) for name, array in first.items())
    assert not any(mx.array_equal(array, other[name]) for name, array in first.items() if name.endswith("lora_a"))


def test_an_adapter_starts_as_large_as_a_linear_layer_of_pytorch(base: Base) -> None:
    """Its down weights are uniform up to 1 / sqrt(inputs), as PEFT's are."""
    genmoji = Genmoji.load(base("sd"))
    attach(genmoji.models, LoRAConfig(rank=8, targets=ALL), seed=3)
    for path, layer in attached(genmoji.models).items():
        bound = 1 / math.sqrt(math.prod(layer.lora_a.shape[1:]))
        largest = mx.abs(layer.lora_a).max().item()
        assert 0.8 * bound < largest <= bound, path


def test_dropout_is_of_training_only(base: Base) -> None:
    genmoji = Genmoji.load(base("sd"))
    attach(genmoji.models, LoRAConfig(rank=2, dropout=0.5), seed=3)
    layer = next(iter(attached(genmoji.models).values()))
    layer.lora_b = mx.ones_like(layer.lora_b)
    x = mx.random.normal((2, 5, layer.lora_a.shape[1]), key=mx.random.key(1))
    assert not mx.array_equal(layer(x), layer(x))
    genmoji.unet.eval()
    assert mx.array_equal(layer(x), layer(x))


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("attention",), {"to_q", "to_k", "to_v", "to_out.0"}),
        (("feed-forward",), {"net.0.proj", "net.2"}),
        (("conv",), {"conv1", "conv2", "conv_shortcut", "proj_in", "proj_out", "conv"}),
        (("text-encoder",), {"q_proj", "k_proj", "v_proj", "out_proj"}),
        (("unet.mid_block.*.to_q", "*.fc1"), {"to_q", "fc1"}),
        (("conv_in", "to_v"), {"conv_in", "to_v"}),
    ],
)
def test_targets_are_groups_or_patterns(base: Base, targets: tuple[str, ...], expected: set[str]) -> None:
    paths = attach(Genmoji.load(base("sd")).models, LoRAConfig(targets=targets), seed=1)
    assert all(any(path.endswith(f".{name}") for name in expected) for path in paths)
    assert all(any(path.endswith(f".{name}") for path in paths) for name in expected)


def test_a_target_that_matches_nothing_is_answered_with_what_there_is(base: Base) -> None:
    models = Genmoji.load(base("sd")).models
    with pytest.raises(UserError, match=r"'attn3' matches no layer.*attention.*q_proj.*to_q"):
        attach(models, LoRAConfig(targets=("attention", "attn3")), seed=1)
    with pytest.raises(UserError, match="'text-encoder' matches no layer"):
        attach({"unet": models["unet"]}, LoRAConfig(targets=("text-encoder",)), seed=1)


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 0},
        {"rank": 1.5},
        {"alpha": -1.0},
        {"alpha": math.nan},
        {"dropout": 1.0},
        {"init": "x"},
        {"targets": ()},
    ],
)
def test_a_setting_that_makes_no_sense_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        LoRAConfig(**options)


def train_a_little(model: nn.Module) -> None:
    """Move everything trainable."""
    noise = np.random.default_rng(7)
    for _, layer in model.named_modules():
        if isinstance(layer, LoRALayer):
            for name in ("lora_a", "lora_b"):
                layer[name] = layer[name] + 0.1 * mx.array(noise.standard_normal(layer[name].shape), mx.float32)


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}, {"init": "pissa", "alpha": 3.0}])
def test_an_adapter_goes_on_where_it_was(base: Base, options: dict[str, Any]) -> None:
    genmoji = Genmoji.load(base("sd"))
    attach(genmoji.models, LoRAConfig(rank=2, targets=ALL, **options), seed=3)
    for model in genmoji.models.values():
        train_a_little(model)
    adapter = adapter_of(genmoji.models)
    trained = np.asarray(genmoji.generate("pig", seed=1, steps=2)[0].image).astype(int)
    assert attach_adapter(genmoji.models, adapter) == list(adapter.layers)
    again = np.asarray(genmoji.generate("pig", seed=1, steps=2)[0].image)
    assert np.abs(again - trained).max() <= 1
    trainable = dict(tree_flatten(genmoji.unet.trainable_parameters()))
    assert len(trainable) == sum(path.startswith("unet.") for path in adapter.layers) * (3 if "dora" in options else 2)


def test_pissa_starts_at_the_base_with_the_principal_part_of_the_weights(base: Base) -> None:
    genmoji = Genmoji.load(base("sd"))
    before = np.asarray(genmoji.generate("pig", seed=1, steps=2)[0].image).astype(int)
    attach(genmoji.models, LoRAConfig(rank=4, targets=ALL, init="pissa"), seed=3)
    after = np.asarray(genmoji.generate("pig", seed=1, steps=2)[0].image)
    assert np.abs(after - before).max() <= 1
    for layer in attached(genmoji.models).values():
        weight = np.asarray(layer.base.weight).reshape(len(layer.base.weight), -1)
        left, values, right = np.linalg.svd(weight, full_matrices=False)
        best = np.linalg.norm(values[4:])
        low = np.asarray(layer.scale * layer.lora_b @ layer.lora_a.reshape(len(layer.lora_a), -1))
        assert np.linalg.norm(weight - low) <= 1.02 * best


@pytest.fixture
def packed(base: Base) -> Genmoji:
    """A model whose UNet is in 4 bits."""
    genmoji = Genmoji.load(base("sd"))
    quantize_model(genmoji.unet, Quantization(bits=4, group_size=32))
    return genmoji


@pytest.mark.parametrize("dora", [False, True])
def test_over_a_quantized_base_training_starts_there_bit_for_bit_and_the_base_stays(
    packed: Genmoji, dora: bool
) -> None:
    before, weights = pixels(packed), tree_flatten(packed.unet.parameters())
    attach(packed.models, LoRAConfig(rank=2, targets=ALL, dora=dora), seed=3)
    assert any(isinstance(layer.base, QuantizedConv2d) for layer in attached(packed.models).values())
    assert pixels(packed) == before
    kinds = {name.rpartition(".")[2] for name, _ in tree_flatten(packed.unet.trainable_parameters())}
    assert kinds == {"lora_a", "lora_b"} | ({"magnitude"} if dora else set())
    detach(packed.models)
    after = tree_flatten(packed.unet.parameters())
    assert all(mx.array_equal(a, b) for (_, a), (_, b) in zip(weights, after, strict=True))


@pytest.mark.parametrize("kind", ["linear", "3x3"])
@pytest.mark.parametrize("dora", [False, True])
def test_gradients_over_a_quantized_base_are_those_over_its_dequantized_weight(
    kind: str, dora: bool, error: Error
) -> None:
    dense = nn.Linear(32, 10) if kind == "linear" else Conv2d(32, 10, 3, padding=1)
    base = (QuantizedLinear if kind == "linear" else QuantizedConv2d)(dense, Quantization(4, 32))
    dense.weight = base.dequantized()
    generator = np.random.default_rng(2)

    def draw(*shape: int) -> mx.array:
        return mx.array(generator.standard_normal(shape), mx.float32)

    x, pair = draw(2, 6, 6, 32), (draw(3, *dense.weight.shape[1:]), draw(10, 3))
    magnitude = mx.abs(draw(10)) if dora else None
    results = []
    for layer in (dense, base):
        layer = wrap(layer, *pair, 0.5, magnitude=magnitude)
        layer.freeze_base()

        def loss(trained: Any, x: mx.array, layer: Any = layer) -> mx.array:
            layer.update(trained)
            return layer(x).square().sum()

        results.append(tree_flatten(mx.grad(loss, argnums=(0, 1))(layer.trainable_parameters(), x)))
    for (name, expected), (_, actual) in zip(*results, strict=True):
        assert error(actual, expected) <= 1e-5, name


def test_loftq_starts_closer_to_the_dense_model_and_its_adapter_is_for_either_base(base: Base, error: Error) -> None:
    genmoji, dense = Genmoji.load(base("sd")), Genmoji.load(base("sd"))
    quantize_model(genmoji.unet, Quantization(bits=4, group_size=32))
    sample, text = (
        mx.random.normal((1, 8, 8, 4), key=mx.random.key(1)),
        mx.random.normal((1, 7, 32), key=mx.random.key(2)),
    )

    def output(by: Genmoji) -> mx.array:
        return by.unet(sample, mx.array([500]), text)

    quantized = error(output(genmoji), output(dense))
    config = LoRAConfig(rank=16, targets=("attention", "feed-forward", "conv"), init="loftq")
    with pytest.raises(UserError, match="dense weights"):
        attach(genmoji.models, config, seed=1)
    attach(genmoji.models, config, 1, dense_weights(base("sd")))
    assert error(output(genmoji), output(dense)) < 0.8 * quantized
    as_trained, for_dense = adapter_of(genmoji.models), adapter_of(genmoji.models, for_dense=True)
    expected = output(dense)
    attach_adapter(dense.models, for_dense)
    assert error(output(dense), expected) <= 1e-5
    expected = output(genmoji)
    attach_adapter(genmoji.models, as_trained)
    assert error(output(genmoji), expected) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("excess", [False, True])
def test_a_change_of_the_weight_is_that_of_the_result(kind: str, excess: bool, error: Error) -> None:
    _, make, operation, _ = KINDS[kind]
    generator = np.random.default_rng(2)

    def draw(*shape: int) -> mx.array:
        return mx.array(generator.standard_normal(shape), mx.float32)

    base = make()
    layer = wrap(base, draw(3, *base.weight.shape[1:]), draw(10, 3), 0.5)
    if excess:
        layer.excess = draw(10)
    extra = () if operation is None else (operation,)
    many, few = draw(2, 8, 12, 12), draw(1, 1, 1, 12)
    expected = layer(many, *extra)
    layer.merges = True
    assert layer._merged(many) is not None and layer._merged(few) is None
    assert error(layer(many, *extra), expected) <= 1e-5

"""The CPU's forms of the arithmetic against MLX's own, in values and in gradients."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from mlx_genmoji.models import ops
from mlx_genmoji.models.ops import cpu, cpu_eager, metal

pytestmark = pytest.mark.usefixtures("cpu")

# Both forms round, each in its own order; a mistake is a thousand times larger.
TOLERANCE = 2e-6


@pytest.fixture
def assert_same(error, monkeypatch) -> Callable[..., None]:
    """Both forms of a function say the same of the same arrays, and so do their gradients by every array."""

    def assert_same(function: Callable[..., mx.array], *arrays: mx.array, **others: Any) -> None:
        said = []
        for on_cpu in (True, False):
            monkeypatch.setattr(ops, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
            value = function(*arrays, **others)
            weights = mx.random.normal(value.shape, key=mx.random.key(1))

            def loss(arrays: list[mx.array], weights: mx.array = weights) -> mx.array:
                return (function(*arrays, **others) * weights).sum()

            said.append([value, *mx.grad(loss)(list(arrays))])
        assert max(error(a, b) for a, b in zip(*said, strict=True)) <= TOLERANCE

    return assert_same


def normal(*shape: int, seed: int = 0) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


ACTIVATIONS = pytest.mark.parametrize("name", ["silu", "gelu", "quick_gelu"])
RANGE = mx.linspace(-12, 12, 20_001)
WIDE = mx.concatenate([RANGE, mx.array([-1e4, -88.0, -0.0, 1e-30, 88.0, 1e4])])


@ACTIVATIONS
def test_an_activation_has_one_value_in_both_forms(name, assert_same):
    assert_same(getattr(ops, name), RANGE)
    assert_same(getattr(ops, name), normal(3, 5, 7, seed=2))


TORCH = {
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


@ACTIVATIONS
def test_an_activation_is_torch_s(name, form):
    exact = TORCH[name](torch.from_numpy(np.asarray(WIDE, np.float64))).numpy()
    difference = np.abs(np.asarray(ops.ACTIVATIONS[name](WIDE), np.float64) - exact)
    assert (difference <= 1e-6 * np.maximum(1, np.abs(np.asarray(WIDE)))).all()


def test_silu_goes_by_the_name_of_swish_too():
    assert ops.ACTIVATIONS["swish"] is ops.ACTIVATIONS["silu"]


@pytest.mark.parametrize("name", ["sigmoid", "erf"])
def test_an_approximation_is_exact_to_a_few_units_in_the_last_place(name):
    exact = getattr(torch, name)(torch.from_numpy(np.asarray(WIDE, np.float64))).numpy()
    assert np.abs(np.asarray(getattr(cpu, name)(WIDE), np.float64) - exact).max() <= 4 * np.finfo(np.float32).eps


@pytest.mark.parametrize("name", ["sigmoid", "erf"])
def test_an_approximation_holds_in_half_precision(name):
    ours, theirs = (getattr(module, name)(WIDE.astype(mx.float16)) for module in (cpu, mx))
    assert ours.dtype == mx.float16
    assert mx.abs(ours.astype(mx.float32) - theirs.astype(mx.float32)).max() <= np.finfo(np.float16).eps


@pytest.mark.parametrize("name", ["sigmoid", "erf"])
def test_an_approximation_has_a_gradient_everywhere(name):
    ours = mx.grad(lambda x: getattr(cpu, name)(x).sum())(WIDE)
    theirs = mx.grad(lambda x: getattr(mx, name)(x).sum())(WIDE)
    assert mx.isfinite(ours).all()
    assert mx.abs(ours - theirs).max() <= 1e-6


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
@pytest.mark.parametrize(
    ("shape", "groups"), [((2, 5, 3, 24), 8), ((3, 7, 12), 1), ((1, 1, 1, 16), 4), ((2, 4, 4, 6), 6)]
)
def test_group_norm_is_the_same_in_both_forms(shape, groups, eps, assert_same):
    weight, bias = normal(shape[-1], seed=1), normal(shape[-1], seed=2)

    def group_norm(x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        return ops.group_norm(x, groups, weight, bias, eps)

    for scale in (1, 1e-3):
        assert_same(group_norm, normal(*shape) * scale, weight, bias)


def test_group_norm_survives_a_large_mean(form, error):
    """The mean is taken off before squares are summed."""
    x = normal(2, 16, 16, 8) + 300
    expected = torch.nn.functional.group_norm(
        torch.from_numpy(np.asarray(x, np.float64)).permute(0, 3, 1, 2), 4, eps=1e-6
    )
    ours = ops.group_norm(x, 4, mx.ones(8), mx.zeros(8), 1e-6)
    assert error(ours, expected.permute(0, 2, 3, 1)) <= 1e-4


# Channels in and out: those of which the CPU computes four pixels at once, two, and one.
CHANNELS = [(3, 8), (16, 16), (40, 41), (96, 64), (160, 160), (200, 130)]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 6), (7, 9), (1, 4), (3, 1)])
@pytest.mark.parametrize(("channels", "outputs"), CHANNELS)
def test_a_convolution_is_the_same_in_both_forms(channels, outputs, height, width, assert_same):
    x, weight = normal(2, height, width, channels), normal(outputs, 3, 3, channels, seed=1)
    assert_same(ops.conv2d, x, weight, stride=1, padding=1)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (5, 1, 2), (3, 1, 0), (3, 2, 1), (2, 2, 0)])
def test_a_convolution_may_have_any_kernel(kernel, stride, padding, assert_same):
    x, weight = normal(2, 8, 8, 4), normal(6, kernel, kernel, 4, seed=1)
    assert_same(ops.conv2d, x, weight, stride=stride, padding=padding)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (2, 6), (7, 9), (6, 5)])
@pytest.mark.parametrize(("channels", "outputs"), CHANNELS)
def test_a_downsampling_convolution_is_the_same_in_both_forms(channels, outputs, height, width, padding, assert_same):
    x, weight = normal(2, height, width, channels), normal(outputs, 3, 3, channels, seed=1)
    assert_same(ops.downsampled_conv2d, x, weight, padding=padding)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (1, 1), (3, 5)])
@pytest.mark.parametrize(("channels", "outputs"), CHANNELS)
def test_an_upsampling_convolution_is_the_same_in_both_forms(channels, outputs, height, width, assert_same):
    x, weight = normal(2, height, width, channels), normal(outputs, 3, 3, channels, seed=1)
    assert_same(ops.upsampled_conv2d, x, weight)


@pytest.mark.parametrize("mask", [None, "causal"])
def test_attention_is_torch_s(mask, error):
    queries, keys, values = normal(2, 7, 24), normal(2, 7, 24, seed=1), normal(2, 7, 24, seed=2)
    ours = ops.attention(queries, keys, values, heads=3, scale=0.3, mask=mask)

    def split(x: mx.array) -> torch.Tensor:
        return torch.from_numpy(np.array(x)).reshape(2, 7, 3, 8).transpose(1, 2)

    theirs = torch.nn.functional.scaled_dot_product_attention(
        split(queries), split(keys), split(values), scale=0.3, is_causal=mask == "causal"
    )
    assert error(ours, theirs.transpose(1, 2).reshape(2, 7, 24)) <= TOLERANCE


@pytest.mark.parametrize(("length", "others", "at_once"), [(7, 5, 2**19), (7, 5, 40), (64, 77, 77 * 5), (3, 4, 1)])
def test_attention_a_few_rows_at_a_time_is_the_same_in_both_forms(length, others, at_once, assert_same, monkeypatch):
    monkeypatch.setattr(cpu, "_SCORES_AT_ONCE", at_once)
    arrays = normal(2, length, 24), normal(2, others, 24, seed=1), normal(2, others, 24, seed=2)
    assert_same(ops.attention, *arrays, heads=3, scale=0.3)


@pytest.mark.parametrize(("length", "others", "at_once"), [(7, 5, 40), (64, 77, 77 * 5), (3, 4, 1), (40, 9, 700)])
def test_attention_that_is_computed_at_once_is_the_same(length, others, at_once, error, monkeypatch):
    arrays = normal(2, length, 24), normal(2, others, 24, seed=1), normal(2, others, 24, seed=2)
    before = ops.attention(*arrays, heads=3, scale=0.3)
    monkeypatch.setattr(cpu_eager, "LARGE", 0)
    monkeypatch.setattr(cpu_eager, "_SCORES_AT_ONCE", at_once)
    used = []
    attention = cpu_eager.attention
    monkeypatch.setattr(cpu_eager, "attention", lambda *arguments: used.append(1) or attention(*arguments))
    with ops.inference():
        now = ops.attention(*arrays, heads=3, scale=0.3)
    assert error(now, before) <= TOLERANCE
    ops.attention(*arrays, heads=3, scale=0.3)
    assert len(used) == 1


@pytest.mark.parametrize("channels", [(8, 8), (8, 200), (200, 160)])
@pytest.mark.parametrize("shape", [(1, 12, 8), (2, 7, 6), (1, 1, 4)])
def test_a_convolution_some_rows_after_others_is_the_same(channels, shape, error, monkeypatch):
    x, weight = normal(*shape, channels[0]), normal(channels[1], 3, 3, channels[0], seed=1)
    plain = [ops.conv2d(x, weight, 1, 1), ops.upsampled_conv2d(x, weight)]
    monkeypatch.setattr(cpu_eager, "_WINDOWS_AT_ONCE", 9 * x.size // 3)
    slabs = []
    in_slabs = cpu_eager._in_slabs
    monkeypatch.setattr(cpu_eager, "_in_slabs", lambda *arguments: slabs.append(arguments[2]) or in_slabs(*arguments))
    with ops.inference():
        now = [ops.conv2d(x, weight, 1, 1), ops.upsampled_conv2d(x, weight)]
    assert slabs[0] >= 3
    assert all(error(ours, theirs) <= TOLERANCE for ours, theirs in zip(now, plain, strict=True))


@pytest.mark.parametrize("attention", [cpu.attention, cpu_eager.attention])
@pytest.mark.parametrize("size", [1e-3, 30, 1000])
def test_attention_stands_scores_of_any_size(size, attention, error, monkeypatch):
    monkeypatch.setattr(cpu, "_SCORES_AT_ONCE", 100)
    monkeypatch.setattr(cpu_eager, "_SCORES_AT_ONCE", 100)
    monkeypatch.setattr(cpu_eager, "LARGE", 0)
    queries, keys, values = size * normal(4, 16, 8), size * normal(4, 16, 8, seed=1), normal(4, 16, 8, seed=2)
    ours = attention(queries, keys, values, 1.0)
    scores = torch.from_numpy(np.array(queries)).double() @ torch.from_numpy(np.array(keys)).double().mT
    theirs = scores.softmax(-1) @ torch.from_numpy(np.array(values)).double()
    # Scores of millions are themselves rounded to tenths.
    assert error(ours, theirs) <= (TOLERANCE if size < 1 else 1e-4 if size < 100 else 0.5)
    assert mx.isfinite(ours).all().item()


def test_inference_s_activations_are_the_same(error, monkeypatch):
    monkeypatch.setattr(cpu_eager, "LARGE", 1)
    wide, gate = mx.stack([WIDE, normal(*WIDE.shape)], axis=-1), mx.stack([RANGE] * 2, axis=-1)
    cases: list[Callable[[], mx.array]] = [
        lambda: ops.silu(wide),
        lambda: ops.silu(normal(3, 5, 7)),
        # Halves of one array, as a feed-forward has them.
        lambda: ops.gated_gelu(*mx.split(normal(2, 50, 64) * 3, 2, axis=-1)),
        lambda: ops.gated_gelu(gate[:, ::-1], gate),
    ]
    for at_once in (2**16, 50):
        monkeypatch.setattr(cpu_eager, "_AT_ONCE", at_once)
        for compute in cases:
            with ops.inference():
                now = compute()
            assert error(now, compute()) <= TOLERANCE


@pytest.mark.parametrize("name", ["silu", "gated_gelu"])
def test_inference_s_activations_are_torch_s(name, monkeypatch):
    monkeypatch.setattr(cpu_eager, "LARGE", 1)
    arrays = [WIDE[:, None]] if name == "silu" else [mx.ones((WIDE.size, 1)), WIDE[:, None]]
    with ops.inference():
        ours = np.asarray(getattr(ops, name)(*arrays), np.float64)[:, 0]
    exact = TORCH[name.removeprefix("gated_")](torch.from_numpy(np.asarray(WIDE, np.float64))).numpy()
    assert (np.abs(ours - exact) <= 1e-6 * np.maximum(1, np.abs(np.asarray(WIDE)))).all()


@pytest.fixture
def transformed(monkeypatch) -> list[mx.array]:
    """The weights that were transformed while a test ran, whatever their size."""
    monkeypatch.setattr(cpu_eager, "_LEAST_CHANNELS", 1)
    monkeypatch.setattr(cpu_eager, "_LEAST_SQUARES", 1)
    weights: list[mx.array] = []
    winograd = cpu_eager.winograd_conv2d
    monkeypatch.setattr(cpu_eager, "winograd_conv2d", lambda x, weight: weights.append(weight) or winograd(x, weight))
    return weights


@pytest.mark.parametrize("at_once", [2**24, 5000])
@pytest.mark.parametrize("size", [(8, 8), (5, 6), (7, 9), (1, 4), (3, 1), (1, 1)])
@pytest.mark.parametrize("channels", [(3, 8), (40, 41), (160, 64)])
def test_a_transformed_convolution_is_the_same(channels, size, at_once, transformed, error, monkeypatch):
    monkeypatch.setattr(cpu_eager, "_TRANSFORMED_AT_ONCE", at_once)
    monkeypatch.setattr(cpu_eager, "_AT_ONCE", 1000)
    x, weight = normal(2, *size, channels[0]), normal(channels[1], 3, 3, channels[0], seed=1)
    plain = [ops.conv2d(x, weight, 1, 1), ops.upsampled_conv2d(x, weight)]
    with ops.inference():
        now = [ops.conv2d(x, weight, 1, 1), ops.upsampled_conv2d(x, weight)]
    assert len(transformed) == 2
    assert all(error(ours, theirs) <= TOLERANCE for ours, theirs in zip(now, plain, strict=True))


def test_a_transformed_weight_is_kept_as_long_as_the_weight(transformed):
    x, weight, other = normal(1, 6, 6, 8), normal(8, 3, 3, 8, seed=1), normal(8, 3, 3, 8, seed=2)
    mx.eval(weight, other)
    before = dict(cpu_eager._kept)
    with ops.inference():
        first, second, again = (ops.conv2d(x, w, 1, 1) for w in (weight, other, weight))
    assert len(cpu_eager._kept) == len(before) + 2
    assert not mx.array_equal(first, second).item()
    assert mx.array_equal(first, again).item()
    transformed.clear()
    del weight, other
    assert cpu_eager._kept.keys() == before.keys()


def test_a_convolution_that_is_differentiated_or_of_half_precision_is_not_transformed(transformed):
    x, weight = normal(1, 6, 6, 8), normal(8, 3, 3, 8, seed=1)
    mx.eval(mx.grad(lambda weight: ops.conv2d(x, weight, 1, 1).sum())(weight))
    with ops.inference():
        half = ops.conv2d(x.astype(mx.float16), weight.astype(mx.float16), 1, 1)
        strided = ops.conv2d(x, weight, 2, 1)
    assert half.dtype == mx.float16
    assert strided.shape == (1, 3, 3, 8)
    assert not transformed


@pytest.mark.parametrize(("channels", "size", "expected"), [(128, 16, 1), (128, 14, 0), (127, 16, 0), (1152, 16, 0)])
def test_a_convolution_is_transformed_where_that_pays(channels, size, expected, monkeypatch):
    calls = []
    monkeypatch.setattr(cpu_eager, "winograd_conv2d", lambda x, weight: calls.append(1) or x)
    with ops.inference():
        ops.conv2d(mx.zeros((1, size, size, channels)), mx.zeros((channels, 3, 3, channels)), 1, 1)
    assert len(calls) == expected


def test_every_number_of_half_precision_is_widened():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    arrays = [mx.array(finite), *(mx.array(halves[start : start + 7]) for start in range(0, 2**16, 997))]
    for half, wide in zip(arrays, cpu_eager.widened(iter(arrays)), strict=True):
        assert wide.dtype == mx.float32
        assert np.array_equal(np.asarray(wide), np.asarray(half).astype(np.float32), equal_nan=True)


def test_what_fails_on_another_core_is_raised(monkeypatch):
    monkeypatch.setattr(cpu_eager.os, "cpu_count", lambda: 2)

    def fail(start: int, stop: int) -> None:
        if start:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cpu_eager._share(fail, 10)


def test_an_elementwise_formula_in_parts_is_the_same(monkeypatch):
    whole = cpu.sigmoid(WIDE), cpu.erf(WIDE)
    monkeypatch.setattr(cpu, "_AT_ONCE", 1000)
    assert all(mx.array_equal(a, b).item() for a, b in zip(whole, (cpu.sigmoid(WIDE), cpu.erf(WIDE)), strict=True))
    assert cpu.sigmoid(mx.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("channels", [40, 64, 160, 300])
def test_a_padded_head_attends_like_one_that_is_not(channels, error):
    queries, keys, values = (normal(1, 2, 9, channels, seed=seed) for seed in range(3))
    ours = metal.attention(queries, keys, values, scale=0.2)
    theirs = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=0.2)
    assert ours.shape == theirs.shape
    assert error(ours, theirs) <= TOLERANCE


def test_memory_is_wired_on_metal_alone_and_as_before_afterwards(monkeypatch):
    calls = []
    monkeypatch.setattr(metal.mx, "set_wired_limit", lambda limit: calls.append(limit) or 5)
    with metal.wired_memory():
        pass
    assert not calls
    monkeypatch.setattr(metal.mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(metal.mx, "device_info", lambda: {"max_recommended_working_set_size": 12e9})
    with pytest.raises(ZeroDivisionError), metal.wired_memory():
        _ = 1 / 0
    assert calls == [12_000_000_000, 5]

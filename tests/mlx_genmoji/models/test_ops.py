"""The CPU's forms of the arithmetic against MLX's own, in values and in gradients."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from mlx_genmoji.models import ops
from mlx_genmoji.models.blocks import Conv2d
from mlx_genmoji.models.ops import cpu, cpu_eager, metal, parallel_cast

pytestmark = pytest.mark.usefixtures("cpu")

# Both forms round, each in its own order; a mistake is a thousand times larger.
TOLERANCE = 2e-6


@pytest.fixture
def assert_same(error, monkeypatch) -> Callable[..., None]:
    """Both forms of a function give the same value for the same arrays, and the same gradients by every array."""

    def assert_same(function: Callable[..., mx.array], *arrays: mx.array, **others: Any) -> None:
        results = []
        for on_cpu in (True, False):
            monkeypatch.setattr(ops, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
            value = function(*arrays, **others)
            weights = mx.random.normal(value.shape, key=mx.random.key(1))

            def loss(arrays: list[mx.array], weights: mx.array = weights) -> mx.array:
                return (function(*arrays, **others) * weights).sum()

            results.append([value, *mx.grad(loss)(list(arrays))])
        assert max(error(a, b) for a, b in zip(*results, strict=True)) <= TOLERANCE

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


@pytest.mark.parametrize("mean", [0, 30])
def test_group_norm_of_half_precision_is_computed_in_float32(mean, form, error):
    x, weight, bias = normal(2, 64, 64, 8) + mean, 1 + normal(8, seed=1), normal(8, seed=2)
    halves = [array.astype(mx.float16) for array in (x, weight, bias)]
    ours = ops.group_norm(halves[0], 2, halves[1], halves[2], 1e-5)
    tensors = [torch.from_numpy(np.asarray(array, np.float64)) for array in halves]
    theirs = torch.nn.functional.group_norm(tensors[0].permute(0, 3, 1, 2), 2, tensors[1], tensors[2])
    assert ours.dtype == mx.float16
    assert error(ours, theirs.permute(0, 2, 3, 1)) <= np.finfo(np.float16).eps


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


@pytest.mark.parametrize(("length", "others", "chunk"), [(7, 5, 2**19), (7, 5, 40), (64, 77, 77 * 5), (3, 4, 1)])
def test_attention_a_few_rows_at_a_time_is_the_same_in_both_forms(length, others, chunk, assert_same, monkeypatch):
    monkeypatch.setattr(cpu, "SCORES_CHUNK", chunk)
    arrays = normal(2, length, 24), normal(2, others, 24, seed=1), normal(2, others, 24, seed=2)
    assert_same(ops.attention, *arrays, heads=3, scale=0.3)


@pytest.mark.parametrize(("length", "others", "chunk"), [(7, 5, 40), (64, 77, 77 * 5), (3, 4, 1), (40, 9, 700)])
def test_attention_in_numpy_is_the_same(length, others, chunk, error, monkeypatch):
    arrays = normal(2, length, 24), normal(2, others, 24, seed=1), normal(2, others, 24, seed=2)
    before = ops.attention(*arrays, heads=3, scale=0.3)
    monkeypatch.setattr(cpu_eager, "LARGE", 0)
    monkeypatch.setattr(cpu_eager, "SCORES_CHUNK", chunk)
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
    monkeypatch.setattr(cpu_eager, "WINDOWS_CHUNK", 9 * x.size // 3)
    slabs = []
    in_slabs = cpu_eager._conv_in_slabs
    monkeypatch.setattr(
        cpu_eager, "_conv_in_slabs", lambda *arguments: slabs.append(arguments[2]) or in_slabs(*arguments)
    )
    with ops.inference():
        now = [ops.conv2d(x, weight, 1, 1), ops.upsampled_conv2d(x, weight)]
    assert slabs[0] >= 3
    assert all(error(ours, theirs) <= TOLERANCE for ours, theirs in zip(now, plain, strict=True))


@pytest.mark.parametrize("attention", [cpu.attention, cpu_eager.attention])
@pytest.mark.parametrize("size", [1e-3, 30, 1000])
def test_attention_stands_scores_of_any_size(size, attention, error, monkeypatch):
    monkeypatch.setattr(cpu, "SCORES_CHUNK", 100)
    monkeypatch.setattr(cpu_eager, "SCORES_CHUNK", 100)
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
    for chunk in (2**16, 50):
        monkeypatch.setattr(cpu_eager, "CHUNK", chunk)
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
    monkeypatch.setattr(cpu_eager, "_MIN_WINOGRAD_CHANNELS", 1)
    monkeypatch.setattr(cpu_eager, "_MIN_WINOGRAD_SQUARES", 1)
    weights: list[mx.array] = []
    winograd = cpu_eager.winograd_conv2d
    monkeypatch.setattr(cpu_eager, "winograd_conv2d", lambda x, weight: weights.append(weight) or winograd(x, weight))
    return weights


@pytest.mark.parametrize("chunk", [2**24, 5000])
@pytest.mark.parametrize("size", [(8, 8), (5, 6), (7, 9), (1, 4), (3, 1), (1, 1)])
@pytest.mark.parametrize("channels", [(3, 8), (40, 41), (160, 64)])
def test_a_transformed_convolution_is_the_same(channels, size, chunk, transformed, error, monkeypatch):
    monkeypatch.setattr(cpu_eager, "WINOGRAD_CHUNK", chunk)
    monkeypatch.setattr(cpu_eager, "CHUNK", 1000)
    x, weight = normal(2, *size, channels[0]), normal(channels[1], 3, 3, channels[0], seed=1)
    plain = [ops.conv2d(x, weight, 1, 1), ops.upsampled_conv2d(x, weight)]
    with ops.inference():
        now = [ops.conv2d(x, weight, 1, 1), ops.upsampled_conv2d(x, weight)]
    assert len(transformed) == 2
    assert all(error(ours, theirs) <= TOLERANCE for ours, theirs in zip(now, plain, strict=True))


@pytest.fixture
def transforms(monkeypatch) -> list[int]:
    """How many output channels each transformation of a weight had: what is taken from the cache is not here."""
    counts: list[int] = []
    on_all_cores = cpu_eager._on_all_cores

    def count(work: Callable[[int, int], object], length: int, step: int) -> Any:
        if getattr(work, "__qualname__", "").startswith("_transformed"):
            counts.append(length)
        return on_all_cores(work, length, step)

    monkeypatch.setattr(cpu_eager, "_on_all_cores", count)
    return counts


@pytest.mark.usefixtures("transformed")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda layer: layer.weight.__imul__(2), id="the array"),
        pytest.param(lambda layer: setattr(layer, "weight", 2 * layer.weight), id="the layer"),
        pytest.param(lambda layer: layer.update({"weight": 2 * layer.weight}), id="an update"),
        pytest.param(lambda layer: layer.weight.__setitem__(slice(None), 2 * layer.weight), id="its elements"),
    ],
)
def test_a_weight_that_changes_is_transformed_again(change, transforms):
    layer, x = Conv2d(8, 8, 3, padding=1, bias=False), normal(1, 6, 6, 8)
    with ops.inference():
        for _ in range(2):
            before = layer(x)
            mx.eval(before)
            change(layer)
            assert mx.allclose(layer(x), 2 * before, rtol=1e-6, atol=0)
            assert mx.array_equal(layer(x), layer(x))
    # At the first call and after each of the two changes; the other seven calls took the kept one.
    assert transforms == [8, 8, 8]


def test_a_transformed_weight_is_kept_as_long_as_the_weight(transformed):
    x, weight, other = normal(1, 6, 6, 8), normal(8, 3, 3, 8, seed=1), normal(8, 3, 3, 8, seed=2)
    mx.eval(weight, other)
    before = dict(cpu_eager._transforms)
    with ops.inference():
        first, second, again = (ops.conv2d(x, w, 1, 1) for w in (weight, other, weight))
    assert len(cpu_eager._transforms) == len(before) + 2
    assert not mx.array_equal(first, second).item()
    assert mx.array_equal(first, again).item()
    transformed.clear()
    del weight, other
    assert cpu_eager._transforms.keys() == before.keys()


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
    for half, wide in zip(arrays, parallel_cast.parallel_cast(iter(arrays)), strict=True):
        assert wide.dtype == mx.float32
        assert np.array_equal(np.asarray(wide), np.asarray(half).astype(np.float32), equal_nan=True)


def test_a_thread_with_the_id_of_one_that_ended_can_widen():
    """The system reuses the ids of threads, but a stream of MLX's ends with the thread that made it."""
    ids: list[int] = []
    values: list[float] = []

    def widen() -> None:
        ids.append(threading.get_ident())
        values.extend(wide.item() for wide in parallel_cast.parallel_cast([mx.array(2.5, mx.float16)]))

    while len(set(ids)) == len(ids) < 100:
        thread = threading.Thread(target=widen)
        thread.start()
        thread.join()
    assert len(set(ids)) < len(ids)
    assert values == [2.5] * len(ids)


def test_only_the_cores_that_the_process_may_use_are_counted(monkeypatch):
    monkeypatch.setattr(cpu_eager.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(cpu_eager.os, "sched_getaffinity", lambda process: {3, 5, 8}, raising=False)
    assert cpu_eager._core_count() == 3
    monkeypatch.delattr(cpu_eager.os, "sched_getaffinity")
    assert cpu_eager._core_count() == 64


def test_work_is_divided_among_cores_without_gap_or_overlap(monkeypatch):
    for cores in (1, 2, 3):
        monkeypatch.setattr(cpu_eager, "_core_count", lambda cores=cores: cores)
        for length, step in ((1, 1), (10, 3), (11, 100), (7, 2)):
            others: list[tuple[int, int]] = []

            def work(start: int, stop: int, others: list[tuple[int, int]] = others) -> None:
                others.append((start, stop))

            local = list(cpu_eager._on_all_cores(work, length, step))
            assert all(0 < stop - start <= step for start, stop in others + local)
            assert sorted(i for part in others + local for i in range(*part)) == list(range(length))
            assert sum(stop - start for start, stop in local) == -(-length // cores)


def test_what_fails_on_another_core_is_raised(monkeypatch):
    monkeypatch.setattr(cpu_eager, "_core_count", lambda: 2)

    def fail(start: int, stop: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        assert list(cpu_eager._on_all_cores(fail, 10, 10)) == [(0, 5)]


def test_an_elementwise_formula_in_parts_is_the_same(monkeypatch):
    whole = cpu.sigmoid(WIDE), cpu.erf(WIDE)
    monkeypatch.setattr(cpu, "CHUNK", 1000)
    assert all(mx.array_equal(a, b).item() for a, b in zip(whole, (cpu.sigmoid(WIDE), cpu.erf(WIDE)), strict=True))
    assert cpu.sigmoid(mx.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("channels", [40, 64, 160, 300])
def test_a_padded_head_attends_like_one_that_is_not(channels, error):
    queries, keys, values = (normal(1, 2, 9, channels, seed=seed) for seed in range(3))
    ours = metal.attention(queries, keys, values, scale=0.2)
    theirs = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=0.2)
    assert ours.shape == theirs.shape
    assert error(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize(
    ("channels", "computed"), [(40, 64), (64, 64), (65, 72), (88, 96), (128, 128), (160, 160), (192, 192), (256, 256)]
)
def test_heads_are_padded_to_the_next_fused_size_in_inference_on_metal_alone(channels, computed, monkeypatch):
    sizes = []
    attend = mx.fast.scaled_dot_product_attention
    spy = lambda q, k, v, **options: sizes.append(q.shape[-1]) or attend(q, k, v, **options)  # noqa: E731
    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", spy)
    x = normal(1, 9, 2 * channels)

    def loss(x: mx.array) -> mx.array:
        return ops.attention(x, x, x, heads=2, scale=0.2).sum()

    for on_metal in (False, True):
        monkeypatch.setattr(ops, "on_cpu", lambda: False)
        monkeypatch.setattr(ops, "on_metal", lambda on_metal=on_metal: on_metal)
        sizes.clear()
        loss(x)
        with ops.inference():
            loss(x)
        mx.grad(loss)(x)
        assert sizes == [channels, computed if on_metal else channels, channels]


@pytest.fixture
def wired(monkeypatch) -> list[int]:
    """The limits that are set, on a Mac whose GPU recommends 12 GB; 5 is the one before."""
    limits: list[int] = []
    monkeypatch.setattr(mx, "set_wired_limit", lambda limit: limits.append(limit) or 5)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)

    def device_info(device: mx.Device) -> dict[str, Any]:
        """Of a Mac: only its GPU has a working set."""
        is_gpu = device.type == mx.DeviceType.gpu
        return {"architecture": "M4"} | ({"max_recommended_working_set_size": 12e9} if is_gpu else {})

    monkeypatch.setattr(mx, "device_info", device_info)
    return limits


def test_memory_is_wired_on_metal_and_as_before_afterwards(wired, monkeypatch):
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    with pytest.raises(ZeroDivisionError), ops.drawing():
        _ = 1 / 0
    assert wired == [12_000_000_000, 5]


def test_no_memory_is_wired_on_a_mac_that_computes_on_its_cpu(wired):
    with ops.drawing():
        pass
    assert wired == []


def test_no_memory_is_wired_without_metal(wired, monkeypatch):
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    with ops.drawing():
        pass
    assert wired == []


@pytest.mark.parametrize("inference", [False, True])
def test_a_batch_of_none_has_a_result_of_none(form, inference):
    """Every operation on (0, H, W, C)."""
    x, weight, scale = mx.zeros((0, 4, 4, 8)), normal(6, 3, 3, 8), mx.ones(8)
    row = mx.zeros((0, 5, 8))
    with ops.inference() if inference else contextlib.nullcontext():
        results = {
            (0, 4, 4, 8): [ops.silu(x), ops.gelu(x), ops.gated_gelu(x, x), ops.group_norm(x, 2, scale, scale, 1e-5)],
            (0, 4, 4, 6): [ops.conv2d(x, weight, 1, 1)],
            (0, 2, 2, 6): [ops.downsampled_conv2d(x, weight, 1)],
            (0, 8, 8, 6): [ops.upsampled_conv2d(x, weight)],
            (0, 5, 8): [ops.attention(row, row, row, 2, 0.5)],
        }
    for shape, arrays in results.items():
        for array in arrays:
            mx.eval(array)
            assert array.shape == shape

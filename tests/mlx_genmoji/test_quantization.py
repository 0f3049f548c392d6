"""Packed weights: what the layers compute against dense arithmetic with the weight that MLX unpacks, and folders."""

import json
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.components import create_model, load_model, save_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.models.blocks import Conv2d, Downsample2D, PointwiseConv, Upsample2D
from mlx_genmoji.models.checkpointing import Dropout, attention_in_chunks, checkpoint_blocks
from mlx_genmoji.models.ops import attention
from mlx_genmoji.pipeline import BUILTIN
from mlx_genmoji.quantization import PACKED, Quantization, QuantizedConv2d, QuantizedLayer, quantize_model

pytestmark = pytest.mark.usefixtures("cpu")

UNET = {
    "_class_name": "UNet2DConditionModel",
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "cross_attention_dim": 48,
    "norm_num_groups": 8,
    "sample_size": 8,
}
TEXT = {
    "architectures": ["CLIPTextModelWithProjection"],
    "vocab_size": 50,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 64,
}
WEIGHTS = "diffusion_pytorch_model.safetensors"
KINDS = [
    *(Quantization(bits) for bits in (2, 3, 4, 5, 6, 8)),
    Quantization(4, 32),
    Quantization(4, 128),
    *(Quantization.choose(mode=mode) for mode in ("mxfp4", "mxfp8", "nvfp4")),
]


def random_model(config: dict[str, Any]) -> Any:
    mx.random.seed(0)
    model = create_model(config)
    mx.eval(model.parameters())
    return model.eval()


def packed_unet(quantization: Quantization = Quantization(4, 32)) -> Any:  # noqa: B008
    unet = random_model(UNET)
    quantize_model(unet, quantization)
    return unet


def unet_arguments() -> tuple[mx.array, mx.array, mx.array]:
    keys = mx.random.split(mx.random.key(1), 2)
    return mx.random.normal((2, 8, 8, 4), key=keys[0]), mx.array([3, 900]), mx.random.normal((2, 5, 48), key=keys[1])


def unpacked(layer: QuantizedLayer) -> mx.array:
    """By MLX's own, from scales in float32."""
    parts = [part.astype(mx.float32) if part.dtype == mx.float16 else part for part in layer.packed]
    return mx.dequantize(*parts, **layer.layout, dtype=mx.float32)  # type: ignore[misc]


def pairs(quantization: Quantization) -> dict[str, tuple[Callable[[mx.array], mx.array], Any, mx.array]]:
    """Each use of a layer as (its module, the layer in it that is packed, an input)."""
    down, padded, up = Downsample2D(128, 0), Downsample2D(128, 1), Upsample2D(128)
    linear, pointwise, conv = nn.Linear(128, 48), PointwiseConv(128, 32), Conv2d(128, 160, 3, padding=1, bias=False)
    picture = mx.random.normal((2, 6, 6, 128))
    return {
        "linear": (linear, linear, mx.random.normal((2, 5, 128))),
        "pointwise": (pointwise, pointwise, picture),
        "conv": (conv, conv, picture),
        "down": (down, down.conv, picture),
        "padded down": (padded, padded.conv, picture),
        "up": (up, up.conv, picture),
    }


@pytest.mark.parametrize("quantization", KINDS, ids=str)
@pytest.mark.parametrize("use", ["linear", "pointwise", "conv", "down", "padded down", "up"])
def test_a_packed_layer_and_its_gradient_are_those_of_the_dense_weight(use, quantization, form, error):
    module, layer, x = pairs(quantization)[use]
    packed = PACKED[type(layer)](layer, quantization)
    stand_in = packed if module is layer else module
    if module is not layer:
        module.conv = packed
    outputs, gradients = mx.vjp(lambda x: stand_in(x), [x], [mx.ones_like(stand_in(x))])
    layer.weight = unpacked(packed)
    if module is not layer:
        module.conv = layer
    expected, expected_gradients = mx.vjp(lambda x: module(x), [x], [mx.ones_like(outputs[0])])
    assert error(outputs[0], expected[0]) <= 1e-5
    assert error(gradients[0], expected_gradients[0]) <= 1e-5


@pytest.mark.parametrize("quantization", KINDS, ids=str)
def test_unpacked_is_what_mlx_unpacks(quantization, form, error):
    layer = PACKED[Conv2d](Conv2d(256, 8, 3), quantization)
    assert layer.dequantized().shape == layer.dense_shape == (8, 3, 3, 256)
    assert error(layer.dequantized(), unpacked(layer)) <= 1e-6
    assert layer.dequantized(mx.float16).dtype == mx.float16


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_a_packed_embedding_gives_the_rows_asked_for(bits):
    layer = PACKED[nn.Embedding](nn.Embedding(20, 64), Quantization(bits))
    ids = mx.array([[3, 19, 3], [0, 1, 2]])
    assert mx.array_equal(layer(ids), layer.dequantized()[ids])


def test_a_packed_layer_in_half_precision_stays_in_it(form):
    x = mx.random.normal((1, 4, 4, 64)).astype(mx.float16)
    for layer in (Conv2d(64, 32, 3, padding=1, bias=False), nn.Linear(64, 32, bias=False)):
        assert PACKED[type(layer)](layer, Quantization())(x).dtype == mx.float16


@pytest.mark.parametrize("compiled", [False, True], ids=["", "compiled"])
@pytest.mark.parametrize("checkpointed", [False, True], ids=["", "checkpointed"])
def test_the_gradient_is_the_same_compiled_and_checkpointed(compiled, checkpointed, error):
    dense = Conv2d(64, 64, 3, padding=1)
    first, second = (QuantizedConv2d(dense, Quantization()) for _ in range(2))
    dense.weight = unpacked(first)
    x = mx.random.normal((1, 8, 8, 64))
    mx.eval(first.parameters(), second.parameters())

    def loss(inner: Any, x: mx.array) -> mx.array:
        return (inner[1](mx.tanh(inner[0](x))) ** 2).sum()

    def packed_loss(x: mx.array) -> mx.array:
        return loss((first, second), x)

    gradient = mx.grad(mx.checkpoint(packed_loss) if checkpointed else packed_loss)
    ours = (mx.compile(gradient) if compiled else gradient)(x)
    assert error(ours, mx.grad(lambda x: loss((dense, dense), x))(x)) <= 1e-5


def test_dense_weights_are_not_kept_until_the_backward_pass():
    layers = [PACKED[nn.Linear](nn.Linear(1024, 1024), Quantization()) for _ in range(12)]
    x = mx.random.normal((1, 1024))
    mx.eval([layer.parameters() for layer in layers], x)

    def loss(x: mx.array) -> mx.array:
        for layer in layers:
            x = mx.tanh(layer(x))
        return x.sum()

    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.grad(loss)(x))
    # Each is 4 MB, and is made of twice that.
    assert mx.get_peak_memory() - before < 12 * 4 * 2**20


def test_a_packed_layer_is_never_trained():
    layer = PACKED[nn.Linear](nn.Linear(64, 64), Quantization())
    assert not tree_flatten(layer.trainable_parameters())
    layer.unfreeze()
    assert not tree_flatten(layer.trainable_parameters())


def test_what_every_error_passes_through_stays_dense():
    unet = packed_unet()
    kinds = {path: type(layer) for path, layer in unet.named_modules()}
    assert kinds["conv_in"] is kinds["conv_out"] is Conv2d
    assert kinds["time_embedding.linear_1"] is nn.Linear
    assert kinds["down_blocks.0.resnets.0.conv1"] is QuantizedConv2d
    assert kinds["down_blocks.0.resnets.0.time_emb_proj"] is PACKED[nn.Linear]
    text = random_model(TEXT)
    quantize_model(text, Quantization(8, 32))
    kinds = {path: type(layer) for path, layer in text.named_modules()}
    assert kinds["text_model.embeddings.position_embedding"] is nn.Embedding
    assert kinds["text_projection"] is nn.Linear
    assert kinds["text_model.embeddings.token_embedding"] is PACKED[nn.Embedding]
    assert mx.isfinite(text(mx.array([[1, 2, 3]])).pooled).all()


def test_the_report_tells_the_error_of_each_layer_and_those_that_no_group_fits(error):
    dense = dict(random_model(UNET).named_modules())
    unet = random_model(UNET)
    steps: list[tuple[int, int]] = []
    reports = quantize_model(unet, Quantization(4, 64), done=lambda *step: steps.append(step))
    layers = dict(unet.named_modules())
    assert {report.path for report in reports if report.bits is None} > {"down_blocks.0.resnets.0.conv1"}
    for report in reports:
        if report.bits is None:
            assert dense[report.path].weight.shape[-1] % 64
            assert type(layers[report.path]) in PACKED
        else:
            expected = error(unpacked(layers[report.path]), dense[report.path].weight)
            assert report.bits == 4
            assert report.error == pytest.approx(expected, rel=1e-3)
            assert 0.05 < expected < 0.15
    assert steps == [(number + 1, len(reports)) for number in range(len(reports))]


def test_what_is_packed_is_not_packed_again():
    unet = packed_unet()
    with pytest.raises(UserError, match="packed already"):
        quantize_model(unet, Quantization())


def test_an_autoencoder_is_not_packed():
    vae = load_model(BUILTIN / "vae")
    with pytest.raises(UserError, match="Nothing of the AutoencoderKL can be packed"):
        quantize_model(vae, Quantization())


@pytest.mark.parametrize("quantization", [*KINDS[-5:], Quantization(8, 32)], ids=str)
@pytest.mark.parametrize("config", [UNET | {"cross_attention_dim": 128, "block_out_channels": [128, 128]}, TEXT])
def test_a_packed_folder_is_read_back_to_the_bit(config, quantization, tmp_path):
    model = random_model(config | ({"hidden_size": 128} if "hidden_size" in config else {}))
    quantize_model(model, quantization)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    written, read = (dict(tree_flatten(m.parameters())) for m in (model, again))
    assert written.keys() == read.keys()
    assert all(mx.array_equal(written[path], read[path]) for path in written)
    assert [type(layer) for _, layer in model.named_modules()] == [type(layer) for _, layer in again.named_modules()]
    save_model(again, tmp_path / "again")
    for name in ("config.json", "model.safetensors" if "hidden_size" in config else WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_packed_file_is_as_mlx_lm_writes_it(tmp_path):
    save_model(packed_unet(), tmp_path, mx.float16)
    assert json.loads((tmp_path / "config.json").read_text())["quantization"] == {
        "bits": 4,
        "group_size": 32,
        "mode": "affine",
    }
    tensors = load_file(tmp_path / WEIGHTS)
    facts = {key: (str(array.dtype), array.shape) for key, array in tensors.items()}
    conv = "down_blocks.0.resnets.0.conv1"
    assert facts[f"{conv}.weight"] == ("uint32", (32, 3, 3, 4))
    assert facts[f"{conv}.scales"] == facts[f"{conv}.biases"] == ("float16", (32, 3, 3, 1))
    assert facts[f"{conv}.bias"] == ("float16", (32,))
    assert facts["down_blocks.0.attentions.0.proj_in.weight"] == ("uint32", (32, 4))
    # The dense ones as diffusers has them.
    assert facts["conv_in.weight"] == ("float16", (32, 4, 3, 3))


def test_packing_while_loading_is_packing_after(tmp_path):
    save_model(random_model(UNET), tmp_path)
    loaded = load_model(tmp_path, quantization=Quantization(4, 32))
    ours, expected = (dict(tree_flatten(model.parameters())) for model in (loaded, packed_unet()))
    assert ours.keys() == expected.keys()
    assert all(mx.array_equal(ours[path], expected[path]) for path in ours)


def test_a_packed_folder_may_be_asked_for_as_it_is_and_not_otherwise(tmp_path):
    save_model(packed_unet(), tmp_path)
    load_model(tmp_path, quantization=Quantization(4, 32))
    with pytest.raises(UserError, match="is packed already") as caught:
        load_model(tmp_path, quantization=Quantization(8, 32))
    assert "\n" not in str(caught.value)


def test_a_model_is_packed_while_it_is_loaded_without_being_dense_at_once(tmp_path):
    save_model(random_model(UNET | {"block_out_channels": [128, 512]}), tmp_path, mx.float16)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    unet = load_model(tmp_path, quantization=Quantization(4, 64))
    peak = mx.get_peak_memory() - before
    layers = [layer for _, layer in unet.named_modules() if isinstance(layer, QuantizedLayer)]
    size = sum(array.nbytes for _, array in tree_flatten(unet.parameters()))
    largest = max(4 * layer.dequantized().size for layer in layers)
    dense = sum(4 * layer.dequantized().size for layer in layers)
    assert dense > 100e6
    # One as it is in the file, in order, in float32, and packed.
    assert peak < size + 3 * largest < 0.6 * dense


DAMAGE: dict[str, tuple[Any, str]] = {
    "bits": ({"bits": 7, "group_size": 32, "mode": "affine"}, "bits is 7; in mode affine it is 2, 3, 4, 5, 6 or 8"),
    "words": ({"bits": "4"}, "bits is '4'"),
    "truth": ({"bits": True}, "bits is True"),
    "group": ({"bits": 4, "group_size": 48, "mode": "affine"}, "group_size is 48; in mode affine it is 32, 64 or 128"),
    "mode": ({"bits": 4, "group_size": 32, "mode": "foo"}, "mode is 'foo'; there are affine, mxfp4, mxfp8 or nvfp4"),
    "no mode": ({"bits": 4, "group_size": 32, "mode": []}, r"mode is \[\]; there are"),
    "fixed": ({"bits": 8, "group_size": 32, "mode": "mxfp4"}, "bits is 8; in mode mxfp4 it is 4"),
    "field": ({"bits": 4, "group_size": 32, "quant_method": "gptq"}, "it has bits, group_size, mode"),
    "list": ([4, 32], "it has bits, group_size, mode"),
    "other bits": ({"bits": 8, "group_size": 32, "mode": "affine"}, "misshaped: .*weight"),
    "other groups": ({"bits": 4, "group_size": 64, "mode": "affine"}, "does not fit its config.json"),
    "other mode": ({"bits": 4, "group_size": 32, "mode": "mxfp4"}, "does not fit its config.json"),
    "silence": (None, "does not fit its config.json.*unexpected: .*biases"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_config_that_says_otherwise_is_refused_in_one_line(damage, tmp_path):
    setting, message = DAMAGE[damage]
    save_model(packed_unet(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization": setting}))
    with pytest.raises(UserError, match=message) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


LAYER = "mid_block.resnets.0.conv1"
TAMPERED: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "shape": (lambda t: {f"{LAYER}.weight": t[f"{LAYER}.weight"][..., :4].copy()}, f"misshaped: {LAYER}.weight"),
    "scales": (lambda t: {f"{LAYER}.scales": t[f"{LAYER}.scales"][:1].copy()}, f"misshaped: {LAYER}.scales"),
    "type": (lambda t: {f"{LAYER}.weight": t[f"{LAYER}.weight"].astype(np.int32)}, f"{LAYER}.weight of type .*int32"),
    "whole scales": (lambda t: {f"{LAYER}.scales": t[f"{LAYER}.scales"].astype(np.uint8)}, f"{LAYER}.scales of type"),
    "no biases": (lambda t: {f"{LAYER}.biases": None}, f"missing: {LAYER}.biases"),
    "no scales": (lambda t: {f"{LAYER}.scales": None}, f"unexpected: .*{LAYER}"),
    "of a dense one": (lambda t: {"conv_in.scales": np.ones((32, 3, 3, 1), np.float16)}, "unexpected: conv_in.scales"),
}


@pytest.mark.parametrize("change", TAMPERED)
def test_tensors_that_do_not_fit_are_named_in_one_line(change, tmp_path):
    edit, message = TAMPERED[change]
    save_model(packed_unet(), tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors |= edit(tensors)
    save_file({key: array for key, array in tensors.items() if array is not None}, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match=message) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_dense_file_whose_config_says_packed_is_refused(tmp_path):
    save_model(random_model(UNET), tmp_path)
    config = UNET | {"quantization": {"bits": 4, "group_size": 32, "mode": "affine"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="says that weights are packed, but none is"):
        load_model(tmp_path)


def psnr(a: Any, b: Any) -> float:
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


def test_the_built_in_model_draws_nearly_the_same_in_8_bits_and_recognisably_in_4():
    options = {"seed": 3, "steps": 4, "variety": 0}
    pictures = {bits: Genmoji.load(bits=bits).generate("red apple", **options)[0].image for bits in (None, 8, 4)}
    assert psnr(pictures[8], pictures[None]) > 50
    assert 28 < psnr(pictures[4], pictures[None]) < 50


def test_text_encoders_keep_8_bits_where_a_unet_has_4():
    assert Genmoji.load(bits=4).quantization == {
        "unet": {"bits": 4, "group_size": 64, "mode": "affine"},
        "text_encoder": {"bits": 8, "group_size": 64, "mode": "affine"},
    }
    assert Quantization.choose(mode="nvfp4").for_text == Quantization(8, 32, "mxfp8")


def test_a_sticker_is_drawn_again_only_with_the_same_bits():
    packed, dense = Genmoji.load(bits=8), Genmoji.load()
    sticker = packed.generate("red apple", seed=3, steps=2)[0]
    assert json.loads(json.dumps(sticker.recipe))["model"]["quantization"]["unet"]["bits"] == 8
    again = Genmoji.load(bits=8).replay(json.loads(json.dumps(sticker.recipe)))
    assert np.array_equal(np.asarray(again.image), np.asarray(sticker.image))
    with pytest.raises(UserError, match=r"with the quantization .*'bits': 8.*this model has none"):
        dense.replay(sticker.recipe)
    with pytest.raises(UserError, match=r"with the quantization none; this model has .*bits"):
        packed.replay(dense.generate("red apple", seed=3, steps=2)[0].recipe)
    assert dense.sha256 == packed.sha256


def test_bits_that_there_are_not_are_refused():
    with pytest.raises(UserError, match="bits is 7"):
        Genmoji.load(bits=7)


class Changed(nn.Module):
    """A packed layer with something to train beside it."""

    def __init__(self, base: QuantizedLayer):
        super().__init__()
        self.base = base
        out, *_, channels = base.dense_shape
        self.down, self.up = 0.1 * mx.random.normal((channels, 2)), 0.1 * mx.random.normal((2, out))

    def __call__(self, x: mx.array) -> mx.array:
        return self.base(x) + x @ self.down @ self.up


def trainable_unet() -> Any:
    unet = packed_unet()
    unet.freeze()
    for module in unet.modules():
        if "to_q" in module:
            module.to_q, module.to_out[0] = Changed(module.to_q), Changed(module.to_out[0])
        if "conv_shortcut" in module:
            module.conv_shortcut = Changed(module.conv_shortcut)
    mx.eval(unet.parameters())
    return unet


def gradients(unet: Any, *arguments: mx.array, compiled: bool = False) -> dict[str, mx.array]:
    parameters = unet.trainable_parameters()

    def loss(parameters: Any) -> mx.array:
        unet.update(parameters)
        return (unet(*arguments) ** 2).mean()

    function = mx.grad(loss)
    computed = dict(tree_flatten((mx.compile(function) if compiled else function)(parameters)))
    unet.update(parameters)
    mx.eval(computed)
    return computed


@pytest.mark.parametrize("compiled", [False, True], ids=["", "compiled"])
def test_checkpointing_changes_no_gradient(compiled, error, monkeypatch):
    monkeypatch.setattr("mlx_genmoji.models.checkpointing.SCORES_CHUNK", 2 * 4 * 64 * 10)
    unet = trainable_unet()
    expected = gradients(unet, *unet_arguments())
    prediction = unet(*unet_arguments())
    checkpoint_blocks(unet)
    ours = gradients(unet, *unet_arguments(), compiled=compiled)
    assert len(ours) > 10
    assert ours.keys() == expected.keys()
    assert max(error(ours[path], expected[path]) for path in expected) <= 1e-4
    # Nothing of the tracing is left in the tree, and it can be switched off.
    assert error(unet(*unet_arguments()), prediction) <= 1e-5
    checkpoint_blocks(unet, False)
    assert mx.array_equal(unet(*unet_arguments()), prediction)


def test_a_block_that_is_computed_again_drops_the_same(error):
    """Against the slope of the loss, since each way draws other masks."""
    unet = trainable_unet()
    transformer = unet.down_blocks[0].attentions[0].transformer_blocks[0]
    transformer.attn1.to_q = nn.Sequential(Dropout(0.5), transformer.attn1.to_q)
    unet.train()
    checkpoint_blocks(unet)
    x, text = mx.random.normal((1, 9, 32)), mx.random.normal((1, 5, 48))
    towards = mx.random.normal(x.shape)

    def loss(x: mx.array) -> mx.array:
        mx.random.seed(0)
        return (transformer(x, text) ** 2).sum()

    slope = (loss(x + 0.01 * towards) - loss(x - 0.01 * towards)) / 0.02
    assert error((mx.grad(loss)(x) * towards).sum(), slope) <= 1e-2


def test_checkpointing_saves_memory(monkeypatch):
    monkeypatch.setattr("mlx_genmoji.models.checkpointing.SCORES_CHUNK", 2**18)
    unet = trainable_unet()
    arguments = mx.random.normal((1, 32, 32, 4)), mx.array([500]), mx.random.normal((1, 5, 48))
    mx.eval(arguments)
    peaks = []
    for on in (False, True):
        checkpoint_blocks(unet, on)
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        gradients(unet, *arguments)
        peaks.append(mx.get_peak_memory() - before)
    assert peaks[1] < 0.4 * peaks[0]


def test_attention_in_chunks_is_attention(error, monkeypatch):
    keys = mx.random.split(mx.random.key(0), 4)
    q, k, v, weights = (
        mx.random.normal((2, length, 32), key=key) for length, key in zip((50, 30, 30, 50), keys, strict=True)
    )

    def loss(attend: Callable[..., mx.array]) -> Callable[..., mx.array]:
        return lambda q, k, v: (attend(q, k, v, 4, 8**-0.5) * weights).sum()

    expected = [attention(q, k, v, 4, 8**-0.5), *mx.grad(loss(attention), (0, 1, 2))(q, k, v)]
    # 7 queries at a time, the last time one.
    monkeypatch.setattr("mlx_genmoji.models.checkpointing.SCORES_CHUNK", 2 * 4 * 30 * 7 + 5)
    ours = [attention_in_chunks(q, k, v, 4, 8**-0.5), *mx.grad(loss(attention_in_chunks), (0, 1, 2))(q, k, v)]
    assert max(map(error, ours, expected)) <= 1e-5

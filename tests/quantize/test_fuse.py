"""A model with adapters fused into its weights draws what the model draws with its adapters."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from random_models import write_small_pipeline

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.checkpoint.components import save_model
from mlx_genmoji.files import read_json, write_json
from mlx_genmoji.lora import LoRAConfig, adapter_of, attach, attached, detach, save_adapter
from mlx_genmoji.quantization import Quantization, quantize_model
from mlx_genmoji.sticker import Sticker
from quantize.fuse import fuse

pytestmark = pytest.mark.usefixtures("cpu")

TARGETS = ("attention", "conv", "text-encoder")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small Stable Diffusion with random weights, its index as diffusers writes it."""
    folder = write_small_pipeline("SD 1.5", tmp_path_factory.mktemp("base") / "model")
    components = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    write_json(folder / "model_index.json", read_json(folder / "model_index.json") | components)
    return folder


@pytest.fixture(scope="module")
def genmoji(base: Path) -> Genmoji:
    return Genmoji.load(base)


@pytest.fixture
def make(genmoji: Genmoji, tmp_path: Path) -> Callable[..., Path]:
    """`make("dark", template="{prompt}, 3d")`: the file of an adapter, another one for each name."""

    def make(name: str, dora: bool = False, **metadata: str) -> Path:
        seed = sum(name.encode())
        attach(genmoji.models, LoRAConfig(rank=2, targets=TARGETS, dora=dora), seed)
        for number, layer in enumerate(attached(genmoji.models).values()):
            layer.lora_b = 0.3 * mx.random.normal(layer.lora_b.shape, key=mx.random.key(seed + number))
        adapter = replace(adapter_of(genmoji.models), metadata=metadata)
        detach(genmoji.models)
        save_adapter(adapter, tmp_path / f"{name}.safetensors", dtype=mx.float32)
        return tmp_path / f"{name}.safetensors"

    return make


def difference(a: Sticker, b: Sticker) -> float:
    return float(np.abs(np.asarray(a.image).astype(int) - np.asarray(b.image)).mean())


def draw(genmoji: Genmoji) -> Sticker:
    return genmoji.generate("a flying pig", seed=1, steps=3, guidance=4.0)[0]


@pytest.mark.parametrize("bits", [None, 8])
def test_norms_biases_and_whole_differences_are_fused_too(
    base: Path, genmoji: Genmoji, make: Callable[..., Path], tmp_path: Path, bits: int | None
) -> None:
    resnet = genmoji.unet.down_blocks[0].resnets[0]
    weight, key = resnet.conv1.weight.transpose(0, 3, 1, 2), "lora_unet_down_blocks_0_resnets_0"
    tensors = {
        f"{key}_conv1.diff": mx.random.normal(weight.shape, key=mx.random.key(1)),
        f"{key}_conv1.diff_b": mx.random.normal(resnet.conv1.bias.shape, key=mx.random.key(2)),
        f"{key}_norm2.w_norm": mx.random.normal(resnet.norm2.weight.shape, key=mx.random.key(3)),
        f"{key}_norm2.b_norm": mx.random.normal(resnet.norm2.bias.shape, key=mx.random.key(4)),
    }
    mx.save_safetensors(str(tmp_path / "whole.safetensors"), tensors)
    adapters = [(tmp_path / "whole.safetensors", 1.0), (make("style"), 0.5)]
    genmoji.set_adapters([])
    plain = draw(genmoji)
    genmoji.set_adapters(adapters)
    expected = draw(genmoji)
    fuse(base, adapters, tmp_path / "fused", bits=bits, group_size=32)
    assert difference(expected, plain) > 10
    assert difference(draw(Genmoji.load(tmp_path / "fused")), expected) < (0.5 if bits is None else 3)


@pytest.mark.parametrize("dora", [False, True])
def test_a_fused_model_draws_what_the_model_draws_with_its_adapters(
    base: Path, genmoji: Genmoji, make: Callable[..., Path], tmp_path: Path, dora: bool
) -> None:
    adapters = [(make("style", dora, template="{prompt}, 3d"), 0.8), (make("dark"), 0.3)]
    genmoji.set_adapters([])
    plain = draw(genmoji)
    genmoji.set_adapters(adapters)
    expected = draw(genmoji)
    assert fuse(base, adapters, tmp_path / "fused") is None
    fused = draw(Genmoji.load(tmp_path / "fused"))
    assert difference(expected, plain) > 10 and difference(fused, expected) < 0.5
    assert fused.recipe["template"] == "{prompt}, 3d"
    assert not list(tmp_path.glob("*partial*"))
    # diffusers reads the folder too.
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "fused", safety_checker=None)
    weight = Genmoji.load(tmp_path / "fused").unet.conv_out.weight
    assert np.array_equal(
        pipeline.unet.conv_out.weight.detach().permute(0, 2, 3, 1).float().numpy(), np.asarray(weight)
    )


@pytest.fixture
def packed(base: Path, genmoji: Genmoji, tmp_path: Path) -> Path:
    """The model with its UNet in 4 bits."""
    folder = Path(shutil.copytree(base, tmp_path / "packed"))
    unet = Genmoji.load(base).unet
    quantize_model(unet, Quantization(4, 32))
    save_model(unet, folder / "unet")
    return folder


def test_fusing_into_a_quantized_model_gives_half_precision_or_8_bits(
    packed: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    adapters = [make("style")]
    expected = draw(Genmoji.load(packed, adapters=adapters))
    assert fuse(packed, adapters, tmp_path / "half") is None
    assert difference(draw(Genmoji.load(tmp_path / "half")), expected) < 0.5
    assert "quantization" not in json.loads((tmp_path / "half" / "unet" / "config.json").read_text())
    kept = fuse(packed, adapters, tmp_path / "8", bits=8, group_size=32)
    assert kept is not None and 0.95 < kept.worst < kept.cosine < 1
    assert json.loads((tmp_path / "8" / "unet" / "config.json").read_text())["quantization"]["bits"] == 8
    assert difference(draw(Genmoji.load(tmp_path / "8")), expected) < 5


def test_fusing_into_4_bits_needs_a_word_and_tells_what_is_lost(
    packed: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    adapters = [(make("style"), 0.02)]
    with pytest.raises(UserError, match="4-bit rounding would remove most of the adapter's effect"):
        fuse(packed, adapters, tmp_path / "4", bits=4, group_size=32)
    assert not (tmp_path / "4").exists()
    kept = fuse(packed, adapters, tmp_path / "4", bits=4, group_size=32, lossy=True)
    assert kept is not None and kept.cosine < 0.5 and kept.worst_path.partition(".")[0] in ("unet", "text_encoder")


def test_a_folder_in_use_and_nothing_to_fuse_are_refused(base: Path, make: Callable[..., Path], tmp_path: Path) -> None:
    path = make("style")
    with pytest.raises(UserError, match="exists already"):
        fuse(base, [path], tmp_path)
    with pytest.raises(UserError, match="nothing to fuse"):
        fuse(base, [(path, 0)], tmp_path / "new")


@pytest.mark.parametrize("bits", [None, 8])
def test_a_fused_model_has_the_tokens_of_its_adapters(
    base: Path, genmoji: Genmoji, make: Callable[..., Path], tmp_path: Path, bits: int | None
) -> None:
    width = genmoji.text.width
    rows = mx.random.normal((3, width), key=mx.random.key(1))
    mx.save_safetensors(str(tmp_path / "zork.safetensors"), {"<zork>": rows})
    adapters = [(tmp_path / "zork.safetensors", 1.0), (make("style"), 0.5)]

    def drawn(model: Genmoji) -> Sticker:
        return model.generate("a <zork> pig", seed=1, steps=3, guidance=4.0, template="{prompt}")[0]

    genmoji.set_adapters(adapters[1:])
    plain = drawn(genmoji)
    genmoji.set_adapters(adapters)
    expected = drawn(genmoji)
    fuse(base, adapters, tmp_path / "fused", bits=bits, group_size=32)
    assert difference(expected, plain) > 5
    assert difference(drawn(Genmoji.load(tmp_path / "fused")), expected) < (0.5 if bits is None else 3)
    genmoji.set_adapters([])

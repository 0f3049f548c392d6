"""Adapters made here and drawn with by diffusers and PEFT, and the other way round: the same pictures."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from mlx_genmoji import Genmoji
from mlx_genmoji.lora import Format, LoRAConfig, adapter_of, attach, attached, save_adapter

Base = Callable[[str], Path]
Theirs = Callable[[str], Any]
Noise = np.ndarray[Any, Any]

PROMPT = "a flying pig"
TARGETS = ("attention", "feed-forward", "conv", "text-encoder", "*.mlp.fc?", "*.time_emb_proj", "conv_in", "conv_out")


def psnr(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(10 * np.log10(1 / max(np.mean((a - b) ** 2), 1e-12)))


def drawn_here(genmoji: Genmoji, noise: Noise) -> np.ndarray[Any, Any]:
    stickers = genmoji.generate(PROMPT, steps=2, guidance=4.0, latents=mx.array(noise), template="{prompt}")
    return np.asarray(stickers[0].image) / 255


def drawn_there(pipeline: Any, noise: Noise) -> np.ndarray[Any, Any]:
    latents = torch.from_numpy(noise).permute(0, 3, 1, 2).contiguous()
    size = {"height": 16, "width": 16}
    images = pipeline(
        PROMPT, num_inference_steps=2, guidance_scale=4.0, latents=latents, output_type="np", **size
    ).images
    return np.round(images[0] * 255) / 255


def make_adapter(
    genmoji: Genmoji, path: Path, format: Format, seed: int = 0, strength: float = 0.3, **options: Any
) -> None:
    """As if trained: both halves are random."""
    attach(genmoji.models, LoRAConfig(**{"rank": 4, "alpha": 6.0, "targets": TARGETS} | options), seed)
    generator = np.random.default_rng(seed)
    for layer in attached(genmoji.models).values():
        layer.lora_b = mx.array(strength * generator.standard_normal(layer.lora_b.shape), mx.float32)
        if "magnitude" in layer:
            layer.magnitude = layer.magnitude * mx.array(generator.uniform(0.8, 1.2, layer.magnitude.shape), mx.float32)
    save_adapter(adapter_of(genmoji.models), path, format, mx.float32)


def load_there(pipeline: Any, path: Path, format: Format) -> None:
    with warnings.catch_warnings():
        # Of keys that it does not find in the file, or finds and does not know.
        warnings.simplefilter("error", UserWarning)
        if format != "peft":
            pipeline.load_lora_weights(path)
            return
        for folder in path.iterdir():
            setattr(pipeline, folder.name, PeftModel.from_pretrained(getattr(pipeline, folder.name), folder))


# By the name of a case: the family, the format and the adapter's own settings.
MADE_HERE: dict[str, tuple[str, Format, dict[str, Any]]] = {
    "kohya": ("sd", "kohya", {"rslora": True}),
    "kohya, XL": ("xl", "kohya", {}),
    "diffusers": ("sd", "diffusers", {}),
    "diffusers, XL": ("xl", "diffusers", {}),
    # Of the UNet: transformers loses the magnitudes of a text encoder's, with a warning.
    "diffusers, DoRA": ("sd", "diffusers", {"dora": True, "targets": ("attention", "feed-forward", "conv")}),
    "PEFT, PiSSA": ("sd", "peft", {"init": "pissa"}),
    "PEFT, XL, DoRA": ("xl", "peft", {"dora": True}),
}


@pytest.mark.parametrize("case", MADE_HERE)
def test_an_adapter_made_here_draws_the_same_there(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path, case: str
) -> None:
    family, format, options = MADE_HERE[case]
    genmoji = Genmoji.load(base(family))
    plain = drawn_here(genmoji, noise)
    path = tmp_path / ("adapter" if format == "peft" else "adapter.safetensors")
    make_adapter(genmoji, path, format, **options)
    trained = drawn_here(genmoji, noise)
    genmoji.set_adapters([path])
    ours = drawn_here(genmoji, noise)
    pipeline = theirs(family)
    load_there(pipeline, path, format)
    assert psnr(ours, plain) <= 25 and psnr(ours, trained) >= 50
    assert psnr(ours, drawn_there(pipeline, noise)) >= 50
    genmoji.set_adapters([])
    assert np.array_equal(drawn_here(genmoji, noise), plain)


UNET_MODULES = "to_q to_k to_v to_out.0 ff.net.0.proj ff.net.2 proj_in proj_out conv1 conv2 conv_shortcut conv".split()
TEXT_MODULES = "q_proj k_proj v_proj out_proj fc1 fc2".split()


def train_there(pipeline: Any, **options: Any) -> dict[str, Any]:
    """Give the pipeline's models random adapters by PEFT; the models by name."""
    torch.manual_seed(4)
    models = {
        name: getattr(pipeline, name) for name in ("unet", "text_encoder", "text_encoder_2") if hasattr(pipeline, name)
    }
    for name, model in models.items():
        modules = UNET_MODULES if name == "unet" else TEXT_MODULES
        config = LoraConfig(target_modules=modules, init_lora_weights=False, **{"r": 4, "lora_alpha": 4} | options)
        model.add_adapter(config)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_magnitude" in key:
                    parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    return models


def save_there(pipeline: Any, models: dict[str, Any], path: Path, how: str) -> None:
    states = {name: get_peft_model_state_dict(model) for name, model in models.items()}
    if how == "kohya":
        joined = {f"{name}.{key}": tensor for name, state in states.items() for key, tensor in state.items()}
        save_file(convert_state_dict_to_kohya(joined), path)
        return
    arguments: dict[str, Any] = {f"{name}_lora_layers": state for name, state in states.items()}
    if how == "diffusers":
        for name, model in models.items():
            arguments[f"{name}_lora_adapter_metadata"] = model.peft_config["default"].to_dict()
    else:
        arguments = {key: convert_state_dict_to_diffusers(state) for key, state in arguments.items()}
    pipeline.save_lora_weights(path.parent, weight_name=path.name, **arguments)


MADE_THERE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "kohya": ("sd", "kohya", {}),
    "kohya, XL": ("xl", "kohya", {}),
    "diffusers": ("sd", "diffusers", {"lora_alpha": 7}),
    "diffusers, XL": ("xl", "diffusers", {"lora_alpha": 7, "use_rslora": True}),
    "diffusers, patterns": (
        "sd",
        "diffusers",
        {"rank_pattern": {"conv1": 3, "to_q": 2}, "alpha_pattern": {"to_k": 9, "conv2": 2}, "lora_alpha": 5},
    ),
    "diffusers, DoRA": ("sd", "diffusers", {"use_dora": True}),
    "older diffusers": ("sd", "older diffusers", {}),
}


@pytest.mark.parametrize("case", MADE_THERE)
def test_an_adapter_made_there_draws_the_same_here(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path, case: str
) -> None:
    family, how, options = MADE_THERE[case]
    pipeline = theirs(family)
    models = train_there(pipeline, **options)
    save_there(pipeline, models, tmp_path / "adapter.safetensors", how)
    genmoji = Genmoji.load(base(family))
    plain = drawn_here(genmoji, noise)
    genmoji.set_adapters([tmp_path / "adapter.safetensors"])
    ours = drawn_here(genmoji, noise)
    assert psnr(ours, plain) <= 25
    assert psnr(ours, drawn_there(pipeline, noise)) >= 50


@pytest.mark.parametrize(
    ("family", "options"),
    [("xl", {}), ("sd", {"use_dora": True, "use_rslora": True, "alpha_pattern": {"to_k": 9}})],
)
def test_an_adapter_of_peft_draws_the_same_here(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path, family: str, options: dict[str, Any]
) -> None:
    pipeline = theirs(family)
    torch.manual_seed(4)
    for name in ("unet", "text_encoder", "text_encoder_2"):
        if (model := getattr(pipeline, name, None)) is not None:
            modules = UNET_MODULES if name == "unet" else TEXT_MODULES
            config = LoraConfig(r=4, lora_alpha=6, target_modules=modules, init_lora_weights=False, **options)
            adapted = get_peft_model(model, config)
            adapted.save_pretrained(tmp_path / name)
            setattr(pipeline, name, adapted)
    genmoji = Genmoji.load(base(family))
    plain = drawn_here(genmoji, noise)
    genmoji.set_adapters([tmp_path])
    assert psnr(drawn_here(genmoji, noise), plain) <= 25
    assert psnr(drawn_here(genmoji, noise), drawn_there(pipeline, noise)) >= 50
    genmoji.set_adapters([tmp_path / "unet", (tmp_path / "text_encoder", 1)])
    if family == "sd":
        assert psnr(drawn_here(genmoji, noise), drawn_there(pipeline, noise)) >= 50


def test_several_adapters_with_weights_are_those_of_diffusers(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path
) -> None:
    genmoji, pipeline = Genmoji.load(base("sd")), theirs("sd")
    plain = drawn_here(genmoji, noise)
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for seed, path in enumerate(paths):
        # Of different ranks, on layers that are the same in part.
        targets = (TARGETS, ("attention",), ("conv", "text-encoder"))[seed]
        make_adapter(genmoji, path, "kohya", seed, rank=2 + seed, targets=targets)
        pipeline.load_lora_weights(path, adapter_name=path.stem)
    for weights in ((0.7, 0.4, 0.6), (0.3, 0.0, -0.5), (0.0, 1.0, 0.0)):
        genmoji.set_adapters(list(zip(paths, weights, strict=True)))
        pipeline.set_adapters(["a", "b", "c"], list(weights))
        ours = drawn_here(genmoji, noise)
        assert psnr(ours, plain) <= 35
        assert psnr(ours, drawn_there(pipeline, noise)) >= 50
    genmoji.set_adapters([])
    assert np.array_equal(drawn_here(genmoji, noise), plain)


def test_the_weight_of_a_dora_is_between_the_base_and_what_it_makes_of_it(
    base: Base, noise: Noise, tmp_path: Path
) -> None:
    genmoji = Genmoji.load(base("sd"))
    make_adapter(genmoji, tmp_path / "dora.safetensors", "kohya", dora=True, targets=("unet.*.to_q",))
    layer = next(iter(attached(genmoji.models).values()))
    x = mx.random.normal((1, 5, layer.lora_a.shape[1]), key=mx.random.key(1))
    base_result, whole = layer.base(x), layer(x)
    for weight in (1.0, 0.3, -0.5):
        genmoji.set_adapters([(tmp_path / "dora.safetensors", weight)])
        (used, *_) = attached(genmoji.models).values()
        assert mx.allclose(used(x), base_result + weight * (whole - base_result), atol=1e-5)
    genmoji.set_adapters([(tmp_path / "dora.safetensors", 0)])
    assert not attached(genmoji.models)

"""Every kind of adapter file: the pictures are those of LyCORIS, PEFT and diffusers, over dense and packed bases."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from lycoris import LycorisNetwork, create_lycoris
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.lora import attach_adapter, load_adapter, save_adapter
from mlx_genmoji.lora.layer_tree import adaptable, changed_parameters
from mlx_genmoji.lora.layers import dense_weight
from mlx_genmoji.lora.tensor_files import FLOAT8
from mlx_genmoji.quantization import Quantization, QuantizedLayer, quantize_model

Base = Callable[[str], Path]
Theirs = Callable[[str], Any]
Noise = np.ndarray[Any, Any]

PROMPT = "a flying pig"
BLOCKS = ["Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"]
LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
PATH = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def psnr(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(10 * np.log10(1 / max(np.mean((a - b) ** 2), 1e-12)))


def drawn_here(genmoji: Genmoji, noise: Noise) -> np.ndarray[Any, Any]:
    stickers = genmoji.generate(PROMPT, steps=2, guidance=4.0, latents=mx.array(noise), template="{prompt}")
    return np.asarray(stickers[0].image) / 255


def drawn_there(pipeline: Any, noise: Noise) -> np.ndarray[Any, Any]:
    latents = torch.from_numpy(noise).permute(0, 3, 1, 2).contiguous()
    images = pipeline(
        PROMPT, num_inference_steps=2, guidance_scale=4.0, latents=latents, output_type="np", height=16, width=16
    ).images
    return np.round(images[0] * 255) / 255


def randomise(module: torch.nn.Module, strength: float = 1.0) -> None:
    """Factors as if trained: none is zero, and the change is about as large as the weights."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "dora_scale" in name or "magnitude" in name:
                parameter.mul_(1 + 0.4 * noise.abs())
            elif parameter.ndim == 1 or "norm" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(strength * noise / max(parameter[0].numel(), 1) ** 0.5)


# By the name of a case: the family and LyCORIS' settings.
LYCORIS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoCon": ("sd", {"algo": "locon"}),
    "LoCon with a middle": ("sd", {"algo": "locon", "use_tucker": True}),
    "LoHa": ("sd", {"algo": "loha"}),
    "LoHa, XL": ("xl", {"algo": "loha"}),
    "LoHa in Tucker's form": ("sd", {"algo": "loha", "use_tucker": True}),
    "LoKr": ("sd", {"algo": "lokr", "factor": 4}),
    "LoKr, both halves decomposed": ("sd", {"algo": "lokr", "factor": 8, "decompose_both": True, "linear_dim": 1}),
    "LoKr, both halves whole": ("sd", {"algo": "lokr", "factor": 4, "linear_dim": 100000}),
    "LoKr in Tucker's form": ("sd", {"algo": "lokr", "factor": 2, "use_tucker": True}),
    "whole differences": ("sd", {"algo": "full"}),
    "norms": ("sd", {"algo": "locon", "train_norm": True}),
    "DoRA over outputs": ("sd", {"algo": "locon", "dora_wd": True, "wd_on_output": True}),
    "DoRA over inputs": ("sd", {"algo": "locon", "dora_wd": True, "wd_on_output": False}),
    "DoRA over inputs, XL": ("xl", {"algo": "locon", "dora_wd": True, "wd_on_output": False}),
    "LoHa as a DoRA": ("sd", {"algo": "loha", "dora_wd": True, "wd_on_output": True}),
    "LoKr as a DoRA over inputs": ("sd", {"algo": "lokr", "factor": 4, "dora_wd": True, "wd_on_output": False}),
}


def make_lycoris(unet: Any, path: Path, settings: dict[str, Any]) -> Any:
    """A network of LyCORIS over the UNet, with random factors, saved to a file as LyCORIS does.

    It is applied as in training: LyCORIS' own merging multiplies LoKr by alpha / rank twice.
    """
    LycorisNetwork.apply_preset({"target_module": BLOCKS, "enable_conv": True})
    settings = {
        "linear_dim": 4,
        "linear_alpha": 3,
        "conv_dim": settings.get("linear_dim", 4),
        "conv_alpha": 3,
    } | settings
    network = create_lycoris(unet, 1.0, warn_on_unmatched=False, **settings)
    network.apply_to()
    randomise(network, 3.0 if settings["algo"] == "loha" else 0.6)
    save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, path)
    return network


@pytest.mark.parametrize("case", LYCORIS)
def test_a_file_of_lycoris_draws_as_lycoris_does(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path, case: str
) -> None:
    family, settings = LYCORIS[case]
    pipeline = theirs(family)
    path = tmp_path / "adapter.safetensors"
    make_lycoris(pipeline.unet, path, settings)
    genmoji = Genmoji.load(base(family))
    plain = drawn_here(genmoji, noise)
    genmoji.set_adapters([path])
    ours = drawn_here(genmoji, noise)
    assert psnr(ours, plain) <= 30 and psnr(ours, drawn_there(pipeline, noise)) >= 50
    genmoji.set_adapters([])
    assert np.array_equal(drawn_here(genmoji, noise), plain)


ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def train_there(unet: Any, config: Any) -> Any:
    """The UNet with an adapter of PEFT's, whose factors moved as if trained."""
    model = get_peft_model(unet, config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


PEFT: dict[str, Callable[[], Any]] = {
    "LoRA with biases": lambda: LoraConfig(r=4, lora_alpha=6, target_modules=["conv1", "ff.net.2"], lora_bias=True),
    "LoHa": lambda: LoHaConfig(r=4, alpha=6, target_modules=[*ATTENTION, "conv1"], init_weights=False),
    "LoKr": lambda: LoKrConfig(r=2, alpha=6, target_modules=[*ATTENTION, "conv1"], init_weights=False),
    "LoKr, whole halves": lambda: LoKrConfig(r=16, alpha=6, target_modules=ATTENTION, init_weights=False),
    "PiSSA": lambda: LoraConfig(r=4, lora_alpha=6, target_modules=ATTENTION, init_lora_weights="pissa"),
    "PiSSA, rank-stabilised": lambda: LoraConfig(
        r=4, lora_alpha=2, target_modules=ATTENTION, init_lora_weights="pissa", use_rslora=True
    ),
    "OLoRA": lambda: LoraConfig(r=4, lora_alpha=6, target_modules=ATTENTION, init_lora_weights="olora"),
    "PiSSA as a DoRA": lambda: LoraConfig(
        r=4, lora_alpha=6, target_modules=ATTENTION, init_lora_weights="pissa", use_dora=True
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", PEFT)
def test_an_adapter_of_peft_draws_as_peft_does(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path, case: str
) -> None:
    pipeline = theirs("sd")
    pipeline.unet = train_there(pipeline.unet, PEFT[case]())
    pipeline.unet.save_pretrained(tmp_path / "adapter")
    expected = drawn_there(pipeline, noise)
    again = theirs("sd")
    again.unet = PeftModel.from_pretrained(again.unet, tmp_path / "adapter")
    assert psnr(drawn_there(again, noise), expected) >= 50
    genmoji = Genmoji.load(base("sd"))
    plain = drawn_here(genmoji, noise)
    genmoji.set_adapters([tmp_path / "adapter"])
    ours = drawn_here(genmoji, noise)
    assert psnr(ours, plain) <= 30 and psnr(ours, expected) >= 50


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_start_that_was_saved_beside_the_adapter_is_subtracted(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path
) -> None:
    pipeline = theirs("sd")
    config = LoraConfig(r=4, lora_alpha=6, target_modules=ATTENTION, init_lora_weights="pissa_niter_1")
    torch.manual_seed(1)
    model = get_peft_model(pipeline.unet, config)
    model.save_pretrained(tmp_path / "adapter" / "pissa_init")
    pipeline.unet = model
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "adapter")
    genmoji = Genmoji.load(base("sd"), adapters=[tmp_path / "adapter"])
    assert psnr(drawn_here(genmoji, noise), drawn_there(pipeline, noise)) >= 50


def test_a_start_that_needs_data_is_refused(tmp_path: Path) -> None:
    pair = {"base_model.model.mid_block.x.lora_A.weight": torch.ones(2, 4)}
    pair["base_model.model.mid_block.x.lora_B.weight"] = torch.ones(4, 2)
    save_file(pair, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "init_lora_weights": "corda"}))
    with pytest.raises(UserError, match=r"init_lora_weights corda.*path_initial_model_for_weight_conversion"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("case", ["LoHa", "DoRA over inputs", "LoCon with a middle", "norms", "whole differences"])
def test_over_a_packed_base_the_change_is_that_of_its_dequantized_weights(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path, case: str
) -> None:
    path = tmp_path / "adapter.safetensors"
    pipeline = theirs("sd")
    genmoji = Genmoji.load(base("sd"))
    quantize_model(genmoji.unet, Quantization(4, 32))
    packed = {p: layer for p, layer in adaptable(genmoji.models).items() if isinstance(layer, QuantizedLayer)}
    assert len(packed) > 20
    with torch.no_grad():
        for name, module in pipeline.unet.named_modules():
            if f"unet.{name}" in packed:
                weight = np.array(dense_weight(packed[f"unet.{name}"]))
                weight = weight.transpose(0, 3, 1, 2) if weight.ndim == 4 else weight
                module.weight.copy_(torch.from_numpy(weight.copy()).reshape(module.weight.shape))
    make_lycoris(pipeline.unet, path, LYCORIS[case][1])
    plain = drawn_here(genmoji, noise)
    genmoji.set_adapters([path])
    ours = drawn_here(genmoji, noise)
    assert psnr(ours, plain) <= 30 and psnr(ours, drawn_there(pipeline, noise)) >= 50
    genmoji.set_adapters([])
    assert np.array_equal(drawn_here(genmoji, noise), plain)


def test_weights_scale_a_change_and_several_adapters_add_up(base: Base, theirs: Theirs, tmp_path: Path) -> None:
    make_lycoris(theirs("sd").unet, tmp_path / "loha.safetensors", {"algo": "loha"})
    make_lycoris(theirs("sd").unet, tmp_path / "lokr.safetensors", {"algo": "lokr", "factor": 4})
    make_lycoris(theirs("sd").unet, tmp_path / "locon.safetensors", {"algo": "locon"})
    genmoji = Genmoji.load(base("sd"))
    weight = np.array(genmoji.unet.conv_in.weight)
    name = "down_blocks.0.resnets.0.conv1"

    def change(*adapters: tuple[str, float]) -> np.ndarray[Any, Any]:
        genmoji.set_adapters([(tmp_path / f"{file}.safetensors", factor) for file, factor in adapters])
        changed = np.array(changed_parameters(genmoji.models)[f"unet.{name}.weight"])
        genmoji.set_adapters([])
        return changed - np.array(genmoji.unet.down_blocks[0].resnets[0].conv1.weight)

    single = [change((file, 1.0)) for file in ("loha", "lokr", "locon")]
    together = change(("loha", 0.5), ("lokr", -2.0), ("locon", 0.25))
    assert np.allclose(together, 0.5 * single[0] - 2 * single[1] + 0.25 * single[2], atol=1e-5)
    assert np.array_equal(weight, np.array(genmoji.unet.conv_in.weight))


def test_what_is_no_pair_of_matrices_is_neither_saved_nor_trained_further(base: Base, tmp_path: Path) -> None:
    save_file({f"{LAYER}.diff": torch.ones(32, 32)}, tmp_path / "a.safetensors")
    adapter = load_adapter(tmp_path / "a.safetensors")
    for use in (
        lambda: save_adapter(adapter, tmp_path / "b.safetensors"),
        lambda: attach_adapter(Genmoji.load(base("sd")).models, adapter),
    ):
        with pytest.raises(UserError, match="a difference of whole weights"):
            use()


DOWN, UP = torch.full((2, 32), 0.5), torch.ones(32, 2)
OLD = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"

# How each trainer names the pair of the layer at PATH.
SPELLINGS = (
    "base_model.model.{}.lora_A.weight base_model.model.{}.lora_B.weight",
    "base_model.model.unet.{}.lora_A.weight base_model.model.unet.{}.lora_B.weight",
    "unet.base_model.model.{}.lora_A.weight unet.base_model.model.{}.lora_B.weight",
    "unet.{}.lora_A.default.weight unet.{}.lora_B.default.weight",
    "unet.{}.lora_A.default_0.weight unet.{}.lora_B.default_0.weight",
    "unet.{}.lora_A.1.weight unet.{}.lora_B.1.weight",
    "module.unet.{}.lora_A.my-style.weight module.unet.{}.lora_B.my-style.weight",
    "_orig_mod.{}.lora_A.weight _orig_mod.{}.lora_B.weight",
    "unet.{}.lora_down.weight unet.{}.lora_up.weight",
    "unet.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_down.weight"
    " unet.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_up.weight",
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_down.weight"
    " model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_up.weight",
    "diffusion_model.{}.lora_down.weight diffusion_model.{}.lora_up.weight",
    "lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight"
    " lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight",
    f"{LAYER}.lora_down.weight {LAYER}.lora_up.weight",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_in_use_is_read(base: Base, tmp_path: Path, spelling: str) -> None:
    down, up = spelling.format(OLD, OLD).split()
    save_file({down: DOWN, up: UP}, tmp_path / "a.safetensors")
    (path,) = load_adapter(tmp_path / "a.safetensors").resolve(Genmoji.load(base("sd")).models).layers
    assert path == PATH


def test_two_adapters_in_one_file_are_refused_by_their_names(tmp_path: Path) -> None:
    pairs = {f"unet.{OLD}.lora_{which}.{name}.weight": DOWN for which in "AB" for name in ("cat", "dog")}
    save_file({key: tensor.clone() for key, tensor in pairs.items()}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="several adapters, cat, dog"):
        load_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", FLOAT8)
def test_float8_is_read_as_torch_reads_it(base: Base, tmp_path: Path, kind: str) -> None:
    dtype = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}[kind]
    pair = {f"{LAYER}.lora_down.weight": DOWN * 0.7, f"{LAYER}.lora_up.weight": UP * 1.3}
    alpha = {f"{LAYER}.alpha": torch.tensor(1.0, dtype=torch.bfloat16)}
    save_file({key: tensor.to(dtype) for key, tensor in pair.items()} | alpha, tmp_path / "a.safetensors")
    adapter = load_adapter(tmp_path / "a.safetensors").resolve(Genmoji.load(base("sd")).models)
    layer = adapter.layers[PATH]
    assert layer.alpha == 1 and np.array_equal(np.array(layer.down, np.float32), (DOWN * 0.7).to(dtype).float().numpy())


ONE = torch.ones(2, 2)

# Files that are given as adapters and are none, by a key of theirs; what is said of them.
OTHERS = {
    "model.diffusion_model.input_blocks.0.0.weight": "is a whole checkpoint, no adapter; convert it with: genmoji conv",
    "controlnet_cond_embedding.conv_in.weight": "is a ControlNet",
    "control_model.input_hint_block.0.weight": "is a ControlNet",
    "image_proj.proj.weight": "is an IP-Adapter",
    "down_blocks.0.motion_modules.0.proj_in.weight": "is a motion module",
    "first_stage_model.decoder.conv_in.weight": "is an autoencoder",
    "decoder.conv_in.weight": "is an autoencoder",
    "down_blocks.0.resnets.0.conv1.weight": "is a UNet alone",
    "text_model.encoder.layers.0.mlp.fc1.weight": "is a text encoder",
    "model.layers.0.self_attn.q_proj.weight": "is for a language model",
    "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": "is for FLUX",
    "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": "a transformer",
    "body.0.rdb1.conv1.weight": "is an upscaler",
    "zebra.weight": "holds tensors that no Stable Diffusion adapter has",
}


@pytest.mark.parametrize("key", OTHERS)
def test_what_is_no_adapter_is_named_for_what_it_is(tmp_path: Path, key: str) -> None:
    save_file({key: ONE}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=OTHERS[key]) as error:
        load_adapter(tmp_path / "a.safetensors")
    assert key in str(error.value) and "\n" not in str(error.value)

"""Checkpoints as they are shared: what they predict, in 8 bits, as pickles, without or with another autoencoder.

The oracles are diffusers' pipelines with the same weights; a float8 number is what torch says it is.
"""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import load_file, save_file

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.checkpoint.safe_folder import convert_folder
from mlx_genmoji.checkpoint.single_file import convert_single_file

pytestmark = pytest.mark.usefixtures("cpu")

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PROMPT = "a flying pig"
SIDE = 8
"""Of the latents."""

State = dict[str, torch.Tensor]

# Heads of 64 channels and text encoders as the original layout implies them.
SD: dict[str, Any] = {"block_out_channels": (32, 64), "norm_num_groups": 32, "attention_head_dim": 8}
PREFIXES = {
    "sd": ["cond_stage_model.transformer."],
    "sd2": ["cond_stage_model.model."],
    "xl": ["conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."],
}


def family_of(folder: Path) -> str:
    return folder.name


@pytest.fixture(scope="module")
def write(tmp_path_factory, write_pipeline, vocabulary) -> Callable[[str], Path]:
    """`write(family)`: a diffusers folder of "sd", "sd2" or "xl" that the original layout can express, random."""
    made: dict[str, Path] = {}

    def write(family: str) -> Path:
        if family not in made:
            folder = tmp_path_factory.mktemp("folders") / family
            kind = StableDiffusionXLPipeline if family == "xl" else StableDiffusionPipeline
            more: dict[str, Any] = {}
            scheduler = EulerDiscreteScheduler(**NOISE, steps_offset=1, timestep_spacing="leading")
            if family == "sd2":
                more = {"use_linear_projection": True, "attention_head_dim": (1, 2), "block_out_channels": (64, 128)}
            if family != "xl":
                scheduler = DDIMScheduler(**NOISE, clip_sample=False, steps_offset=1, set_alpha_to_one=False)
            if family == "xl":
                more = {
                    "block_out_channels": (64, 64, 128),
                    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                    "attention_head_dim": (1, 1, 2),
                    "cross_attention_dim": 128,
                    "transformer_layers_per_block": (1, 1, 2),
                    "addition_time_embed_dim": 256,
                    "projection_class_embeddings_input_dim": 64 + 6 * 256,
                }
            write_pipeline(folder, kind, scheduler, **SD | {"cross_attention_dim": 64} | more)
            pipeline = DiffusionPipeline.from_pretrained(folder)
            pipeline.register_modules(**text_encoders(family, len(vocabulary)))
            pipeline.register_modules(vae=random_vae(2))
            if family == "xl":
                pipeline.vae.register_to_config(scaling_factor=0.13025)
            pipeline.save_pretrained(folder)
            made[family] = folder
        return made[family]

    return write


def random_vae(seed: int) -> AutoencoderKL:
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
    )
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return vae.eval()


def text_encoders(family: str, tokens: int) -> dict[str, Any]:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def config(layers: int, activation: str, **more: Any) -> Any:
        return CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=64,
            intermediate_size=48,
            num_hidden_layers=layers,
            num_attention_heads=1,
            hidden_act=activation,
            eos_token_id=2,
            **more,
        )

    torch.manual_seed(1)
    if family == "sd2":
        made: dict[str, Any] = {"text_encoder": CLIPTextModel(config(23, "gelu"))}
    else:
        made = {"text_encoder": CLIPTextModel(config(2, "quick_gelu"))}
    if family == "xl":
        made["text_encoder_2"] = CLIPTextModelWithProjection(config(3, "gelu", projection_dim=64))
    with torch.no_grad():
        for model in made.values():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return made


@pytest.fixture(scope="module")
def state_of(write, original_layout) -> Callable[[str], State]:
    """`state_of(family)`: the tensors of the folder, as one file in the original layout has them."""

    def state_of(family: str) -> State:
        pipeline = DiffusionPipeline.from_pretrained(write(family))
        encoders = [pipeline.text_encoder] + ([pipeline.text_encoder_2] if family == "xl" else [])
        state = original_layout(pipeline.unet, pipeline.vae, dict(zip(PREFIXES[family], encoders, strict=True)))
        return {key: tensor.detach().clone().contiguous() for key, tensor in state.items()}

    return state_of


def picture(folder: Path, **loading: Any) -> np.ndarray:
    """Of 4 steps, in [0, 1]; as small as the latents of `noise`."""
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": SIDE}))
    drawn = Genmoji.load(folder, **loading).generate(PROMPT, steps=4, guidance=5.0, latents=mx.array(noise()))
    return np.asarray(drawn[0].image) / 255


def expected(pipeline: Any) -> np.ndarray:
    """The picture that diffusers draws."""
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.from_numpy(noise()).permute(0, 3, 1, 2).contiguous()
    images = pipeline(PROMPT, num_inference_steps=4, guidance_scale=5.0, latents=latents, output_type="np").images
    return np.round(images[0] * 255) / 255


def noise() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((1, SIDE, SIDE, 4)).astype(np.float32)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(1 / max(np.mean((a - b) ** 2), 1e-12)))


def scheduler(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    return config


# ---- What they predict


@pytest.mark.parametrize(
    ("family", "metadata", "marks", "predicts"),
    [
        ("sd", {"modelspec.predict_key": "v"}, [], "v_prediction"),
        ("sd", {"modelspec.prediction_type": "v_prediction"}, [], "v_prediction"),
        ("sd", {"modelspec.prediction_type": "V-Prediction"}, [], "v_prediction"),
        ("sd", {"modelspec.predict_key": '"v"'}, [], "v_prediction"),
        ("sd", {"prediction_type": "vpred"}, [], "v_prediction"),
        ("sd", {"ss_v_parameterization": "True"}, [], "v_prediction"),
        ("sd", {"v_pred": "true"}, [], "v_prediction"),
        ("sd", {}, ["v_pred"], "v_prediction"),
        ("sd", {"ss_v_parameterization": "False"}, [], "epsilon"),
        ("sd", {"modelspec.architecture": "stable-diffusion-v1"}, [], "epsilon"),
        ("sd2", {"modelspec.predict_key": "epsilon"}, [], "epsilon"),
        ("sd2", {"modelspec.prediction_type": "eps"}, [], "epsilon"),
        ("sd2", {"modelspec.architecture": "stable-diffusion-v2-512"}, [], "epsilon"),
        ("sd2", {"modelspec.architecture": "stable-diffusion-v2-768-v"}, [], "v_prediction"),
        ("sd2", {"ss_v2": "True", "ss_v_parameterization": "False"}, [], "epsilon"),
    ],
)
def test_the_prediction_is_the_one_that_the_file_states(family, metadata, marks, predicts, state_of, write, tmp_path):
    state = state_of(family) | {key: torch.zeros(0) for key in marks}
    save_file(state, tmp_path / "a.safetensors", metadata)
    notes = convert_single_file(tmp_path / "a.safetensors", tmp_path / "out", write(family) / "tokenizer")
    assert scheduler(tmp_path / "out")["prediction_type"] == predicts
    assert notes == []


@pytest.mark.parametrize("metadata", [{"ss_zero_terminal_snr": "True"}, {"ztsnr": "true"}, {}])
def test_a_zero_terminal_snr_is_read_from_metadata_or_a_mark(metadata, state_of, write, tmp_path):
    state = state_of("sd") | ({} if metadata else {"ztsnr": torch.zeros(0)})
    save_file(state, tmp_path / "a.safetensors", metadata | {"modelspec.predict_key": "v"})
    convert_single_file(tmp_path / "a.safetensors", tmp_path / "out", write("sd") / "tokenizer")
    assert scheduler(tmp_path / "out")["rescale_betas_zero_snr"] is True
    assert scheduler(tmp_path / "out")["timestep_spacing"] == "trailing"


@pytest.mark.parametrize(
    ("text", "predicts"),
    [
        (
            'model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    parameterization: "v"\n',
            "v_prediction",
        ),
        (
            "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    scale_factor: 0.18215\n",
            "epsilon",
        ),
    ],
)
def test_the_yaml_beside_a_checkpoint_states_the_prediction(text, predicts, state_of, write, tmp_path):
    save_file(state_of("sd2"), tmp_path / "a.safetensors")
    (tmp_path / "a.yaml").write_text(text)
    notes = convert_single_file(tmp_path / "a.safetensors", tmp_path / "out", write("sd2") / "tokenizer")
    assert (scheduler(tmp_path / "out")["prediction_type"], notes) == (predicts, [])


def test_a_prediction_that_is_not_supported_is_named(state_of, write, tmp_path):
    save_file(state_of("sd"), tmp_path / "a.safetensors", {"modelspec.prediction_type": "rectified_flow"})
    with pytest.raises(UserError, match=r"says in modelspec\.prediction_type .*rectified_flow.*--predicts"):
        convert_single_file(tmp_path / "a.safetensors", tmp_path / "out", write("sd") / "tokenizer")


def returning_input(state: State) -> State:
    """A UNet that returns about its input, as one that predicts epsilon does for pure noise.

    Its last up block passes on what the first convolution made of it.
    """
    unet = "model.diffusion_model."
    state = dict(state)
    channels = state[f"{unet}input_blocks.0.0.weight"].shape[0]
    first = torch.zeros(channels, 4, 3, 3)
    for i in range(channels):
        first[i, i * 4 // channels, 1, 1] = 1 if i % 2 else -1
    last = torch.zeros(4, channels, 3, 3)
    for i in range(channels):
        # Silu of a pair with opposite signs: their difference is the number itself.
        last[i * 4 // channels, i, 1, 1] = (1 if i % 2 else -1) / (channels / 8)
    state[f"{unet}input_blocks.0.0.weight"], state[f"{unet}input_blocks.0.0.bias"] = first, torch.zeros(channels)
    state[f"{unet}out.2.weight"], state[f"{unet}out.2.bias"] = last, torch.zeros(4)
    state[f"{unet}out.0.weight"], state[f"{unet}out.0.bias"] = torch.ones(channels), torch.zeros(channels)
    names = [re.match(rf"{unet}output_blocks\.(\d+)\.", key) for key in state]
    block = f"{unet}output_blocks.{max(int(match[1]) for match in names if match)}"
    skip = torch.zeros_like(state[f"{block}.0.skip_connection.weight"])
    for i in range(channels):
        skip[i, -channels + i] = 1
    for key in list(state):
        if key.startswith((f"{block}.0.out_layers.3", f"{block}.1.proj_out", f"{block}.0.skip_connection")):
            state[key] = torch.zeros_like(state[key])
    state[f"{block}.0.skip_connection.weight"] = skip
    return state


def test_an_sd2_that_states_nothing_is_found_out_by_its_unet(state_of, write, tmp_path):
    state, tokenizer = state_of("sd2"), write("sd2") / "tokenizer"
    save_file(returning_input(state), tmp_path / "epsilon.safetensors")
    notes = convert_single_file(tmp_path / "epsilon.safetensors", tmp_path / "epsilon", tokenizer)
    assert scheduler(tmp_path / "epsilon")["prediction_type"] == "epsilon"
    assert "by an evaluation of its UNet it is epsilon" in notes[0] and "--predicts" in notes[0]
    save_file(state | {"model.diffusion_model.out.2.bias": torch.full((4,), -3.0)}, tmp_path / "v.safetensors")
    convert_single_file(tmp_path / "v.safetensors", tmp_path / "v", tokenizer)
    assert scheduler(tmp_path / "v")["prediction_type"] == "v_prediction"


def test_playground_and_cosxl_draw_what_diffusers_draws_in_the_form_of_edm(state_of, write, tmp_path):
    mean, deviation = [-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]
    playground = {"edm_mean": torch.tensor(mean), "edm_std": torch.tensor(deviation)}
    playground = {key: tensor.reshape(1, 4, 1, 1) for key, tensor in playground.items()}
    cosxl = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}
    # Converted, for the padding of the second tokenizer.
    save_file(state_of("xl"), tmp_path / "plain.safetensors")
    convert_single_file(tmp_path / "plain.safetensors", tmp_path / "plain", write("xl") / "tokenizer")
    picture(tmp_path / "plain")
    oracle = StableDiffusionXLPipeline.from_pretrained(tmp_path / "plain")
    plain = expected(oracle)
    for name, marks in {"playground": playground, "cosxl": cosxl}.items():
        save_file(state_of("xl") | marks, tmp_path / f"{name}.safetensors")
        notes = convert_single_file(tmp_path / f"{name}.safetensors", tmp_path / name, write("xl") / "tokenizer")
        if name == "playground":
            oracle.scheduler = EDMDPMSolverMultistepScheduler()
            oracle.vae.register_to_config(scaling_factor=0.5, latents_mean=mean, latents_std=deviation)
        else:
            oracle.scheduler = EDMEulerScheduler(
                sigma_max=120.0, sigma_data=1.0, prediction_type="v_prediction", sigma_schedule="exponential"
            )
            oracle.vae.register_to_config(scaling_factor=0.13025, latents_mean=None, latents_std=None)
        theirs = expected(oracle)
        assert psnr(picture(tmp_path / name), theirs) >= 50
        assert psnr(plain, theirs) <= 30
        assert notes == []


def test_a_picture_is_encoded_with_mean_and_deviation_as_in_diffusers(state_of, write, tmp_path):
    marks = {"edm_mean": torch.tensor([1.0, -1.0, 0.5, 2.0]), "edm_std": torch.tensor([2.0, 3.0, 4.0, 5.0])}
    save_file(state_of("xl") | marks, tmp_path / "a.safetensors")
    convert_single_file(tmp_path / "a.safetensors", tmp_path / "out", write("xl") / "tokenizer")
    pixels = np.random.default_rng(1).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    ours = Genmoji.load(tmp_path / "out").family.encode(mx.array(pixels))
    vae = AutoencoderKL.from_pretrained(tmp_path / "out" / "vae")
    with torch.no_grad():
        mode = vae.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2)).latent_dist.mode().permute(0, 2, 3, 1).numpy()
    theirs = (mode - marks["edm_mean"].numpy()) * 0.5 / marks["edm_std"].numpy()
    np.testing.assert_allclose(np.array(ours), theirs, atol=1e-4)


def test_a_playground_that_lacks_its_deviation_is_one_sentence(state_of, write, tmp_path):
    save_file(state_of("xl") | {"edm_mean": torch.zeros(4)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"Playground v2\.5 model \(EDM\) that lacks edm_std"):
        convert_single_file(tmp_path / "a.safetensors", tmp_path / "out", write("xl") / "tokenizer")


# ---- In 8 bits


def unet_weights(state: State) -> list[str]:
    """The keys of the UNet's matrices and kernels, which pruned files have in 8 bits."""
    return [key for key, tensor in state.items() if key.startswith("model.diffusion_model.") and tensor.ndim > 1]


def in_float8(state: State, dtype: torch.dtype) -> tuple[State, State]:
    return {key: state[key].to(dtype) for key in unet_weights(state)}, {}


def in_scaled_float8(scale_name: str, rows: bool) -> Callable[[State, torch.dtype], tuple[State, State]]:
    def scaled(state: State, dtype: torch.dtype) -> tuple[State, State]:
        weights, scales = {}, {}
        for key in unet_weights(state):
            peak = state[key].abs().amax(tuple(range(1, state[key].ndim)) if rows else None).float()
            scale = peak.clamp(min=1e-6) / 400
            shaped = scale.reshape(-1, *[1] * (state[key].ndim - 1)) if rows else scale
            weights[key] = (state[key].float() / shaped).to(dtype)
            stem = key.removesuffix(".weight")
            scales[f"{stem}.{scale_name}"] = scale
            scales[f"{stem}.scale_input"] = torch.tensor(1.0)
        return weights, scales | {"scaled_fp8": torch.zeros(2, dtype=dtype)}

    return scaled


def in_int8(state: State, dtype: torch.dtype) -> tuple[State, State]:
    weights, scales = {}, {}
    for key in unet_weights(state):
        rows = state[key].abs().amax(tuple(range(1, state[key].ndim))).float().clamp(min=1e-6)
        shaped = rows.reshape(-1, *[1] * (state[key].ndim - 1))
        weights[key] = (state[key].float() / shaped * 127).round().to(torch.int8)
        scales[f"{key.removesuffix('.weight')}.SCB"] = rows
    return weights, scales


def in_full(weights: State, scales: State) -> State:
    """The weights that these stand for, as torch computes them."""
    result = {}
    for key, weight in weights.items():
        stem = key.removesuffix(".weight")
        scale = next((scales[f"{stem}.{n}"] for n in ("scale_weight", "weight_scale") if f"{stem}.{n}" in scales), None)
        if f"{stem}.SCB" in scales:
            scale = scales[f"{stem}.SCB"] / 127
        scale = torch.tensor(1.0) if scale is None else scale
        result[key] = weight.float() * (scale.reshape(-1, *[1] * (weight.ndim - 1)) if scale.ndim else scale)
    return result


FORMATS: dict[str, tuple[Callable[[State, torch.dtype], tuple[State, State]], torch.dtype]] = {
    "float8_e4m3fn": (in_float8, torch.float8_e4m3fn),
    "float8_e5m2": (in_float8, torch.float8_e5m2),
    "scale_weight": (in_scaled_float8("scale_weight", rows=False), torch.float8_e4m3fn),
    "weight_scale": (in_scaled_float8("weight_scale", rows=True), torch.float8_e4m3fn),
    "int8": (in_int8, torch.int8),
}


@pytest.mark.parametrize("name", FORMATS)
def test_weights_in_8_bits_draw_what_diffusers_draws_with_the_same_numbers(
    name, state_of, write, original_layout, tmp_path
):
    state = state_of("xl")
    weights, scales = FORMATS[name][0](state, FORMATS[name][1])
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    save_file(halves | weights | scales, tmp_path / "a.safetensors")
    convert_single_file(tmp_path / "a.safetensors", tmp_path / "out", write("xl") / "tokenizer")
    full = in_full(weights, scales)
    save_file({**halves, **full}, tmp_path / "full.safetensors")
    convert_single_file(tmp_path / "full.safetensors", tmp_path / "full", write("xl") / "tokenizer")
    config = tmp_path / "full" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": SIDE}))
    theirs = expected(StableDiffusionXLPipeline.from_pretrained(tmp_path / "full", torch_dtype=torch.float32))
    assert psnr(picture(tmp_path / "out"), theirs) >= 50
    sizes = [
        (tmp_path / part / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size for part in ("out", "full")
    ]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"x.weight": torch.ones(2, 2, dtype=torch.int8)}, "int8.*without their scales"),
        ({"x.weight.absmax": torch.ones(2)}, "bitsandbytes' 4 bits"),
        ({"x.weight": torch.ones(2, 2).to(torch.float8_e4m3fnuz)}, "F8_E4M3FNUZ"),
        (
            {"x.comfy_quant": torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)},
            "quantized in ComfyUI's format 'nvfp4'",
        ),
        (
            {"x.weight": torch.ones(4, 4).to(torch.float8_e4m3fn), "x.weight_scale": torch.ones(3)},
            r"scale of the shape \(3,\)",
        ),
    ],
)
def test_other_quantized_weights_are_refused_by_name(more, message, state_of, write, tmp_path):
    save_file(state_of("sd") | more, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=message) as raised:
        convert_single_file(tmp_path / "a.safetensors", tmp_path / "out", write("sd") / "tokenizer")
    assert len(str(raised.value).splitlines()) == 1


def test_a_gguf_file_is_named(write, tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(UserError, match="GGUF"):
        convert_single_file(tmp_path / "a.gguf", tmp_path / "out", write("sd") / "tokenizer")


def test_a_folder_with_a_float8_unet_is_drawn_with(write, tmp_path):
    import shutil

    shutil.copytree(write("sd"), tmp_path / "model")
    file = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = {key: t.to(torch.float8_e4m3fn) if t.ndim > 1 else t for key, t in load_file(file).items()}
    save_file({key: t.float() for key, t in tensors.items()}, file)
    theirs = expected(StableDiffusionPipeline.from_pretrained(tmp_path / "model"))
    save_file(tensors, file)
    assert psnr(picture(tmp_path / "model"), theirs) >= 50


# ---- Pickles


@pytest.mark.parametrize("family", ["sd", "xl"])
def test_a_ckpt_is_the_same_folder_as_its_safetensors(family, state_of, write, tmp_path):
    state, tokenizer = state_of(family), write(family) / "tokenizer"
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": state, "global_step": 840000, "optimizer_states": []}, tmp_path / "a.ckpt")
    convert_single_file(tmp_path / "a.safetensors", tmp_path / "one", tokenizer)
    convert_single_file(tmp_path / "a.ckpt", tmp_path / "two", tokenizer, allow_pickle=True)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) > 8
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    with pytest.raises(UserError, match=r"a pickle.*--allow-pickle .*which runs nothing") as raised:
        convert_single_file(tmp_path / "a.ckpt", tmp_path / "three", tokenizer)
    assert len(str(raised.value).splitlines()) == 1


def test_a_converted_ckpt_draws_what_diffusers_draws_from_it(state_of, write, tmp_path):
    torch.save({"state_dict": state_of("sd")}, tmp_path / "a.ckpt")
    convert_single_file(tmp_path / "a.ckpt", tmp_path / "out", write("sd") / "tokenizer", allow_pickle=True)
    theirs = StableDiffusionPipeline.from_single_file(
        str(tmp_path / "a.ckpt"), config=str(write("sd")), local_files_only=True
    )
    assert psnr(picture(tmp_path / "out"), expected(theirs)) >= 50


@pytest.mark.parametrize("variant", ["", "fp16"])
@pytest.mark.parametrize("shards", [False, True])
def test_a_folder_of_pickles_draws_what_diffusers_draws(variant, shards, write, tmp_path):
    pipeline = DiffusionPipeline.from_pretrained(write("sd"))
    pipeline.save_pretrained(tmp_path / "model")
    for part in ("unet", "vae", "text_encoder"):
        file = next((tmp_path / "model" / part).glob("*.safetensors"))
        stem = "pytorch_model" if part == "text_encoder" else "diffusion_pytorch_model"
        state, infix = load_file(file), f".{variant}" if variant else ""
        file.unlink()
        if not shards:
            torch.save(state, file.with_name(f"{stem}{infix}.bin"))
            continue
        names = {key: f"{stem}-0000{1 + i % 2}-of-00002.bin" for i, key in enumerate(state)}
        for name in sorted(set(names.values())):
            torch.save({key: tensor for key, tensor in state.items() if names[key] == name}, file.with_name(name))
        file.with_name(f"{stem}.bin.index{infix}.json").write_text(json.dumps({"weight_map": names}))
    ours = picture(tmp_path / "model", allow_pickle=True)
    assert psnr(ours, expected(pipeline)) >= 50
    with pytest.raises(UserError, match=r"\.bin|no weights|pickle"):
        Genmoji.load(tmp_path / "model")


def test_a_folder_of_pickles_becomes_one_of_safetensors(write, tmp_path):
    pipeline = DiffusionPipeline.from_pretrained(write("sd"))
    pipeline.save_pretrained(tmp_path / "model", safe_serialization=False)
    for file in (tmp_path / "model").rglob("*.safetensors"):
        stem = "pytorch_model" if file.parent.name == "text_encoder" else "diffusion_pytorch_model"
        torch.save(load_file(file), file.with_name(f"{stem}.bin"))
        file.unlink()
    with pytest.raises(UserError, match=r"genmoji generate and convert .*--allow-pickle"):
        convert_folder(tmp_path / "model", tmp_path / "refused")
    convert_folder(tmp_path / "model", tmp_path / "out", allow_pickle=True)
    assert not list((tmp_path / "out").rglob("*.bin"))
    theirs = expected(pipeline)
    assert psnr(expected(StableDiffusionPipeline.from_pretrained(tmp_path / "out")), theirs) >= 50
    assert psnr(picture(tmp_path / "out"), theirs) >= 50
    with pytest.raises(UserError, match="exists already"):
        convert_folder(tmp_path / "model", tmp_path / "out", allow_pickle=True)


# ---- Another autoencoder


@pytest.fixture(scope="module")
def another_vae() -> AutoencoderKL:
    return random_vae(7)


@pytest.fixture
def vae_sources(another_vae, write, original_layout, tmp_path) -> dict[str, Path]:
    """The same autoencoder in every form that it is shared in."""
    folder = tmp_path / "vaes"
    another_vae.save_pretrained(folder / "folder")
    pipeline = DiffusionPipeline.from_pretrained(write("sd"))
    state = original_layout(pipeline.unet, another_vae, {})
    prefix = "first_stage_model."
    original = {k.removeprefix(prefix): t.detach().contiguous() for k, t in state.items() if k.startswith(prefix)}
    save_file(original, folder / "original.safetensors")
    save_file({f"{prefix}{k}": t for k, t in original.items()}, folder / "prefixed.safetensors")
    save_file(another_vae.state_dict(), folder / "diffusers.safetensors")
    torch.save({"state_dict": original | {"loss.logvar": torch.zeros(1)}}, folder / "original.vae.pt")
    pipeline.vae = another_vae
    pipeline.save_pretrained(folder / "model")
    names = (
        "folder",
        "original.safetensors",
        "prefixed.safetensors",
        "diffusers.safetensors",
        "original.vae.pt",
        "model",
    )
    return {name: folder / name for name in names}


SOURCES = (
    "folder",
    "original.safetensors",
    "prefixed.safetensors",
    "diffusers.safetensors",
    "original.vae.pt",
    "model",
)


@pytest.mark.parametrize("name", SOURCES)
def test_another_autoencoder_decodes_as_in_diffusers(name, vae_sources, another_vae, state_of, write, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(write("sd"))
    plain = expected(pipeline)
    pipeline.vae = another_vae
    theirs, source = expected(pipeline), vae_sources[name]
    pickled = name.endswith(".pt")
    assert psnr(picture(write("sd"), vae=source, allow_pickle=pickled), theirs) >= 50
    assert psnr(plain, theirs) < 40
    without = {key: t for key, t in state_of("sd").items() if not key.startswith("first_stage_model.")}
    save_file(without, tmp_path / "pruned.safetensors")
    options = {"vae": source, "allow_pickle": pickled}
    convert_single_file(tmp_path / "pruned.safetensors", tmp_path / "out", write("sd") / "tokenizer", **options)
    assert psnr(picture(tmp_path / "out"), theirs) >= 50


def test_a_tiny_autoencoder_in_a_file_or_folder_decodes_as_in_diffusers(write, tmp_path):
    torch.manual_seed(3)
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(16, 16),
        decoder_block_out_channels=(16, 16),
        num_encoder_blocks=(1, 2),
        num_decoder_blocks=(3, 1),
    )
    tiny.save_pretrained(tmp_path / "tiny")
    pipeline = StableDiffusionPipeline.from_pretrained(write("sd"))
    pipeline.vae = tiny.eval()
    theirs = expected(pipeline)
    for source in (tmp_path / "tiny", tmp_path / "tiny" / "diffusion_pytorch_model.safetensors"):
        assert psnr(picture(write("sd"), vae=source), theirs) >= 50


def test_what_is_no_autoencoder_is_named(write, tmp_path):
    save_file({"lora_unet_x.lora_up.weight": torch.ones(1)}, tmp_path / "lora.safetensors")
    save_file({"1.weight": torch.ones(1), "3.conv.0.weight": torch.ones(1)}, tmp_path / "decoder.safetensors")
    save_file({"other": torch.ones(1)}, tmp_path / "other.safetensors")
    for name, message in (("lora", "but an adapter"), ("decoder", "one half of a tiny"), ("other", "not an autoenc")):
        with pytest.raises(UserError, match=message):
            Genmoji.load(write("sd"), vae=tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match="another kind of model"):
        Genmoji.load(write("sd"), vae=write("sd") / "unet")


def test_a_checkpoint_without_an_autoencoder_says_how_to_add_one(state_of, write, tmp_path):
    without = {key: t for key, t in state_of("sd").items() if not key.startswith("first_stage_model.")}
    save_file(without, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"holds no autoencoder.*--vae"):
        convert_single_file(tmp_path / "a.safetensors", tmp_path / "out", write("sd") / "tokenizer")


# ---- Tensors that nobody needs


EXTRA = {
    "text_encoder": ["text_projection.weight", "logit_scale", "vision_model.embeddings.class_embedding"],
    "vae": ["loss.logvar", "model_ema.decay"],
    "unet": ["alphas_cumprod"],
}


def test_tensors_that_nobody_needs_are_passed_over_with_a_note(write, tmp_path):
    pipeline = DiffusionPipeline.from_pretrained(write("sd"))
    pipeline.save_pretrained(tmp_path / "model")
    theirs = expected(pipeline)
    for part, keys in EXTRA.items():
        file = next((tmp_path / "model" / part).glob("*.safetensors"))
        save_file(load_file(file) | {key: torch.ones(3) for key in keys}, file)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert psnr(picture(tmp_path / "model"), theirs) >= 50
    notes = [str(item.message) for item in caught]
    for keys in EXTRA.values():
        assert any("passed over tensors that drawing does not need" in note and keys[0] in note for note in notes)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_an_unknown_tensor_of_a_component_is_still_an_error(part, write, tmp_path):
    DiffusionPipeline.from_pretrained(write("sd")).save_pretrained(tmp_path / "model")
    file = next((tmp_path / "model" / part).glob("*.safetensors"))
    save_file(load_file(file) | {"another.weight": torch.ones(3)}, file)
    with pytest.raises(UserError, match=r"does not fit its config\.json; unexpected: another\.weight"):
        Genmoji.load(tmp_path / "model")


def test_what_a_checkpoint_has_beside_its_components_is_noted(state_of, write, tmp_path):
    save_file(
        state_of("sd") | {"embedding_manager.x": torch.ones(1), "model_ema.y": torch.ones(1)},
        tmp_path / "a.safetensors",
    )
    notes = convert_single_file(tmp_path / "a.safetensors", tmp_path / "out", write("sd") / "tokenizer")
    assert len(notes) == 1 and "embedding_manager.x" in notes[0] and "model_ema" not in notes[0]

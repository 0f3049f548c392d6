"""The packages of an export: the inputs of each, how it is emitted, and what the model in MLX answers to the same.

Names, shapes and precisions are those that Apple's Swift package reads (apple/ml-stable-diffusion).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_genmoji.errors import UserError
from mlx_genmoji.models.clip import CLIPTextModel
from mlx_genmoji.models.unet import UNet2DConditionModel
from mlx_genmoji.models.vae import AutoencoderKL

from .apple_files import TEXT_ENCODERS, UNET, VAE_DECODER, VAE_ENCODER
from .apple_schedule import AppleSchedule
from .exported_model import Source
from .graph import Graph, Var
from .mlpackage import Shapes
from .text_encoder import emit_text_encoder, hidden_states_names
from .unet import Flow, Stage, check_unet, halves, inputs_of, stages
from .vae import emit_decoder, emit_encoder

Arrays = dict[str, np.ndarray]
Emit = Callable[[Any, Graph, dict[str, Var]], list[Var]]


@dataclass(frozen=True)
class PackageSpec:
    """One model of the export. It becomes one package, or two where it is in chunks."""

    name: str
    """Apple's name for it, such as Unet."""
    component: str
    """Its folder in the diffusers model."""
    inputs: Shapes
    half: bool
    """Whether it computes in half precision, else in full."""
    emit: Emit
    predict: Callable[[Any, Arrays], Arrays]
    """The outputs of the model in MLX for these inputs, in Core ML's layout, float32."""
    examples: Sequence[Arrays]
    """Inputs for comparing the package with the model; a quick comparison takes the first."""
    hidden_size: int
    """The width of the text's hidden states that it returns or takes; 0 for an autoencoder, which has none."""
    channels_last: bool = False
    """Whether its activations have the same layout as MLX's."""
    half_inputs: bool = True
    chunks: Callable[[Any], tuple[list[Stage], list[Stage]]] | None = None
    """How to split it in two packages; None for one package."""


def text_encoder(source: Source, component: str, length: int) -> PackageSpec:
    """TextEncoder or, for the second one of XL, TextEncoder2; for prompts of `length` tokens."""
    model: CLIPTextModel = source.open(component)
    xl = len(source.text_encoders) == 2
    padding = source.padding(component)
    # A prompt that ends in the middle, followed by tokens that are not the model's padding.
    ids = np.random.default_rng(0).integers(0, padding.end, (1, length))
    ids[:, length // 2] = padding.end

    def predict(model: CLIPTextModel, inputs: Arrays) -> Arrays:
        output = model(mx.array(padding.applied(inputs["input_ids"].astype(np.int32))))
        states = output.hidden_states[-2] if xl else output.last_hidden_state
        outputs = {**dict.fromkeys(hidden_states_names(xl), states), "pooled_outputs": output.pooled}
        return {name: np.asarray(array) for name, array in outputs.items()}

    return PackageSpec(
        name=TEXT_ENCODERS[component],
        component=component,
        inputs={"input_ids": (1, length)},
        half=True,
        half_inputs=False,
        emit=lambda model, g, inputs: emit_text_encoder(model, padding, xl, g, inputs),
        predict=predict,
        examples=[{"input_ids": ids.astype(np.float32)}],
        hidden_size=model.config.hidden_size,
        channels_last=True,
    )


def unet(source: Source, height: int, width: int, length: int, chunk: bool) -> PackageSpec:
    """Unet, for latents of `height` x `width`; it predicts epsilon, whatever the model predicts."""
    model = source.unet
    check_unet(model)
    downsamplers = len(model.config.block_out_channels) - 1
    factor = 2**downsamplers
    if height % factor or width % factor:
        raise UserError(
            f"Latents of {height} x {width} cannot be halved {downsamplers} times: choose a"
            f" height and a width that are multiples of {factor * source.vae.downscale} pixels."
        )
    schedule = AppleSchedule.for_model(source.scheduler)
    shapes = inputs_of(model, height, width, length)

    def emit(model: UNet2DConditionModel, g: Graph, inputs: dict[str, Var]) -> list[Var]:
        flow = Flow()
        for stage in stages(model, schedule):
            flow = stage.emit(g, flow, inputs)
        return [flow.x]

    def predict(model: UNet2DConditionModel, inputs: Arrays) -> Arrays:
        timesteps = inputs["timestep"].astype(np.int64)
        text = inputs["encoder_hidden_states"][:, :, 0].transpose(0, 2, 1)
        added: dict[str, mx.array] = {
            name: mx.array(inputs[name]) for name in ("time_ids", "text_embeds") if name in inputs
        }
        latents = mx.array(inputs["sample"].transpose(0, 2, 3, 1))
        output = model(latents, mx.array(schedule.timesteps[timesteps]), mx.array(text), added)
        prediction = np.asarray(output).transpose(0, 3, 1, 2)
        return {"noise_pred": schedule.epsilon(prediction, inputs["sample"], timesteps)}

    return PackageSpec(
        name=UNET,
        component="unet",
        inputs=shapes,
        half=True,
        emit=emit,
        predict=predict,
        examples=[_unet_example(shapes, timesteps) for timesteps in ((1, 999), (500, 500))],
        hidden_size=shapes["encoder_hidden_states"][1],
        chunks=(lambda model: halves(stages(model, schedule))) if chunk else None,
    )


def _unet_example(shapes: Shapes, timesteps: tuple[int, int]) -> Arrays:
    random = np.random.default_rng(timesteps[0])
    inputs = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    inputs["timestep"] = np.array(timesteps, np.float32)
    if "time_ids" in inputs:
        height, width = (8 * side for side in shapes["sample"][2:])
        inputs["time_ids"][:] = [height, width, 0, 0, height, width]
    # Numbers of half precision, so that package and model start from the same.
    return {name: array.astype(np.float16).astype(np.float32) for name, array in inputs.items()}


def autoencoder(source: Source, height: int, width: int) -> list[PackageSpec]:
    """VAEDecoder and VAEEncoder, for latents of `height` x `width`.

    They compute in full precision where `force_upcast` in the model's config.json says that half is not enough, as for
    XL.
    """
    config = source.vae.config
    half = source.vae.raw_config.get("force_upcast") is not True
    factor, shift = source.vae.downscale, config.shift_factor or 0.0
    random = np.random.default_rng(0)
    latents = random.standard_normal((1, config.latent_channels, height, width)) / config.scaling_factor
    # Areas of one colour, as pictures have.
    small_picture = random.uniform(-1, 1, (1, config.in_channels, height, width))
    picture = small_picture.repeat(factor, axis=2).repeat(factor, axis=3)

    def decode(model: AutoencoderKL, inputs: Arrays) -> Arrays:
        pictures = model.decode(mx.array(inputs["z"].transpose(0, 2, 3, 1)) + shift)
        return {"image": np.asarray(pictures).transpose(0, 3, 1, 2)}

    def encode(model: AutoencoderKL, inputs: Arrays) -> Arrays:
        moments = model.encoder(mx.array(inputs["z"].transpose(0, 2, 3, 1)))
        moments = model.quant_conv(moments) if "quant_conv" in model else moments
        array = np.array(moments).transpose(0, 3, 1, 2)
        array[:, : config.latent_channels] -= shift
        return {"latent": array}

    def spec(name: str, z: np.ndarray, emit: Emit, predict: Callable[[Any, Arrays], Arrays]) -> PackageSpec:
        example = {"z": z.astype(np.float16).astype(np.float32)}
        return PackageSpec(name, "vae", {"z": z.shape}, half, emit, predict, [example], 0, half_inputs=half)

    return [
        spec(VAE_DECODER, latents, emit_decoder, decode),
        spec(VAE_ENCODER, picture, emit_encoder, encode),
    ]


def package_specs(source: Source, height: int, width: int, chunk: bool) -> list[PackageSpec]:
    """All packages of an export for latents of `height` x `width`."""
    lengths: Mapping[str, int] = {
        name: source.open(name).config.max_position_embeddings for name in source.text_encoders
    }
    texts = [text_encoder(source, name, length) for name, length in lengths.items()]
    return [*texts, unet(source, height, width, max(lengths.values()), chunk), *autoencoder(source, height, width)]

"""The packages that an export consists of: their inputs, how each is emitted, and what the model answers to the same.

Names, shapes and precisions are those that Apple's Swift package reads (apple/ml-stable-diffusion).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_genmoji.errors import UserError
from mlx_genmoji.models.clip import CLIPTextModel
from mlx_genmoji.models.unet import UNet2DConditionModel
from mlx_genmoji.models.vae import AutoencoderKL

from .apple_schedule import Levels
from .exported_model import Source
from .graph import Graph, Var
from .mlpackage import Shapes
from .text_encoder import emit_text_encoder, names_of_states
from .unet import Flow, Stage, check_unet, halves, inputs_of, stages
from .vae import emit_decoder, emit_encoder

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Part:
    """One model of the export; in more than one package where it is in chunks."""

    name: str
    """As Apple's package calls it."""
    component: str
    """Its folder in the model."""
    inputs: Shapes
    half: bool
    """Whether it computes in half precision, which its inputs then are in; else all is in full."""
    emit: Callable[[Any, Graph, dict[str, Var]], list[Var]]
    answer: Callable[[Any, Arrays], Arrays]
    """The outputs of the model in MLX, in the layout of Core ML, float32."""
    examples: Sequence[Arrays]
    """Inputs to compare both with, the first of them for a quick look."""
    hidden_size: int
    """The width of the states of a text that it makes or is told; of an autoencoder, which has none, 0."""
    channels_last: bool = False
    """Whether its activations are in the same layout as MLX's."""
    half_inputs: bool = True
    chunks: Callable[[Any], tuple[list[Stage], list[Stage]]] | None = None


def text_encoder(source: Source, component: str, length: int) -> Part:
    """TextEncoder, or of XL's two TextEncoder2."""
    model: CLIPTextModel = source.open(component)
    xl = len(source.text_encoders) == 2
    padding = source.padding(component)
    # A text that ends in the middle, and behind its end what is not the model's padding.
    ids = np.random.default_rng(0).integers(0, padding.end, (1, length))
    ids[:, length // 2] = padding.end

    def answer(model: CLIPTextModel, given: Arrays) -> Arrays:
        said = model(mx.array(padding.applied(given["input_ids"].astype(np.int32))))
        states = dict.fromkeys(names_of_states(xl), said.hidden_states[-2] if xl else said.last_hidden_state)
        return {name: np.asarray(array) for name, array in {**states, "pooled_outputs": said.pooled}.items()}

    return Part(
        name="TextEncoder2" if component.endswith("_2") else "TextEncoder",
        component=component,
        inputs={"input_ids": (1, length)},
        half=True,
        half_inputs=False,
        emit=lambda model, g, given: emit_text_encoder(model, padding, xl, g, given),
        answer=answer,
        examples=[{"input_ids": ids.astype(np.float32)}],
        hidden_size=model.config.hidden_size,
        channels_last=True,
    )


def unet(source: Source, height: int, width: int, length: int, chunk: bool) -> Part:
    """Unet, for latents of `height` x `width`; predicts epsilon whatever the model does."""
    model = source.unet
    check_unet(model)
    factor = 2 ** (len(model.config.block_out_channels) - 1)
    if height % factor or width % factor:
        raise UserError(
            f"Latents of {height} x {width} cannot be halved {len(model.config.block_out_channels) - 1} times: choose a"
            f" height and a width that are multiples of {factor * source.vae.downscale} pixels."
        )
    levels = Levels.of(source.scheduler)
    shapes = inputs_of(model, height, width, length)

    def emit(model: UNet2DConditionModel, g: Graph, given: dict[str, Var]) -> list[Var]:
        flow = Flow()
        for stage in stages(model, levels):
            flow = stage.emit(g, flow, given)
        return [flow.x]

    def answer(model: UNet2DConditionModel, given: Arrays) -> Arrays:
        timesteps = given["timestep"].astype(np.int64)
        text = given["encoder_hidden_states"][:, :, 0].transpose(0, 2, 1)
        added: dict[str, mx.array] = {
            name: mx.array(given[name]) for name in ("time_ids", "text_embeds") if name in given
        }
        latents = mx.array(given["sample"].transpose(0, 2, 3, 1))
        output = model(latents, mx.array(levels.timesteps[timesteps]), mx.array(text), added)
        predicted = np.asarray(output).transpose(0, 3, 1, 2)
        return {"noise_pred": levels.epsilon(predicted, given["sample"], timesteps)}

    return Part(
        name="Unet",
        component="unet",
        inputs=shapes,
        half=True,
        emit=emit,
        answer=answer,
        examples=[_unet_example(shapes, rows) for rows in ((1, 999), (500, 500))],
        hidden_size=shapes["encoder_hidden_states"][1],
        chunks=(lambda model: halves(stages(model, levels))) if chunk else None,
    )


def _unet_example(shapes: Shapes, timesteps: tuple[int, int]) -> Arrays:
    random = np.random.default_rng(timesteps[0])
    given = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    given["timestep"] = np.array(timesteps, np.float32)
    if "time_ids" in given:
        height, width = (8 * side for side in shapes["sample"][2:])
        given["time_ids"][:] = [height, width, 0, 0, height, width]
    # As they arrive, so that both begin with the same.
    return {name: array.astype(np.float16).astype(np.float32) for name, array in given.items()}


def autoencoder(source: Source, height: int, width: int) -> list[Part]:
    """VAEDecoder and VAEEncoder, for latents of `height` x `width`.

    In full precision where its config.json says outright that half is not enough (`force_upcast`), as XL's does.
    """
    config = source.vae.config
    half = source.vae.raw_config.get("force_upcast") is not True
    f, shift = source.vae.downscale, config.shift_factor or 0.0
    random = np.random.default_rng(0)
    latents = random.standard_normal((1, config.latent_channels, height, width)) / config.scaling_factor
    # A picture with areas, as pictures have.
    coarse = random.uniform(-1, 1, (1, config.in_channels, height, width))
    picture = coarse.repeat(f, axis=2).repeat(f, axis=3)

    def decoded(model: AutoencoderKL, given: Arrays) -> Arrays:
        pictures = model.decode(mx.array(given["z"].transpose(0, 2, 3, 1)) + shift)
        return {"image": np.asarray(pictures).transpose(0, 3, 1, 2)}

    def encoded(model: AutoencoderKL, given: Arrays) -> Arrays:
        moments = model.encoder(mx.array(given["z"].transpose(0, 2, 3, 1)))
        moments = model.quant_conv(moments) if "quant_conv" in model else moments
        array = np.array(moments).transpose(0, 3, 1, 2)
        array[:, : config.latent_channels] -= shift
        return {"latent": array}

    def part(name: str, z: np.ndarray, emit: Any, answer: Any) -> Part:
        given = z.astype(np.float16).astype(np.float32)
        return Part(name, "vae", {"z": z.shape}, half, partial(emit), answer, [{"z": given}], 0, half_inputs=half)

    return [part("VAEDecoder", latents, emit_decoder, decoded), part("VAEEncoder", picture, emit_encoder, encoded)]


def parts_of(source: Source, height: int, width: int, chunk: bool) -> list[Part]:
    """All packages of an export."""
    encoders = [source.open(name) for name in source.text_encoders]
    lengths: Mapping[str, int] = {
        name: model.config.max_position_embeddings for name, model in zip(source.text_encoders, encoders, strict=True)
    }
    texts = [text_encoder(source, name, length) for name, length in lengths.items()]
    return [*texts, unet(source, height, width, max(lengths.values()), chunk), *autoencoder(source, height, width)]

"""Emits the UNet as a list of stages: `Unet` is all of them, the two chunks are the first and the last ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from mlx_genmoji.errors import UserError
from mlx_genmoji.models.blocks import Attention, ResnetBlock2D
from mlx_genmoji.models.unet import UNet2DConditionModel
from mlx_genmoji.models.unet_blocks import (
    AttentionPooling,
    BasicTransformerBlock,
    TextTimeEmbedding,
    TimestepEmbedding,
    Transformer2DModel,
)

from .apple_schedule import AppleSchedule
from .graph import Graph, Var, op_name

# The rows of a batch: without and with the prompt.
ROWS = 2


@dataclass
class Flow:
    """The activations that go from one stage to the next."""

    x: Var = None
    time: Var = None
    """The activated time embedding, (B, time_channels, 1, 1)."""
    skips: list[Var] = field(default_factory=list)


@dataclass
class Stage:
    """A part of the network: how it is emitted, the inputs of the UNet that it needs, and its number of weights."""

    emit: Callable[[Graph, Flow, dict[str, Var]], Flow]
    needs: tuple[str, ...]
    weights: int


def check_unet(model: UNet2DConditionModel) -> None:
    """Raise UserError, with a config field's name, for a UNet that Apple's package cannot run."""
    config = model.config
    for name, value, allowed, why in (
        ("in_channels", config.in_channels, config.out_channels, "inpainting models are not supported there"),
        (
            "time_cond_proj_dim",
            config.time_cond_proj_dim,
            None,
            "models with their guidance inside are not supported there",
        ),
        ("center_input_sample", config.center_input_sample, False, "which is not supported there"),
    ):
        if value != allowed:
            raise UserError(f"UNet2DConditionConfig: config field {name!r} is {value!r}, but {why}.")


def inputs_of(model: UNet2DConditionModel, height: int, width: int, length: int) -> dict[str, tuple[int, ...]]:
    """The inputs, half precision, by Apple's names: latents of `height` x `width`, texts of `length` tokens."""
    config = model.config
    text_width = config.cross_attention_dim
    shapes: dict[str, tuple[int, ...]] = {
        "sample": (ROWS, config.in_channels, height, width),
        "timestep": (ROWS,),
        "encoder_hidden_states": (ROWS, text_width[0] if isinstance(text_width, tuple) else text_width, 1, length),
    }
    if config.addition_embed_type == "text_time":
        ids = 6
        pooled = (config.projection_class_embeddings_input_dim or 0) - ids * (config.addition_time_embed_dim or 0)
        shapes |= {"time_ids": (ROWS, ids), "text_embeds": (ROWS, pooled)}
    return shapes


def stages(model: UNet2DConditionModel, schedule: AppleSchedule) -> list[Stage]:
    """The stages of the network in order, from the inputs to `noise_pred`."""
    text = ("encoder_hidden_states",)

    def needs(block: nn.Module) -> tuple[str, ...]:
        return text if "attentions" in block else ()

    first = ["sample", "timestep"]
    if model.config.addition_embed_type == "text":
        first += text
    if model.config.addition_embed_type == "text_time":
        first += ["time_ids", "text_embeds"]
    begin = [model.conv_in, model.time_embedding, *([model.add_embedding] if "add_embedding" in model else [])]
    network = [Stage(partial(_begin, model, schedule), tuple(first), sum(map(_count, begin)))]
    for i, block in enumerate(model.down_blocks):
        network.append(Stage(partial(_down, f"down_blocks.{i}", block), needs(block), _count(block)))
    if "mid_block" in model:
        network.append(
            Stage(partial(_mid, "mid_block", model.mid_block), needs(model.mid_block), _count(model.mid_block))
        )
    for i, later in enumerate(model.up_blocks):
        network.append(Stage(partial(_up, f"up_blocks.{i}", later), needs(later), _count(later)))
    last = () if schedule.prediction_type == "epsilon" else ("sample", "timestep")
    network.append(Stage(partial(_end, model, schedule), last, _count(model.conv_out)))
    return network


def halves(network: Sequence[Stage]) -> tuple[list[Stage], list[Stage]]:
    """The stages in two groups with about the same number of weights."""
    total = sum(stage.weights for stage in network)
    cut = min(range(1, len(network)), key=lambda i: abs(2 * sum(stage.weights for stage in network[:i]) - total))
    return list(network[:cut]), list(network[cut:])


def _count(module: nn.Module) -> int:
    parameters: dict[str, mx.array] = dict(tree_flatten(module.parameters()))
    return sum(parameter.size for parameter in parameters.values())


def _begin(model: UNet2DConditionModel, schedule: AppleSchedule, g: Graph, flow: Flow, inputs: dict[str, Var]) -> Flow:
    config = model.config
    added: Any = model.get("add_embedding")
    # In full precision: in half, the angles of large timesteps would lose the digits that matter to sine and cosine.
    timesteps = g.cast(inputs["timestep"], "fp32")
    if not schedule.same_timesteps:
        indices = g.cast(inputs["timestep"], "int32")
        timesteps = g.mb.gather(x=g.constant(schedule.timesteps, "levels.timesteps"), indices=indices, axis=0)
    waves = _waves(g, timesteps, config.block_out_channels[0], config.flip_sin_to_cos, config.freq_shift, "time_waves")
    time = _embedding(g, "time_embedding", model.time_embedding, _column(g, waves))
    if config.addition_embed_type == "text":
        text_embeds = _text_embedding(g, "add_embedding", added, inputs["encoder_hidden_states"])
        time = g.mb.add(x=time, y=text_embeds)
    if config.addition_embed_type == "text_time":
        rows, ids = inputs["time_ids"].shape
        flat = g.mb.reshape(x=g.cast(inputs["time_ids"], "fp32"), shape=[rows * ids])
        channels = config.addition_time_embed_dim or 0
        size_waves = _waves(g, flat, channels, config.flip_sin_to_cos, config.freq_shift, "size_waves")
        size_embeds = g.mb.reshape(x=g.in_precision(size_waves), shape=[rows, ids * channels])
        embeds = g.mb.concat(values=[inputs["text_embeds"], size_embeds], axis=1)
        time = g.mb.add(x=time, y=_embedding(g, "add_embedding", added, _column(g, embeds)))
    x = g.conv("conv_in", model.conv_in, inputs["sample"])
    return Flow(x, g.silu(time), [x])


def _waves(g: Graph, numbers: Var, channels: int, flip: bool, shift: float, name: str) -> Var:
    """Sines and cosines of (N,) numbers, (N, channels), in full precision."""
    half = channels // 2
    exponents = np.arange(half, dtype=np.float32) * np.float32(-math.log(10000) / (half - shift))
    frequencies = g.constant(np.exp(exponents)[None], f"{name}.frequencies")
    angles = g.mb.mul(x=g.mb.expand_dims(x=numbers, axes=[1]), y=frequencies)
    parts = [g.mb.cos(x=angles), g.mb.sin(x=angles)] if flip else [g.mb.sin(x=angles), g.mb.cos(x=angles)]
    if channels % 2:
        parts.append(g.constant(np.zeros((numbers.shape[0], 1), np.float32), f"{name}.last"))
    return g.mb.concat(values=parts, axis=1, name=name)


def _column(g: Graph, x: Var) -> Var:
    """(B, C) -> (B, C, 1, 1), in the function's precision."""
    return g.mb.expand_dims(x=g.in_precision(x), axes=[2, 3])


def _embedding(g: Graph, path: str, layer: TimestepEmbedding, x: Var) -> Var:
    hidden = g.silu(g.conv(f"{path}.linear_1", layer.linear_1, x))
    return g.conv(f"{path}.linear_2", layer.linear_2, hidden)


def _text_embedding(g: Graph, path: str, layer: TextTimeEmbedding, text: Var) -> Var:
    """(B, C, 1, L) -> (B, time_channels, 1, 1)."""
    x = g.layer_norm(f"{path}.norm1", layer.norm1, text)
    pooled = _pooling(g, f"{path}.pool", layer.pool, x)
    return g.layer_norm(f"{path}.norm2", layer.norm2, g.conv(f"{path}.proj", layer.proj, pooled))


def _pooling(g: Graph, path: str, layer: AttentionPooling, x: Var) -> Var:
    place = g.vector(layer.positional_embedding, f"{path}.positional_embedding", (1, x.shape[1], 1, 1))
    query = g.mb.add(x=g.mb.reduce_mean(x=x, axes=[3], keep_dims=True), y=place)
    both = g.mb.concat(values=[query, x], axis=3)
    q = g.conv(f"{path}.q_proj", layer.q_proj, query)
    k = g.conv(f"{path}.k_proj", layer.k_proj, both)
    v = g.conv(f"{path}.v_proj", layer.v_proj, both)
    return g.attention(q, k, v, layer.heads, (x.shape[1] // layer.heads) ** -0.5)


def _down(path: str, block: nn.Module, g: Graph, flow: Flow, inputs: dict[str, Var]) -> Flow:
    x, skips = flow.x, list(flow.skips)
    for i, resnet in enumerate(block.resnets):
        x = emit_resnet(g, f"{path}.resnets.{i}", resnet, x, flow.time)
        if "attentions" in block:
            x = _transformer(g, f"{path}.attentions.{i}", block.attentions[i], x, inputs["encoder_hidden_states"])
        skips.append(x)
    if "downsamplers" in block:
        x = emit_downsample(g, f"{path}.downsamplers.0", block.downsamplers[0], x)
        skips.append(x)
    return Flow(x, flow.time, skips)


def _mid(path: str, block: nn.Module, g: Graph, flow: Flow, inputs: dict[str, Var]) -> Flow:
    x = emit_resnet(g, f"{path}.resnets.0", block.resnets[0], flow.x, flow.time)
    if "attentions" in block:
        for i, attention in enumerate(block.attentions):
            x = _transformer(g, f"{path}.attentions.{i}", attention, x, inputs["encoder_hidden_states"])
            x = emit_resnet(g, f"{path}.resnets.{i + 1}", block.resnets[i + 1], x, flow.time)
    return Flow(x, flow.time, flow.skips)


def _up(path: str, block: nn.Module, g: Graph, flow: Flow, inputs: dict[str, Var]) -> Flow:
    x, skips = flow.x, list(flow.skips)
    for i, resnet in enumerate(block.resnets):
        x = g.mb.concat(values=[x, skips.pop()], axis=1)
        x = emit_resnet(g, f"{path}.resnets.{i}", resnet, x, flow.time)
        if "attentions" in block:
            x = _transformer(g, f"{path}.attentions.{i}", block.attentions[i], x, inputs["encoder_hidden_states"])
    if "upsamplers" in block:
        x = emit_upsample(g, f"{path}.upsamplers.0", block.upsamplers[0], x)
    return Flow(x, flow.time, skips)


def _end(model: UNet2DConditionModel, schedule: AppleSchedule, g: Graph, flow: Flow, inputs: dict[str, Var]) -> Flow:
    x = g.silu(g.group_norm("conv_norm_out", model.conv_norm_out, flow.x))
    x = g.conv("conv_out", model.conv_out, x)
    if schedule.prediction_type == "epsilon":
        return Flow(g.cast(x, "fp32", "noise_pred"))
    # Converted to epsilon in full precision: at the noisiest timesteps a scheduler divides by a small alpha.
    timesteps = g.cast(inputs["timestep"], "int32")

    def at_timesteps(numbers: np.ndarray, name: str) -> Var:
        chosen = g.mb.gather(x=g.constant(numbers, f"levels.{name}"), indices=timesteps, axis=0)
        return g.mb.expand_dims(x=chosen, axes=[1, 2, 3])

    alphas, sigmas = at_timesteps(schedule.alphas, "alphas"), at_timesteps(schedule.sigmas, "sigmas")
    output, sample = g.cast(x, "fp32"), g.cast(inputs["sample"], "fp32")
    if schedule.prediction_type == "v_prediction":
        signal, noise = g.mb.mul(x=output, y=alphas), g.mb.mul(x=sample, y=sigmas)
        return Flow(g.mb.add(x=signal, y=noise, name="noise_pred"))
    noise = g.mb.sub(x=sample, y=g.mb.mul(x=output, y=alphas))
    return Flow(g.mb.real_div(x=noise, y=sigmas, name="noise_pred"))


def emit_resnet(g: Graph, path: str, layer: ResnetBlock2D, x: Var, time: Var | None = None) -> Var:
    h = g.silu(g.group_norm(f"{path}.norm1", layer.norm1, x))
    h = g.conv(f"{path}.conv1", layer.conv1, h)
    if time is None:
        h = g.group_norm(f"{path}.norm2", layer.norm2, h)
    else:
        time_shift = g.conv(f"{path}.time_emb_proj", layer.time_emb_proj, time)
        if layer.scale_shift:
            scale, shift = g.mb.split(x=time_shift, num_splits=2, axis=1)
            h = g.group_norm(f"{path}.norm2", layer.norm2, h)
            h = g.mb.mul(x=h, y=g.mb.add(x=scale, y=g.dtype.type(1)))
            h = g.mb.add(x=h, y=shift)
        else:
            h = g.group_norm(f"{path}.norm2", layer.norm2, g.mb.add(x=h, y=time_shift))
    h = g.conv(f"{path}.conv2", layer.conv2, g.silu(h))
    shortcut = g.conv(f"{path}.conv_shortcut", layer.conv_shortcut, x) if "conv_shortcut" in layer else x
    return g.mb.add(x=h, y=shortcut, name=op_name(path))


def emit_downsample(g: Graph, path: str, layer: nn.Module, x: Var) -> Var:
    pad = [layer.padding] * 4 if layer.padding else [0, 1, 0, 1]
    return g.conv(f"{path}.conv", layer.conv, x, stride=2, pad=pad)


def emit_upsample(g: Graph, path: str, layer: nn.Module, x: Var) -> Var:
    doubled = g.mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=2)
    return g.conv(f"{path}.conv", layer.conv, doubled)


def _transformer(g: Graph, path: str, layer: Transformer2DModel, x: Var, text: Var) -> Var:
    B, C, H, W = x.shape
    h = g.conv(f"{path}.proj_in", layer.proj_in, g.group_norm(f"{path}.norm", layer.norm, x))
    h = g.mb.reshape(x=h, shape=[B, C, 1, H * W])
    for i, block in enumerate(layer.transformer_blocks):
        h = _block(g, f"{path}.transformer_blocks.{i}", block, h, text)
    h = g.mb.reshape(x=g.conv(f"{path}.proj_out", layer.proj_out, h), shape=[B, C, H, W])
    return g.mb.add(x=x, y=h, name=op_name(path))


def _block(g: Graph, path: str, block: BasicTransformerBlock, x: Var, text: Var) -> Var:
    h = g.layer_norm(f"{path}.norm1", block.norm1, x)
    context = text if block.only_cross_attention else h
    x = g.mb.add(x=x, y=emit_attention(g, f"{path}.attn1", block.attn1, h, context))
    h = g.layer_norm(f"{path}.norm2", block.norm2, x)
    x = g.mb.add(x=x, y=emit_attention(g, f"{path}.attn2", block.attn2, h, text))
    h = g.conv(f"{path}.ff.net.0.proj", block.ff.net[0].proj, g.layer_norm(f"{path}.norm3", block.norm3, x))
    h, gate = g.mb.split(x=h, num_splits=2, axis=1)
    h = g.mb.mul(x=h, y=g.mb.gelu(x=gate, mode="EXACT"))
    return g.mb.add(x=x, y=g.conv(f"{path}.ff.net.2", block.ff.net[2], h), name=op_name(path))


def emit_attention(g: Graph, path: str, layer: Attention, x: Var, context: Var) -> Var:
    """(B, C, 1, L) attends to (B, D, 1, S)."""
    projected = [
        g.conv(f"{path}.{name}", getattr(layer, name), states)
        for name, states in (("to_q", x), ("to_k", context), ("to_v", context))
    ]
    if layer.upcast and g.dtype == np.float16:
        projected = [g.cast(array, "fp32") for array in projected]
    q, k, v = projected
    attended = g.in_precision(g.attention(q, k, v, layer.heads, layer.scale))
    return g.conv(f"{path}.to_out.0", layer.to_out[0], attended)

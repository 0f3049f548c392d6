"""The autoencoder as two Core ML functions: latents to a picture, and a picture to the moments of its latents."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlx_genmoji.models.vae import AutoencoderKL

from .graph import Graph, Var
from .unet import emit_attention, emit_downsample, emit_resnet, emit_upsample


def emit_decoder(model: AutoencoderKL, g: Graph, inputs: dict[str, Var]) -> list[Var]:
    """`z` (1, c, h, w), unscaled -> `image` (1, 3, H, W) in about [-1, 1]."""
    decoder = model.decoder
    z = g.in_precision(inputs["z"])
    if shift := model.config.shift_factor:
        z = g.mb.add(x=z, y=g.dtype.type(shift))
    if "post_quant_conv" in model:
        z = g.conv("post_quant_conv", model.post_quant_conv, z)
    x = _mid(g, "decoder.mid_block", decoder.mid_block, g.conv("decoder.conv_in", decoder.conv_in, z))
    for i, block in enumerate(decoder.up_blocks):
        path = f"decoder.up_blocks.{i}"
        for j, resnet in enumerate(block.resnets):
            x = emit_resnet(g, f"{path}.resnets.{j}", resnet, x)
        if "upsamplers" in block:
            x = emit_upsample(g, f"{path}.upsamplers.0", block.upsamplers[0], x)
    return [g.cast(_end(g, "decoder", decoder, x), "fp32", "image")]


def emit_encoder(model: AutoencoderKL, g: Graph, inputs: dict[str, Var]) -> list[Var]:
    """`z`, a picture (1, 3, H, W) in [-1, 1] -> `latent` (1, 2c, h, w): mean and log-variance, unscaled."""
    encoder = model.encoder
    x = g.conv("encoder.conv_in", encoder.conv_in, g.in_precision(inputs["z"]))
    for i, block in enumerate(encoder.down_blocks):
        path = f"encoder.down_blocks.{i}"
        for j, resnet in enumerate(block.resnets):
            x = emit_resnet(g, f"{path}.resnets.{j}", resnet, x)
        if "downsamplers" in block:
            x = emit_downsample(g, f"{path}.downsamplers.0", block.downsamplers[0], x)
    moments = _end(g, "encoder", encoder, _mid(g, "encoder.mid_block", encoder.mid_block, x))
    if "quant_conv" in model:
        moments = g.conv("quant_conv", model.quant_conv, moments)
    moments = g.cast(moments, "fp32")
    shifts = np.zeros((1, moments.shape[1], 1, 1), np.float32)
    shifts[:, : model.config.latent_channels] = model.config.shift_factor or 0
    if shifts.any():
        moments = g.mb.sub(x=moments, y=g.constant(shifts, "shift"))
    return [g.mb.identity(x=moments, name="latent")]


def _mid(g: Graph, path: str, block: Any, x: Var) -> Var:
    x = emit_resnet(g, f"{path}.resnets.0", block.resnets[0], x)
    if "attentions" in block:
        layer = block.attentions[0]
        B, C, H, W = x.shape
        normal = g.group_norm(f"{path}.attentions.0.group_norm", layer.group_norm, x)
        flat = g.mb.reshape(x=normal, shape=[B, C, 1, H * W])
        attended = emit_attention(g, f"{path}.attentions.0", layer, flat, flat)
        x = g.mb.add(x=x, y=g.mb.reshape(x=attended, shape=[B, C, H, W]))
    return emit_resnet(g, f"{path}.resnets.1", block.resnets[1], x)


def _end(g: Graph, path: str, half: Any, x: Var) -> Var:
    x = g.silu(g.group_norm(f"{path}.conv_norm_out", half.conv_norm_out, x))
    return g.conv(f"{path}.conv_out", half.conv_out, x)

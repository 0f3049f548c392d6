"""UNet2DConditionModel: predicts the noise in latents from the timestep and the text (Rombach et al., 2022).

One class for Stable Diffusion 1.x, 2.x and XL, for inpainting models and for distilled ones (LCM); they differ in their
config. Its blocks are in `unet_blocks`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from . import (
    Count,
    Depth,
    field_error,
    keep_config,
    parse_config,
    per_block,
    require_divisor,
    require_few_layers,
    require_per_block,
)
from .blocks import Conv2d, GroupNorm, ResnetBlock2D
from .ops import silu
from .unet_blocks import (
    DownBlock,
    MidBlock,
    TextTimeEmbedding,
    TimestepEmbedding,
    Transformer2DModel,
    UpBlock,
    timestep_embedding,
)


@dataclass(frozen=True)
class UNet2DConditionConfig:
    """The supported fields of diffusers' UNet2DConditionModel."""

    cross_attention_dim: Count | tuple[Count, ...]
    attention_head_dim: Count | tuple[Count, ...] = 8
    """Despite its name, the number of heads."""
    in_channels: Count = 4
    out_channels: Count = 4
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    block_out_channels: tuple[Count, ...] = (320, 640, 1280, 1280)
    layers_per_block: Count | tuple[Count, ...] = 2
    transformer_layers_per_block: Depth | tuple[Depth | tuple[Depth, ...], ...] = 1
    """For each down block, or for each layer of each down block."""
    reverse_transformer_layers_per_block: tuple[Depth | tuple[Depth, ...], ...] | None = None
    """The same for the up blocks, in their order; None mirrors the down blocks."""
    only_cross_attention: bool | tuple[bool, ...] = False
    downsample_padding: int = 1
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    mid_block_scale_factor: float = 1.0
    norm_num_groups: Count = 32
    norm_eps: float = 1e-5
    use_linear_projection: bool = False
    upcast_attention: bool | None = None
    resnet_time_scale_shift: str = "default"
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    time_embedding_dim: Count | None = None
    time_cond_proj_dim: Count | None = None
    """The size of `timestep_cond`, the embedded guidance of an LCM."""
    center_input_sample: bool = False
    conv_in_kernel: Count = 3
    conv_out_kernel: Count = 3
    addition_embed_type: str | None = None
    addition_embed_type_num_heads: Count = 64
    addition_time_embed_dim: Count | None = None
    """Sinusoidal channels for each of the `time_ids`, the size conditions of Stable Diffusion XL."""
    projection_class_embeddings_input_dim: Count | None = None
    """The size of `text_embeds` and the embedded `time_ids` together."""

    def __post_init__(self) -> None:
        require_per_block(
            self,
            "down_block_types",
            "up_block_types",
            "attention_head_dim",
            "cross_attention_dim",
            "layers_per_block",
            "only_cross_attention",
            "transformer_layers_per_block",
            "reverse_transformer_layers_per_block",
        )
        self._check_depths()
        count = len(self.block_out_channels)
        heads = per_block(self.attention_head_dim, count)
        for i, (channels, *kinds) in enumerate(
            zip(self.block_out_channels, self.down_block_types, reversed(self.up_block_types), strict=True)
        ):
            require_divisor(self, "norm_num_groups", self.norm_num_groups, channels)
            # The last block's channels are the middle block's.
            attends = [_attends(kind) for kind in kinds] + [i == count - 1 and self.mid_block_attends]
            if any(attends):
                require_divisor(self, "attention_head_dim", heads[i], channels)
        for width in (self.block_out_channels[0], self.addition_time_embed_dim):
            # `timestep_embedding` divides by width // 2 - freq_shift.
            if width is not None and self.freq_shift == width // 2:
                why = f"but it must differ from {width // 2}, half of {width} channels"
                raise field_error(type(self), "freq_shift", self.freq_shift, why)
        if self.addition_embed_type == "text":
            text_channels = per_block(self.cross_attention_dim, count)[0]
            require_divisor(self, "addition_embed_type_num_heads", self.addition_embed_type_num_heads, text_channels)
        if self.addition_embed_type == "text_time":
            for key in ("addition_time_embed_dim", "projection_class_embeddings_input_dim"):
                if getattr(self, key) is None:
                    raise field_error(type(self), key, None, "but addition_embed_type 'text_time' needs it")

    @property
    def layers(self) -> tuple[int, ...]:
        """The number of resnets of each down block. An up block has one more."""
        return per_block(self.layers_per_block, len(self.block_out_channels))

    @property
    def mid_block_attends(self) -> bool:
        """Whether the middle block has a transformer."""
        return self.mid_block_type == "UNetMidBlock2DCrossAttn"

    @property
    def down_depths(self) -> list[tuple[int, ...]]:
        """For each down block, the number of transformer blocks after each resnet."""
        depths = per_block(self.transformer_layers_per_block, len(self.layers))
        return [per_block(depth, layers) for depth, layers in zip(depths, self.layers, strict=True)]

    @property
    def up_depths(self) -> list[tuple[int, ...]]:
        """For each up block, the number of transformer blocks after each resnet."""
        depths = per_block(self.transformer_layers_per_block, len(self.layers))[::-1]
        depths = self.reverse_transformer_layers_per_block or depths
        return [per_block(depth, layers + 1) for depth, layers in zip(depths, self.layers[::-1], strict=True)]

    def _check_depths(self) -> None:
        """Raise UserError if the numbers of layers do not fit each other, or are too large."""
        require_few_layers(self, "layers_per_block", sum(layers + 1 for layers in self.layers))
        down, up = "transformer_layers_per_block", "reverse_transformer_layers_per_block"
        depths = per_block(self.transformer_layers_per_block, len(self.layers))
        if self.reverse_transformer_layers_per_block is None and any(isinstance(depth, tuple) for depth in depths):
            raise field_error(type(self), down, list(depths), f"but lists in it need a {up!r}")
        for key, ways, more in ((down, self.down_depths, 0), (up, self.up_depths[::-1], 1)):
            for way, layers in zip(ways, self.layers, strict=True):
                if len(way) < layers + more:
                    raise field_error(type(self), key, getattr(self, key), f"a list in it is not {layers + more} long")
            require_few_layers(self, key, sum(map(sum, ways)))


def _add_embedding(
    config: UNet2DConditionConfig, text_channels: int, time_channels: int
) -> TextTimeEmbedding | TimestepEmbedding:
    """The layer that embeds the added conditions."""
    if config.addition_embed_type == "text":
        return TextTimeEmbedding(text_channels, time_channels, config.addition_embed_type_num_heads)
    return TimestepEmbedding(config.projection_class_embeddings_input_dim or 0, time_channels)


def _attends(block_type: str) -> bool:
    return block_type.startswith("CrossAttn")


ONLY: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "addition_embed_type": (None, "text", "text_time"),
    "attention_type": ("default",),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "downsample_padding": (0, 1),
    "mid_block_scale_factor": (1, 1.0),
    "mid_block_type": (None, "UNetMidBlock2DCrossAttn", "UNetMidBlock2D"),
    "resnet_out_scale_factor": (1, 1.0),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "time_embedding_type": ("positional",),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


class UNet2DConditionModel(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: UNet2DConditionConfig, raw_config: Mapping[str, Any]):
        super().__init__()
        self.raw_config: dict[str, Any]
        self.config = config
        keep_config(self, raw_config)

        channels, layers = config.block_out_channels, config.layers
        count = len(channels)
        heads = per_block(config.attention_head_dim, count)
        texts = per_block(config.cross_attention_dim, count)
        crosses = per_block(config.only_cross_attention, count)
        time_channels = config.time_embedding_dim or 4 * channels[0]
        scale_shift = config.resnet_time_scale_shift == "scale_shift"
        groups, eps = config.norm_num_groups, config.norm_eps

        def resnet(in_channels: int, out_channels: int) -> ResnetBlock2D:
            return ResnetBlock2D(in_channels, out_channels, groups, eps, time_channels, scale_shift)

        def transformer(i: int, depth: int, only_cross_attention: bool) -> Transformer2DModel:
            linear, upcast = config.use_linear_projection, bool(config.upcast_attention)
            return Transformer2DModel(
                channels[i], texts[i], heads[i], depth, groups, linear, only_cross_attention, upcast
            )

        self.conv_in = Conv2d(
            config.in_channels, channels[0], config.conv_in_kernel, padding=(config.conv_in_kernel - 1) // 2
        )
        self.time_embedding = TimestepEmbedding(channels[0], time_channels, config.time_cond_proj_dim)
        if config.addition_embed_type is not None:
            self.add_embedding = _add_embedding(config, texts[0], time_channels)

        self.down_blocks = []
        skip_channels = [channels[0]]
        for i, (kind, depths) in enumerate(zip(config.down_block_types, config.down_depths, strict=True)):
            last = i == count - 1
            resnets = [resnet(channels[i] if j else channels[max(i - 1, 0)], channels[i]) for j in range(layers[i])]
            attentions = [transformer(i, depths[j], crosses[i]) for j in range(layers[i]) if _attends(kind)]
            self.down_blocks.append(DownBlock(resnets, attentions, None if last else config.downsample_padding))
            skip_channels += [channels[i]] * (layers[i] + (not last))

        if config.mid_block_type is not None:
            attentions = [transformer(-1, config.down_depths[-1][0], False)] if config.mid_block_attends else []
            self.mid_block = MidBlock([resnet(channels[-1], channels[-1]) for _ in (*attentions, None)], attentions)

        self.up_blocks = []
        before = channels[-1]
        for i, kind, depths in zip(reversed(range(count)), config.up_block_types, config.up_depths, strict=True):
            resnets = []
            for _ in range(layers[i] + 1):
                resnets.append(resnet(before + skip_channels.pop(), channels[i]))
                before = channels[i]
            attentions = [transformer(i, depths[j], crosses[i]) for j in range(layers[i] + 1) if _attends(kind)]
            self.up_blocks.append(UpBlock(resnets, attentions, upsample=i > 0))

        self.conv_norm_out = GroupNorm(groups, channels[0], eps)
        self.conv_out = Conv2d(
            channels[0], config.out_channels, config.conv_out_kernel, padding=(config.conv_out_kernel - 1) // 2
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "UNet2DConditionModel":
        """A model with random weights for a `config.json`. Raises UserError if a field is not supported."""
        return cls(parse_config(UNet2DConditionConfig, config, ONLY), config)

    def __call__(
        self,
        sample: mx.array,
        timesteps: mx.array,
        encoder_hidden_states: mx.array,
        added: Mapping[str, mx.array] | None = None,
    ) -> mx.array:
        """Noisy latents (B, H, W, in_channels), timesteps (B,), text (B, L, cross_attention_dim) -> the prediction
        (B, H, W, out_channels).

        added: further conditions by diffusers' names, if the config needs them: `text_embeds` (B, D) and `time_ids`
        (B, N) for the `addition_embed_type` text_time, `timestep_cond` (B, time_cond_proj_dim) for an LCM. Raises
        UserError if one is missing or has another size.
        """
        text = encoder_hidden_states
        if self.config.center_input_sample:
            sample = 2 * sample - 1
        time = silu(self._embed_time(timesteps, text, added or {}, sample.dtype))

        x = self.conv_in(sample)
        skips = [x]
        for down_block in self.down_blocks:
            x, more = down_block(x, time, text)
            skips += more
        if "mid_block" in self:
            x = self.mid_block(x, time, text)
        for up_block in self.up_blocks:
            block_skips, skips = skips[-len(up_block.resnets) :], skips[: -len(up_block.resnets)]
            size = (skips[-1].shape[1], skips[-1].shape[2]) if skips else None
            x = up_block(x, block_skips, time, text, size)
        return self.conv_out(silu(self.conv_norm_out(x)))

    def _embed_time(
        self, timesteps: mx.array, text: mx.array, added: Mapping[str, mx.array], dtype: mx.Dtype
    ) -> mx.array:
        """The time embedding with the added conditions, (B, time_channels)."""
        config = self.config
        sinusoids = self._sinusoids(timesteps, config.block_out_channels[0]).astype(dtype)
        condition = None
        if config.time_cond_proj_dim is not None:
            condition = self._condition(added, "time_cond_proj_dim", "timestep_cond").astype(dtype)
            self._check_size("time_cond_proj_dim", "timestep_cond", condition)
        time = self.time_embedding(sinusoids, condition)
        if config.addition_embed_type == "text":
            time = time + self.add_embedding(text)
        if config.addition_embed_type == "text_time":
            embeds = self._condition(added, "addition_embed_type", "text_embeds")
            ids = self._condition(added, "addition_embed_type", "time_ids")
            sizes = self._sinusoids(ids.flatten(), config.addition_time_embed_dim or 0).reshape(len(ids), -1)
            conditions = mx.concatenate([embeds.astype(dtype), sizes.astype(dtype)], axis=-1)
            self._check_size("projection_class_embeddings_input_dim", "text_embeds with time_ids", conditions)
            time = time + self.add_embedding(conditions)
        return time

    def _sinusoids(self, timesteps: mx.array, channels: int) -> mx.array:
        return timestep_embedding(timesteps, channels, self.config.flip_sin_to_cos, self.config.freq_shift)

    def _condition(self, added: Mapping[str, mx.array], key: str, name: str) -> mx.array:
        if name not in added:
            raise field_error(type(self.config), key, getattr(self.config, key), f"but {name!r} was not given")
        return added[name]

    def _check_size(self, key: str, name: str, condition: mx.array) -> None:
        if condition.shape[-1] != getattr(self.config, key):
            size = condition.shape[-1]
            raise field_error(type(self.config), key, getattr(self.config, key), f"but {name} has the size {size}")


def guidance_embedding(guidance: float, channels: int) -> mx.array:
    """`timestep_cond` for a model with distilled guidance, float32 (1, channels).

    Luo et al. 2023, https://arxiv.org/abs/2310.04378; as in diffusers, the embedded scale is `guidance - 1`.
    """
    half = channels // 2
    exponents = mx.arange(half, dtype=mx.float32) * (-math.log(10000) / (half - 1))
    angles = 1000 * (guidance - 1) * mx.exp(exponents)
    return mx.pad(mx.concatenate([mx.sin(angles), mx.cos(angles)]), (0, channels % 2))[None]

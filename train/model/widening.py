"""Giving an autoencoder's latents more channels, and its inner layers more training at a third of a step's cost.

What a step costs is the layers of the two highest resolutions. So the encoder's first block stays as it is, and what it
says of each picture is computed once; and in place of the decoder's outer blocks a linear layer makes 4 x 4 pixels of
each position at a quarter of the pictures' size. That layer is dropped in the end: the objective `decoder` then teaches
the outer blocks what their input has become.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mlx_genmoji.checkpoint.components import create_model, save_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.models.blocks import GroupNorm
from mlx_genmoji.models.ops import inference, silu
from mlx_genmoji.models.vae import EPS, AutoencoderKL

from ..data.dataset import Dataset, to_model
from ..fit.loop import fit
from ..fit.step import Batch, flat
from .autoencoder import (
    ReconstructionRecipe,
    encode_all,
    initialise,
    load_vae,
    reconstruction_loss,
    sheet,
    standardise,
    to_pixels,
)

# Pixels along each side of what the linear layer makes of a position.
SIDE = 4
# Pictures that the linear layer is solved for.
SOLVED = 256


@dataclass(frozen=True)
class WideningRecipe(ReconstructionRecipe):
    """What widening an autoencoder's latents needs beside the loop."""

    latent_channels: int = 16
    """Channels of the new latents: the old ones, changed by training, and new ones behind them."""


class Inner(nn.Module):
    """The inner layers of an autoencoder, between what its encoder's first block says and a linear layer's pixels."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae
        channels, groups = vae.config.block_out_channels[2], vae.config.norm_num_groups
        self.norm = GroupNorm(groups, channels, EPS)
        self.head = nn.Linear(channels, 3 * SIDE**2)
        vae.freeze()
        encoder, decoder = vae.encoder, vae.decoder
        inner = [*encoder.down_blocks[1:], encoder.mid_block, encoder.conv_norm_out, encoder.conv_out]
        inner += [vae.quant_conv, vae.post_quant_conv, decoder.conv_in, decoder.mid_block, *decoder.up_blocks[:-3]]
        for module in (*inner, *decoder.up_blocks[-3].resnets):
            module.unfreeze()

    def encode(self, first: mx.array) -> mx.array:
        """What `first_block` says -> mean latents."""
        encoder, x = self.vae.encoder, first
        for block in encoder.down_blocks[1:]:
            x = block(x)
        moments = self.vae.quant_conv(encoder.conv_out(silu(encoder.conv_norm_out(encoder.mid_block(x)))))
        return mx.split(moments, 2, axis=-1)[0]

    def features(self, latents: mx.array) -> mx.array:
        """What the linear layer is given, (B, H / 4, W / 4, C)."""
        decoder = self.vae.decoder
        x = decoder.mid_block(decoder.conv_in(self.vae.post_quant_conv(latents)))
        for block in decoder.up_blocks[:-3]:
            x = block(x)
        for resnet in decoder.up_blocks[-3].resnets:
            x = resnet(x)
        return silu(self.norm(x))

    def decode(self, latents: mx.array) -> mx.array:
        """Pictures (B, H, W, 3)."""
        y = self.head(self.features(latents))
        B, H, W, _ = y.shape
        return y.reshape(B, H, W, SIDE, SIDE, 3).transpose(0, 1, 3, 2, 4, 5).reshape(B, SIDE * H, SIDE * W, 3)

    def solve(self, first: NDArray[np.float16], pictures: NDArray[np.uint8], ridge: float = 1e-3) -> None:
        """Set the linear layer to the best for the other layers as they are: ridge regression."""
        features = []
        for start in range(0, len(first), 16):
            part = self.features(self.encode(mx.array(first[start : start + 16].astype(np.float32))))
            features.append(np.asarray(part).reshape(-1, part.shape[-1]))
        x = np.concatenate(features).astype(np.float64)
        N, H, W, _ = pictures.shape
        squares = to_model(pictures).reshape(N, H // SIDE, SIDE, W // SIDE, SIDE, 3).transpose(0, 1, 3, 2, 4, 5)
        y = squares.reshape(len(x), -1)
        mean, aim = x.mean(0), y.mean(0)
        gram = (x - mean).T @ (x - mean) + ridge * len(x) * np.eye(x.shape[1])
        weight = np.linalg.solve(gram, (x - mean).T @ (y - aim))
        self.head.weight = mx.array(weight.T.astype(np.float32))
        self.head.bias = mx.array((aim - mean @ weight).astype(np.float32))


class WideningObjective:
    """Reconstruction of pictures by the inner layers alone."""

    def __init__(self, recipe: WideningRecipe, dataset: Dataset):
        self.recipe = recipe
        self.dataset = dataset
        old = load_vae(recipe.vae)
        if len(old.config.block_out_channels) < 3:
            raise UserError(f"Recipe: {recipe.vae} has less than three blocks, of which the outer two are left out.")
        if recipe.data.size % old.downscale:
            raise UserError(f"Recipe: 'data.size' must be a multiple of {old.downscale}, not {recipe.data.size}.")
        self.first = first_block(old, dataset.pictures, recipe.output.parent / "cache")
        self.model = Inner(widened(old, recipe.latent_channels, recipe.seed))
        rows = np.linspace(0, len(dataset) - 1, min(SOLVED, len(dataset))).astype(np.int64)
        self.model.solve(self.first[rows], dataset.pictures[rows])

    def batch(self, step: int) -> Batch:
        """What the encoder's first block says of pictures, the pictures, and noise for their latents."""
        rng = np.random.default_rng((self.recipe.seed, step))
        rows = self.dataset.draw(rng, self.recipe.loop.batch_size)
        side = self.recipe.data.size // self.model.vae.downscale
        noise = rng.standard_normal((len(rows), side, side, self.recipe.latent_channels), np.float32)
        pictures = mx.array(to_model(self.dataset.pictures[rows]))
        return mx.array(self.first[rows].astype(np.float32)), pictures, mx.array(self.recipe.latent_noise * noise)

    def loss(self, first: mx.array, pictures: mx.array, noise: mx.array) -> mx.array:
        difference = self.model.decode(self.model.encode(first) + noise) - pictures
        return reconstruction_loss(difference, self.recipe.edge_weight, self.recipe.border_weight, self.recipe.scales)

    def sample(self, path: Path) -> None:
        """Sixteen pictures of the dataset above what the linear layer makes of them."""
        rows = np.sort(self.dataset.draw(np.random.default_rng(self.recipe.seed), 16))
        decoded = self.model.decode(self.model.encode(mx.array(self.first[rows].astype(np.float32))))
        sheet(np.concatenate([self.dataset.pictures[rows], to_pixels(decoded)]), columns=16).save(path)


def first_block(vae: AutoencoderKL, pictures: NDArray[np.uint8], cache: Path) -> NDArray[np.float16]:
    """What the encoder's first block says of all pictures, (N, H / 2, W / 2, C), computed once."""
    encoder = vae.encoder
    digest = hashlib.sha256(np.ascontiguousarray(pictures).data)
    for layers in (encoder.conv_in, encoder.down_blocks[0]):
        for array in flat(layers.parameters()).values():
            digest.update(np.asarray(array.astype(mx.float32)).data)
    path = cache / f"first-block-{digest.hexdigest()[:16]}.npy"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.npy")
        N, H, W, _ = pictures.shape
        shape = (N, H // 2, W // 2, vae.config.block_out_channels[0])
        said = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
        with inference():
            for start in tqdm(range(0, N, 16), desc="first block", disable=None):
                part = mx.array(to_model(pictures[start : start + 16]))
                said[start : start + 16] = np.asarray(encoder.down_blocks[0](encoder.conv_in(part)))
        said.flush()
        os.replace(partial, path)
    mapped: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return mapped


def widened(old: AutoencoderKL, channels: int, seed: int) -> AutoencoderKL:
    """The same with more channels in its latents: those it had are what they were, new ones are drawn at random.

    Raises UserError where that would be fewer.
    """
    before = old.config.latent_channels
    if channels < before:
        raise UserError(f"Recipe: 'latent_channels' must be {before} or more, not {channels}.")
    mx.random.seed(seed)
    new = create_model(dict(old.raw_config) | {"latent_channels": channels})
    if not (isinstance(new, AutoencoderKL) and "quant_conv" in new and "post_quant_conv" in new):
        raise UserError("Recipe: 'vae' must have use_quant_conv and use_post_quant_conv.")
    initialise(new)
    weights = {name: np.array(array) for name, array in flat(new.parameters()).items()}
    # Where the first half of a moments' axis are means and the second log-variances.
    moments = np.r_[:before, channels : channels + before]
    for name, array in flat(old.parameters()).items():
        own, theirs = weights[name], np.array(array.astype(mx.float32))
        if own.shape == theirs.shape:
            weights[name] = theirs
        elif name == "encoder.conv_out.weight":
            # Wide enough that the decoder finds them useful.
            own[before:channels] *= 2
            own[moments] = theirs
        elif name == "quant_conv.weight":
            own[np.ix_(moments, moments)] = theirs
        elif name.endswith(("conv_out.bias", "quant_conv.bias")) and not name.startswith("post"):
            own[moments] = theirs
        elif name == "post_quant_conv.weight":
            own[:before, :before] = theirs
        else:
            # The biases of post_quant_conv, the weights of the decoder's first convolution.
            own[..., :before] = theirs
    new.load_weights([(name, mx.array(array)) for name, array in weights.items()])
    return new


def train_widening(recipe: WideningRecipe, resume: bool) -> Path:
    """Train, standardise the latents, write the component's folder `output/vae` and return it."""
    dataset = Dataset(recipe.data, recipe.output.parent / "cache")
    objective = WideningObjective(recipe, dataset)
    fit(objective, recipe.loop, recipe.output, resume)
    vae = objective.model.vae
    rows = np.sort(np.random.default_rng(recipe.seed).choice(len(dataset), min(512, len(dataset)), replace=False))
    standardise(vae, encode_all(vae, dataset.pictures[rows]))
    folder = recipe.output / "vae"
    save_model(vae, folder)
    return folder

"""The base of an adapter: a loaded model is checked and given the layers to train."""

from pathlib import Path

from mlx_genmoji import Genmoji
from mlx_genmoji.errors import UserError
from mlx_genmoji.lora import LoRAConfig, attach, attach_adapter, dense_weights, load_adapter


def check_base(genmoji: Genmoji) -> None:
    """Raise UserError for a model that an adapter cannot be trained for here: inpainting, latent consistency."""
    unet, vae = genmoji.unet.config, genmoji.vae.config
    if unet.in_channels != vae.latent_channels:
        raise UserError(
            f"{genmoji.name} is an inpainting model, which sees a picture beside the noise: train on its base model."
        )
    if unet.time_cond_proj_dim is not None:
        raise UserError(
            f"{genmoji.name} is a latent consistency model, which this training would undo: train on the model that it"
            " was distilled from."
        )


def attach_new(genmoji: Genmoji, lora: LoRAConfig, bits: int | None, seed: int) -> list[str]:
    """Give the base a new adapter to train; returns the paths of its layers.

    bits: those that the base was quantized to, or None. Raises UserError for an adapter that starts by repairing the
    rounding of a base that was not quantized.
    """
    assert genmoji.folder is not None
    if lora.init == "loftq" and bits is None:
        raise UserError("Recipe: 'lora.init' is loftq, which repairs rounding: give a dense 'base' and 'bits'.")
    dense = dense_weights(genmoji.folder) if lora.init == "loftq" else None
    return attach(genmoji.models, lora, seed, dense)


def attach_started(genmoji: Genmoji, file: Path, dropout: float, fused: bool) -> list[str]:
    """Give the base the adapter of `file` to train further; returns the paths of its layers.

    fused: whether the result is to be fused into a dense model. Raises UserError for an adapter that cannot be, and
    for one that was trained over other weights.
    """
    adapter = load_adapter(file)
    if fused and adapter.metadata.get("init") == "loftq":
        raise UserError(
            f"{file} repairs the rounding of a quantized model, and 'fuse_bits' fuses it into a dense one: leave it"
            " out."
        )
    base = adapter.metadata.get("base_sha256")
    if base not in (None, genmoji.sha256, genmoji.dense_sha256):
        raise UserError(
            f"{file} is an adapter for other weights, those of {adapter.metadata.get('base_model')}: give these as"
            " 'base', or start without 'start_from'."
        )
    return attach_adapter(genmoji.models, adapter, dropout)

"""The base of an adapter: a model loaded, checked, and given the layers to train."""

from mlx_genmoji import Genmoji
from mlx_genmoji.errors import UserError
from mlx_genmoji.lora import attach, attach_adapter, dense_weights, load_adapter

from .recipe import LoRARecipe


def load_base(recipe: LoRARecipe) -> Genmoji:
    """The model to train an adapter for, quantized where the recipe asks for it."""
    return Genmoji.load(recipe.base, bits=recipe.bits)


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


def attach_to(genmoji: Genmoji, recipe: LoRARecipe) -> list[str]:
    """Give the base an adapter to train, a new one or that of `start_from`; returns the paths of its layers."""
    if recipe.start_from is None:
        assert genmoji.folder is not None
        if recipe.lora.init == "loftq" and recipe.bits is None:
            raise UserError("Recipe: 'lora.init' is loftq, which repairs rounding: give a dense 'base' and 'bits'.")
        dense = dense_weights(genmoji.folder) if recipe.lora.init == "loftq" else None
        return attach(genmoji.models, recipe.lora, recipe.seed, dense)
    adapter = load_adapter(recipe.start_from)
    if recipe.fuse_bits is not None and adapter.metadata.get("init") == "loftq":
        raise UserError(
            f"{recipe.start_from} repairs the rounding of a quantized model, and 'fuse_bits' fuses it into a dense one:"
            " leave it out."
        )
    base = adapter.metadata.get("base_sha256")
    if base not in (None, genmoji.sha256, genmoji.dense_sha256):
        raise UserError(
            f"{recipe.start_from} is an adapter for other weights, those of {adapter.metadata.get('base_model')}: give"
            " these as 'base', or start without 'start_from'."
        )
    return attach_adapter(genmoji.models, adapter, recipe.lora.dropout)

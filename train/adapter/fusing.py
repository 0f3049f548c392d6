"""A model with a trained adapter in its weights. The function that writes it comes from the caller of `train.run`."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

from mlx_genmoji.checkpoint.components import create_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.lora.layer_tree import Models
from mlx_genmoji.quantization import CONFIG_KEY, Quantization, packable

from ..options import Fuse

NO_FUSE = "Recipe: 'fuse_bits' needs a function that fuses: `genmoji train` has one; give train.run one as 'fuse'."


def fuse_into(fuse: Fuse | None, model: str | None, adapters: Sequence[Path], bits: int, folder: Path) -> float:
    """Write the model with adapters in its weights, in place of one that a run before left.

    Returns how much of the adapters' change is left in so many bits, a cosine, and warns of it; 1 where all of the
    change is in layers that stay dense.
    """
    if fuse is None:
        raise UserError(NO_FUSE)
    shutil.rmtree(folder, ignore_errors=True)
    kept = fuse(model, adapters, folder, bits=bits, lossy=True)
    if kept is None:
        return 1.0
    message = f"in {bits} bits the change of the weights has a cosine of {kept.cosine:.2f} to what was learned."
    warnings.warn(message, stacklevel=2)
    return kept.cosine


def check_packable(models: Models, bits: int, source: str) -> None:
    """Raise UserError where a model with the adapter in its weights could not be written in so many bits.

    source: the key of the recipe or the option of the command that asks for it.
    """
    for name, model in models.items():
        config = Quantization(bits) if name == "unet" else Quantization(bits).for_text
        # Its weights are never computed.
        dense = create_model({key: value for key, value in model.raw_config.items() if key != CONFIG_KEY})
        if not any(config.fits(layer.weight) for _, layer in packable(dense)):
            raise UserError(
                f"{source} asks for a packed model, and nothing of the {name} can be packed in groups of"
                f" {config.group_size} weights: leave it out."
            )

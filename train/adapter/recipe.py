"""The recipe of an adapter."""

from dataclasses import dataclass, field
from pathlib import Path

from mlx_genmoji.errors import UserError
from mlx_genmoji.lora import LoRAConfig
from mlx_genmoji.quantization import MODES

from ..denoising import DenoisingRecipe
from ..recipe import check_seed
from .validation import Validation


@dataclass(frozen=True)
class LoRARecipe(DenoisingRecipe):
    """The keys of an adapter's recipe, beside those of every diffusion model."""

    base: str | None = None
    """The model: a folder, or an id of the Hugging Face hub; without it, the built-in one."""
    bits: int | None = None
    """Of the base's weights, quantized before the training; without it, as they are."""
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    start_from: Path | None = None
    """An adapter to go on from; rank, alpha and targets are then those of its file."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass: half the memory or less, a third more time."""
    validation: Validation = field(default_factory=Validation)
    sample_seed: int = 0
    cache: Path | None = None
    """The folder of cached pictures, latents and texts; without it, `cache` beside `output`."""
    fuse_bits: int | None = None
    """Afterwards also write the whole model with the adapter in its weights, in so many bits, to `output/model`."""
    skin_tone: str | None = None
    """Whom the adapter is for, written into its file; so is `person_type`."""
    person_type: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed("sample_seed", self.sample_seed)
        for name in ("bits", "fuse_bits"):
            if (bits := getattr(self, name)) is not None and bits not in MODES["affine"][0]:
                known = ", ".join(map(str, sorted(MODES["affine"][0])))
                raise UserError(f"Recipe: {name!r} must be one of {known}, not {bits}.")

    @property
    def cache_folder(self) -> Path:
        """`cache`, or its default."""
        return self.cache or self.output.parent / "cache"

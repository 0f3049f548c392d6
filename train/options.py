"""Options of the command that are no keys of a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Kept(Protocol):
    """How much of an adapter's change is left in weights that were packed anew."""

    @property
    def cosine(self) -> float: ...


class Fuse(Protocol):
    """Writes a model with adapters in its weights to the folder `output`; `quantize.fuse.fuse` is one."""

    def __call__(
        self, model: str | None, adapters: Sequence[Path], output: Path, *, bits: int, lossy: bool
    ) -> Kept | None: ...


@dataclass(frozen=True)
class Options:
    """How a recipe is carried out."""

    resume: bool = False
    """Whether a run goes on from its last checkpoint."""
    fuse: Fuse | None = None
    """For recipes with `fuse_bits`."""

"""Checkpoints: all that a run needs to go on, the last few of them, each whole or not there."""

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from mlx_genmoji.checkpoint.weight_files import check_safetensors
from mlx_genmoji.errors import UserError, quoted

Arrays = dict[str, mx.array]

CHECKPOINTS = "checkpoints"
"""Their folder, in the output of a run."""


class Checkpoints:
    """The files `000200.safetensors` and so on of a folder, called by the steps that were taken."""

    def __init__(self, folder: Path, keep: int):
        self.folder = folder
        self.keep = keep

    @property
    def paths(self) -> list[Path]:
        """The oldest first."""
        return sorted(self.folder.glob("[0-9]*[0-9].safetensors"))

    def save(self, steps: int, arrays: Arrays, metadata: Mapping[str, str]) -> None:
        """Add a checkpoint after `steps` steps and drop the oldest. Raises UserError where the disk is full."""
        path = self.folder / f"{steps:06d}.safetensors"
        described = {**metadata, "step": str(steps)}
        write_whole(path, lambda partial: mx.save_safetensors(str(partial), arrays, described))
        for old in self.paths[: -self.keep]:
            old.unlink(missing_ok=True)

    def newest(self) -> tuple[Path, Arrays, dict[str, str]] | None:
        """The last checkpoint that is whole; what is damaged is said. Raises UserError where all are."""
        problem = None
        for path in reversed(self.paths):
            try:
                check_safetensors(path)
                arrays, metadata = cast(Any, mx.load(str(path), return_metadata=True))
                mx.eval(arrays)
                metadata["step"] = str(int(metadata["step"]))
            except (UserError, RuntimeError, KeyError, ValueError) as error:
                problem = f"The checkpoint {path} is damaged ({quoted(error).rstrip('.')})"
                warnings.warn(f"{problem}; trying the one before.", stacklevel=2)
                continue
            return path, arrays, metadata
        if problem:
            raise UserError(f"{problem}, and there is no other: remove {self.folder.parent} and start again.")
        return None


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a safetensors file under another name and move it into place once it is whole and on the disk.

    Raises UserError where it cannot be written; what `path` held before stays.
    """
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else quoted(error)
        raise UserError(
            f"{path} could not be written: {reason.rstrip('.')}. Earlier checkpoints are intact: if the disk is full,"
            " make room, then go on with --resume."
        ) from None
    finally:
        partial.unlink(missing_ok=True)

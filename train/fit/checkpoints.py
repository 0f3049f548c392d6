"""Checkpoints: files that a run can go on from, the last few of them, each whole or not there."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from mlx_genmoji.checkpoint.weight_files import check_safetensors
from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.files import whole_file

Arrays = dict[str, mx.array]

CHECKPOINTS = "checkpoints"
"""Their folder, in the output of a run."""


class Checkpoints:
    """The files of a folder that are named by the number of steps taken: `000200.safetensors`."""

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
        """The last whole checkpoint: path, arrays, metadata; None where there is none yet.

        Warns of each that is damaged. Raises UserError where all are.
        """
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
    """Let `write` make the file `path`, which is moved into place once it is whole and on the disk.

    Raises UserError where it cannot be written; the file that was there before stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, durable=True) as partial:
            write(partial)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else quoted(error)
        raise UserError(
            f"{path} could not be written: {reason.rstrip('.')}. Earlier checkpoints are intact: if the disk is full,"
            " make room, then go on with --resume."
        ) from None

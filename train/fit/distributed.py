"""Several machines as one: each computes its part of a batch, the gradients are averaged, the first one writes.

    mlx.launch -n 2 --backend ring -- genmoji train RECIPE.yaml

Started without `mlx.launch`, the world has one machine and nothing is sent. Raises UserError where another machine
has stopped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map

from mlx_genmoji.errors import UserError

Tree = TypeVar("Tree")


class World:
    """The machines that train together."""

    def __init__(self, alone: bool = False) -> None:
        """alone: without the other machines, for work that this one does by itself."""
        self.group = mx.distributed.init()
        self.rank: int = 0 if alone else self.group.rank()
        self.size: int = 1 if alone else self.group.size()

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes checkpoints, logs and pictures."""
        return self.rank == 0

    def average(self, arrays: list[mx.array]) -> list[mx.array]:
        """The means over all machines, evaluated."""
        if self.size > 1:
            with _connected():
                arrays = nn.average_gradients(arrays, self.group)
                mx.eval(arrays)
        return arrays

    def share(self, arrays: Tree) -> Tree:
        """The first machine's arrays, to the bit, evaluated; the others' arrays give the shapes."""
        if self.size == 1:
            return arrays

        def sent(array: Any) -> Any:
            return mx.distributed.all_sum(array if self.writes else mx.zeros_like(array), group=self.group)

        with _connected():
            shared: Tree = tree_map(sent, arrays)
            mx.eval(shared)
        return shared

    def wait(self) -> None:
        """Wait until all machines are here: the launcher may end the others when one has ended."""
        self.share(mx.array(0))

    def agrees(self, number: int) -> bool:
        """Whether all machines have the same number, of 31 bits at most; all get the same answer."""
        if self.size == 1:
            return True
        differs = mx.array(int(np.asarray(self.share(mx.array(number))).item() != number))
        with _connected():
            return np.asarray(mx.distributed.all_sum(differs, group=self.group)).item() == 0


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"The other machines cannot be reached any more ({error}): see what they say, then go on with --resume."
        ) from None

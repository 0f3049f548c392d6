"""Several machines as one: each computes its part of a batch, the gradients are averaged, the first one writes.

    mlx.launch -n 2 --backend ring -- genmoji train RECIPE.yaml

Started without `mlx.launch`, there is a world of one and all of this is nothing.
"""

from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

Tree = TypeVar("Tree")


class World:
    """The machines that train together."""

    def __init__(self) -> None:
        self.group = mx.distributed.init()
        self.rank: int = self.group.rank()
        self.size: int = self.group.size()

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes checkpoints, logs and pictures."""
        return self.rank == 0

    def average(self, gradients: Tree) -> Tree:
        """The mean over all machines, evaluated."""
        if self.size > 1:
            gradients = nn.average_gradients(gradients, self.group)
            mx.eval(gradients)
        return gradients

    def share(self, arrays: Tree) -> Tree:
        """What the first machine has, to the bit, evaluated; the others' arrays tell the shapes."""
        if self.size == 1:
            return arrays

        def sent(array: Any) -> Any:
            return mx.distributed.all_sum(array if self.writes else mx.zeros_like(array), group=self.group)

        shared: Tree = tree_map(sent, arrays)
        mx.eval(shared)
        return shared

    def agrees(self, number: int) -> bool:
        """Whether all machines have the same number, of 31 bits at most; each is told the same."""
        differs = mx.array(int(self.share(mx.array(number)).item() != number))
        return mx.distributed.all_sum(differs, group=self.group).item() == 0

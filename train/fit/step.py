"""The gradients and the update of one training step; on a CPU by several threads at the same time."""

import copy
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path, tree_unflatten

from mlx_genmoji.errors import UserError

from ..recipe import Loop
from .checkpoints import Arrays
from .distributed import World
from .optimizers import learning_rate, make_optimizer

Batch = tuple[mx.array, ...]
Result = TypeVar("Result")

# Gradients in half precision would vanish without it; by a power of two, nothing is rounded.
HALF_PRECISION_SCALE = 1024.0


class Objective(Protocol):
    """A model, its batches and their loss."""

    @property
    def model(self) -> nn.Module:
        """Its `trainable_parameters()` are fitted. A plain attribute: copies are given models of their own."""

    @property
    def loss(self) -> Callable[..., mx.array]:
        """The mean loss of the arrays of a batch, a scalar."""

    def batch(self, step: int) -> Batch:
        """The arrays of one step; the first axis of each is the batch."""

    def sample(self, path: Path) -> None:
        """Write a sheet of pictures that the model makes now."""


class Stepper:
    """Takes training steps: gradients and updates, on a CPU each by several threads at the same time.

    MLX computes elementwise work on one core for each stream, and a stream belongs to the thread that made it. So each
    part of a batch has a thread with a stream and a compiled function of its own, and each thread updates one group of
    the parameters, all of about equal size. OpenBLAS should then stay with one thread (OPENBLAS_NUM_THREADS=1).
    """

    def __init__(self, objective: Objective, loop: Loop, count: int, world: World | None = None, seed: int = 0):
        # Tracing leaves placeholders in a model, so each thread has a model of its own; arrays are shared. A model's
        # dropout draws from the state of MLX's generator.
        clones: list[Any] = [copy.copy(objective) for _ in range(count)]
        for clone in clones:
            clone.model = copy.deepcopy(objective.model)
            clone.model.train()
        self.scale = HALF_PRECISION_SCALE if _half_precision(objective.model) else 1.0
        self.functions = [mx.value_and_grad(_pure_loss(clone, self.scale)) for clone in clones]
        if loop.compiled:
            state = cast(Any, mx.random.state)
            self.functions = [mx.compile(function, inputs=state, outputs=state) for function in self.functions]
        self.threads = [ThreadPoolExecutor(1) for _ in clones]
        # MLX's bookkeeping of transformations is not made for several threads; its evaluation is.
        self.building = threading.Lock()

        self.world = world or World()
        self.seed = seed
        self.parameters = flat(objective.model.trainable_parameters())
        self.mean = dict(self.parameters) if loop.ema_decay else {}
        self.gradients: dict[str, mx.array] = {}
        self.loop = loop
        self.groups: list[list[str]] = [[] for _ in range(count)]
        sizes = [0] * count
        for name in sorted(self.parameters, key=lambda name: (-self.parameters[name].size, name)):
            smallest = sizes.index(min(sizes))
            self.groups[smallest].append(name)
            sizes[smallest] += self.parameters[name].size
        self.optimizers = [make_optimizer(loop) for _ in range(count)]
        for optimizer, group in zip(self.optimizers, self.groups, strict=True):
            optimizer.init({name: self.parameters[name] for name in group})
        mx.eval(self.parameters, self.mean, [optimizer.state for optimizer in self.optimizers])

    def step(self, step: int, batch: Batch) -> tuple[float, float]:
        """Take one step; the loss of the batch and the norm of its gradients. Raises UserError where not finite."""
        loss, squares = self.differentiate(batch, step)
        if not (math.isfinite(loss) and math.isfinite(squares)):
            raise UserError(f"The loss is {loss} at step {step}: lower the learning rate and resume.")
        norm = math.sqrt(squares)
        clip = min(1.0, self.loop.clip_norm / (norm + 1e-6)) if self.loop.clip_norm else 1.0
        self._each(self._update, step, clip)
        return loss, norm

    def differentiate(self, batch: Batch, step: int = 0) -> tuple[float, float]:
        """Leave the gradients of a batch in `gradients`; its loss and the squared norm of the gradients.

        Of all machines' batches, where there are several.
        """
        count = len(self.threads) * self.loop.accumulation
        parts = [[mx.contiguous(array[index::count]) for array in batch] for index in range(count)]
        mx.eval(parts)
        results = self._each(self._part, tree_unflatten(list(self.parameters.items())), parts, step)
        self._each(self._average, [gradients for _, gradients in results], count)
        loss = sum(loss for loss, _ in results) / count
        if self.world.size > 1:
            *averaged, mean = self.world.average([*self.gradients.values(), mx.array(loss)])
            self.gradients = dict(zip(self.gradients, averaged, strict=True))
            loss = np.asarray(mean).item()
        return loss, sum(self._each(self._squares))

    def _each(self, work: Callable[..., Result], *arguments: Any) -> list[Result]:
        futures = [thread.submit(work, index, *arguments) for index, thread in enumerate(self.threads)]
        return [future.result() for future in futures]

    def _part(
        self, index: int, parameters: Any, parts: list[list[mx.array]], step: int
    ) -> tuple[float, dict[str, mx.array]]:
        """The sums of the losses and of the gradients of one thread's parts of a batch."""
        total, summed = 0.0, dict[str, mx.array]()
        for number in range(index, len(parts), len(self.threads)):
            mx.random.seed(_mlx_seed((self.seed, step, self.world.rank, number)))
            with self.building:
                loss, gradients = self.functions[index](parameters, *parts[number])
            part = flat(gradients)
            summed = {name: summed[name] + part[name] for name in part} if summed else part
            mx.eval(loss, summed)
            total += np.asarray(loss).item()
        return total / self.scale, summed

    def _average(self, index: int, sums: list[dict[str, mx.array]], count: int) -> None:
        first, *others = sums
        group = {}
        for name in self.groups[index]:
            group[name] = sum((part[name] for part in others), first[name]) / (count * self.scale)
        mx.eval(group)
        self.gradients.update(group)

    def _squares(self, index: int) -> float:
        squares = sum((self.gradients[name].square().sum() for name in self.groups[index]), mx.zeros(()))
        return np.asarray(squares).item()

    def _update(self, index: int, step: int, clip: float) -> None:
        optimizer, names = self.optimizers[index], self.groups[index]
        optimizer.learning_rate = learning_rate(self.loop, step)
        gradients = {name: clip * self.gradients[name] for name in names}
        parameters = optimizer.apply_gradients(gradients, {name: self.parameters[name] for name in names})
        mean = {}
        if self.mean:
            decay = min(self.loop.ema_decay, (step + 1) / (step + 10))
            mean = {name: decay * self.mean[name] + (1 - decay) * parameters[name] for name in names}
        mx.eval(parameters, mean, optimizer.state)
        self.parameters.update(parameters)
        self.mean.update(mean)

    def result(self) -> Any:
        """The tree of parameters to keep: their running mean where there is one."""
        return tree_unflatten(list((self.mean or self.parameters).items()))

    def state(self) -> Arrays:
        """Everything that a run needs to go on, by name."""
        arrays = {f"model/{name}": array for name, array in self.parameters.items()}
        arrays |= {f"mean/{name}": array for name, array in self.mean.items()}
        for optimizer in self.optimizers:
            arrays |= {f"optimizer/{name}": array for name, array in flat(optimizer.state).items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go on from a `state`. Raises ValueError or KeyError where it is of another model or optimizer."""

        def restored(path: str, current: mx.array) -> mx.array:
            if arrays[path].shape != current.shape:
                raise ValueError(f"{path} has another shape")
            return arrays[path]

        self.parameters = {name: restored(f"model/{name}", array) for name, array in self.parameters.items()}
        self.mean = {name: restored(f"mean/{name}", array) for name, array in self.mean.items()}
        for optimizer in self.optimizers:
            optimizer.state = tree_map_with_path(
                lambda path, array: restored(f"optimizer/{path}", array), optimizer.state
            )

    def share(self) -> None:
        """Give all machines the first one's parameters and optimizer state."""
        self.parameters, self.mean = self.world.share((self.parameters, self.mean))
        for optimizer in self.optimizers:
            optimizer.state = self.world.share(optimizer.state)


def _pure_loss(objective: Objective, scale: float) -> Any:
    def loss(parameters: Any, *batch: mx.array) -> mx.array:
        objective.model.update(parameters)
        return scale * objective.loss(*batch)

    return loss


def _half_precision(model: nn.Module) -> bool:
    """Whether a model computes in float16: its biases, which are neither trained nor packed, tell."""
    return any(array.dtype == mx.float16 for name, array in flat(model.parameters()).items() if name.endswith("bias"))


def _mlx_seed(key: tuple[int, ...]) -> int:
    """One seed for MLX's generator from several numbers."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def flat(tree: Any) -> dict[str, mx.array]:
    """The arrays of a tree of parameters by their paths."""
    return dict(cast(list[tuple[str, mx.array]], tree_flatten(tree)))

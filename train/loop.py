"""The training loop, one for every objective: batches in, parameters fitted, checkpoints out.

An `Objective` brings the model (whose `trainable_parameters()` are what is fitted), batches and their loss. Everything
random in a batch comes from (seed, step), so a run that was killed and resumed ends in the same weights as one that
was not.
"""

import copy
import json
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from tqdm import tqdm

from mlx_genmoji.errors import UserError
from mlx_genmoji.models.functions import on_cpu

from .recipe import Loop

Batch = tuple[mx.array, ...]
Result = TypeVar("Result")


class Objective(Protocol):
    """What is fitted."""

    @property
    def model(self) -> nn.Module:
        """Its `trainable_parameters()` are what is fitted. A plain attribute: copies are given models of their own."""

    @property
    def loss(self) -> Callable[..., mx.array]:
        """The mean loss of the arrays of a batch, a scalar."""

    def batch(self, step: int) -> Batch:
        """The arrays of one step; the first axis of each is the batch."""

    def sample(self, path: Path) -> None:
        """Write a sheet of what the model makes now."""


def learning_rate(loop: Loop, step: int) -> float:
    """Linear warmup, constant, linear decay to zero."""
    warmup = min(1.0, (step + 1) / max(1, loop.warmup_steps))
    decay = min(1.0, (loop.steps - step) / max(1, loop.decay_steps))
    return loop.learning_rate * min(warmup, decay)


class Workers:
    """Gradients and updates; on a CPU each by several threads at the same time.

    MLX computes elementwise work on one core for each stream, and a stream belongs to the thread that made it. So each
    worker has a thread with a stream and a compiled function of its own, takes one part of a batch, and keeps one group
    of the parameters up to date, of about equal size. OpenBLAS should then stay with one thread
    (OPENBLAS_NUM_THREADS=1).
    """

    def __init__(self, objective: Objective, loop: Loop, count: int):
        # Tracing leaves placeholders in a model, so each worker has a model of its own to leave them in.
        clones: list[Any] = [copy.copy(objective) for _ in range(count)]
        for clone in clones:
            clone.model = copy.deepcopy(objective.model)
        functions = [mx.value_and_grad(_pure_loss(clone)) for clone in clones]
        self.functions = [mx.compile(function) for function in functions] if loop.compiled else functions
        self.threads = [ThreadPoolExecutor(1) for _ in clones]
        # MLX's bookkeeping of transformations is not made for several threads; its evaluation is.
        self.building = threading.Lock()

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
        self.optimizers = [
            optim.AdamW(loop.learning_rate, list(loop.betas), weight_decay=loop.weight_decay, bias_correction=True)
            for _ in range(count)
        ]
        for optimizer, group in zip(self.optimizers, self.groups, strict=True):
            optimizer.init({name: self.parameters[name] for name in group})
        mx.eval(self.parameters, self.mean, [optimizer.state for optimizer in self.optimizers])

    def step(self, step: int, batch: Batch) -> tuple[float, float]:
        """Take one step; the loss of the batch and the norm of its gradients. Raises UserError where not finite."""
        loss, squares = self.differentiate(batch)
        if not (math.isfinite(loss) and math.isfinite(squares)):
            raise UserError(f"The loss is {loss} at step {step}: lower the learning rate and resume.")
        norm = math.sqrt(squares)
        clip = min(1.0, self.loop.clip_norm / (norm + 1e-6))
        self._each(self._update, step, clip)
        return loss, norm

    def differentiate(self, batch: Batch) -> tuple[float, float]:
        """Leave the gradients of a batch in `gradients`; its loss and the squared norm of the gradients."""
        count = len(self.threads)
        parts = [[mx.contiguous(array[index::count]) for array in batch] for index in range(count)]
        mx.eval(parts)
        results = self._each(self._part, tree_unflatten(list(self.parameters.items())), parts)
        squares = self._each(self._average, [gradients for _, gradients in results])
        return sum(loss for loss, _ in results) / count, sum(squares)

    def _each(self, work: Callable[..., Result], *arguments: Any) -> list[Result]:
        futures = [thread.submit(work, index, *arguments) for index, thread in enumerate(self.threads)]
        return [future.result() for future in futures]

    def _part(self, index: int, parameters: Any, parts: list[list[mx.array]]) -> tuple[float, dict[str, mx.array]]:
        with self.building:
            loss, gradients = self.functions[index](parameters, *parts[index])
        mx.eval(loss, gradients)
        return np.asarray(loss).item(), flat(gradients)

    def _average(self, index: int, parts: list[dict[str, mx.array]]) -> float:
        first, *others = parts
        group = {}
        for name in self.groups[index]:
            group[name] = sum((part[name] for part in others), first[name]) / len(parts)
        squares = sum((gradient.square().sum() for gradient in group.values()), mx.zeros(()))
        mx.eval(group, squares)
        self.gradients.update(group)
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
        """The tree of parameters that is worth keeping: their running mean where there is one."""
        return tree_unflatten(list((self.mean or self.parameters).items()))

    def save(self, path: Path, steps: int) -> None:
        """Write a checkpoint after `steps` steps, moved into place when whole."""
        arrays = {f"model/{name}": array for name, array in self.parameters.items()}
        arrays |= {f"mean/{name}": array for name, array in self.mean.items()}
        for optimizer in self.optimizers:
            arrays |= {f"optimizer/{name}": array for name, array in flat(optimizer.state).items()}
        partial = path.with_suffix(".partial.safetensors")
        mx.save_safetensors(str(partial), arrays, {"step": str(steps)})
        os.replace(partial, path)

    def restore(self, path: Path) -> int:
        """Read a checkpoint and return the steps that were taken. Raises UserError where it does not fit."""
        try:
            arrays, metadata = cast(Any, mx.load(str(path), return_metadata=True))
            for name, array in self.parameters.items():
                if arrays[f"model/{name}"].shape != array.shape:
                    raise ValueError(f"{name} has another shape")
            self.parameters = {name: arrays[f"model/{name}"] for name in self.parameters}
            self.mean = {name: arrays[f"mean/{name}"] for name in self.mean}
            for optimizer, group in zip(self.optimizers, self.groups, strict=True):
                state = {name: {kind: arrays[f"optimizer/{name}.{kind}"] for kind in ("m", "v")} for name in group}
                optimizer.state = state | {"step": arrays["optimizer/step"], "learning_rate": mx.array(0.0)}
            mx.eval(self.parameters, self.mean, [optimizer.state for optimizer in self.optimizers])
            return int(metadata["step"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"The checkpoint {path} is damaged or of another recipe: {error}.") from None


def _pure_loss(objective: Objective) -> Any:
    def loss(parameters: Any, *batch: mx.array) -> mx.array:
        objective.model.update(parameters)
        return objective.loss(*batch)

    return loss


def flat(tree: Any) -> dict[str, mx.array]:
    """The arrays of a tree of parameters by their path."""
    return dict(cast(list[tuple[str, mx.array]], tree_flatten(tree)))


def _forget(log: Path, first: int) -> None:
    """Drop from a log what a killed run did after its last checkpoint: those steps are taken again."""
    if not log.exists():
        return
    whole = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    kept = [line for line in whole if json.loads(line)["step"] <= first]
    partial = log.with_suffix(".partial")
    partial.write_text("".join(kept))
    os.replace(partial, log)


def fit(objective: Objective, loop: Loop, output: Path, resume: bool) -> None:
    """Fit `objective.model` in place, ending in the running mean of its parameters where the recipe asks for one.

    `output` gets `checkpoint.safetensors` (replaced as the run goes), `log.jsonl` and sample sheets. Raises UserError
    where `output` holds a checkpoint and `resume` is not set.
    """
    threads = loop.threads if on_cpu() else 1
    if loop.batch_size % threads:
        raise UserError(
            f"Recipe: 'loop.batch_size' must be a multiple of the {threads} threads, not {loop.batch_size}."
        )
    workers = Workers(objective, loop, threads)
    checkpoint = output / "checkpoint.safetensors"
    first = 0
    if checkpoint.exists():
        if not resume:
            raise UserError(f"{output} holds a checkpoint: continue it with --resume, or remove the folder.")
        first = workers.restore(checkpoint)
    output.mkdir(parents=True, exist_ok=True)
    log = output / "log.jsonl"
    _forget(log, first)

    losses: list[float] = []
    started = time.perf_counter()
    bar = tqdm(range(first, loop.steps), initial=first, total=loop.steps, disable=None)
    for step in bar:
        loss, norm = workers.step(step, objective.batch(step))
        losses.append(loss)

        done = step + 1
        last = done == loop.steps
        if done % loop.log_every == 0 or last:
            entry = {
                "step": done,
                "loss": sum(losses) / len(losses),
                "gradient_norm": norm,
                "learning_rate": learning_rate(loop, step),
                "seconds_per_step": (time.perf_counter() - started) / len(losses),
                "peak_memory_gb": mx.get_peak_memory() / 1e9,
            }
            with log.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            bar.set_postfix(loss=f"{entry['loss']:.4f}", memory=f"{entry['peak_memory_gb']:.1f}G")
            losses, started = [], time.perf_counter()
        if done % loop.checkpoint_every == 0 or last:
            workers.save(checkpoint, done)
        if loop.sample_every and (done % loop.sample_every == 0 or last):
            objective.model.update(workers.result())
            objective.sample(output / f"samples-{done:06d}.png")
            started = time.perf_counter()
    objective.model.update(workers.result())

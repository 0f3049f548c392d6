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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from tqdm import tqdm

from mlx_genmoji.errors import UserError
from mlx_genmoji.models.functions import on_cpu

from .recipe import Loop

Batch = tuple[mx.array, ...]


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


class Gradients:
    """Loss and gradients of a batch; on a CPU of parts of the batch at the same time, averaged.

    MLX computes elementwise work on one core for each stream, and a stream belongs to the thread that made it, so each
    part has a thread with a stream and a compiled function of its own. OpenBLAS should then keep to one thread
    (OPENBLAS_NUM_THREADS=1).
    """

    def __init__(self, objective: Objective, threads: int, compiled: bool):
        self.model = objective.model
        # Tracing leaves placeholders in a model, so each part also has a model of its own to leave them in.
        self.objectives: list[Any] = [copy.copy(objective) for _ in range(threads)]
        for clone in self.objectives:
            clone.model = copy.deepcopy(objective.model)
        functions = [mx.value_and_grad(_pure_loss(clone)) for clone in self.objectives]
        self.functions = [mx.compile(function) for function in functions] if compiled else functions
        self.threads = [ThreadPoolExecutor(1) for _ in self.objectives]
        # MLX's bookkeeping of transformations is not made for several threads; its evaluation is.
        self.building = threading.Lock()

    def __call__(self, batch: Batch) -> tuple[mx.array, Any]:
        parameters = self.model.trainable_parameters()
        count = len(self.threads)
        parts = [[mx.contiguous(array[index::count]) for array in batch] for index in range(count)]
        mx.eval(parameters, parts)
        futures = [thread.submit(self._part, i, parameters, parts[i]) for i, thread in enumerate(self.threads)]
        results = [future.result() for future in futures]
        loss = sum((result[0] for result in results[1:]), results[0][0]) / count
        return loss, tree_map(lambda *arrays: sum(arrays[1:], arrays[0]) / count, *(result[1] for result in results))

    def _part(self, index: int, parameters: Any, batch: Sequence[mx.array]) -> tuple[mx.array, Any]:
        with self.building:
            result = self.functions[index](parameters, *batch)
        mx.eval(result)
        return result


def _pure_loss(objective: Objective) -> Any:
    def loss(parameters: Any, *batch: mx.array) -> mx.array:
        objective.model.update(parameters)
        return objective.loss(*batch)

    return loss


def fit(objective: Objective, loop: Loop, output: Path, resume: bool) -> None:
    """Fit `objective.model` in place, ending in the running mean of its parameters where the recipe asks for one.

    `output` gets `checkpoint.safetensors` (replaced as the run goes), `log.jsonl` and sample sheets. Raises UserError
    where `output` holds a checkpoint and `resume` is not set.
    """
    model = objective.model
    optimizer = optim.AdamW(loop.learning_rate, list(loop.betas), weight_decay=loop.weight_decay, bias_correction=True)
    optimizer.init(model.trainable_parameters())
    mean = model.trainable_parameters() if loop.ema_decay else {}
    checkpoint = output / "checkpoint.safetensors"
    first = 0
    if checkpoint.exists():
        if not resume:
            raise UserError(f"{output} holds a checkpoint: continue it with --resume, or remove the folder.")
        first, mean = _restore(checkpoint, model, optimizer)
    output.mkdir(parents=True, exist_ok=True)

    gradients_of = Gradients(objective, loop.threads if on_cpu() else 1, loop.compiled)
    losses: list[float] = []
    started = time.perf_counter()
    bar = tqdm(range(first, loop.steps), initial=first, total=loop.steps, disable=None)
    for step in bar:
        loss, gradients = gradients_of(objective.batch(step))
        gradients, norm = optim.clip_grad_norm(gradients, loop.clip_norm)
        optimizer.learning_rate = learning_rate(loop, step)
        optimizer.update(model, gradients)
        if loop.ema_decay:
            decay = min(loop.ema_decay, (step + 1) / (step + 10))
            mean = tree_map(lambda m, p, d=decay: d * m + (1 - d) * p, mean, model.trainable_parameters())
        mx.eval(loss, norm, model.parameters(), optimizer.state, mean)
        losses.append(np.asarray(loss).item())
        if not math.isfinite(losses[-1]):
            raise UserError(f"The loss is {losses[-1]} at step {step}: lower the learning rate and resume.")

        done = step + 1
        if done % loop.log_every == 0 or done == loop.steps:
            seconds = (time.perf_counter() - started) / len(losses)
            entry = {
                "step": done,
                "loss": sum(losses) / len(losses),
                "gradient_norm": norm.item(),
                "learning_rate": learning_rate(loop, step),
                "seconds_per_step": seconds,
                "peak_memory_gb": mx.get_peak_memory() / 1e9,
            }
            with (output / "log.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
            bar.set_postfix(loss=f"{entry['loss']:.4f}", memory=f"{entry['peak_memory_gb']:.1f}G")
            losses, started = [], time.perf_counter()
        if done % loop.checkpoint_every == 0 or done == loop.steps:
            _save(checkpoint, done, model, optimizer, mean)
        if loop.sample_every and (done % loop.sample_every == 0 or done == loop.steps):
            trained = model.trainable_parameters()
            model.update(mean)
            objective.sample(output / f"samples-{done:06d}.png")
            model.update(trained)
            started = time.perf_counter()
    model.update(mean)


def _save(path: Path, step: int, model: nn.Module, optimizer: optim.Optimizer, mean: Any) -> None:
    trees = {"model": model.trainable_parameters(), "optimizer": optimizer.state, "mean": mean}
    arrays = {f"{name}/{key}": array for name, tree in trees.items() for key, array in flat(tree).items()}
    partial = path.with_suffix(".partial.safetensors")
    mx.save_safetensors(str(partial), arrays, {"step": str(step)})
    os.replace(partial, path)


def flat(tree: Any) -> dict[str, mx.array]:
    """The arrays of a tree of parameters by their path."""
    return dict(cast(list[tuple[str, mx.array]], tree_flatten(tree)))


def _restore(path: Path, model: nn.Module, optimizer: optim.Optimizer) -> tuple[int, Any]:
    try:
        arrays, metadata = cast(Any, mx.load(str(path), return_metadata=True))
        trees: dict[str, list[tuple[str, mx.array]]] = {"model": [], "optimizer": [], "mean": []}
        for name, array in arrays.items():
            tree, _, key = name.partition("/")
            trees[tree].append((key, array))
        model.load_weights(trees["model"], strict=False)
        optimizer.state = tree_unflatten(trees["optimizer"])
        return int(metadata["step"]), tree_unflatten(trees["mean"]) if trees["mean"] else {}
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"The checkpoint {path} cannot be read: {error}.") from None

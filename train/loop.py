"""The training loop, one for every objective: batches in, parameters fitted, checkpoints out.

An `Objective` brings the model (whose `trainable_parameters()` are what is fitted), batches and their loss. Everything
random in a batch comes from (seed, step), so a run that was killed and resumed ends in the same weights as one that
was not. A `Follower` is asked along the way how well it goes, and keeps what is worth keeping.
"""

import copy
import hashlib
import json
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path, tree_unflatten
from tqdm import tqdm

from mlx_genmoji.errors import UserError, one_line
from mlx_genmoji.models.functions import on_cpu

from .checkpoints import Arrays, Checkpoints
from .distributed import World
from .machine import at_work
from .optimizers import learning_rate, make_optimizer
from .recipe import Loop

Batch = tuple[mx.array, ...]
Result = TypeVar("Result")

# Gradients in half precision would vanish without it; by a power of two, nothing is rounded.
HALF_PRECISION_SCALE = 1024.0


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


class Follower(Protocol):
    """What goes along with a run. Its methods find the parameters that are worth keeping in the objective's model."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a run that goes on must have in common with the one before, by name; JSON values."""

    @property
    def may_change(self) -> tuple[str, ...]:
        """The settings of which a change is only said."""

    @property
    def validate_every(self) -> int:
        """Steps from one validation to the next; 0: none."""

    def validate(self) -> list[float]:
        """The losses of held-out pictures, one for each band of timesteps."""

    def keep(self, steps: int, checkpoint: bool, best: bool) -> None:
        """Keep what there is after `steps` steps, for one reason or both; `best`: no validation before was as good."""

    def draw(self, log: list[dict[str, Any]]) -> None:
        """Show how the run went so far."""


class Workers:
    """Gradients and updates; on a CPU each by several threads at the same time.

    MLX computes elementwise work on one core for each stream, and a stream belongs to the thread that made it. So each
    worker has a thread with a stream and a compiled function of its own, takes one part of a batch, and keeps one group
    of the parameters up to date, of about equal size. OpenBLAS should then stay with one thread
    (OPENBLAS_NUM_THREADS=1).
    """

    def __init__(self, objective: Objective, loop: Loop, count: int, world: World | None = None, seed: int = 0):
        # Tracing leaves placeholders in a model, so each worker has a model of its own to leave them in; arrays are
        # shared. What a model draws by itself (dropout) goes through the state of MLX's generator.
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
        clip = min(1.0, self.loop.clip_norm / (norm + 1e-6))
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
            mx.random.seed(_number((self.seed, step, self.world.rank, number)))
            with self.building:
                loss, gradients = self.functions[index](parameters, *parts[number])
            own = flat(gradients)
            summed = {name: summed[name] + own[name] for name in own} if summed else own
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
        """The tree of parameters that is worth keeping: their running mean where there is one."""
        return tree_unflatten(list((self.mean or self.parameters).items()))

    def state(self) -> Arrays:
        """All that a run needs to go on."""
        arrays = {f"model/{name}": array for name, array in self.parameters.items()}
        arrays |= {f"mean/{name}": array for name, array in self.mean.items()}
        for optimizer in self.optimizers:
            arrays |= {f"optimizer/{name}": array for name, array in flat(optimizer.state).items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Take over a `state`. Raises ValueError or KeyError where it is of another model or optimizer."""

        def take(path: str, own: mx.array) -> mx.array:
            if arrays[path].shape != own.shape:
                raise ValueError(f"{path} has another shape")
            return arrays[path]

        self.parameters = {name: take(f"model/{name}", own) for name, own in self.parameters.items()}
        self.mean = {name: take(f"mean/{name}", own) for name, own in self.mean.items()}
        for optimizer in self.optimizers:
            optimizer.state = tree_map_with_path(lambda path, own: take(f"optimizer/{path}", own), optimizer.state)

    def share(self) -> None:
        """Have all machines go on from what the first one has."""
        self.parameters, self.mean = self.world.share((self.parameters, self.mean))
        for optimizer in self.optimizers:
            optimizer.state = self.world.share(optimizer.state)


def _pure_loss(objective: Objective, scale: float) -> Any:
    def loss(parameters: Any, *batch: mx.array) -> mx.array:
        objective.model.update(parameters)
        return scale * objective.loss(*batch)

    return loss


def _half_precision(model: nn.Module) -> bool:
    """Whether a model's activations are of float16: the parameters that are neither trained nor packed are."""
    return any(array.dtype == mx.float16 for name, array in flat(model.parameters()).items() if name.endswith("bias"))


def _number(key: tuple[int, ...]) -> int:
    """A seed for MLX of a few numbers."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def flat(tree: Any) -> dict[str, mx.array]:
    """The arrays of a tree of parameters by their path."""
    return dict(cast(list[tuple[str, mx.array]], tree_flatten(tree)))


class Log:
    """The JSON lines of a run: losses of its steps and validations."""

    def __init__(self, path: Path, first: int):
        """Without what a killed run did after its last checkpoint, at `first`: those steps are taken again."""
        self.path = path
        self.entries: list[dict[str, Any]] = []
        if path.exists():
            whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            self.entries = [entry for line in whole if (entry := json.loads(line))["step"] <= first]
            partial = path.with_suffix(".partial")
            partial.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries))
            os.replace(partial, path)

    def add(self, **entry: Any) -> None:
        self.entries.append(entry)
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    @property
    def best(self) -> float:
        """The lowest validation loss so far."""
        return min((entry["validation_loss"] for entry in self.entries if "validation_loss" in entry), default=math.inf)


def fit(
    objective: Objective, loop: Loop, output: Path, resume: bool, seed: int = 0, follower: Follower | None = None
) -> None:
    """Fit `objective.model` in place, ending in the running mean of its parameters where the recipe asks for one.

    `output` gets `checkpoints/` (the last few), `log.jsonl` and sample sheets. Raises UserError where `output` holds a
    checkpoint and `resume` is not set, and where a resumed run's settings are not those that it was begun with.
    """
    threads = loop.threads if on_cpu() else 1
    if loop.batch_size % (threads * loop.accumulation):
        raise UserError(
            f"Recipe: 'loop.batch_size' must be a multiple of the {threads * loop.accumulation} parts that 'threads'"
            f" and 'accumulation' make of it, not {loop.batch_size}."
        )
    world = World()
    workers = Workers(objective, loop, threads, world, seed)
    checkpoints = Checkpoints(output / "checkpoints", loop.keep)
    settings = dict(follower.settings) if follower else {}
    if not world.agrees(int(hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:7], 16)):
        raise UserError("The machines' recipes, models or datasets differ: each needs the same, as files of its own.")
    first = 0
    if world.writes and checkpoints.paths:
        if not resume:
            raise UserError(f"{output} holds a checkpoint: continue it with --resume, or remove the folder.")
        first = _resume(workers, checkpoints, settings, follower.may_change if follower else ())
    first = np.asarray(world.share(mx.array(first))).item()
    workers.share()
    output.mkdir(parents=True, exist_ok=True)
    log = Log(output / "log.jsonl", first) if world.writes else None

    def show(done: int) -> None:
        """What is worth seeing, and keeping, after a step."""
        assert log is not None
        last = done == loop.steps
        checkpoint = done > first and (done % loop.checkpoint_every == 0 or last)
        sample = done > first and loop.sample_every and (done % loop.sample_every == 0 or last)
        validate = follower and follower.validate_every and (done % follower.validate_every == 0 or last)
        validate = validate and not any(e["step"] == done and "validation_loss" in e for e in log.entries)
        if not (checkpoint or sample or validate):
            return
        objective.model.update(workers.result())
        best = False
        if follower and validate:
            bands = follower.validate()
            mean = sum(bands) / len(bands)
            best = mean < log.best
            log.add(step=done, validation_loss=mean, validation_bands=bands)
        if follower and (checkpoint or best):
            follower.keep(done, bool(checkpoint), best)
        if checkpoint:
            checkpoints.save(done, workers.state(), {"settings": json.dumps(settings)})
        if sample:
            objective.sample(output / f"samples-{done:06d}.png")
        if follower:
            follower.draw(log.entries)

    losses: list[float] = []
    bar = tqdm(range(first, loop.steps), initial=first, total=loop.steps, disable=None if log else True)
    with at_work():
        if log:
            show(first)
        started = time.perf_counter()
        for step in bar:
            loss, norm = workers.step(step, objective.batch(step))
            losses.append(loss)
            done = step + 1
            if log is None:
                continue
            if done % loop.log_every == 0 or done == loop.steps:
                log.add(
                    step=done,
                    loss=sum(losses) / len(losses),
                    gradient_norm=norm,
                    learning_rate=learning_rate(loop, step),
                    seconds_per_step=(time.perf_counter() - started) / len(losses),
                    peak_memory_gb=mx.get_peak_memory() / 1e9,
                )
                memory = f"{mx.get_active_memory() / 1e9:.1f}G, peak {mx.get_peak_memory() / 1e9:.1f}G"
                bar.set_postfix(loss=f"{log.entries[-1]['loss']:.4f}", memory=memory)
                losses, started = [], time.perf_counter()
            shown = time.perf_counter()
            show(done)
            started += time.perf_counter() - shown
    objective.model.update(workers.result())


def _resume(workers: Workers, checkpoints: Checkpoints, settings: dict[str, Any], may_change: tuple[str, ...]) -> int:
    """Go on from the last whole checkpoint; the steps that were taken. Raises UserError where it is of another run."""
    found = checkpoints.newest()
    assert found is not None
    path, arrays, metadata = found
    before = json.loads(metadata.get("settings", "{}"))
    for name in sorted(before.keys() | settings.keys()):
        then, now = before.get(name), settings.get(name)
        if then == now:
            continue
        change = f"{name} was {one_line(json.dumps(then), 60)} and is {one_line(json.dumps(now), 60)}"
        if name not in may_change:
            raise UserError(f"The run cannot go on: {change}. Change it back, or start anew in another 'output'.")
        warnings.warn(f"the run goes on, but {change}.", stacklevel=2)
    try:
        workers.restore(arrays)
    except (ValueError, KeyError) as error:
        raise UserError(f"The checkpoint {path} is of another recipe: {error}.") from None
    return int(metadata["step"])

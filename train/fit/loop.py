"""The training loop, one for every objective: batches in, parameters fitted, checkpoints out.

An `Objective` brings the model (whose `trainable_parameters()` are what is fitted), batches and their loss. Everything
random in a batch comes from (seed, step), so a run that was killed and resumed ends in the same weights as one that
was not. A `Follower` is asked along the way how well it goes, and keeps what is worth keeping.
"""

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from tqdm import tqdm

from mlx_genmoji.errors import UserError, quoted

from ..recipe import Loop
from .checkpoints import CHECKPOINTS, Checkpoints
from .distributed import World
from .machine import at_work
from .optimizers import learning_rate
from .step import Objective, Workers


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

    def resumed(self, steps: int) -> None:
        """Take note that the run goes on after `steps` steps, whatever more was kept before it was stopped."""

    def keep(self, steps: int, checkpoint: bool, best: bool) -> None:
        """Keep what there is after `steps` steps, for one reason or both; `best`: no validation before was as good."""

    def draw(self, log: list[dict[str, Any]]) -> None:
        """Show how the run went so far."""


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
    world = World()
    workers = Workers(objective, loop, loop.workers, world, seed)
    checkpoints = Checkpoints(output / CHECKPOINTS, loop.keep)
    settings = dict(follower.settings) if follower else {}
    if not world.agrees(int(hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:7], 16)):
        raise UserError("The machines' recipes, models or datasets differ: each needs the same, as files of its own.")
    first = 0
    if world.writes and checkpoints.paths:
        if not resume:
            raise UserError(f"{output} holds a checkpoint: continue it with --resume, or remove the folder.")
        first = _resume(workers, checkpoints, settings, follower.may_change if follower else ())
        if follower:
            follower.resumed(first)
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
        change = f"{name} was {quoted(json.dumps(then), 60)} and is {quoted(json.dumps(now), 60)}"
        if name not in may_change:
            raise UserError(f"The run cannot go on: {change}. Change it back, or start anew in another 'output'.")
        warnings.warn(f"the run goes on, but {change}.", stacklevel=2)
    try:
        workers.restore(arrays)
    except (ValueError, KeyError) as error:
        raise UserError(f"The checkpoint {path} is of another recipe: {error}.") from None
    return int(metadata["step"])

"""The training loop, one for every objective: batches in, parameters fitted, checkpoints out.

An `Objective` brings the model (whose `trainable_parameters()` are fitted), batches and their loss. Everything random
in a batch comes from (seed, step), so a run that was killed and resumed ends in the same weights as one that was not.
A `Follower` validates along the way and keeps the best.
"""

import hashlib
import json
import math
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from tqdm import tqdm

from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.files import write_text

from ..recipe import Loop
from .checkpoints import CHECKPOINTS, Checkpoints
from .distributed import World
from .machine import at_work
from .optimizers import learning_rate
from .settings import MAY_CHANGE
from .step import Objective, Stepper

Entry = dict[str, Any]


class Follower(Protocol):
    """Validates a run and keeps the best of it. Its methods find the parameters to keep in the objective's model."""

    @property
    def validate_every(self) -> int:
        """Steps from one validation to the next; 0: none."""

    def validate(self) -> list[float]:
        """The losses of held-out pictures, one for each band of timesteps."""

    def resumed(self, steps: int) -> None:
        """Drop what was kept after `steps` steps: the run goes on from there."""

    def keep(self, steps: int, checkpoint: bool, best: bool) -> None:
        """Keep the parameters after `steps` steps, as a checkpoint, as the best so far, or as both."""

    def draw(self, log: list[Entry]) -> None:
        """Draw how the run went so far."""


class Log:
    """The JSON lines of a run: losses of its steps and validations."""

    def __init__(self, path: Path, first: int):
        """Entries after step `first`, the last checkpoint, are dropped: those steps are taken again."""
        self.path = path
        self.entries: list[Entry] = []
        if path.exists():
            whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            self.entries = [entry for line in whole if (entry := json.loads(line))["step"] <= first]
            write_text(path, "".join(json.dumps(entry) + "\n" for entry in self.entries))

    def add(self, **entry: Any) -> None:
        self.entries.append(entry)
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    @property
    def best(self) -> float:
        """The lowest validation loss so far."""
        return min((entry["validation_loss"] for entry in self.entries if "validation_loss" in entry), default=math.inf)


class Run:
    """One run in its folder: the first machine's files, and the steps of all."""

    def __init__(
        self,
        objective: Objective,
        loop: Loop,
        output: Path,
        settings: Mapping[str, Any],
        seed: int,
        follower: Follower | None,
    ):
        self.objective, self.loop, self.output, self.follower = objective, loop, output, follower
        self.settings = dict(settings)
        self.world = World()
        self.stepper = Stepper(objective, loop, loop.concurrent, self.world, seed)
        self.checkpoints = Checkpoints(output / CHECKPOINTS, loop.keep)
        self.first = 0
        self.log: Log | None = None

    def start(self, resume: bool) -> None:
        """Begin, or go on from the last checkpoint. Raises UserError as `fit` does."""
        world = self.world
        if not world.agrees(int(hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()[:7], 16)):
            raise UserError(
                "The machines' recipes, models or datasets differ: each needs the same, as files of its own."
            )
        if world.writes and self.checkpoints.paths:
            if not resume:
                raise UserError(f"{self.output} holds a checkpoint: continue it with --resume, or remove the folder.")
            self.first = self._restore()
            if self.follower:
                self.follower.resumed(self.first)
        self.first = np.asarray(world.share(mx.array(self.first))).item()
        self.stepper.share()
        self.output.mkdir(parents=True, exist_ok=True)
        self.log = Log(self.output / "log.jsonl", self.first) if world.writes else None

    def _restore(self) -> int:
        """Go on from the last whole checkpoint and return its step. Raises UserError where it is of another run."""
        found = self.checkpoints.newest()
        assert found is not None
        path, arrays, metadata = found
        before = json.loads(metadata.get("settings", "{}"))
        for name in sorted(before.keys() | self.settings.keys()):
            then, now = before.get(name), self.settings.get(name)
            if then == now:
                continue
            change = f"{name} was {quoted(json.dumps(then), 60)} and is {quoted(json.dumps(now), 60)}"
            if name not in MAY_CHANGE:
                raise UserError(f"The run cannot go on: {change}. Change it back, or start anew in another 'output'.")
            warnings.warn(f"the run goes on, but {change}.", stacklevel=2)
        try:
            self.stepper.restore(arrays)
        except (ValueError, KeyError) as error:
            raise UserError(f"The checkpoint {path} is of another recipe: {error}.") from None
        return int(metadata["step"])

    def keep(self, log: Log, done: int) -> None:
        """After a step: validate, write a checkpoint, draw samples, whichever the recipe asks for now."""
        loop, follower = self.loop, self.follower
        last, new = done == loop.steps, done > self.first
        checkpoint = new and (done % loop.checkpoint_every == 0 or last)
        sample = new and loop.sample_every > 0 and (done % loop.sample_every == 0 or last)
        validate = self._validates(log, done)
        if not (checkpoint or sample or validate):
            return
        self.objective.model.update(self.stepper.result())
        best = False
        if follower and validate:
            bands = follower.validate()
            mean = sum(bands) / len(bands)
            best = mean < log.best
            log.add(step=done, validation_loss=mean, validation_bands=bands)
        if follower and (checkpoint or best):
            follower.keep(done, checkpoint, best)
        if checkpoint:
            self.checkpoints.save(done, self.stepper.state(), {"settings": json.dumps(self.settings)})
        if sample:
            self.objective.sample(self.output / f"samples-{done:06d}.png")
        if follower:
            follower.draw(log.entries)

    def _validates(self, log: Log, done: int) -> bool:
        every = self.follower.validate_every if self.follower else 0
        if not every or (done % every and done != self.loop.steps):
            return False
        return not any(entry["step"] == done and "validation_loss" in entry for entry in log.entries)

    def take_steps(self) -> None:
        """All steps from the first to the last."""
        loop, log, losses = self.loop, self.log, list[float]()
        bar = tqdm(range(self.first, loop.steps), initial=self.first, total=loop.steps, disable=None if log else True)
        if log:
            self.keep(log, self.first)
        started = time.perf_counter()
        for step in bar:
            loss, norm = self.stepper.step(step, self.objective.batch(step))
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
            paused = time.perf_counter()
            self.keep(log, done)
            started += time.perf_counter() - paused


def fit(
    objective: Objective,
    loop: Loop,
    output: Path,
    resume: bool,
    settings: Mapping[str, Any],
    seed: int = 0,
    follower: Follower | None = None,
) -> None:
    """Fit `objective.model` in place, ending in the running mean of its parameters where the recipe asks for one.

    `output` gets `checkpoints/` (the last few), `log.jsonl` and sample sheets. settings: see `run_settings`. Raises
    UserError where `output` holds a checkpoint and `resume` is not set, and where a run that goes on has other settings
    than it began with.
    """
    run = Run(objective, loop, output, settings, seed, follower)
    run.start(resume)
    with at_work():
        run.take_steps()
    objective.model.update(run.stepper.result())

"""The one thread that owns MLX, and the queue before it: one drawing at a time, in the order they came.

A `Job` is what someone waits for. Its `status` says where it is, each time as a new value: `Waiting`, `Drawing`, and in
the end `Done`, `Failed` or `Cancelled`. Cancelled, it leaves the queue, or stops after the step that is under way.
"""

from __future__ import annotations

import asyncio
import io
import secrets
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_genmoji.combinations.reading import Combination
from mlx_genmoji.errors import Cancelled as Stopped
from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.lora.persona_index import is_index
from mlx_genmoji.prompt import PromptPlan, parse

from .request import MOST_STEPS, Request, combined

if TYPE_CHECKING:
    from mlx_genmoji import Genmoji, Sticker
    from mlx_genmoji.prompt import Rewriter

MOST_WAITING = 32

# How wide a preview is at most, in pixels.
PREVIEW = 256

# From how many seconds on not every step is shown.
SLOW_PREVIEW = 1.0

# How often it is looked whether whoever waits is still there, in seconds.
LOOK = 0.2


@dataclass(frozen=True)
class Waiting:
    before: int
    """How many are drawn first, the one under way among them."""


@dataclass(frozen=True)
class Drawing:
    plan: PromptPlan | None = None
    """None while it is being made."""
    seed: int = 0
    done: int = 0
    steps: int = 0
    seconds_left: float | None = None
    pictures: tuple[bytes | None, ...] = ()
    """What each candidate looks like so far, as JPEG."""


@dataclass(frozen=True)
class Done:
    stickers: list[Sticker]
    plan: PromptPlan
    seed: int
    notes: list[str]
    """What the request asked for and did not get, as sentences."""


@dataclass(frozen=True)
class Failed:
    sentence: str


@dataclass(frozen=True)
class Cancelled:
    pass


Status = Waiting | Drawing | Done | Failed | Cancelled
ENDS = (Done, Failed, Cancelled)


@dataclass(eq=False)
class Job:
    request: Request
    previews: bool = False
    status: Status = field(default_factory=lambda: Waiting(0))
    cancelled: threading.Event = field(default_factory=threading.Event)
    leave: Callable[[], None] = lambda: None
    """Called when it is cancelled."""
    _listeners: list[Callable[[], None]] = field(default_factory=list)

    def become(self, status: Status) -> None:
        self.status = status
        for listener in list(self._listeners):
            listener()

    def cancel(self) -> None:
        """Take it out of the queue, or stop it after the step that is under way."""
        self.cancelled.set()
        self.leave()

    async def follow(self, is_alive: Callable[[], bool] = lambda: True) -> AsyncIterator[Status]:
        """Each status, the newest only where several came at once. Whoever stops listening cancels the job."""
        loop = asyncio.get_running_loop()
        news = asyncio.Event()

        def listener() -> None:
            loop.call_soon_threadsafe(news.set)

        self._listeners.append(listener)
        try:
            news.set()
            while True:
                try:
                    await asyncio.wait_for(news.wait(), LOOK)
                except TimeoutError:
                    if not is_alive():
                        return
                    continue
                news.clear()
                status = self.status
                yield status
                if isinstance(status, ENDS) or not is_alive():
                    return
        finally:
            self._listeners.remove(listener)
            self.cancel()

    async def end(self, is_alive: Callable[[], bool]) -> Status:
        """The status that the job ends with; one before, where nobody was waiting any more."""
        async for _ in self.follow(is_alive):
            pass
        return self.status


class Worker:
    """Draws what is submitted, with one of `models` and one of `adapters` at a time.

    models: by the name that is shown, what `Genmoji.load` takes. adapters: by name, files, or a folder with an index.
    rewrite: the language model that adds to prompts; None is the rules alone. preview: what `Genmoji.load` takes.
    """

    def __init__(
        self,
        models: Mapping[str, str | None],
        adapters: Mapping[str, Path],
        *,
        rewrite: str | None = None,
        preview: str | None = None,
    ):
        self.models = dict(models)
        self.adapters = dict(adapters)
        self.rewrite = rewrite
        self.preview = preview
        self.defaults: dict[str, Any] = {}
        """Of the first model: steps, guidance, size, and which optional fields of a plan it draws."""
        self._queue: deque[Job] = deque()
        self._now: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._drawn_with: tuple[str | None, str | None] = (None, None)
        self._genmoji: Genmoji | None = None
        self._rewriter: Rewriter | None = None
        self.steps_after_cancel = 0
        """The most steps that a job went on for after it was cancelled."""
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="MLX", daemon=True)

    def start(self) -> None:
        """Begin to load. See `wait`."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until the first model, and the language model, are loaded. Raises UserError where one cannot be."""
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def submit(self, request: Request, previews: bool = False) -> Job:
        """Raises UserError where too many wait, or there is no such model or adapter."""
        for what, name, known in (("model", request.model, self.models), ("adapter", request.adapter, self.adapters)):
            if name is not None and name not in known:
                there = f"there are {', '.join(known)}" if known else "there are none here"
                raise UserError(f"There is no {what} {quoted(name, 40)}; {there}.")
        job = Job(request, previews, leave=self._drop_cancelled)
        with self._changed:
            if self._closed:
                raise UserError("The demo is closing.")
            if len(self._queue) >= MOST_WAITING:
                raise UserError(f"{len(self._queue)} drawings are waiting already; try again in a while.")
            self._queue.append(job)
            self._tell_positions()
            self._changed.notify()
        return job

    @property
    def is_idle(self) -> bool:
        """Whether nothing is drawn, and nothing waits."""
        with self._changed:
            return self._now is None and not self._queue

    def close(self) -> None:
        """Cancel everything, and wait for the thread."""
        with self._changed:
            self._closed = True
            for job in (*self._queue, self._now):
                if job is not None:
                    job.cancelled.set()
            self._changed.notify()
        self._drop_cancelled()
        self._thread.join()

    def _drop_cancelled(self) -> None:
        with self._changed:
            dropped = [job for job in self._queue if job.cancelled.is_set()]
            for job in dropped:
                self._queue.remove(job)
            self._tell_positions()
        for job in dropped:
            job.become(Cancelled())

    def _tell_positions(self) -> None:
        busy = self._now is not None
        for index, job in enumerate(self._queue):
            if job.status != Waiting(index + busy):
                job.become(Waiting(index + busy))

    def _run(self) -> None:
        try:
            self._load()
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._ready.set()
        while (job := self._next()) is not None:
            job.become(self._draw(job))
            with self._changed:
                self._now = None

    def _next(self) -> Job | None:
        """The job whose turn it is, as soon as there is one; None where the worker is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return None
            self._now = self._queue.popleft()
            self._tell_positions()
            return self._now

    def _load(self) -> None:
        for warning in self._use(None, None):
            print(f"genmoji: {warning}", file=sys.stderr)
        assert self._genmoji is not None
        defaults = self._genmoji.defaults
        self.defaults = {
            "steps": min(defaults.steps, MOST_STEPS),
            "guidance": defaults.guidance,
            "size": self._genmoji.size,
            "plan_fields": defaults.plan_fields,
        }
        if self.rewrite is not None:
            from mlx_genmoji.prompt import Rewriter

            self._rewriter = Rewriter.load(self.rewrite)

    def _use(self, model: str | None, adapter: str | None) -> list[str]:
        """Have the model and the adapter loaded; one model is, at a time. What it warned of."""
        from mlx_genmoji import Genmoji

        name = next(iter(self.models)) if model is None else model
        with _warnings() as notes:
            if self._genmoji is None or self._drawn_with[0] != name:
                self._genmoji, self._drawn_with = None, (None, None)
                self._genmoji = Genmoji.load(self.models[name], preview=self.preview)
                self._drawn_with = (name, None)
            if self._drawn_with[1] != adapter:
                path = None if adapter is None else self.adapters[adapter]
                self._genmoji.set_adapters(() if path is None else path if is_index(path) else [path])
                self._drawn_with = (name, adapter)
        return notes

    def _draw(self, job: Job) -> Status:
        try:
            return self._drawn(job)
        except Stopped:
            return Cancelled()
        except UserError as error:
            return Failed(str(error))
        except Exception:
            # Whoever runs the demo can mend it, whoever looks at it cannot.
            traceback.print_exc()
            return Failed("Something went wrong while drawing; whoever runs this demo finds it in the log.")

    def _drawn(self, job: Job) -> Status:
        if job.cancelled.is_set():
            raise Stopped
        request = job.request
        seed = secrets.randbelow(2**31) if request.seed is None else request.seed
        job.become(Drawing(seed=seed))
        notes = self._use(request.model, request.adapter)
        genmoji = self._genmoji
        assert genmoji is not None
        with _warnings() as warned:
            plan = self._plan(request, genmoji)
            if job.cancelled.is_set():
                raise Stopped
            drawing = _Progress(job, genmoji, self, Drawing(plan, seed, pictures=(None,) * request.count))
            stickers = genmoji.generate(
                request.prompt,
                rewrite=plan,
                count=request.count,
                seed=seed,
                steps=request.steps,
                guidance=request.guidance,
                sampler=request.sampler,
                negative_prompt=plan.negative_prompt or request.negative_prompt,
                callback=drawing,
            )
        notes += [note for note in warned if note not in notes]
        if "combination" in stickers[0].recipe:
            parts = Combination.from_dict(stickers[0].recipe["combination"]).parts
            notes.append(f"Drawn by parts and put together: {', '.join(part.label for part in parts)}.")
        return Done(stickers, plan, seed, notes)

    def _plan(self, request: Request, genmoji: Genmoji) -> PromptPlan:
        plan = request.plan
        if plan is None and self._rewriter is not None:
            prompt = combined(request.prompt)
            plan = self._rewriter.rewrite(prompt, request.skin_tone, request.person_type).edited()
        elif plan is None:
            plan = PromptPlan.of(parse(combined(request.prompt)), request.skin_tone, request.person_type)
        # Which adapter draws says how the captions are to be.
        genmoji.adapters.route(plan.skin_tone, plan.person_type)
        return plan.finished(genmoji.caption_form())


class _Progress:
    """The callback of a drawing: tells the job of each step, and stops for a job that is cancelled."""

    def __init__(self, job: Job, genmoji: Genmoji, worker: Worker, drawing: Drawing):
        self.job = job
        self.worker = worker
        self.late = 0
        self.genmoji = genmoji
        self.drawing = drawing
        self.started = time.monotonic()
        self.seconds_of_previews = 0.0
        self.is_quick = True
        job.become(drawing)

    def __call__(self, step: int, steps: int, latents: Any) -> bool:
        if self.job.cancelled.is_set():
            self.late += 1
            self.worker.steps_after_cancel = max(self.worker.steps_after_cancel, self.late)
            return False
        pictures = list(self.drawing.pictures)
        own_steps = steps // len(pictures)
        last = (step + 1) % own_steps == 0
        now = time.monotonic()
        # Where an autoencoder is slow, previews may take half of the time and no more.
        if self.job.previews and (last or self.is_quick or 2 * self.seconds_of_previews <= now - self.started):
            pictures[step // own_steps] = _jpeg(self.genmoji.preview(latents))
            seconds = time.monotonic() - now
            self.is_quick = seconds <= SLOW_PREVIEW
            self.seconds_of_previews += seconds
        left = (time.monotonic() - self.started) / (step + 1) * (steps - step - 1)
        self.drawing = replace(self.drawing, done=step + 1, steps=steps, seconds_left=left, pictures=tuple(pictures))
        self.job.become(self.drawing)
        return not self.job.cancelled.is_set()


def _jpeg(picture: Any) -> bytes:
    picture.thumbnail((PREVIEW, PREVIEW))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the library warns of meanwhile."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield said
    said += [str(warning.message) for warning in caught if warning.category is UserWarning]

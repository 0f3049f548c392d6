"""The only thread that uses MLX, and its queue of jobs: it draws one at a time, in the order they were submitted."""

from __future__ import annotations

import io
import secrets
import sys
import tempfile
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from mlx_genmoji.checkpoint import read_styles
from mlx_genmoji.checkpoint.weight_files import header_of
from mlx_genmoji.combinations.combination import Combination
from mlx_genmoji.errors import Cancelled as DrawingCancelled
from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.lora.persona_index import is_index
from mlx_genmoji.prompt import PromptPlan, parse

from .job import Cancelled, Done, Drawing, Failed, Job, Status, Waiting
from .progress import PackProgress, Progress
from .request import MAX_STEPS, Request, combined
from .upload import picture_of

if TYPE_CHECKING:
    from mlx_genmoji import Genmoji
    from mlx_genmoji.prompt import Rewriter

MAX_WAITING = 32


class Worker:
    """Draws the jobs that are submitted, with one of `models` and at most one of `adapters` at a time.

    models: what `Genmoji.load` takes, by the names that visitors see. adapters: files, or folders with an index, by
    name. rewrite: the language model that adds details to prompts; None is the rules alone. preview: the autoencoder
    for previews, as `Genmoji.load` takes it.
    """

    def __init__(
        self,
        models: Mapping[str, str],
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
        """The first model's steps, guidance and size, and which optional fields of a plan it draws."""
        self._queue: deque[Job] = deque()
        self._current: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._loaded: tuple[str | None, str | None] = (None, None)
        """The names of the model and the adapter that `_genmoji` draws with."""
        self._genmoji: Genmoji | None = None
        self._rewriters: dict[str, Rewriter] = {}
        self._styles: dict[str, tuple[str, ...]] = {}
        """Of each model that was loaded."""
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="MLX", daemon=True)

    def start(self) -> None:
        """Start the thread, which begins to load. See `wait`."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until the first model and the language model are loaded. Raises UserError if one cannot be."""
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def styles(self, model: str | None, adapter: str | None) -> list[str]:
        """The styles to choose from, the usual one first; a model's are known once it was loaded."""
        name = next(iter(self.models)) if model is None else model
        path = None if adapter is None else self.adapters.get(adapter)
        return list(dict.fromkeys((*self._styles.get(name, ()), *([] if path is None else adapter_styles(path)))))

    def submit(self, request: Request, previews: bool = False) -> Job:
        """Queue a request. Raises UserError if too many wait, or for an unknown model or adapter."""
        for what, name, known in (("model", request.model, self.models), ("adapter", request.adapter, self.adapters)):
            if name is not None and name not in known:
                choices = f"there are {', '.join(known)}" if known else "there are none here"
                raise UserError(f"There is no {what} {quoted(name, 40)}; {choices}.")
        job = Job(request, previews, on_cancel=self._drop_cancelled)
        with self._changed:
            if self._closed:
                raise UserError("The demo is closing.")
            if len(self._queue) >= MAX_WAITING:
                raise UserError(f"{len(self._queue)} drawings are waiting already; try again later.")
            self._queue.append(job)
            self._update_positions()
            self._changed.notify()
        return job

    @property
    def is_idle(self) -> bool:
        """Whether no job is being drawn and none waits."""
        with self._changed:
            return self._current is None and not self._queue

    def close(self) -> None:
        """Cancel all jobs, and wait until the thread has ended."""
        with self._changed:
            self._closed = True
            for job in (*self._queue, self._current):
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
            self._update_positions()
        for job in dropped:
            job.set_status(Cancelled())

    def _update_positions(self) -> None:
        busy = self._current is not None
        for index, job in enumerate(self._queue):
            if job.status != Waiting(index + busy):
                job.set_status(Waiting(index + busy))

    def _run(self) -> None:
        try:
            self._load()
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._ready.set()
        while (job := self._next()) is not None:
            job.set_status(self._final_status(job))
            with self._changed:
                self._current = None

    def _next(self) -> Job | None:
        """Wait for the next job and return it; None once the worker is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return None
            self._current = self._queue.popleft()
            self._update_positions()
            return self._current

    def _load(self) -> None:
        for warning in self._load_model(None, None):
            print(f"genmoji: {warning}", file=sys.stderr)
        assert self._genmoji is not None
        from mlx_genmoji.reader.closed_form import ClosedReader

        defaults = self._genmoji.defaults
        self.defaults = {
            "steps": min(defaults.steps, MAX_STEPS),
            "guidance": defaults.guidance,
            "size": self._genmoji.size,
            "plan_fields": defaults.plan_fields,
            "closed_vocabulary": isinstance(self._genmoji.reader, ClosedReader),
        }
        if self.rewrite is not None:
            self._genmoji.reader.load_rewriter(self.rewrite)

    def _load_model(self, model: str | None, adapter: str | None) -> list[str]:
        """Load a model (None: the first) and an adapter, unless they are loaded, and return the library's warnings."""
        from mlx_genmoji import Genmoji

        name = next(iter(self.models)) if model is None else model
        with _recorded_warnings() as messages:
            if self._genmoji is None or self._loaded[0] != name:
                # Before the next model is loaded: two of them may not fit into memory.
                self._genmoji, self._loaded = None, (None, None)
                self._genmoji = Genmoji.load(self.models[name], preview=self.preview)
                self._genmoji.reader.rewriters = self._rewriters
                self._loaded = (name, None)
                self._styles[name] = tuple(self._genmoji.styles)
            if self._loaded[1] != adapter:
                path = None if adapter is None else self.adapters[adapter]
                self._genmoji.set_adapters(() if path is None else path if is_index(path) else [path])
                self._loaded = (name, adapter)
        return messages

    def _final_status(self, job: Job) -> Status:
        try:
            return self._draw(job)
        except DrawingCancelled:
            return Cancelled()
        except UserError as error:
            return Failed(str(error))
        except Exception:
            # For whoever runs the demo; a visitor can do nothing about it.
            traceback.print_exc()
            return Failed("Something went wrong while drawing; the demo's log has the details.")

    def _draw(self, job: Job) -> Done:
        if job.cancelled.is_set():
            raise DrawingCancelled
        request = job.request
        seed = secrets.randbelow(2**31) if request.seed is None else request.seed
        job.set_status(Drawing(seed=seed))
        notes = self._load_model(request.model, request.adapter)
        genmoji = self._genmoji
        assert genmoji is not None
        if request.pack:
            return self._draw_pack(job, genmoji, seed, notes)
        picture = None if request.image is None else picture_of(request.image)
        with _recorded_warnings() as messages:
            plan = self._plan(request, genmoji)
            if job.cancelled.is_set():
                raise DrawingCancelled
            progress = Progress(job, genmoji, Drawing(plan, seed, previews=(None,) * request.count))
            stickers = genmoji.generate(
                request.prompt,
                rewrite=plan,
                count=request.count,
                seed=seed,
                steps=request.steps,
                guidance=request.guidance,
                sampler=request.sampler,
                style=_style(request, genmoji),
                image=picture,
                strength=None if picture is None else request.strength,
                variety=1.0 if request.variety is None else request.variety,
                negative_prompt=plan.negative_prompt or request.negative_prompt,
                callback=progress,
                each=progress.finished,
            )
        if "plan" in stickers[0].recipe and "combination" not in stickers[0].recipe:
            # With the caption that was drawn; of a combination each part has its own.
            plan = PromptPlan.from_dict(stickers[0].recipe["plan"])
        notes += [message for message in messages if message not in notes]
        if "combination" in stickers[0].recipe:
            parts = Combination.from_dict(stickers[0].recipe["combination"]).parts
            notes.append(f"Drawn by parts and put together: {', '.join(part.label for part in parts)}.")
        return Done(stickers, plan, seed, notes, tuple(genmoji.styles))

    def _draw_pack(self, job: Job, genmoji: Genmoji, seed: int, notes: list[str]) -> Done:
        """Draw a pack for all messengers, in a folder that is deleted once it is zipped."""
        from mlx_genmoji.packs.make import make_pack

        request = job.request
        subject = combined(request.prompt)
        plan = PromptPlan.of(parse(subject), request.skin_tone, request.person_type)
        options = {
            name: getattr(request, name)
            for name in ("skin_tone", "person_type", "negative_prompt", "steps", "guidance", "sampler")
        }
        template = _template(request, genmoji)
        if template is not None:
            options["template"] = template
        with tempfile.TemporaryDirectory(prefix="genmoji-pack-") as name, _recorded_warnings() as messages:
            progress = PackProgress(job, Drawing(plan, seed, previews=(None,) * request.tiles))
            pack = make_pack(genmoji, subject, Path(name), seed=seed, callback=progress, **options)
            archive = zipped_folder(Path(name))
        notes += [message for message in messages if message not in notes] + pack.notes
        plan = plan.finished(genmoji.caption_form(template))
        stickers, styles = pack.stickers, tuple(genmoji.styles)
        return Done(list(stickers.values()), plan, seed, notes, styles, tuple(stickers), archive)

    def _plan(self, request: Request, genmoji: Genmoji) -> PromptPlan:
        plan = request.plan
        if plan is None and self.rewrite is not None:
            prompt = combined(request.prompt)
            from mlx_genmoji.reader import Options

            options = Options(rewrite=self.rewrite, skin_tone=request.skin_tone, person_type=request.person_type)
            plan = genmoji.reader.plan(prompt, options)
            assert plan is not None
        elif plan is None:
            plan = PromptPlan.of(parse(combined(request.prompt)), request.skin_tone, request.person_type)
        # The form of the final prompt depends on the adapter that is chosen here.
        genmoji.adapters.route(plan.skin_tone, plan.person_type)
        return plan.finished(genmoji.caption_form(_template(request, genmoji)))


def _style(request: Request, genmoji: Genmoji) -> str | None:
    """The style to draw in; None for the usual one, which a plan whose final prompt a visitor wrote needs."""
    written = request.plan is not None and request.plan.own_final_prompt is not None
    return None if written else request.style


def _template(request: Request, genmoji: Genmoji) -> str | None:
    """The template of the style to draw in; None for the usual one and for a style that there is not."""
    style = _style(request, genmoji)
    return None if style is None else genmoji.reader.styles.get(style)


@contextmanager
def _recorded_warnings() -> Iterator[list[str]]:
    """A list that holds, after the block, the messages of the UserWarnings raised in it."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield messages
    messages += [str(warning.message) for warning in caught if warning.category is UserWarning]


def adapter_styles(path: Path) -> list[str]:
    """The styles that an adapter's file declares; none for a folder of adapters."""
    if path.is_dir():
        return []
    try:
        declared = header_of(path).get("__metadata__", {}).get("styles")
        return [] if declared is None else list(read_styles(declared, path.stem))
    except UserError:
        # The drawing says what is wrong with the file.
        return []


def zipped_folder(folder: Path) -> bytes:
    """A zip of the files in a folder, which are compressed already."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()

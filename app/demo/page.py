"""The page's events: each reads the inputs, has the worker draw, and yields what the components show."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.families.base import STRENGTH
from mlx_genmoji.prompt import PromptPlan

from . import stage
from .components import ANY, CHOICES, Components
from .download_routes import GONE
from .endpoint import connection, endpoint
from .endpoint_files import Downloads
from .job import Done, Drawing, Failed, Job, Status, Waiting
from .request import MAX_SEED, Request
from .session import MAX_DRAWINGS, HistoryEntry, Session, Sessions
from .upload import data_uri
from .worker import Worker

STORED_TOKENS = "() => { try { return localStorage.getItem('genmoji') || '' } catch { return '' } }"
"""Returns what history.js has written."""

BROKEN = "Something went wrong while showing the drawing; the demo's log has the details."

MAX_TOKENS_LENGTH = 32 * MAX_DRAWINGS
"""Of the tokens of a history, separated by spaces."""

Updates = dict[Any, Any]


def build(worker: Worker, sessions: Sessions, downloads: Downloads) -> gr.Blocks:
    """The page and the endpoint of a worker that has loaded."""
    with gr.Blocks(title="genmoji", analytics_enabled=False) as blocks:
        page = Page(worker, sessions)
        gr.events.api(endpoint(worker, downloads), api_name="generate", concurrency_limit=None)
        # Outside of Gradio's queue; the addresses of the drawings that this browser had are in its storage.
        opened: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private", "preprocess": False}
        outputs = [*page.results, *page.components.inputs.values()]
        blocks.load(page.on_load, [page.components.tokens], outputs, js=STORED_TOKENS, **opened)
        blocks.unload(page.on_unload)
    return blocks


class Page:
    """The components, connected with the functions that handle their events."""

    def __init__(self, worker: Worker, sessions: Sessions):
        self.worker = worker
        self.sessions = sessions
        self.components = Components(worker.models, worker.adapters, worker.styles(None, None), worker.defaults)
        self.results = [self.components.stage, self.components.history, *self.components.plan.values()]
        self._connect()

    def _connect(self) -> None:
        components = self.components
        inputs, plan = list(components.inputs.values()), list(components.plan.values())
        buttons = [components.draw, components.pack, components.redraw, components.cancel]
        drawing = [*self.results, components.style, *buttons]
        # Values come as they were sent: Gradio's own reading fails on a wrong type, `Request.read` explains it.
        events: Any = {"show_progress": "hidden", "api_visibility": "private", "preprocess": False}
        # The worker's queue knows the position of each drawing, so Gradio's lets everything through.
        queued = events | {"concurrency_limit": None}
        # Outside of Gradio's queue, these are handled while a drawing is under way.
        immediate = events | {"queue": False}
        gr.on([components.draw.click, components.prompt.submit], self.on_draw, inputs, drawing, **queued)
        components.pack.click(self.on_pack, inputs, drawing, **queued)
        components.redraw.click(self.on_redraw, [*inputs, *plan], drawing, **queued)
        components.history.remix(self.on_remix, [], [*self.results, *buttons, *inputs], **queued)
        components.history.open(self.on_open, [], [*self.results, *inputs], **immediate)
        choices, style = [components.model, components.adapter], components.style
        gr.on([choice.change for choice in choices], self.on_choose, [*choices, style], style, **immediate)
        components.cancel.click(self.on_cancel, [], [], **immediate)

    async def on_draw(self, request: gr.Request, *values: Any) -> AsyncIterator[Updates]:
        """Draw the prompt."""
        async for updates in self._draw(dict(zip(self.components.inputs, values, strict=True)), request.session_hash):
            yield updates

    async def on_pack(self, request: gr.Request, *values: Any) -> AsyncIterator[Updates]:
        """Draw a sticker pack of the prompt."""
        inputs = dict(zip(self.components.inputs, values, strict=True))
        async for updates in self._draw(inputs | {"pack": True}, request.session_hash):
            yield updates

    async def on_redraw(self, request: gr.Request, *values: Any) -> AsyncIterator[Updates]:
        """Draw the plan as it was edited."""
        inputs = dict(zip(self.components.inputs, values, strict=False))
        edited = dict(zip(self.components.plan, values[len(inputs) :], strict=True))
        entry = self.sessions.get(request.session_hash).current
        inputs["plan"] = _edited_plan(edited, None if entry is None else entry.plan)
        async for updates in self._draw(inputs, request.session_hash):
            yield updates

    async def on_remix(self, request: gr.Request, event: gr.EventData) -> AsyncIterator[Updates]:
        """Draw the prompt of an entry of the history again, with a random seed and in the next style."""
        session = self.sessions.get(request.session_hash)
        entry = session.entry(_event_text(event, "id"))
        if session.job is not None:
            return
        if entry is None:
            yield {self.components.stage: stage.finished(session, error=GONE)}
            return
        drawing = replace(entry.request, seed=None, style=_next_style(entry), plan=_composed_again(entry.request.plan))
        yield self._settings(drawing)
        async for updates in self._draw(vars(drawing), request.session_hash):
            yield updates

    async def on_choose(self, model: Any, adapter: Any, style: Any) -> Any:
        """Offer the styles of the chosen model and adapter."""
        names = [name if isinstance(name, str) and name != ANY else None for name in (model, adapter)]
        return self._style_choice(self.worker.styles(*names), style)

    async def on_load(self, request: gr.Request, tokens: Any) -> Updates:
        """Show what the browser had drawn before the page was loaded again."""
        names = tokens.split() if isinstance(tokens, str) and len(tokens) <= MAX_TOKENS_LENGTH else []
        session = self.sessions.recall(request.session_hash, names)
        if session.current is None or session.job is not None:
            return {self.components.stage: gr.skip()}
        return self._results(session, session.current) | self._settings(session.current.request)

    async def on_open(self, request: gr.Request, event: gr.EventData) -> Updates:
        """Show an entry of the history."""
        session = self.sessions.get(request.session_hash)
        entry = session.entry(_event_text(event, "id"))
        if session.job is not None or entry is None:
            return {self.components.stage: gr.skip() if session.job else stage.finished(session, error=GONE)}
        session.current = entry
        return self._results(session, entry) | self._settings(entry.request)

    async def on_cancel(self, request: gr.Request) -> None:
        """Cancel the page's drawing."""
        job = self.sessions.get(request.session_hash).job
        if job is not None:
            job.cancel()

    async def on_unload(self, request: gr.Request) -> None:
        """Cancel the drawing of a page that is closed. What it drew stays for when it is opened again."""
        job = self.sessions.leave(request.session_hash)
        if job is not None:
            job.cancel()

    async def _draw(self, inputs: Mapping[str, Any], name: str | None) -> AsyncIterator[Updates]:
        """Draw for the session called `name`: yields its place in the queue, previews, and the result or an error."""
        session = self.sessions.get(name)
        if session.job is not None:
            return
        try:
            request = Request.read(self._without_slider_defaults(_read_inputs(inputs)))
            job = self.worker.submit(request, previews=True)
        except UserError as error:
            yield self._buttons(busy=False) | {self.components.stage: stage.finished(session, error=str(error))}
            return
        session = self.sessions.start(name, job)
        try:
            async for status in job.follow(connection()):
                yield await self._updates(session, job, status)
        except Exception:
            # For whoever runs the demo; the visitor can go on.
            traceback.print_exc()
            yield self._buttons(busy=False) | {self.components.stage: stage.finished(session, error=BROKEN)}
        finally:
            session.job = None

    async def _updates(self, session: Session, job: Job, status: Status) -> Updates:
        """What the page shows of a job's status. A finished drawing goes into the session's history."""
        if isinstance(status, Waiting | Drawing):
            return self._buttons(busy=True) | {self.components.stage: stage.in_progress(status, job.request)}
        idle = self._buttons(busy=False)
        if isinstance(status, Done):
            entry = await asyncio.to_thread(HistoryEntry.of, job.request, status)
            self.sessions.add(session, entry)
            session.job = None
            style = self._style_choice(entry.styles, entry.request.style)
            return idle | {self.components.style: style} | self._results(session, entry)
        session.job = None
        field = {"error": status.message} if isinstance(status, Failed) else {"says": "Stopped."}
        return idle | {self.components.stage: stage.finished(session, **field)}

    def _style_choice(self, styles: Sequence[str], style: str | None) -> Any:
        """The update of the choice of a style: `styles`, and `style` chosen if it is one of them, else the first."""
        first = styles[0] if styles else None
        return gr.update(choices=list(styles), value=style if style in styles else first, visible=len(styles) > 1)

    def _buttons(self, *, busy: bool) -> Updates:
        """While a drawing is under way it can be cancelled, and no other can be started."""
        return {
            self.components.draw: gr.update(interactive=not busy),
            self.components.pack: gr.update(interactive=not busy),
            self.components.redraw: gr.update(interactive=not busy),
            self.components.cancel: gr.update(visible=busy),
        }

    def _without_slider_defaults(self, values: dict[str, Any]) -> dict[str, Any]:
        """Sliders start at the first model's defaults. If another model is chosen, untouched ones mean that model's."""
        if values.get("model") in (None, next(iter(self.worker.models))):
            return values
        untouched = [name for name in ("steps", "guidance") if values.get(name) == self.worker.defaults[name]]
        return values | dict.fromkeys(untouched)

    def _results(self, session: Session, entry: HistoryEntry) -> Updates:
        """The session's current drawing `entry`, its plan, and the history."""
        values = entry.plan.to_dict()
        plan = {
            component: values.get(name) or (ANY if name in CHOICES else "")
            for name, component in self.components.plan.items()
        }
        history = [
            {"id": past.token, "prompt": past.request.prompt, "picture": stage.png_uri(past.icon)}
            for past in session.history
        ]
        return {self.components.stage: stage.finished(session), self.components.history: history} | plan

    def _settings(self, request: Request) -> Updates:
        """The inputs that give `request`; the seed is empty if it was random."""
        values = vars(request) | {"seed": "" if request.seed is None else str(request.seed)}
        defaults = {"steps": self.worker.defaults["steps"], "guidance": self.worker.defaults["guidance"]}
        defaults |= {"variety": 1.0, "model": next(iter(self.worker.models)), "strength": STRENGTH, "image": None}
        values["image"] = None if request.image is None else data_uri(request.image)
        settings = {
            component: defaults.get(name, ANY) if values[name] is None else values[name]
            for name, component in self.components.inputs.items()
        }
        styles = self.worker.styles(request.model, request.adapter)
        return settings | {self.components.style: self._style_choice(styles, request.style)}


def _event_text(event: gr.EventData, name: str) -> str | None:
    """A text that a script of the page sent with an event; None if it sent something else."""
    value = event._data.get(name) if isinstance(event._data, Mapping) else None
    return value if isinstance(value, str) else None


def _read_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The page's inputs as `Request.read` takes them: `ANY` is None, and the seed, a text, is an integer or None."""
    values = {name: None if name in CHOICES and value == ANY else value for name, value in inputs.items()}
    seed = values.get("seed")
    if isinstance(seed, str) and seed.strip():
        if not re.fullmatch(r"[0-9]{1,10}", seed.strip()):
            raise UserError(f"The seed is {quoted(seed, 20)}, not a whole number from 0 to {MAX_SEED:,}.")
        values["seed"] = int(seed)
    elif isinstance(seed, str):
        values["seed"] = None
    return values


def _next_style(entry: HistoryEntry) -> str | None:
    """The style after the one that a drawing has: of a model that knows few pictures, another seed changes little."""
    styles = entry.styles
    if len(styles) < 2:
        return entry.request.style
    return styles[(styles.index(entry.request.style or styles[0]) + 1) % len(styles)]


def _composed_again(plan: PromptPlan | None) -> PromptPlan | None:
    """A plan whose final prompt is composed anew, for another style, unless the visitor wrote it."""
    return plan if plan is None or plan.own_final_prompt is not None else replace(plan, final_prompt="")


def _edited_plan(edited: Mapping[str, Any], before: PromptPlan | None) -> dict[str, Any]:
    """The plan of the page's fields. Its final prompt is composed again if another field was edited, and it was not."""
    old = {} if before is None else before.to_dict()
    plan = {name: None if value == (ANY if name in CHOICES else "") else value for name, value in edited.items()}
    changed = [name for name, value in plan.items() if value != (old.get(name) or None)]
    if changed and "final_prompt" not in changed:
        plan["final_prompt"] = None
    texts = {name: plan[name] or "" for name in ("subject", "final_prompt", "negative_prompt")}
    unedited = {name: old[name] for name in ("category", "place", "source", "composed_prompt") if name in old}
    return unedited | plan | texts

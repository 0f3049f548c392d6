"""The demo's page: Gradio's inputs, a stage of our own for the candidates, and the documented endpoint `/generate`."""

from __future__ import annotations

import asyncio
import base64
import re
import traceback
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.prompt import PERSON_TYPES, SKIN_TONES, PromptPlan
from mlx_genmoji.prompt.plan import OPTIONAL
from mlx_genmoji.samplers import SAMPLERS

from .download_routes import GONE
from .endpoint import endpoint, listening
from .endpoint_files import Downloads
from .request import MOST_GUIDANCE, MOST_LETTERS, MOST_PICTURES, MOST_SEED, MOST_STEPS, Request
from .session import Drawn, Session, Sessions
from .worker import ENDS, Cancelled, Done, Drawing, Failed, Status, Waiting, Worker

FOLDER = Path(__file__).parent
EXAMPLES = ("octopus", "red apple", "woman astronaut", "birthday cake", "ghost", "cat wearing a crown")
EMOJIS = "🐷 🐱 🐻 🦊 🐙 👻 🦋 👑 🎩 🍕 🎸 ❤️".split()

# What a choice says that leaves it to the model. No name of a file, and so of no adapter, is like this.
ANY = "/any"
CHOICES = ("skin_tone", "person_type", "sampler", "model", "adapter")

STAGE = """
<section aria-label="Candidates">
  <div class="tiles" role="listbox" aria-label="Candidates; the arrow keys choose"></div>
  <div class="progress" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" hidden>
    <span></span>
  </div>
  <p class="says" role="status" aria-live="polite"></p>
  <div class="take" role="group" aria-label="Take the chosen one away" hidden>
    <a download id="png">PNG</a><a download id="transparent">Transparent</a><a download id="zip">Zip</a>
    <label id="recipe"><input type="checkbox" checked> with recipe</label>
  </div>
  <p class="error" role="alert" hidden></p>
  <ul class="notes" hidden></ul>
</section>
"""
HISTORY = '<section class="history" aria-label="Drawn before" hidden><h2>Drawn before</h2><ol></ol></section>'
HEADER = "<h1>genmoji</h1><p>Say what to draw, and choose the best of four.</p>"

BROKEN = "Something went wrong while showing it; whoever runs this demo finds it in the log."

Updates = dict[Any, Any]


def build(worker: Worker, sessions: Sessions, downloads: Downloads) -> gr.Blocks:
    """The page and the endpoint, drawn by `worker`, which has loaded."""
    with gr.Blocks(title="genmoji", analytics_enabled=False) as blocks:
        page = Page(worker, sessions)
        gr.events.api(endpoint(worker, downloads), api_name="generate", concurrency_limit=None)
        blocks.unload(page.on_unload)
    return blocks


class Page:
    """The components, laid out, and what happens when they are used."""

    def __init__(self, worker: Worker, sessions: Sessions):
        self.worker = worker
        self.sessions = sessions
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        defaults = self.worker.defaults
        gr.HTML(HEADER, elem_id="header")
        with gr.Row(elem_id="ask", equal_height=True):
            self.prompt = gr.Textbox(
                placeholder="A flying pig, or 🐷 + 🦋",
                show_label=False,
                label="Prompt",
                max_length=MOST_LETTERS,
                container=False,
                autofocus=True,
                elem_id="prompt",
                scale=1,
                max_lines=1,
            )
            self.draw = gr.Button("Draw", variant="primary", elem_id="draw", scale=0, min_width=96)
            self.cancel = gr.Button("Cancel", elem_id="cancel", scale=0, min_width=96, visible=False)
        gr.HTML(
            _ideas(),
            html_template="${value}",
            js_on_load=_script("ideas"),
            apply_default_css=False,
            elem_id="ideas",
        )
        with gr.Row(elem_id="below"):
            with gr.Column(scale=3, min_width=320):
                self.stage = gr.HTML(
                    {"tiles": [None] * 4},
                    html_template=STAGE,
                    js_on_load=_script("stage"),
                    apply_default_css=False,
                    elem_id="stage",
                )
                self.history = gr.HTML(
                    [],
                    html_template=HISTORY,
                    js_on_load=_script("history"),
                    apply_default_css=False,
                    elem_id="history",
                )
            with gr.Column(scale=2, min_width=280, elem_id="options"):
                self.skin_tone = gr.Radio(
                    [("any", ANY), *((tone.replace("-", " "), tone) for tone in SKIN_TONES)],
                    value=ANY,
                    label="Skin tone",
                    elem_id="skin-tone",
                )
                self.person_type = gr.Dropdown(
                    [("as the prompt says", ANY), *((kind, kind) for kind in PERSON_TYPES)],
                    value=ANY,
                    label="Person",
                    elem_id="person-type",
                    filterable=False,
                )
                self.model = gr.Dropdown(
                    list(self.worker.models),
                    value=next(iter(self.worker.models)),
                    label="Model",
                    visible=len(self.worker.models) > 1,
                    elem_id="model",
                )
                self.adapter = gr.Dropdown(
                    [("none", ANY), *((name, name) for name in self.worker.adapters)],
                    value=ANY,
                    label="Adapter",
                    visible=bool(self.worker.adapters),
                    elem_id="adapter",
                )
                with gr.Accordion("Plan", open=False, elem_id="plan"):
                    self._lay_out_plan()
                with gr.Accordion("More", open=False, elem_id="more"):
                    self.count = gr.Slider(1, MOST_PICTURES, 4, step=1, label="Candidates", elem_id="count")
                    self.seed = gr.Textbox(
                        label="Seed", placeholder="random", max_length=10, elem_id="seed", max_lines=1
                    )
                    self.steps = gr.Slider(1, MOST_STEPS, defaults["steps"], step=1, label="Steps", elem_id="steps")
                    self.guidance = gr.Slider(
                        0, MOST_GUIDANCE, defaults["guidance"], step=0.5, label="Guidance", elem_id="guidance"
                    )
                    self.sampler = gr.Dropdown(
                        [("the model's", ANY), *((name, name) for name in SAMPLERS)],
                        value=ANY,
                        label="Sampler",
                        elem_id="sampler",
                        filterable=False,
                    )
                    self.negative_prompt = gr.Textbox(
                        label="Not to draw", max_length=MOST_LETTERS, elem_id="negative-prompt", max_lines=1
                    )

    def _lay_out_plan(self) -> None:
        drawn = self.worker.defaults["plan_fields"]
        hint = "What was drawn. Change it, and draw it again without another rewriting."
        if not drawn:
            hint += " This model makes something of the subject, the person and the skin tone only."
        gr.HTML(f"<p>{hint}</p>", elem_classes="hint")
        self.plan: dict[str, Any] = {
            "subject": gr.Textbox(label="Subject", max_length=MOST_LETTERS, elem_id="plan-subject", max_lines=1),
            "skin_tone": gr.Dropdown(
                [("any", ANY), *((tone, tone) for tone in SKIN_TONES)], value=ANY, label="Skin tone", filterable=False
            ),
            "person_type": gr.Dropdown(
                [("any", ANY), *((kind, kind) for kind in PERSON_TYPES)], value=ANY, label="Person", filterable=False
            ),
        }
        for name in OPTIONAL:
            self.plan[name] = gr.Textbox(
                label=name.capitalize(), max_length=MOST_LETTERS, elem_id=f"plan-{name}", max_lines=1
            )
        self.plan["negative_prompt"] = gr.Textbox(label="Not to draw", max_length=MOST_LETTERS, max_lines=1)
        self.plan["final_prompt"] = gr.Textbox(
            label="Final prompt",
            info="Made of the above, unless you change it.",
            max_length=MOST_LETTERS,
            elem_id="plan-final",
            max_lines=3,
        )
        self.redraw = gr.Button("Draw this plan", elem_id="redraw", size="sm")

    def _connect(self) -> None:
        self.inputs = {
            "prompt": self.prompt,
            "count": self.count,
            "seed": self.seed,
            "skin_tone": self.skin_tone,
            "person_type": self.person_type,
            "negative_prompt": self.negative_prompt,
            "steps": self.steps,
            "guidance": self.guidance,
            "sampler": self.sampler,
            "model": self.model,
            "adapter": self.adapter,
        }
        inputs, plan = list(self.inputs.values()), list(self.plan.values())
        shown = [self.stage, self.history, *plan]
        drawing = [*shown, self.draw, self.redraw, self.cancel]
        # The queue is the worker's, which knows the position of each; Gradio's lets everything through. Values come as
        # they were sent: Gradio's own reading fails on what is not of its kind, `Request.read` says what is wrong.
        events: Any = {"show_progress": "hidden", "api_visibility": "private", "preprocess": False}
        queued = events | {"concurrency_limit": None}
        # Beside the queue, and so while a drawing is under way.
        at_once = events | {"queue": False}
        gr.on([self.draw.click, self.prompt.submit], self.on_draw, inputs, drawing, **queued)
        self.redraw.click(self.on_redraw, [*inputs, *plan], drawing, **queued)
        self.history.remix(self.on_remix, [], [*drawing, *inputs], **queued)
        self.history.open(self.on_open, [], [*shown, *inputs], **at_once)
        self.cancel.click(self.on_cancel, [], [], **at_once)

    async def on_draw(self, request: gr.Request, *values: Any) -> AsyncIterator[Updates]:
        async for updates in self._draw(dict(zip(self.inputs, values, strict=True)), request.session_hash):
            yield updates

    async def on_redraw(self, request: gr.Request, *values: Any) -> AsyncIterator[Updates]:
        asked = dict(zip(self.inputs, values, strict=False))
        edited = dict(zip(self.plan, values[len(self.inputs) :], strict=True))
        shown = self.sessions.find(request.session_hash).shown
        asked["plan"] = _edited(edited, None if shown is None else shown.plan)
        async for updates in self._draw(asked, request.session_hash):
            yield updates

    async def on_remix(self, request: gr.Request, event: gr.EventData) -> AsyncIterator[Updates]:
        session = self.sessions.find(request.session_hash)
        drawn = session.find(_told(event, "id"))
        if session.job is not None:
            return
        if drawn is None:
            yield {self.stage: _stage(session, error=GONE)}
            return
        anew = replace(drawn.request, seed=None)
        yield self._settings(anew)
        async for updates in self._draw(vars(anew) | {"plan": drawn.plan}, request.session_hash):
            yield updates

    async def on_open(self, request: gr.Request, event: gr.EventData) -> Updates:
        session = self.sessions.find(request.session_hash)
        drawn = session.find(_told(event, "id"))
        if session.job is not None or drawn is None:
            return {self.stage: gr.skip() if session.job else _stage(session, error=GONE)}
        session.shown = drawn
        return self._shown(session) | self._settings(drawn.request)

    async def on_cancel(self, request: gr.Request) -> None:
        job = self.sessions.find(request.session_hash).job
        if job is not None:
            job.cancel()

    async def on_unload(self, request: gr.Request) -> None:
        """Whoever closes the page is forgotten."""
        job = self.sessions.forget(request.session_hash)
        if job is not None:
            job.cancel()

    async def _draw(self, asked: Mapping[str, Any], name: str | None) -> AsyncIterator[Updates]:
        """What the page shows from the click on: the place in the queue, previews, and the candidates or why not."""
        session = self.sessions.find(name)
        if session.job is not None:
            return
        busy = {self.draw: gr.update(interactive=False), self.redraw: gr.update(interactive=False)}
        busy |= {self.cancel: gr.update(visible=True)}
        idle = {self.draw: gr.update(interactive=True), self.redraw: gr.update(interactive=True)}
        idle |= {self.cancel: gr.update(visible=False)}
        try:
            request = Request.read(self._with_defaults(_read(asked)))
            job = self.worker.submit(request, previews=True)
        except UserError as error:
            yield idle | {self.stage: _stage(session, error=str(error))}
            return
        session = self.sessions.draw(name, job)
        try:
            async for status in job.follow(listening()):
                if isinstance(status, Done):
                    self.sessions.keep(session, await asyncio.to_thread(Drawn.of, request, status))
                session.job = None if isinstance(status, ENDS) else job
                if isinstance(status, Done):
                    yield idle | self._shown(session)
                elif isinstance(status, Failed):
                    yield idle | {self.stage: _stage(session, error=status.sentence)}
                elif isinstance(status, Cancelled):
                    yield idle | {self.stage: _stage(session, says="Stopped.")}
                else:
                    yield busy | {self.stage: _under_way(status, request)}
        except Exception:
            # Whoever looks at the page can go on, whoever runs it can mend it.
            traceback.print_exc()
            yield idle | {self.stage: _stage(session, error=BROKEN)}
        finally:
            session.job = None

    def _with_defaults(self, values: dict[str, Any]) -> dict[str, Any]:
        """The page's sliders stand at the first model's defaults, which are nobody's wish where another draws."""
        if values.get("model") in (None, next(iter(self.worker.models))):
            return values
        own = {name: None for name in ("steps", "guidance") if values.get(name) == self.worker.defaults[name]}
        return values | own

    def _shown(self, session: Session) -> Updates:
        """What is shown of a drawing that is finished."""
        assert session.shown is not None
        values = session.shown.plan.to_dict()
        plan = {part: values[name] or (ANY if name in CHOICES else "") for name, part in self.plan.items()}
        drawn = [
            {"id": one.token, "prompt": one.request.prompt, "picture": _as_uri(one.icon)} for one in session.history
        ]
        return {self.stage: _stage(session), self.history: drawn} | plan

    def _settings(self, request: Request) -> Updates:
        """The inputs as they were for a drawing; the seed is empty where it was left to chance."""
        asked = vars(request) | {"seed": "" if request.seed is None else str(request.seed)}
        defaults = {"steps": self.worker.defaults["steps"], "guidance": self.worker.defaults["guidance"]}
        defaults |= {"model": next(iter(self.worker.models))}
        return {
            part: defaults.get(name, ANY) if asked[name] is None else asked[name] for name, part in self.inputs.items()
        }


def _told(event: gr.EventData, name: str) -> str | None:
    """A text that a script of the page sends with an event; None where something else was sent."""
    value = event._data.get(name) if isinstance(event._data, Mapping) else None
    return value if isinstance(value, str) else None


def _read(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's inputs say, as `Request.read` takes it: any choice is none, the seed is a text."""
    values = {name: None if name in CHOICES and value == ANY else value for name, value in asked.items()}
    seed = values.get("seed")
    if isinstance(seed, str) and seed.strip():
        if not re.fullmatch(r"[0-9]{1,10}", seed.strip()):
            raise UserError(f"The seed is {quoted(seed, 20)}, not a whole number from 0 to {MOST_SEED:,}.")
        values["seed"] = int(seed)
    elif isinstance(seed, str):
        values["seed"] = None
    return values


def _edited(edited: Mapping[str, Any], before: PromptPlan | None) -> dict[str, Any]:
    """The plan as edited; its final prompt is made anew unless it is what was edited."""
    old = {} if before is None else before.to_dict()
    plan = {name: None if value == (ANY if name in CHOICES else "") else value for name, value in edited.items()}
    changed = [name for name, value in plan.items() if value != (old.get(name) or None)]
    if changed and "final_prompt" not in changed:
        plan["final_prompt"] = None
    texts = {name: plan[name] or "" for name in ("subject", "final_prompt", "negative_prompt")}
    kept = {name: old[name] for name in ("category", "source", "composed_prompt") if name in old}
    return kept | plan | texts


def _stage(session: Session, **more: Any) -> dict[str, Any]:
    """The finished candidates, or empty places for them."""
    shown = session.shown
    if shown is None:
        return {"tiles": [None] * 4, **more}
    return {
        "tiles": [_as_uri(tile) for tile in shown.tiles],
        "token": shown.token,
        "words": shown.plan.final_prompt,
        "seed": shown.seed,
        "alt": shown.request.prompt,
        "notes": [*shown.notes, *_dropped(shown.plan)],
        **more,
    }


def _under_way(status: Status, request: Request) -> dict[str, Any]:
    if isinstance(status, Waiting):
        says = "Starting." if not status.before else f"{_number(status.before)} to draw before yours."
        return {"tiles": [None] * request.count, "drawing": True, "progress": 0, "says": says}
    assert isinstance(status, Drawing)
    tiles = [None if jpeg is None else f"data:image/jpeg;base64,{_base64(jpeg)}" for jpeg in status.pictures]
    if status.plan is None:
        says = "Reading the prompt."
    elif not status.steps:
        says = f"Drawing: {status.plan.final_prompt}"
    else:
        says = f"Step {status.done} of {status.steps}, {_seconds(status.seconds_left or 0)} left"
    return {
        "tiles": tiles or [None] * request.count,
        "drawing": True,
        "progress": status.done / status.steps if status.steps else 0,
        "says": says,
        "alt": request.prompt,
    }


def _dropped(plan: PromptPlan) -> list[str]:
    """What of a prompt is not drawn, as sentences."""
    return [f"Left out, {name.replace('_', ' ')}: {why}." for name, why in plan.dropped.items()]


def _number(before: int) -> str:
    return "One drawing" if before == 1 else f"{before} drawings"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _as_uri(png: bytes) -> str:
    return f"data:image/png;base64,{_base64(png)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _script(name: str) -> str:
    return (FOLDER / f"{name}.js").read_text(encoding="utf-8")


def _ideas() -> str:
    examples = "".join(f'<button type="button" class="example">{text}</button>' for text in EXAMPLES)
    emojis = "".join(f'<button type="button" class="emoji">{text}</button>' for text in EMOJIS)
    return (
        f'<div class="chips" aria-label="Examples">{examples}</div>'
        f'<div class="chips" aria-label="Two emojis to combine"><span>combine two:</span>{emojis}</div>'
    )

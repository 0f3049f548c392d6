"""The page's layout: Gradio's inputs, and the HTML of the stage, the history and the ideas, which scripts fill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from mlx_genmoji.families.base import STRENGTH
from mlx_genmoji.prompt import PERSON_TYPES, SKIN_TONES
from mlx_genmoji.prompt.plan import OPTIONAL

from ..generating import SAMPLER_NAMES
from .request import MAX_COUNT, MAX_GUIDANCE, MAX_LETTERS, MAX_STEPS

FOLDER = Path(__file__).parent
EXAMPLES = ("octopus", "red apple", "woman astronaut", "birthday cake", "ghost", "cat wearing a crown")
EMOJIS = "🐷 🐱 🐻 🦊 🐙 👻 🦋 👑 🎩 🍕 🎸 ❤️".split()

ANY = "/any"
"""The value of a choice that is left to the model. With its slash it cannot be the name of a file or an adapter."""

CHOICES = ("skin_tone", "person_type", "sampler", "model", "adapter")
"""The inputs that may be `ANY`."""

STAGE = """
<section aria-label="Candidates">
  <div class="tiles" role="listbox" aria-label="Candidates; the arrow keys choose"></div>
  <div class="progress" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" hidden>
    <span></span>
  </div>
  <p class="says" role="status" aria-live="polite"></p>
  <div class="take" role="group" aria-label="Download the chosen candidate" hidden>
    <button type="button" id="copy">Copy</button>
    <a download id="png">PNG</a><a download id="transparent">Transparent</a><a download id="zip">Zip</a>
    <a download id="pack-zip" hidden>Whole pack</a>
    <label id="recipe"><input type="checkbox" checked> with recipe</label>
  </div>
  <p class="error" role="alert" hidden></p>
  <ul class="notes" hidden></ul>
</section>
"""
HISTORY = '<section class="history" aria-label="Drawn before" hidden><h2>Drawn before</h2><ol></ol></section>'
PICTURE = """
<section aria-label="Picture to start from">
  <button type="button" class="choose">Start from a picture</button>
  <input type="file" accept="image/*" hidden aria-label="Picture file">
  <img alt="The picture to start from" hidden>
  <button type="button" class="clear" aria-label="Remove the picture" hidden>✕</button>
  <p class="hint" role="status">or drop or paste one</p>
</section>
"""
HEADER = "<h1>genmoji</h1><p>Say what to draw, and choose the best of four.</p>"


class Components:
    """Gradio's components, laid out within the `gr.Blocks` that is open.

    models, adapters, styles: their names, the first style the usual one. defaults: see `Worker.defaults`.
    """

    def __init__(
        self, models: Iterable[str], adapters: Iterable[str], styles: Sequence[str], defaults: Mapping[str, Any]
    ):
        # Not shown: the page's script fills it when the page is opened.
        self.tokens = gr.Textbox(visible=False)
        gr.HTML(HEADER, elem_id="header")
        self._add_prompt()
        with gr.Row(elem_id="below"):
            with gr.Column(scale=3, min_width=320):
                self.stage = _html("stage", STAGE, {"tiles": [None] * 4})
                self.history = _html("history", HISTORY, [])
            with gr.Column(scale=2, min_width=280, elem_id="options"):
                self._add_style(styles)
                self._add_choices(list(models), list(adapters))
                self._add_picture()
                with gr.Accordion("Plan", open=False, elem_id="plan"):
                    self._add_plan(bool(defaults["plan_fields"]), defaults["closed_vocabulary"])
                with gr.Accordion("More", open=False, elem_id="more"):
                    self._add_settings(defaults["steps"], defaults["guidance"])
        self.inputs: dict[str, Any] = {
            "prompt": self.prompt,
            "count": self.count,
            "seed": self.seed,
            "skin_tone": self.skin_tone,
            "person_type": self.person_type,
            "negative_prompt": self.negative_prompt,
            "steps": self.steps,
            "guidance": self.guidance,
            "sampler": self.sampler,
            "style": self.style,
            "image": self.picture,
            "strength": self.strength,
            "variety": self.variety,
            "model": self.model,
            "adapter": self.adapter,
        }

    def _add_prompt(self) -> None:
        with gr.Row(elem_id="ask", equal_height=True):
            self.prompt = gr.Textbox(
                placeholder="A flying pig, or 🐷 + 🦋",
                show_label=False,
                label="Prompt",
                max_length=MAX_LETTERS,
                container=False,
                autofocus=True,
                elem_id="prompt",
                scale=1,
                max_lines=1,
            )
            self.draw = gr.Button("Draw", variant="primary", elem_id="draw", scale=0, min_width=96)
            self.pack = gr.Button("Pack", elem_id="pack", scale=0, min_width=72)
            self.cancel = gr.Button("Cancel", elem_id="cancel", scale=0, min_width=96, visible=False)
        _html("ideas", "${value}", _ideas())

    def _add_style(self, styles: Sequence[str]) -> None:
        self.style = gr.Radio(
            list(styles),
            value=styles[0] if styles else None,
            label="Style",
            visible=len(styles) > 1,
            elem_id="style",
        )

    def _add_picture(self) -> None:
        self.picture = _html("picture", PICTURE, None)
        self.strength = gr.Slider(
            0, 1, STRENGTH, step=0.05, label="How much of the picture changes", elem_id="strength"
        )

    def _add_choices(self, models: list[str], adapters: list[str]) -> None:
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
        self.model = gr.Dropdown(models, value=models[0], label="Model", visible=len(models) > 1, elem_id="model")
        self.adapter = gr.Dropdown(
            [("none", ANY), *((name, name) for name in adapters)],
            value=ANY,
            label="Adapter",
            visible=bool(adapters),
            elem_id="adapter",
        )

    def _add_plan(self, draws_optional_fields: bool, closed_vocabulary: bool) -> None:
        hint = "The plan that was drawn. Edit it and draw it again: it is not rewritten."
        if closed_vocabulary:
            hint += " This model draws all fields but the colours, as far as it knows their words."
        elif not draws_optional_fields:
            hint += " This model draws only its subject, person and skin tone."
        gr.HTML(f"<p>{hint}</p>", elem_classes="hint")
        self.plan: dict[str, Any] = {
            "subject": gr.Textbox(label="Subject", max_length=MAX_LETTERS, elem_id="plan-subject", max_lines=1),
            "skin_tone": gr.Dropdown(
                [("any", ANY), *((tone, tone) for tone in SKIN_TONES)], value=ANY, label="Skin tone", filterable=False
            ),
            "person_type": gr.Dropdown(
                [("any", ANY), *((kind, kind) for kind in PERSON_TYPES)], value=ANY, label="Person", filterable=False
            ),
        }
        for name in OPTIONAL:
            self.plan[name] = gr.Textbox(
                label=name.capitalize(), max_length=MAX_LETTERS, elem_id=f"plan-{name}", max_lines=1
            )
        self.plan["negative_prompt"] = gr.Textbox(label="Not to draw", max_length=MAX_LETTERS, max_lines=1)
        self.plan["final_prompt"] = gr.Textbox(
            label="Final prompt",
            info="Composed of the fields above, unless you edit it.",
            max_length=MAX_LETTERS,
            elem_id="plan-final",
            max_lines=3,
        )
        self.redraw = gr.Button("Draw this plan", elem_id="redraw", size="sm")

    def _add_settings(self, steps: int, guidance: float) -> None:
        self.count = gr.Slider(1, MAX_COUNT, 4, step=1, label="Candidates", elem_id="count")
        self.variety = gr.Slider(
            0,
            1,
            1,
            step=0.05,
            label="Variety",
            info="How much candidates differ. 0: each as the plain prompt draws it.",
            elem_id="variety",
        )
        self.seed = gr.Textbox(label="Seed", placeholder="random", max_length=10, elem_id="seed", max_lines=1)
        self.steps = gr.Slider(1, MAX_STEPS, steps, step=1, label="Steps", elem_id="steps")
        self.guidance = gr.Slider(0, MAX_GUIDANCE, guidance, step=0.5, label="Guidance", elem_id="guidance")
        self.sampler = gr.Dropdown(
            [("the model's", ANY), *((name, name) for name in SAMPLER_NAMES)],
            value=ANY,
            label="Sampler",
            elem_id="sampler",
            filterable=False,
        )
        self.negative_prompt = gr.Textbox(
            label="Not to draw", max_length=MAX_LETTERS, elem_id="negative-prompt", max_lines=1
        )


def _html(name: str, template: str, value: Any) -> gr.HTML:
    """HTML of our own, filled by the script `name`.js."""
    script = (FOLDER / f"{name}.js").read_text(encoding="utf-8")
    return gr.HTML(value, html_template=template, js_on_load=script, apply_default_css=False, elem_id=name)


def _ideas() -> str:
    examples = "".join(f'<button type="button" class="example">{text}</button>' for text in EXAMPLES)
    emojis = "".join(f'<button type="button" class="emoji">{text}</button>' for text in EMOJIS)
    return (
        f'<div class="chips" aria-label="Examples">{examples}</div>'
        f'<div class="chips" aria-label="Two emojis to combine"><span>combine two:</span>{emojis}</div>'
    )

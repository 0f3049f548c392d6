"""The documented endpoint `/generate`, for gradio_client and plain HTTP: what the page does, for programs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio_client import handle_file

from mlx_genmoji.errors import UserError

from .endpoint_files import Downloads
from .job import Done, Failed
from .request import Request
from .worker import Worker

Output = tuple[list[dict[str, Any]], dict[str, Any], int]


def connection() -> Callable[[], bool]:
    """A function that returns whether the client of the Gradio event being handled is still connected."""
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    event = blocks._queue.event_ids_to_events.get(event_id) if blocks is not None and event_id is not None else None
    return lambda: event is None or event.alive


def endpoint(worker: Worker, downloads: Downloads) -> Callable[..., Awaitable[Output]]:
    """The function behind the endpoint; its docstring is the endpoint's documentation."""

    async def generate(
        prompt: str,
        count: int = 4,
        seed: int | None = None,
        skin_tone: str | None = None,
        person_type: str | None = None,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        model: str | None = None,
        adapter: str | None = None,
        plan: dict[str, Any] | None = None,
        recipe: bool = True,
        style: str | None = None,
        image: str | None = None,
        strength: float | None = None,
    ) -> Output:
        """Draw candidates of a prompt: PNG files, the plan that was drawn, and the seed of the first candidate.

        Candidate i has seed + i. Parameters that are null take the model's default. plan: the plan of an earlier
        answer, edited or not, to draw instead of the prompt; an empty final_prompt is composed again from the other
        fields. recipe: whether the files hold how they were made. style: one that the model or adapter declares.
        image: a picture to start from, as a data URI. strength: how much of it changes, from 0 to 1.
        """
        values = {
            "prompt": prompt,
            "count": count,
            "seed": seed,
            "skin_tone": skin_tone,
            "person_type": person_type,
            "negative_prompt": negative_prompt,
            "steps": steps,
            "guidance": guidance,
            "sampler": sampler,
            "model": model,
            "adapter": adapter,
            "plan": plan,
            "style": style,
            "image": image,
            "strength": strength,
        }
        try:
            status = await worker.submit(Request.read(values)).result(connection())
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        if isinstance(status, Failed):
            raise gr.Error(status.message, print_exception=False)
        if not isinstance(status, Done):
            raise gr.Error("The drawing was stopped.", print_exception=False)
        paths = await asyncio.to_thread(downloads.save, status.stickers, bool(recipe))
        return [handle_file(path) for path in paths], status.plan.to_dict(), status.seed

    return generate

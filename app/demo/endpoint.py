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
from .request import Request
from .worker import Done, Failed, Worker

Answer = tuple[list[dict[str, Any]], dict[str, Any], int]


def listening() -> Callable[[], bool]:
    """Whether whoever asked for the event that Gradio handles now still waits for what it gives."""
    blocks, name = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    event = blocks._queue.event_ids_to_events.get(name) if blocks is not None and name is not None else None
    return lambda: event is None or event.alive


def endpoint(worker: Worker, downloads: Downloads) -> Callable[..., Awaitable[Answer]]:
    """The function of the endpoint; its docstring is its documentation."""

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
    ) -> Answer:
        """Draw candidates of a prompt: PNG files, the plan that was drawn, and the seed of the first candidate.

        Candidate i has seed + i. What is null is the model's default. plan: the plan of an earlier answer, changed or
        not, which is drawn instead of the prompt; its final_prompt, where it is empty, is made anew. recipe: whether
        the files hold how they were made.
        """
        asked = {
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
        }
        try:
            status = await worker.submit(Request.read(asked)).end(listening())
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        if isinstance(status, Failed):
            raise gr.Error(status.sentence, print_exception=False)
        if not isinstance(status, Done):
            raise gr.Error("The drawing was stopped.", print_exception=False)
        saved = await asyncio.to_thread(downloads.save, status.stickers, bool(recipe))
        return [handle_file(path) for path in saved], status.plan.to_dict(), status.seed

    return generate

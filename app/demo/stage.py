"""The data that stage.js shows: empty tiles, a drawing and its progress, or the finished candidates.

{tiles: [data URI or null], token, words, seed, alt, drawing, progress, says, error, notes, and of a pack: pack, labels}
"""

from __future__ import annotations

import base64
from typing import Any

from .job import Drawing, Waiting
from .request import Request
from .session import Session


def finished(session: Session, **fields: Any) -> dict[str, Any]:
    """The session's current candidates, or four empty tiles; `fields` are added, such as an error."""
    entry = session.current
    if entry is None:
        return {"tiles": [None] * 4, **fields}
    omitted = [f"Left out, {name.replace('_', ' ')}: {why}." for name, why in entry.plan.dropped.items()]
    if entry.pack is not None:
        fields = {"pack": True, "labels": [_pack_label(mood, entry.seed) for mood in entry.moods], **fields}
    return {
        "tiles": [png_uri(tile) for tile in entry.tiles],
        "token": entry.token,
        "words": entry.plan.final_prompt,
        "seed": entry.seed,
        "alt": entry.request.prompt,
        "notes": [*entry.notes, *omitted],
        **fields,
    }


def in_progress(status: Waiting | Drawing, request: Request) -> dict[str, Any]:
    """The position in the queue, or the previews and how far the drawing is."""
    if isinstance(status, Waiting):
        text = f"{_drawings(status.ahead)} before yours." if status.ahead else "Starting."
        return {"tiles": [None] * request.tiles, "drawing": True, "progress": 0, "says": text}
    if status.plan is None:
        text = "Reading the prompt."
    elif not status.steps:
        text = f"Drawing: {status.plan.final_prompt}"
    elif request.pack:
        text = f"Sticker {min(status.step + 1, status.steps)} of {status.steps}"
    elif request.count > 1:
        number = min(status.candidate + 1, request.count)
        text = f"Candidate {number} of {request.count}, {_duration(status.seconds_left or 0)} left"
    else:
        text = f"Step {status.step} of {status.steps}, {_duration(status.seconds_left or 0)} left"
    tiles = [None if jpeg is None else _uri("image/jpeg", jpeg) for jpeg in status.previews]
    return {
        "tiles": tiles or [None] * request.tiles,
        "drawing": True,
        "progress": status.step / status.steps if status.steps else 0,
        "says": text,
        "alt": request.prompt,
    }


def _pack_label(mood: str, seed: int) -> str:
    return f"{mood.replace('-', ' ')} \u00b7 seed {seed}"


def png_uri(png: bytes) -> str:
    """A data URI of a PNG."""
    return _uri("image/png", png)


def _uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _drawings(count: int) -> str:
    return "One drawing" if count == 1 else f"{count} drawings"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

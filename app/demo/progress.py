"""The callbacks of drawings: they set the job's status, with previews, and stop a job that is cancelled."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .job import Drawing, Job

if TYPE_CHECKING:
    from mlx_genmoji import Genmoji

MAX_PREVIEW_SIDE = 256
"""In pixels."""

SLOW_PREVIEW_SECONDS = 1.0
"""If a preview takes longer, not every step gets one."""


class Progress:
    """The callback of `Genmoji.generate`: sets the job's status after each step, and stops if it is cancelled."""

    def __init__(self, job: Job, genmoji: Genmoji, drawing: Drawing):
        self.job = job
        self.genmoji = genmoji
        self.drawing = drawing
        self.started = time.monotonic()
        self.preview_seconds = 0.0
        self.previews_are_quick = True
        job.set_status(drawing)

    def __call__(self, step: int, steps: int, latents: Any) -> bool:
        """Whether to go on."""
        if self.job.cancelled.is_set():
            return False
        previews = list(self.drawing.previews)
        candidate_steps = steps // len(previews)
        is_last = (step + 1) % candidate_steps == 0
        now = time.monotonic()
        # With a slow autoencoder, previews may take half of the time and no more.
        may_preview = is_last or self.previews_are_quick or 2 * self.preview_seconds <= now - self.started
        if self.job.previews and may_preview:
            previews[step // candidate_steps] = _jpeg(self.genmoji.preview(latents))
            seconds = time.monotonic() - now
            self.previews_are_quick = seconds <= SLOW_PREVIEW_SECONDS
            self.preview_seconds += seconds
        seconds_left = (time.monotonic() - self.started) / (step + 1) * (steps - step - 1)
        self.drawing = replace(
            self.drawing, step=step + 1, steps=steps, seconds_left=seconds_left, previews=tuple(previews)
        )
        self.job.set_status(self.drawing)
        return not self.job.cancelled.is_set()


class PackProgress:
    """The callback of `make_pack`: sets the job's status after each sticker, and stops if the job is cancelled."""

    def __init__(self, job: Job, drawing: Drawing):
        self.job = job
        self.drawing = drawing
        job.set_status(drawing)

    def __call__(self, progress: Any) -> bool:
        """Whether to go on."""
        if progress.sticker is not None:
            previews = [*self.drawing.previews[: progress.done - 1], _jpeg(progress.sticker.image.copy())]
            previews += [None] * (progress.total - len(previews))
            self.drawing = replace(self.drawing, step=progress.done, steps=progress.total, previews=tuple(previews))
            self.job.set_status(self.drawing)
        return not self.job.cancelled.is_set()


def _jpeg(picture: Any) -> bytes:
    picture.thumbnail((MAX_PREVIEW_SIDE, MAX_PREVIEW_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()

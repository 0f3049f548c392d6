"""The callbacks of drawings: they set the job's status, with previews, and stop a job that is cancelled."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .job import Drawing, Job

if TYPE_CHECKING:
    from mlx_genmoji import Genmoji, Sticker

MAX_PREVIEW_SIDE = 256
"""In pixels."""

PREVIEW_SHARE = 1 / 3
"""The share of a drawing's time that previews take at most."""

QUICK_SECONDS = 1.0
"""Candidates that are drawn in less have no preview in their first quarter, which shows little but noise."""


class Progress:
    """The callback of `Genmoji.generate`: sets the job's status after each step, and stops if it is cancelled."""

    def __init__(self, job: Job, genmoji: Genmoji, drawing: Drawing):
        self.job = job
        self.genmoji = genmoji
        self.drawing = drawing
        self.started = time.monotonic()
        self.candidate = 0
        """The candidate that is drawn, and below the step and the time that it began with."""
        self.first_step = 0
        self.candidate_started = self.started
        self.preview_seconds = 0.0
        self.last_preview_seconds = 0.0
        job.set_status(drawing)

    def __call__(self, step: int, steps: int, latents: Any) -> bool:
        """Whether to go on."""
        if self.job.cancelled.is_set():
            return False
        previews = list(self.drawing.previews)
        if self.job.previews and self._may_preview(step, steps):
            now = time.monotonic()
            previews[self.candidate] = _jpeg(self.genmoji.preview(latents))
            self.last_preview_seconds = time.monotonic() - now
            self.preview_seconds += self.last_preview_seconds
        seconds_left = (time.monotonic() - self.started) / (step + 1) * (steps - step - 1)
        self.drawing = replace(
            self.drawing, step=step + 1, steps=steps, seconds_left=seconds_left, previews=tuple(previews)
        )
        self.job.set_status(self.drawing)
        return not self.job.cancelled.is_set()

    def finished(self, sticker: Sticker) -> None:
        """Show a finished candidate. For the argument `each` of `Genmoji.generate`."""
        previews = list(self.drawing.previews)
        if self.job.previews:
            previews[self.candidate] = _jpeg(sticker.image.copy())
        self.candidate += 1
        self.first_step, self.candidate_started = self.drawing.step, time.monotonic()
        self.drawing = replace(self.drawing, candidate=self.candidate, previews=tuple(previews))
        self.job.set_status(self.drawing)

    def _may_preview(self, step: int, steps: int) -> bool:
        """Whether previews have time for another one, and the candidate has something to show."""
        now = time.monotonic()
        candidate_steps = (steps - self.first_step) / (len(self.drawing.previews) - self.candidate)
        done = (step + 1 - self.first_step) / candidate_steps
        if done <= 1 / 4 and (now - self.candidate_started) / done < QUICK_SECONDS:
            return False
        # The picture itself comes with the last step.
        if done >= 1 and (now - self.candidate_started) < QUICK_SECONDS:
            return False
        total = now - self.started + self.last_preview_seconds
        return self.preview_seconds + self.last_preview_seconds <= PREVIEW_SHARE * total


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

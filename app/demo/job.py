"""A drawing that a visitor waits for, and its status: `Waiting`, `Drawing`, then `Done`, `Failed` or `Cancelled`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlx_genmoji.prompt import PromptPlan

from .request import Request

if TYPE_CHECKING:
    from mlx_genmoji import Sticker

POLL_SECONDS = 0.2
"""How often `Job.follow` checks whether its client is still there."""


@dataclass(frozen=True)
class Waiting:
    ahead: int
    """How many jobs are drawn first, including the one being drawn."""


@dataclass(frozen=True)
class Drawing:
    plan: PromptPlan | None = None
    """None until the plan is made."""
    seed: int = 0
    step: int = 0
    """How many of `steps` are done; both count the steps of all candidates."""
    steps: int = 0
    candidate: int = 0
    """How many candidates are finished."""
    seconds_left: float | None = None
    previews: tuple[bytes | None, ...] = ()
    """What each candidate looks like so far, as JPEG."""


@dataclass(frozen=True)
class Done:
    stickers: list[Sticker]
    plan: PromptPlan
    seed: int
    notes: list[str]
    """Sentences for the visitor: warnings, and how the picture was made."""
    styles: tuple[str, ...] = ()
    """The styles of the model and adapter that drew it."""
    moods: tuple[str, ...] = ()
    """Of a pack: the names of the stickers' moods."""
    pack: bytes | None = None
    """A zip of the pack's folder."""


@dataclass(frozen=True)
class Failed:
    message: str


@dataclass(frozen=True)
class Cancelled:
    pass


Status = Waiting | Drawing | Done | Failed | Cancelled
FINAL = (Done, Failed, Cancelled)


@dataclass(eq=False)
class Job:
    """A request and its status. The worker's thread sets the status; any number of tasks follow it."""

    request: Request
    previews: bool = False
    """Whether `Drawing` holds previews."""
    status: Status = field(default_factory=lambda: Waiting(0))
    cancelled: threading.Event = field(default_factory=threading.Event)
    on_cancel: Callable[[], None] = lambda: None
    """Called after the job is cancelled."""
    _listeners: list[Callable[[], None]] = field(default_factory=list)

    def set_status(self, status: Status) -> None:
        self.status = status
        for listener in list(self._listeners):
            listener()

    def cancel(self) -> None:
        """Remove the job from the queue, or stop it after the current step."""
        self.cancelled.set()
        self.on_cancel()

    async def follow(self, is_connected: Callable[[], bool] = lambda: True) -> AsyncIterator[Status]:
        """Yield each new status, only the newest if several came at once, up to a final one.

        The job is cancelled when the iterator is closed, or when `is_connected` returns false.
        """
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def listener() -> None:
            loop.call_soon_threadsafe(changed.set)

        self._listeners.append(listener)
        try:
            changed.set()
            while True:
                try:
                    await asyncio.wait_for(changed.wait(), POLL_SECONDS)
                except TimeoutError:
                    if not is_connected():
                        return
                    continue
                changed.clear()
                status = self.status
                yield status
                if isinstance(status, FINAL) or not is_connected():
                    return
        finally:
            self._listeners.remove(listener)
            self.cancel()

    async def result(self, is_connected: Callable[[], bool]) -> Status:
        """The final status; an earlier one if the client disconnected."""
        async for _ in self.follow(is_connected):
            pass
        return self.status

"""What the demo remembers of each open page: its history of drawings, and the job it waits for."""

from __future__ import annotations

import io
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlx_genmoji import Sticker
from mlx_genmoji.prompt import PromptPlan

from .job import Done, Job
from .request import Request

MAX_SESSIONS = 100
MAX_DRAWINGS = 24
"""In the history of a session."""

MAX_BYTES = 512 * 1024 * 1024
"""Of all sessions' pictures together; the oldest drawings of the session that drew least recently are dropped first."""

MAX_TILE_SIDE = 512
"""Of a candidate on the page, in pixels."""

MAX_ICON_SIDE = 96
"""Of a drawing in the page's history, in pixels."""


@dataclass(frozen=True)
class HistoryEntry:
    """A finished drawing, its pictures as PNG files, which are much smaller than pixels."""

    token: str
    """Names the drawing in the page and in the addresses of its downloads; unguessable."""
    request: Request
    plan: PromptPlan
    seed: int
    notes: list[str]
    pictures: tuple[bytes, ...]
    recipes: tuple[dict[str, Any], ...]
    tiles: tuple[bytes, ...]
    """The pictures, at most `MAX_TILE_SIDE` wide."""
    icon: bytes
    """The first picture, at most `MAX_ICON_SIDE` wide."""
    outlines: tuple[NDArray[np.bool_] | None, ...]
    """See `Sticker.outline`."""
    styles: tuple[str, ...] = ()
    """Those of the model and adapter that drew it."""
    moods: tuple[str, ...] = ()
    """Of a pack: the names of the pictures' moods."""
    pack: bytes | None = None
    """A zip of the pack's folder."""

    @classmethod
    def of(cls, request: Request, done: Done) -> HistoryEntry:
        """The entry of a finished job. Slow: call it outside of the event loop's thread."""
        images = [sticker.image for sticker in done.stickers]
        pictures = tuple(_png(image) for image in images)
        tiles = tuple(
            picture if max(image.size) <= MAX_TILE_SIDE else _png(image, MAX_TILE_SIDE)
            for image, picture in zip(images, pictures, strict=True)
        )
        recipes = tuple(sticker.recipe for sticker in done.stickers)
        icon = _png(images[0], MAX_ICON_SIDE)
        token = secrets.token_urlsafe(16)
        outlines = tuple(sticker.outline for sticker in done.stickers)
        shown = (pictures, recipes, tiles, icon, outlines)
        return cls(token, request, done.plan, done.seed, done.notes, *shown, done.styles, done.moods, done.pack)

    def sticker(self, index: int) -> Sticker:
        """Candidate `index`, as it was drawn."""
        image = Image.open(io.BytesIO(self.pictures[index])).convert("RGB")
        return Sticker(image, self.recipes[index], self.outlines[index])

    @property
    def size(self) -> int:
        """In bytes; a tile that is the picture itself counts once."""
        return sum(
            {id(data): len(data) for data in (*self.pictures, *self.tiles, self.icon, self.pack or b"")}.values()
        )


@dataclass
class Session:
    """What one open page has drawn."""

    history: list[HistoryEntry] = field(default_factory=list)
    """The newest first."""
    current: HistoryEntry | None = None
    """The drawing that the page shows."""
    job: Job | None = None
    is_open: bool = True
    """Whether the page is open; the drawings of a closed one wait for it to be opened again."""

    def entry(self, token: object) -> HistoryEntry | None:
        return next((entry for entry in self.history if entry.token == token), None)


class Sessions:
    """The sessions of all open pages, by the names that Gradio gives them. Only pages that draw are remembered."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, name: str | None) -> Session:
        """The session called `name`; if there is none, a new one, which is not remembered."""
        return self._sessions.get(name or "") or Session()

    def start(self, name: str | None, job: Job) -> Session:
        """Give the session called `name` a job, remember the session, and return it."""
        session = self.get(name)
        session.job = job
        if name:
            self._remember(name, session)
        return session

    def _remember(self, name: str, session: Session) -> None:
        """Keep a session, and forget the one that drew least recently if there are too many."""
        self._sessions[name] = session
        self._sessions.move_to_end(name)
        idle = [other for other, remembered in self._sessions.items() if remembered.job is None]
        for other in idle[: max(0, len(self._sessions) - MAX_SESSIONS)]:
            self.forget(other)

    def recall(self, name: str | None, tokens: Iterable[str]) -> Session:
        """Give the session called `name`, of a page that was just opened, the drawings that have these tokens."""
        session = self.get(name)
        entries = [entry for token in tokens if (entry := self.entry(token)) is not None]
        if name and entries and not session.history and session.job is None:
            session.history = entries[:MAX_DRAWINGS]
            session.current = session.history[0]
            self._remember(name, session)
            self._drop_empty()
        return session

    def leave(self, name: str | None) -> Job | None:
        """The page of the session called `name` was closed. Returns its job if one is not finished."""
        session = self.get(name)
        session.is_open = False
        self._drop_empty()
        return session.job

    def _drop_empty(self) -> None:
        """Forget the sessions of closed pages without drawings that no open page has."""
        kept = {entry.token for session in self._sessions.values() if session.is_open for entry in session.history}
        for name, session in list(self._sessions.items()):
            if not session.is_open and session.job is None and all(entry.token in kept for entry in session.history):
                self.forget(name)

    def add(self, session: Session, entry: HistoryEntry) -> None:
        """Put a drawing into the session's history, and show it."""
        session.current = entry
        session.history = [entry, *session.history][:MAX_DRAWINGS]
        size = sum(kept.size for kept in {kept.token: kept for kept in self._entries()}.values())
        for other in self._sessions.values():
            while size > self.max_bytes and other.history and other.history[-1] is not entry:
                dropped = other.history.pop()
                size -= 0 if self.entry(dropped.token) else dropped.size
                if other.current is dropped:
                    other.current = None

    def entry(self, token: str) -> HistoryEntry | None:
        """The drawing with that token, of any session."""
        return next((entry for entry in self._entries() if entry.token == token), None)

    def forget(self, name: str | None) -> Job | None:
        """Drop the session called `name`, and return its job if one is not finished."""
        session = self._sessions.pop(name or "", None)
        return session.job if session is not None else None

    def _entries(self) -> Iterator[HistoryEntry]:
        return (entry for session in self._sessions.values() for entry in session.history)


def _png(image: Image.Image, max_side: int | None = None) -> bytes:
    if max_side is not None:
        image = image.copy()
        image.thumbnail((max_side, max_side))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()

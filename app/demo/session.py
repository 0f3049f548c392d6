"""What the page of one visitor remembers, for as long as it is open."""

from __future__ import annotations

import io
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from mlx_genmoji import Sticker
from mlx_genmoji.prompt import PromptPlan

from .request import Request
from .worker import Done, Job

MOST_SESSIONS = 100
MOST_DRAWINGS = 24

# Of all visitors' pictures together; those drawn longest ago by whoever was away longest go first.
MOST_BYTES = 512 * 1024 * 1024

# How wide a candidate is on the page, and in the row of what was drawn before, at most, in pixels.
TILE, ICON = 512, 96


@dataclass(frozen=True)
class Drawn:
    """One drawing of the history, its pictures as PNG files: a fraction of what their pixels take."""

    token: str
    """What it is called in the page, and in the addresses of its downloads. Nobody guesses it."""
    request: Request
    plan: PromptPlan
    seed: int
    notes: list[str]
    pictures: tuple[bytes, ...]
    recipes: tuple[dict[str, Any], ...]
    tiles: tuple[bytes, ...]
    """The pictures, at most `TILE` wide."""
    icon: bytes
    """The first of them, at most `ICON` wide."""

    @classmethod
    def of(cls, request: Request, done: Done) -> Drawn:
        """What is kept of a job. Slow: not for the thread of the event loop."""
        images = [sticker.image for sticker in done.stickers]
        pictures = tuple(_png(image) for image in images)
        tiles = tuple(
            picture if max(image.size) <= TILE else _png(image, TILE)
            for image, picture in zip(images, pictures, strict=True)
        )
        recipes = tuple(sticker.recipe for sticker in done.stickers)
        icon = _png(images[0], ICON)
        token = secrets.token_urlsafe(16)
        return cls(token, request, done.plan, done.seed, done.notes, pictures, recipes, tiles, icon)

    def sticker(self, index: int) -> Sticker:
        """A candidate as it was drawn."""
        return Sticker(Image.open(io.BytesIO(self.pictures[index])).convert("RGB"), self.recipes[index])

    @property
    def size(self) -> int:
        """In bytes."""
        return sum({id(data): len(data) for data in (*self.pictures, *self.tiles, self.icon)}.values())


@dataclass
class Session:
    history: list[Drawn] = field(default_factory=list)
    """The newest first."""
    shown: Drawn | None = None
    job: Job | None = None

    def find(self, token: object) -> Drawn | None:
        return next((drawn for drawn in self.history if drawn.token == token), None)


class Sessions:
    """By the names that Gradio gives to open pages. Only whoever draws is remembered."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, name: str | None) -> Session:
        """The session of that name; a new one, which is not remembered, where there is none."""
        return self._sessions.get(name or "") or Session()

    def draw(self, name: str | None, job: Job) -> Session:
        """The session of that name, remembered from now on, with the job that is under way in it."""
        session = self.find(name)
        session.job = job
        if name:
            self._sessions[name] = session
            self._sessions.move_to_end(name)
        idle = [other for other, one in self._sessions.items() if one.job is None]
        for other in idle[: max(0, len(self._sessions) - MOST_SESSIONS)]:
            self.forget(other)
        return session

    def keep(self, session: Session, drawn: Drawn) -> None:
        """Remember a drawing, and show it."""
        session.shown = drawn
        session.history = [drawn, *session.history][:MOST_DRAWINGS]
        size = sum(one.size for one in self._drawn())
        for other in self._sessions.values():
            while size > self.most_bytes and other.history and other.history[-1] is not drawn:
                dropped = other.history.pop()
                size -= dropped.size
                if other.shown is dropped:
                    other.shown = None

    def drawn(self, token: str) -> Drawn | None:
        """The drawing of that name, whoever it is of."""
        return next((drawn for drawn in self._drawn() if drawn.token == token), None)

    def forget(self, name: str | None) -> Job | None:
        """Drop what is remembered; the job that is still under way, if one is."""
        session = self._sessions.pop(name or "", None)
        return session.job if session is not None else None

    def _drawn(self) -> Iterator[Drawn]:
        return (drawn for session in self._sessions.values() for drawn in session.history)


def _png(image: Image.Image, side: int | None = None) -> bytes:
    if side is not None:
        image = image.copy()
        image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()

"""What the page of one visitor remembers, for as long as it is open."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from mlx_genmoji import Sticker
from mlx_genmoji.prompt import PromptPlan

from .request import Request
from .worker import Job

MOST_SESSIONS = 100
MOST_DRAWINGS = 24


@dataclass(frozen=True)
class Drawn:
    """One drawing of the history."""

    id: int
    request: Request
    plan: PromptPlan
    seed: int
    stickers: list[Sticker]
    notes: list[str]


@dataclass
class Session:
    history: list[Drawn] = field(default_factory=list)
    """The newest first."""
    shown: Drawn | None = None
    chosen: int = 0
    job: Job | None = None
    drawn: int = 0

    def add(self, request: Request, plan: PromptPlan, seed: int, stickers: list[Sticker], notes: list[str]) -> None:
        """Remember a drawing, and show it."""
        self.drawn += 1
        self.show(Drawn(self.drawn, request, plan, seed, stickers, notes))
        assert self.shown is not None
        self.history = [self.shown, *self.history][:MOST_DRAWINGS]

    def show(self, drawn: Drawn) -> None:
        self.shown, self.chosen = drawn, 0

    def find(self, number: object) -> Drawn | None:
        return next((drawn for drawn in self.history if drawn.id == number), None)

    def choose(self, index: object) -> bool:
        """Whether there is such a candidate, which then is the chosen one."""
        if self.shown is None or not isinstance(index, int) or not 0 <= index < len(self.shown.stickers):
            return False
        self.chosen = index
        return True


class Sessions:
    """By the names that Gradio gives to open pages."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __getitem__(self, name: str | None) -> Session:
        session = self._sessions.setdefault(str(name), Session())
        self._sessions.move_to_end(str(name))
        while len(self._sessions) > MOST_SESSIONS:
            self.forget(next(iter(self._sessions)))
        return session

    def forget(self, name: str | None) -> Job | None:
        """Drop what is remembered; the job that is still under way, if one is."""
        session = self._sessions.pop(str(name), None)
        return session.job if session is not None else None

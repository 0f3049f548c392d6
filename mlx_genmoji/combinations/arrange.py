"""stub"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .names import name_of
from .reading import ORDER, Combination, Joined, Part, part_of
from .relations import EMOTIONS


@dataclass(frozen=True)
class Wish:
    kind: str
    label: str = ""


FALL = {
    "with": ("with", "and"),
    "wearing": ("wearing", "with", "and"),
    "in": ("in", "and"),
    "on": ("on", "riding", "on top", "and"),
    "riding": ("riding", "on top", "and"),
    "beside": ("and",),
    "plus": ("riding", "and"),
    "and": ("and",),
    "on top": ("on top", "and"),
}
ATT = {"fire": "fire", "wings": "wing", "hearts": "red heart", "sparkles": "sparkles"}


def arrange(subject: Part, wishes: Sequence[Wish], emoji_set: str) -> tuple[Combination | None, list[Wish]]:
    joined: list[Joined] = []
    left: list[Wish] = []
    best: Combination | None = None
    for w in wishes:
        cands: list[Joined] = []
        if w.kind == "colour":
            cands = [Joined("colour", w.label)]
        elif w.kind == "count":
            cands = [Joined("count", w.label)]
        elif w.kind == "emotion":
            cands = [Joined("emotion", n, part_of(w.label)) for n, ls in EMOTIONS.items() if w.label in ls]
        elif w.kind in ATT:
            cands = [Joined(w.kind, w.kind, part_of(ATT[w.kind]))]
        elif w.kind in FALL:
            cands = [Joined(k, name_of(w.label), part_of(w.label)) for k in FALL[w.kind]]
        for c in cands:
            try:
                best = Combination(subject, tuple(sorted([*joined, c], key=lambda i: ORDER.index(i.kind))), emoji_set)
            except ValueError:
                continue
            joined.append(c)
            break
        else:
            left.append(w)
    return best if joined else None, left

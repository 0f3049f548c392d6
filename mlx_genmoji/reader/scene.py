"""A prompt as it was understood: a subject, wishes about it, and what was not understood."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wish:
    """What is put together with the subject. kind: a relation ("wearing") or a look ("fire"); label: of what."""

    kind: str
    label: str = ""


@dataclass
class Scene:
    """A prompt as it was understood."""

    subject: str | None = None
    """A label of the vocabulary."""
    subject_words: str = ""
    """What the prompt calls it."""
    wishes: list[Wish] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Words that nothing was made of, in their order."""
    nearest: list[tuple[str, str]] = field(default_factory=list)
    """What the prompt says, and the label that is drawn instead."""
    hair: str | None = None
    read_as: list[tuple[str, str]] = field(default_factory=list)
    """Misspelled words, and what each was read as."""
    denied: list[tuple[str, str]] = field(default_factory=list)
    """What the prompt says is not there, in its words, and the label of it; "" where it has none."""
    single: list[tuple[str, str]] = field(default_factory=list)
    """Numbers of things that are drawn once, such as "two", and the label of the thing."""

    def wish(self, kind: str, label: str = "") -> None:
        wish = Wish(kind, label)
        if kind == "emotion" and any(other.kind == "emotion" for other in self.wishes):
            return
        if wish not in self.wishes and not (label and label == self.subject and kind not in ("and", "count")):
            self.wishes.append(wish)

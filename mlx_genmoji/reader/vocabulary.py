"""What a model with a closed vocabulary draws: `vocabulary.tsv` in its folder.

Each line is a caption that the model was trained on, without its style and its skin tone, and the styles it was trained
in, each with the skin tones in that style, numbered from 1 (light) to 5 (dark):

    waving hand	3d:12345	flat:12345
    harp	flat

No other caption reaches such a model's text encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_text
from ..prompt.lexicon import SKIN_TONES

FILE = "vocabulary.tsv"


class Vocabulary:
    """The labels of a model, and the captions that they make."""

    def __init__(self, labels: Mapping[str, Mapping[str, frozenset[str]]]):
        """labels: the styles of each, and the skin tones in that style."""
        self.labels = labels
        self.styles = tuple(dict.fromkeys(style for styles in labels.values() for style in styles))

    @classmethod
    def load(cls, folder: Path) -> Vocabulary | None:
        """That of a model's folder; None where the folder has none. Raises UserError for a damaged file."""
        path = folder / FILE
        if not path.exists():
            return None
        labels = {}
        try:
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                label, *columns = line.split("\t")
                labels[label] = dict(map(_style, columns))
                if not label or not columns:
                    raise ValueError(f"line {number} has no style")
        except (IndexError, ValueError) as error:
            raise UserError(f"{path} is no vocabulary of labels and styles: {error}.") from None
        return cls(labels)

    def __contains__(self, label: str) -> bool:
        return label in self.labels

    def spelled(self, text: str) -> str | None:
        """The label that a text is but for case and the punctuation at its ends; None where it is none."""
        bare = " ".join(text.lower().split()).strip(" .!?\"'")
        return bare if bare in self.labels else None

    def style_for(self, label: str, style: str) -> str:
        """`style` where the label was trained in it, else another that it was trained in."""
        styles = self.labels[label]
        return style if style in styles else next(iter(styles))

    def caption(self, label: str, style: str, skin_tone: str | None = None) -> str:
        """The caption of a label, as the model was trained: "waving hand, dark skin tone, 3d".

        Without the skin tone where the label was trained without; in another style where it was not trained in `style`.
        """
        style = self.style_for(label, style)
        tone = f", {skin_tone} skin tone" if skin_tone in self.labels[label][style] else ""
        return f"{label}{tone}, {style}"

    def knows(self, caption: str) -> bool:
        """Whether the model was trained on exactly this caption."""
        rest, _, style = caption.rpartition(", ")
        label, _, tone = rest.rpartition(", ")
        if tone.endswith(" skin tone") and label in self.labels:
            return tone.removesuffix(" skin tone") in self.labels[label].get(style, ())
        return rest in self.labels and style in self.labels[rest]


def _style(column: str) -> tuple[str, frozenset[str]]:
    style, _, tones = column.partition(":")
    return style, frozenset(SKIN_TONES[int(tone) - 1] for tone in tones)


def write_vocabulary(folder: Path, rows: Iterable[Mapping[str, Any]], styles: Mapping[str, str]) -> None:
    """Write a model's `vocabulary.tsv`: of dataset rows (`text`, `skin_tone`, `source`), and the style of each source.

    Captions with two skin tones, of couples, are left out.
    """
    labels: dict[str, dict[str, set[int]]] = {}
    for row in rows:
        tones, label = row.get("skin_tone") or [], str(row["text"])
        if len(tones) > 1:
            continue
        label = label.removesuffix(f", {tones[0]} skin tone") if tones else label
        trained = labels.setdefault(label, {}).setdefault(styles[row["source"]], set())
        trained.update(SKIN_TONES.index(tone) + 1 for tone in tones)
    lines = []
    for label, trained_in in sorted(labels.items()):
        columns = [
            style + (":" if tones else "") + "".join(map(str, sorted(tones)))
            for style, tones in sorted(trained_in.items())
        ]
        lines.append("\t".join([label, *columns]))
    write_text(folder / FILE, "\n".join(lines) + "\n")

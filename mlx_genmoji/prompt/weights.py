r"""Weights in prompts, as A1111's web UI writes them: `(word:1.3)`, `((word))`, `[word]`, `BREAK`, and `<lora:name:1>`.

    (text)        the text between the brackets counts 1.1 times as much; `((text))` 1.21 times
    [text]        the same divided by 1.1
    (text:1.3)    1.3 times
    \( \[ \\      a bracket or a backslash itself
    BREAK         what follows begins a new chunk of 75 tokens

The rules are those of `parse_prompt_attention` in A1111's `modules/prompt_parser.py`, bracket for bracket: one that is
never closed counts to the end, one that was never opened is a letter.
"""

from __future__ import annotations

import re
from typing import NamedTuple

FACTOR = 1.1

_TOKEN = re.compile(r"\\[()\[\]\\]|\\|[(\[]|:\s*([+-]?[.\d]+)\s*\)|[)\]]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_ADAPTER_TAG = re.compile(r"<(lora|lyco|hypernet):([^:<>]+)((?::[^<>]*)?)>")
_MARKED = re.compile(
    r"(?<!\\)\([^()\[\]]*:\s*[+-]?\.?\d[.\d]*\s*\)|(?<!\\)\(\([^()]+\)\)|(?<!\\)\[[^\[\]]+\]|\bBREAK\b"
)


class Piece(NamedTuple):
    """A part of a prompt and how much it counts; `text` None is a BREAK."""

    text: str | None
    weight: float


def parse_weights(prompt: str) -> list[Piece]:
    """The pieces of a prompt with weights, in their order; those that follow each other with one weight are joined."""
    pieces: list[list[str | float | None]] = []
    round_brackets: list[int] = []
    square_brackets: list[int] = []

    def multiply(start: int, factor: float) -> None:
        for piece in pieces[start:]:
            piece[1] = float(piece[1] or 0) * factor

    for match in _TOKEN.finditer(prompt):
        text, weight = match.group(0), match.group(1)
        if text.startswith("\\"):
            pieces.append([text[1:], 1.0])
        elif text == "(":
            round_brackets.append(len(pieces))
        elif text == "[":
            square_brackets.append(len(pieces))
        elif weight is not None and round_brackets and _is_number(weight):
            multiply(round_brackets.pop(), float(weight))
        elif text == ")" and round_brackets:
            multiply(round_brackets.pop(), FACTOR)
        elif text == "]" and square_brackets:
            multiply(square_brackets.pop(), 1 / FACTOR)
        else:
            for i, part in enumerate(_BREAK.split(text)):
                if i:
                    pieces.append([None, -1.0])
                pieces.append([part, 1.0])
    for start in round_brackets:
        multiply(start, FACTOR)
    for start in square_brackets:
        multiply(start, 1 / FACTOR)
    return _joined(pieces) or [Piece("", 1.0)]


def _joined(pieces: list[list[str | float | None]]) -> list[Piece]:
    joined: list[Piece] = []
    for text, weight in pieces:
        piece = Piece(text if isinstance(text, str) else None, float(weight or 0) if text is not None else 1.0)
        if joined and piece.text is not None and joined[-1].text is not None and joined[-1].weight == piece.weight:
            joined[-1] = Piece(joined[-1].text + piece.text, piece.weight)
        else:
            joined.append(piece)
    return joined


def without_adapter_tags(prompt: str) -> str:
    """The prompt without `<lora:name:1>` tags, which A1111 takes out of it as well."""
    return _ADAPTER_TAG.sub("", prompt)


def notes_on_marks(prompt: str, weighted: bool) -> list[str]:
    """Sentences about marks of A1111's prompts in `prompt`. weighted: whether weights are read."""
    notes = []
    for match in _ADAPTER_TAG.finditer(prompt):
        kind, name, weight = match.group(1), match.group(2), match.group(3).lstrip(":").split(":")[0]
        done = "was left out" if weighted else "is read as plain text"
        advice = f": give an adapter with --adapter {name}.safetensors:{weight or 1}" if kind != "hypernet" else ""
        notes.append(f"{match.group(0)} in the prompt {done} and loads nothing{advice}.")
    if not weighted and (marks := list(dict.fromkeys(_MARKED.findall(without_adapter_tags(prompt))))):
        are = "is" if len(marks) == 1 else "are"
        notes.append(
            f"{', '.join(marks)} in the prompt {are} read letter by letter; --prompt-weights reads such marks as"
            " weights."
        )
    return notes


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

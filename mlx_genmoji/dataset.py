"""The dataset format: a Hugging Face ImageFolder, pictures beside `metadata.jsonl`, and the columns that we give it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError, quoted

METADATA = "metadata.jsonl"

COLUMNS: Mapping[str, Any] = {
    "text": "",
    "label": "",
    "description": "",
    "emoji": None,
    "hexcode": None,
    "base_hexcode": None,
    "tags": [],
    "group": None,
    "subgroup": None,
    "skin_tone": [],
    "person_type": None,
}
"""The columns that describe a picture, in this order, and their values where nothing is known."""


def read_rows(folder: Path, needed: Sequence[str] = ("file_name",)) -> list[dict[str, Any]]:
    """The rows of `folder`'s `metadata.jsonl`; each has text in the columns `needed`.

    Raises UserError where there is no such file, it is not JSON lines, or a row lacks a column.
    """
    path = folder / METADATA
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]
    except FileNotFoundError:
        raise UserError(f"{folder} is not a dataset: {METADATA} is missing in it.") from None
    except OSError as error:
        raise UserError(f"{folder} is not a dataset: {METADATA} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON lines: {quoted(error)}.") from None
    for number, row in enumerate(rows, 1):
        lacking = [name for name in needed if not isinstance(row, dict) or not isinstance(row.get(name), str)]
        if lacking:
            raise UserError(
                f"{path}, line {number}: there is no text in {', '.join(lacking)}; genmoji scrape folder makes a whole"
                f" dataset of {folder}."
            )
    return rows

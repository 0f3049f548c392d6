"""Captions: a template filled in with a row's fields, in several variants where its tags are shuffled or dropped."""

from typing import Any

import numpy as np

from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.prompt.safety import clean_final

from ..recipe import Data


def caption(data: Data, row: dict[str, Any], rng: np.random.Generator | None = None) -> str:
    """The template of `data` for a row, its tags shuffled and dropped by `rng`. Raises UserError where it has no words.

    caption: "{text}, {tags}, {style}" -> "flying pig, wings, animal, 3d".
    """
    fields = {name: _words(value) for name, value in row.items() if name != "tags"}
    tags = [str(tag) for tag in row.get("tags") or []]
    if rng is not None:
        tags = [tag for tag in tags if rng.random() >= data.tag_dropout]
        if data.tag_shuffle:
            rng.shuffle(tags)
    if "tags" in row:
        fields["tags"] = ", ".join(tags)
    try:
        text = data.caption.format(**fields, style=data.styles.get(row.get("source", ""), ""))
    except KeyError as error:
        raise UserError(
            f"The picture {row['file_name']} has no {quoted(error)}, which the caption template {data.caption!r} asks"
            " for; give the rows of the dataset's metadata.jsonl one, or change 'data.caption'."
        ) from None
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"The caption template {data.caption!r} does not fit the dataset's rows: {error}.") from None
    text = tidy(text)
    if not text:
        raise UserError(
            f"The picture {row['file_name']} has no caption: {data.caption!r} is empty for it; write one into the"
            " dataset's metadata.jsonl."
        )
    return text


def tidy(text: str) -> str:
    """As prompts are read: on one line, without double spaces; and without the commas around what is empty."""
    return clean_final(", ".join(filter(None, map(clean_final, text.split(", ")))))


def variants(data: Data, row: dict[str, Any], number: int) -> list[str]:
    """The captions that the picture of row `number` is trained with: one, or several where tags change."""
    if not (data.tag_shuffle or data.tag_dropout):
        return [caption(data, row)]
    return [caption(data, row, np.random.default_rng((number, i))) for i in range(data.caption_variants)]


def _words(value: Any) -> Any:
    """A field as it stands in a caption."""
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else value

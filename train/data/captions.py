"""Captions: a template filled in with a row's fields, in several variants where its tags are shuffled or dropped."""

from collections import defaultdict
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
    """Cleaned as prompts are (one line, no double spaces), without the commas around empty fields."""
    return clean_final(", ".join(filter(None, map(clean_final, text.split(", ")))))


def variants(data: Data, row: dict[str, Any], number: int) -> list[str]:
    """The captions of the picture in row `number`: one, or several where tags are shuffled or dropped."""
    if not (data.tag_shuffle or data.tag_dropout):
        return [caption(data, row)]
    return [caption(data, row, np.random.default_rng((number, i))) for i in range(data.caption_variants)]


def _words(value: Any) -> Any:
    """A field's value as text for a caption: a list joined by commas, nothing for None."""
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def prompt_template(data: Data) -> str | None:
    """The caption template as one for prompts: "{text}, {tags}, flat" -> "{prompt}, flat".

    None where the template has neither {text} nor {label}.
    """
    styles = set(data.styles.values())
    fields = defaultdict(str, text="{prompt}", label="{prompt}", style=styles.pop() if len(styles) == 1 else "")
    template = tidy(data.caption.format_map(fields))
    return template if "{prompt}" in template else None

"""Makes the dataset's rows: each emoji by Unicode's and emojibase's data, and the origin of its picture."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlx_genmoji.dataset import COLUMNS
from mlx_genmoji.prompt.lexicon import SKIN_TONES

from ..emojibase import FIRST_CODE_POINTS, GENDER_SIGNS, Emoji
from .order import Order
from .pages import Item
from .writer import IMAGES, ORIGINALS, file_name

SOURCE = "emojigraph"

# The owner of a vendor's emoji, where that is not the vendor's name with a capital.
OWNERS = {
    "htc": "HTC",
    "lg": "LG",
    "facebook": "Meta (Facebook)",
    "messenger": "Meta (Messenger)",
    "twitter": "X (Twitter)",
    "whatsapp": "Meta (WhatsApp)",
}

# U+1F3FB to U+1F3FF, Unicode's five modifiers.
TONES = dict(zip(("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"), SKIN_TONES, strict=True))


def license_of(vendor: str) -> str:
    """The `license` of a vendor's emoji: the owner, and what that allows."""
    owner = OWNERS.get(vendor, vendor.replace("-", " ").title())
    return f"{owner}, all rights reserved (not for redistribution)"


def emoji_of(item: Item, emojis: Mapping[str, Emoji], label: str) -> Emoji:
    """The emoji that an item shows. For one that emojibase does not know, it is made from the code points.

    The skin tones are then those among the code points; the other fields are those of the same emoji without skin
    tones, or, where emojibase does not know that either, `label` and empty fields.
    """
    if item.key in emojis:
        return emojis[item.key]
    parts = item.key.split("-")
    tones = tuple(dict.fromkeys(TONES[part] for part in parts if part in TONES))[:2]
    untoned = "-".join(part for part in parts if part not in TONES)
    if untoned in emojis:
        known = emojis[untoned]
        characters = "".join(chr(int(part, 16)) for part in item.hexcode.split("-"))
        # With the same `order`, so that it follows the emoji without skin tones.
        return replace(known, hexcode=item.hexcode, emoji=characters, skin_tone=tones)
    return Emoji(
        order=max((emoji.order for emoji in emojis.values()), default=0) + 1,
        label=label.lower(),
        emoji="".join(chr(int(part, 16)) for part in item.hexcode.split("-")),
        hexcode=item.hexcode,
        base_hexcode=untoned or item.hexcode,
        tags=(),
        group="",
        subgroup="",
        skin_tone=tones,
        person_type=_person_type(untoned.split("-")),
    )


def _person_type(parts: list[str]) -> str | None:
    """The person type that the code points show, None where they show no person or several."""
    signs = [GENDER_SIGNS[part] for part in parts if part in GENDER_SIGNS]
    people = [FIRST_CODE_POINTS[part] for part in parts if part in FIRST_CODE_POINTS]
    if len(people) > 1:
        return None
    return next(iter(signs or people), None)


def row(item: Item, emoji: Emoji, about: Mapping[str, Any], content: Mapping[str, Any], order: Order) -> dict[str, Any]:
    """One row of `metadata.jsonl`: the columns of every dataset and a few more.

    about: the state's content for the emoji's page; content: that for its picture.
    """
    known = {column: value for column, value in emoji.fields().items() if value != ""}
    fields = {
        "file_name": file_name(IMAGES, emoji.hexcode),
        **COLUMNS,
        **known,
        "description": about["description"],
        "source": SOURCE,
        "license": license_of(order.vendor),
        "width": order.form.size,
        "height": order.form.size,
        "sha256": content["sha256"],
        "png_sha256": content["png_sha256"],
        "source_file": item.image_url.rpartition("/")[2],
        "vendor": order.vendor,
        "source_url": item.image_url,
        "page_url": item.page_url,
    }
    return {**fields, "original": file_name(ORIGINALS, emoji.hexcode)} if order.form.keep_originals else fields

"""What each messenger's importer takes: a table of messengers, and the functions that make their files.

A function gets the pack's metadata and its stickers, and returns the files of the messenger's folder by their paths in
it. Pictures are encoded by `sticker.targets`, which keeps the sizes and limits.
"""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from ..errors import UserError
from ..sticker.targets import KB, TARGETS, Output, encode, zipped
from .moods import Mood

Files = dict[str, bytes]


@dataclass(frozen=True)
class Metadata:
    """What a messenger shows of a pack."""

    title: str
    author: str
    slug: str
    """The subject in lower-case ASCII letters, digits and "-"."""


@dataclass(frozen=True)
class Figure:
    """One sticker: its mood, the prompt that drew it, and its picture, RGBA, cropped to the figure."""

    mood: Mood
    prompt: str
    picture: Image.Image


@dataclass(frozen=True)
class Messenger:
    """A messenger: what its help says, and the function that makes its files."""

    title: str
    files: Callable[[Metadata, Sequence[Figure]], Files]
    hint: str
    """How a user imports the folder, one sentence."""
    min_stickers: int = 1
    max_stickers: int = 200


def ascii_slug(text: str) -> str:
    """`text` in lower-case ASCII, words joined by "-": "Crème brûlée" -> creme-brulee; else "genmoji"."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return "-".join(re.findall(r"[a-z0-9]+", plain))[:40].strip("-") or "genmoji"


def file_names(figures: Sequence[Figure], suffix: str) -> list[str]:
    """01-hello.webp, 02-love.webp: in the order of the pack also where a program sorts by name."""
    return [f"{number:02}-{figure.mood.name}{suffix}" for number, figure in enumerate(figures, 1)]


def _pictures(figures: Sequence[Figure], target: str, names: Sequence[str]) -> Files:
    output = TARGETS[target].outputs[0]
    return {name: encode(figure.picture, output) for name, figure in zip(names, figures, strict=True)}


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


# Bot API, "setStickerSetThumbnail": WEBP or PNG, exactly 100 x 100, at most 128 KB.
TELEGRAM_THUMBNAIL = Output("cover.webp", 100, 128 * KB, "WEBP")


def telegram(pack: Metadata, figures: Sequence[Figure]) -> Files:
    """WebP files, the set's thumbnail, and three descriptions of the set.

    sticker-set.json: the arguments of the Bot API's `createNewStickerSet` without the user; "attach://" names a file of
    the folder. The bot adds "_by_" and its own name to `name`. emoji.txt, title.txt and author.txt: what the program
    sticker-convert reads; who sends the files to @stickers finds the emoji for each in emoji.txt.
    """
    names = file_names(figures, ".webp")
    stickers = [
        {"sticker": f"attach://{name}", "format": "static", "emoji_list": [figure.mood.emoji]}
        | {"keywords": [figure.mood.name.replace("-", " ")]}
        for name, figure in zip(names, figures, strict=True)
    ]
    short_name = pack.slug.replace("-", "_")
    sticker_set = {
        # Starts with a letter, at most 64 characters, no two underscores in a row.
        "name": short_name if short_name[0].isalpha() else f"pack_{short_name}",
        "title": pack.title[:64],
        "sticker_type": "regular",
        "stickers": stickers,
    }
    emoji = {name.removesuffix(".webp"): figure.mood.emoji for name, figure in zip(names, figures, strict=True)}
    return {
        **_pictures(figures, "telegram", names),
        TELEGRAM_THUMBNAIL.name: encode(figures[0].picture, TELEGRAM_THUMBNAIL),
        "sticker-set.json": _json(sticker_set),
        "emoji.txt": _json(emoji),
        "title.txt": pack.title[:64].encode(),
        "author.txt": pack.author.encode(),
    }


def whatsapp(pack: Metadata, figures: Sequence[Figure]) -> Files:
    """contents.json and its folder, the assets of WhatsApp's sample app; and a .wastickers file for sticker apps.

    github.com/WhatsApp/stickers: 3 to 30 stickers with at most 3 emoji each; a tray icon; texts of at most 128
    characters. A .wastickers file is a zip of the pictures, one PNG as the tray icon, title.txt and author.txt.
    """
    names = file_names(figures, ".webp")
    stickers = _pictures(figures, "whatsapp", names)
    pictures = {**stickers, "tray.png": encode(figures[0].picture, TARGETS["whatsapp"].outputs[1])}
    contents = {
        "identifier": pack.slug,
        "name": pack.title[:128],
        "publisher": pack.author[:128],
        "tray_image_file": "tray.png",
        # Must change with the pictures: WhatsApp then loads them again.
        "image_data_version": str(zlib.crc32(b"".join(pictures.values()))),
        "avoid_cache": False,
        "publisher_email": "",
        "publisher_website": "",
        "privacy_policy_website": "",
        "license_agreement_website": "",
        "stickers": [
            {"image_file": name, "emojis": [figure.mood.emoji], "accessibility_text": figure.prompt[:125]}
            for name, figure in zip(names, figures, strict=True)
        ],
    }
    links = {"android_play_store_link": "", "ios_app_store_link": ""}
    archive = {"title.txt": pack.title[:128].encode(), "author.txt": pack.author[:128].encode(), **pictures}
    return {
        "contents.json": _json({**links, "sticker_packs": [contents]}),
        **{f"{pack.slug}/{name}": data for name, data in pictures.items()},
        f"{pack.slug}.wastickers": zipped(archive, "wastickers")[1],
    }


def signal(pack: Metadata, figures: Sequence[Figure]) -> Files:
    """WebP files, a cover, and the stickers.yaml of signal-sticker-tool; Signal Desktop's creator takes the files."""
    names = file_names(figures, ".webp")
    # A JSON string is YAML as well.
    lines = ["meta:"]
    lines += [f"  {key}: {_quoted(value)}" for key, value in (("author", pack.author), ("title", pack.title))]
    lines += ["  cover: cover.webp", "stickers:"]
    for name, figure in zip(names, figures, strict=True):
        lines += [f"- chr: {_quoted(figure.mood.emoji)}", f"  file: {_quoted(name)}"]
    return {
        **_pictures(figures, "signal", names),
        "cover.webp": encode(figures[0].picture, TARGETS["signal"].outputs[0]),
        "stickers.yaml": ("\n".join(lines) + "\n").encode(),
    }


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def discord(pack: Metadata, figures: Sequence[Figure]) -> Files:
    """The folders emoji and stickers, and stickers.json: the arguments of the API's "Create Guild Sticker" for each.

    An emoji's name is its file's: 2 to 32 letters, digits and underscores. A sticker's name has 2 to 30 characters, its
    description 2 to 100; its tag is the name of the emoji that it stands for.
    """
    emoji = [f"emoji/{joined(pack.slug, figure.mood.name, 32).replace('-', '_')}.png" for figure in figures]
    stickers = [f"stickers/{figure.mood.name}.png" for figure in figures]
    described = [
        {
            "file": name,
            "name": joined(pack.slug, figure.mood.name, 30).replace("-", " "),
            "description": figure.prompt[:100],
            "tags": figure.mood.shortcode,
        }
        for name, figure in zip(stickers, figures, strict=True)
    ]
    return {
        **_pictures(figures, "discord-emoji", emoji),
        **_pictures(figures, "discord-sticker", stickers),
        "stickers.json": _json(described),
    }


def slack(pack: Metadata, figures: Sequence[Figure]) -> Files:
    """PNG files named as the emoji are to be called, which bulk uploaders take; emoji.json says what each stands for.

    Slack's help: names are in lower case, without spaces and full stops.
    """
    names = [joined(pack.slug, figure.mood.name, 60) for figure in figures]
    emoji = {name: figure.mood.emoji for name, figure in zip(names, figures, strict=True)}
    return {**_pictures(figures, "slack", [f"{name}.png" for name in names]), "emoji.json": _json(emoji)}


def joined(slug: str, mood: str, limit: int) -> str:
    """ "orange-cat", "love" -> "orange-cat-love", the subject shortened to keep within `limit` characters."""
    return f"{slug[: limit - len(mood) - 1].strip('-')}-{mood}"


MESSENGERS: Mapping[str, Messenger] = {
    "telegram": Messenger(
        "Telegram",
        telegram,
        "send the files and their emoji (emoji.txt) to @stickers, or give sticker-set.json to a bot of yours",
        max_stickers=120,
    ),
    "whatsapp": Messenger(
        "WhatsApp",
        whatsapp,
        "open the .wastickers file with a sticker app, or build WhatsApp's sample app with contents.json",
        min_stickers=3,
        max_stickers=30,
    ),
    "signal": Messenger(
        "Signal",
        signal,
        "run signal-sticker-tool upload in the folder, or drop the files on Signal Desktop's sticker creator",
    ),
    "discord": Messenger(
        "Discord",
        discord,
        "upload the files under Server Settings, Emoji and Stickers, or by the API with stickers.json",
        max_stickers=60,
    ),
    "slack": Messenger(
        "Slack",
        slack,
        "give the files to a bulk uploader; each file's name is the emoji's",
    ),
}


def messengers_named(names: Sequence[str] | None, count: int) -> list[str]:
    """The names, each once; None is all that take `count` stickers. Raises UserError for an unknown one, and for one
    that takes fewer or more stickers than `count`.
    """
    if names is None:
        return [name for name, one in MESSENGERS.items() if one.min_stickers <= count <= one.max_stickers]
    for name in names:
        if name not in MESSENGERS:
            raise UserError(f"There are no packs for {name!r}; there are some for: {', '.join(MESSENGERS)}.")
        messenger = MESSENGERS[name]
        if not messenger.min_stickers <= count <= messenger.max_stickers:
            raise UserError(
                f"A pack for {messenger.title} has {messenger.min_stickers} to {messenger.max_stickers} stickers,"
                f" not {count}; name other moods."
            )
    return list(dict.fromkeys(names))

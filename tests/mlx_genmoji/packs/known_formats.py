"""What messengers demand of packs, checked file by file. Written from their documents, not from the library's table.

- Telegram: core.telegram.org/stickers; the Bot API's createNewStickerSet, InputSticker and setStickerSetThumbnail.
- WhatsApp: the checks of StickerPackValidator.java and the README in github.com/WhatsApp/stickers, in the smaller
  reading of a kilobyte; .wastickers as sticker apps read it.
- Signal: what signal-sticker-tool checks when it reads stickers.yaml; Signal's help, "Stickers".
- Discord: the API's "Create Guild Sticker" and "Create Guild Emoji".
- Slack: Slack's help, "Add custom emoji and aliases".

Each check returns the emoji of each file, and raises AssertionError for a folder that the messenger does not take.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import yaml
from PIL import Image


def picture(data: bytes, formats: tuple[str, ...], most: int) -> Image.Image:
    """The picture in a file, which is a still one of these formats, with transparency, and not too large."""
    assert len(data) <= most, f"{len(data):,} bytes, at most {most:,} are allowed"
    with Image.open(io.BytesIO(data)) as image:
        assert image.format in formats, image.format
        assert getattr(image, "n_frames", 1) == 1
        image.load()
        rgba = image.convert("RGBA")
    assert rgba.getchannel("A").getextrema() == (0, 255), "no transparent background, or no figure"
    return rgba


def text(value: Any, least: int, most: int) -> str:
    assert isinstance(value, str) and least <= len(value) <= most, value
    return value


def emoji(value: Any) -> str:
    """One emoji; every one in use here is a single character."""
    assert isinstance(value, str) and len(value) == 1 and ord(value) > 0x2000, value
    return value


def telegram(folder: Path) -> dict[str, str]:
    arguments = json.loads((folder / "sticker-set.json").read_text(encoding="utf-8"))
    # The method's required parameters besides user_id, which only the bot's owner knows, and one optional one.
    assert set(arguments) == {"name", "title", "sticker_type", "stickers"}
    name = text(arguments["name"], 1, 64 - len("_by_some_longish_bot"))
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) and "__" not in name and not name.endswith("_")
    text(arguments["title"], 1, 64)
    assert arguments["sticker_type"] == "regular"
    assert 1 <= len(arguments["stickers"]) <= 50
    emoji_of_file = {}
    for sticker in arguments["stickers"]:
        assert set(sticker) == {"sticker", "format", "emoji_list", "keywords"}
        assert sticker["format"] == "static"
        assert 1 <= len(sticker["emoji_list"]) <= 20
        assert len(sticker["keywords"]) <= 20 and sum(map(len, sticker["keywords"])) <= 64
        file = sticker["sticker"].removeprefix("attach://")
        size = picture((folder / file).read_bytes(), ("WEBP", "PNG"), 512_000).size
        assert max(size) == 512
        emoji_of_file[file] = emoji(sticker["emoji_list"][0])
    assert picture((folder / "cover.webp").read_bytes(), ("WEBP", "PNG"), 128_000).size == (100, 100)
    # sticker-convert: emoji by the names of files without their suffixes.
    by_stem = json.loads((folder / "emoji.txt").read_text(encoding="utf-8"))
    assert by_stem == {Path(file).stem: value for file, value in emoji_of_file.items()}
    assert {path.name for path in folder.glob("*.webp")} == {*emoji_of_file, "cover.webp"}
    return emoji_of_file


LINKS = ("publisher_website", "privacy_policy_website", "license_agreement_website")


def whatsapp(folder: Path) -> dict[str, str]:
    contents = json.loads((folder / "contents.json").read_text(encoding="utf-8"))
    assert set(contents) == {"android_play_store_link", "ios_app_store_link", "sticker_packs"}
    (pack,) = contents["sticker_packs"]
    identifier = text(pack["identifier"], 1, 128)
    assert re.fullmatch(r"[\w\-.,'\s]+", identifier, re.ASCII) and ".." not in identifier
    text(pack["name"], 1, 128)
    text(pack["publisher"], 1, 128)
    text(pack["image_data_version"], 1, 128)
    assert pack["avoid_cache"] is False
    assert all(not pack[link] or re.match(r"https?://", pack[link]) for link in LINKS)
    tray = picture((folder / identifier / pack["tray_image_file"]).read_bytes(), ("PNG", "WEBP"), 50_000)
    assert tray.size == (96, 96)
    assert 3 <= len(pack["stickers"]) <= 30
    emoji_of_file = {}
    for sticker in pack["stickers"]:
        file = text(sticker["image_file"], 1, 128)
        assert 1 <= len(sticker["emojis"]) <= 3
        text(sticker["accessibility_text"], 1, 125)
        image = picture((folder / identifier / file).read_bytes(), ("WEBP",), 100_000)
        assert image.size == (512, 512)
        left, top, right, bottom = image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox() or (0, 0, 0, 0)
        assert min(left, top, 512 - right, 512 - bottom) >= 15, "the margin is 16 px"
        emoji_of_file[file] = emoji(sticker["emojis"][0])
    (archive,) = folder.glob("*.wastickers")
    with ZipFile(archive) as zipped:
        names = zipped.namelist()
        assert zipped.testzip() is None
        assert sorted(names) == sorted(["author.txt", "title.txt", "tray.png", *emoji_of_file])
        assert zipped.read("title.txt").decode() == pack["name"]
        assert zipped.read("author.txt").decode() == pack["publisher"]
        for file in (*emoji_of_file, "tray.png"):
            assert zipped.read(file) == (folder / identifier / file).read_bytes()
    return emoji_of_file


def signal(folder: Path) -> dict[str, str]:
    definition = yaml.safe_load((folder / "stickers.yaml").read_text(encoding="utf-8"))
    assert set(definition) == {"meta", "stickers"}
    assert definition["meta"]["title"].strip() and definition["meta"]["author"].strip()
    cover = folder / definition["meta"]["cover"]
    assert picture(cover.read_bytes(), ("WEBP", "PNG"), 300_000).size == (512, 512)
    assert 1 <= len(definition["stickers"]) <= 200
    emoji_of_file = {}
    for sticker in definition["stickers"]:
        image = picture((folder / sticker["file"]).read_bytes(), ("WEBP", "PNG"), 300_000)
        assert image.size == (512, 512)
        emoji_of_file[sticker["file"]] = emoji(sticker["chr"])
    return emoji_of_file


def discord(folder: Path) -> dict[str, str]:
    emoji_of_file = {}
    for sticker in json.loads((folder / "stickers.json").read_text(encoding="utf-8")):
        assert set(sticker) == {"file", "name", "description", "tags"}
        text(sticker["name"], 2, 30)
        text(sticker["description"], 2, 100)
        assert re.fullmatch(r"[a-z_]+", text(sticker["tags"], 2, 200))
        assert picture((folder / sticker["file"]).read_bytes(), ("PNG",), 512_000).size == (320, 320)
        emoji_of_file[sticker["file"]] = sticker["tags"]
    emojis = sorted((folder / "emoji").iterdir())
    for path in emojis:
        assert path.suffix == ".png" and re.fullmatch(r"[A-Za-z0-9_]{2,32}", path.stem), path
        assert picture(path.read_bytes(), ("PNG",), 256_000).size == (128, 128)
    assert len(emojis) == len(emoji_of_file) <= 50
    return emoji_of_file


def slack(folder: Path) -> dict[str, str]:
    meanings = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
    emoji_of_file = {}
    for path in sorted(folder.glob("*.png")):
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,99}", path.stem), path
        assert picture(path.read_bytes(), ("PNG",), 127_999).size == (128, 128)
        emoji_of_file[path.name] = emoji(meanings[path.stem])
    assert len(emoji_of_file) == len(meanings)
    return emoji_of_file


CHECKS: dict[str, Callable[[Path], dict[str, str]]] = {
    "telegram": telegram,
    "whatsapp": whatsapp,
    "signal": signal,
    "discord": discord,
    "slack": slack,
}

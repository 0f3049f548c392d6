"""Tiny packages in the layouts of the real ones: the tests never fetch anything."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

TONES = {"1F3FB": 1, "1F3FC": 2, "1F3FD": 3, "1F3FE": 4, "1F3FF": 5}


def write_tarball(path: Path, manifest: Mapping[str, str] | None, files: Mapping[str, bytes]) -> Path:
    members = {f"package/{name}": data for name, data in files.items()}
    if manifest is not None:
        members["package/package.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def emoji(
    order: int, hexcode: str, label: str, group: int = 1, subgroup: int = 0, toned: bool = False
) -> dict[str, Any]:
    def variant(place: int, code_points: str, **more: Any) -> dict[str, Any]:
        characters = "".join(chr(int(part, 16)) for part in code_points.split("-"))
        return {
            "order": place,
            "hexcode": code_points,
            "emoji": characters,
            "label": label,
            "group": group,
            "subgroup": subgroup,
            **more,
        }

    first, *rest = hexcode.split("-")
    skins = [variant(order + tone, "-".join((first, code, *rest)), tone=tone) for code, tone in TONES.items()]
    return variant(order, hexcode, tags=["a tag"], **({"skins": skins} if toned else {}))


GROUPS = {
    "groups": {"0": "smileys-emotion", "1": "people-body", "3": "animals-nature", "9": "flags"},
    "subgroups": {"0": "hands", "1": "person", "2": "person-role", "3": "family", "4": "cat-face", "5": "country-flag"},
}

EMOJIS = [
    emoji(1, "1F600", "grinning face", group=0),
    emoji(2, "1F63A", "grinning cat", group=0, subgroup=4),
    emoji(3, "1F431", "cat face", group=3),
    emoji(10, "1F44B", "waving hand", toned=True),
    emoji(20, "1F6B5", "person mountain biking", subgroup=1, toned=True),
    emoji(30, "1F9CF-200D-2642-FE0F", "deaf man", subgroup=1, toned=True),
    emoji(40, "1F9CF-200D-2640-FE0F", "deaf woman", subgroup=1, toned=True),
    emoji(50, "1F9D1-200D-1F680", "astronaut", subgroup=2, toned=True),
    emoji(60, "1F468-200D-1F680", "man astronaut", subgroup=2, toned=True),
    emoji(70, "1F469-200D-1F680", "woman astronaut", subgroup=2, toned=True),
    emoji(80, "1F468-200D-1F468-200D-1F466", "family: man, man, boy", subgroup=3),
    emoji(81, "1F46A", "family", subgroup=3),
    emoji(82, "1F936", "Mrs. Claus", subgroup=2, toned=True),
    emoji(90, "1F475", "old woman", subgroup=1),
    emoji(91, "1F467", "girl", subgroup=1),
    emoji(92, "1F450", "rescue worker’s “piñata”", subgroup=0),
    emoji(93, "0023-FE0F-20E3", "keycap: #", group=0),
    emoji(94, "1F1E8-1F1ED", "flag: Switzerland", group=9, subgroup=5),
    {"hexcode": "1F1E8", "label": "regional indicator C", "order": 95, "emoji": "🇨"},
    {
        **emoji(100, "1F46D", "women holding hands", subgroup=3),
        "skins": [
            {"order": 101, "hexcode": "1F46D-1F3FB", "emoji": "👭🏻", "tone": 1},
            {"order": 102, "hexcode": "1F469-1F3FB-200D-1F91D-200D-1F469-1F3FF", "emoji": "👩🏻‍🤝‍👩🏿", "tone": [1, 5]},
        ],
    },
    {
        **emoji(110, "1F91D", "handshake", subgroup=0),
        "skins": [
            {"order": 111, "hexcode": "1F91D-1F3FD", "emoji": "🤝🏽", "tone": 3},
            {"order": 112, "hexcode": "1FAF1-1F3FE-200D-1FAF2-1F3FC", "emoji": "🫱🏾‍🫲🏼", "tone": [4, 2]},
        ],
    },
    emoji(120, "1F385", "Santa Claus", subgroup=2, toned=True),
    emoji(121, "1F9D1-200D-1F384", "Mx Claus", subgroup=2, toned=True),
    emoji(122, "1F934", "prince", subgroup=2, toned=True),
    emoji(123, "1F478", "princess", subgroup=2, toned=True),
    emoji(124, "1FAC5", "person with crown", subgroup=2, toned=True),
    emoji(125, "1F47C", "baby angel", subgroup=2, toned=True),
    emoji(126, "1F9D4-200D-2640-FE0F", "woman: beard", subgroup=1, toned=True),
    emoji(127, "1F46F-200D-2642-FE0F", "men with bunny ears", subgroup=1),
    emoji(128, "1F468-200D-1F469-200D-1F467", "family: man, woman, girl", subgroup=3),
    emoji(129, "1F9D1-200D-1F9D1-200D-1F9D2", "family: adult, adult, child", subgroup=3),
]


@pytest.fixture
def tarball() -> Callable[..., Path]:
    """Writes an npm tarball: `tarball(path, manifest or None, {name: bytes})`."""
    return write_tarball


@pytest.fixture
def emojibase(tmp_path: Path) -> Path:
    files = {"en/data.json": json.dumps(EMOJIS).encode(), "meta/groups.json": json.dumps(GROUPS).encode()}
    return write_tarball(tmp_path / "emojibase.tgz", {"name": "emojibase-data", "version": "17.0.0"}, files)


@pytest.fixture
def fluent(tmp_path: Path) -> Callable[..., Path]:
    """Packs `{stem: bytes}` as the Fluent package does."""

    def pack(pictures: Mapping[str, bytes], **manifest: str) -> Path:
        fields = {"name": "@lobehub/fluent-emoji-3d", "version": "1.1.0", **manifest}
        files = {f"assets/{stem}.webp": data for stem, data in pictures.items()}
        return write_tarball(tmp_path / "fluent.tgz", fields, files)

    return pack


@pytest.fixture
def twemoji(tmp_path: Path) -> Callable[..., Path]:
    """Packs `{stem: SVG document}` as the Twemoji package does."""

    def pack(documents: Mapping[str, bytes]) -> Path:
        files = {**{f"{stem}.svg": data for stem, data in documents.items()}, "readme.md": b""}
        return write_tarball(tmp_path / "twemoji.tgz", {"name": "@twemoji/svg", "version": "15.0.0"}, files)

    return pack


@pytest.fixture
def openmoji(tmp_path: Path) -> Callable[..., Path]:
    """Packs `{stem: SVG document}` as the OpenMoji package does, which holds each in black too."""

    def pack(documents: Mapping[str, bytes]) -> Path:
        files = {f"{kind}/svg/{stem}.svg": data for stem, data in documents.items() for kind in ("color", "black")}
        return write_tarball(tmp_path / "openmoji.tgz", {"name": "openmoji", "version": "17.0.0"}, files)

    return pack


@pytest.fixture
def noto(tmp_path: Path) -> Callable[..., Path]:
    """Packs `{code points: (icon name, svg body)}` as the Noto package does; an icon may have a size of its own."""

    def pack(icons: Mapping[str, tuple[str, str]], **sizes: int) -> Path:
        icon_set = {
            "icons": {name: {"body": body, **sizes} for name, body in icons.values()},
            "width": 128,
            "height": 128,
        }
        chars = {code_points: name for code_points, (name, _) in icons.items()}
        files = {"icons.json": json.dumps(icon_set).encode(), "chars.json": json.dumps(chars).encode()}
        return write_tarball(tmp_path / "noto.tgz", {"name": "@iconify-json/noto", "version": "1.2.9"}, files)

    return pack

"""The targets that stickers are exported for: a table of sizes and limits, and the encoders that keep the limits."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from ..errors import UserError
from .glyph import fitted, glyph

# Where a target says KB, 1,000 bytes are safe whether it means 1,000 or 1,024.
KB = 1000

# Pixels with less alpha (of 255) are ignored when a figure is trimmed.
FAINT = 8

# Qualities of lossy WebP, best first.
QUALITIES = (95, 90, 85, 80, 70, 60, 50, 40, 30, 20, 10)
# Sizes of a PNG's palette, best first.
PALETTES = (256, 128, 64, 32)
ICO_SIDES = (16, 32, 48)


@dataclass(frozen=True)
class Output:
    """One file of a target, `side` px wide and high, with a margin of `margin` px on each side."""

    name: str
    """The file's name; `{name}` stands for the sticker's name."""
    side: int
    max_bytes: int
    format: Literal["PNG", "WEBP", "ICO", "HEIC"] = "PNG"
    margin: int = 0
    square: bool = True
    """If false, only the longer side is `side`; the shorter follows the figure."""
    solid: bool = False
    """On white instead of transparent, for places that show transparency as black."""


@dataclass(frozen=True)
class Target:
    """A place that takes stickers, such as Slack: its title and its files."""

    title: str
    outputs: tuple[Output, ...]

    @property
    def suffix(self) -> str:
        """The suffix of the file that `Sticker.export_file` returns."""
        return ".zip" if len(self.outputs) > 1 else f".{self.outputs[0].name.rpartition('.')[2]}"


TARGETS = {
    # Slack's help, "Add custom emoji and aliases": square, under 128 KB, a transparent background.
    "slack": Target("Slack emoji", (Output("{name}.png", 128, 128 * KB - 1),)),
    # Discord's help, "Custom emojis": 128 x 128, under 256 KB.
    "discord-emoji": Target("Discord emoji", (Output("{name}.png", 128, 256 * KB - 1),)),
    # Discord's help, "Tips for sticker creators", and its API, "Create guild sticker": PNG, 320 x 320, at most 512 KB.
    "discord-sticker": Target("Discord sticker", (Output("{name}.png", 320, 512 * KB),)),
    # core.telegram.org/stickers: PNG or WEBP, one side exactly 512 px, the other 512 or less, at most 512 KB.
    "telegram": Target("Telegram sticker", (Output("{name}.webp", 512, 512 * KB, "WEBP", square=False),)),
    # github.com/WhatsApp/stickers: WebP of exactly 512 x 512, at most 100 KB, a margin of 16 px; the tray's icon PNG or
    # WebP of 96 x 96, at most 50 KB.
    "whatsapp": Target(
        "WhatsApp sticker and tray icon",
        (
            Output("{name}.webp", 512, 100 * KB, "WEBP", margin=16),
            Output("{name}-tray.png", 96, 50 * KB),
        ),
    ),
    # Signal's help, "Stickers": PNG or WebP of 512 x 512, a margin of 16 px, at most 300 KiB.
    "signal": Target("Signal sticker", (Output("{name}.webp", 512, 300 * KB, "WEBP", margin=16),)),
    # Apple's Human Interface Guidelines, "iMessage apps and stickers": small, regular and large at @3x, which iOS
    # scales down for the rest; PNG of at most 500 KB each.
    # core.telegram.org/stickers, "Custom emoji": PNG or WEBP of exactly 100 x 100.
    "telegram-emoji": Target("Telegram custom emoji", (Output("{name}.webp", 100, 512 * KB, "WEBP"),)),
    # LINE Creators Market, "Sticker guidelines": PNG of at most 370 x 320, even numbers, a margin of 10 px, at most
    # 1 MB; the shop's picture 240 x 240, the tab's 96 x 74.
    "line": Target(
        "LINE sticker, main picture and tab picture",
        (
            Output("{name}.png", 320, 1000 * KB, margin=10),
            Output("{name}-main.png", 240, 1000 * KB, margin=10),
            Output("{name}-tab.png", 74, 1000 * KB),
        ),
    ),
    "imessage": Target(
        "iMessage sticker pack, small, regular and large",
        tuple(Output(f"{{name}}-{side}.png", side, 500 * 1000) for side in (300, 408, 618)),
    ),
    # NSAdaptiveImageGlyph; see `glyph`. Apple names no limit; others take 1 MB.
    "ios-glyph": Target("iOS adaptive image glyph", (Output("{name}.heic", 320, 1000 * KB, "HEIC"),)),
    # The sizes that browsers, Android's launchers (web.dev, "Add a web app manifest") and iOS (Safari's "Configuring
    # web applications": 180 px, black where it is clear) ask a page for. They state no limit in bytes: these are ours.
    "favicon": Target(
        "favicon.ico, and the PNG icons of web pages",
        (
            Output("favicon.ico", 48, 100 * KB, "ICO"),
            Output("favicon-16x16.png", 16, 100 * KB),
            Output("favicon-32x32.png", 32, 100 * KB),
            Output("apple-touch-icon.png", 180, 500 * KB, margin=12, solid=True),
            Output("icon-192.png", 192, 500 * KB),
            Output("icon-512.png", 512, 500 * KB),
        ),
    ),
}


def target_named(kind: str) -> Target:
    """The target of a name in `TARGETS`. Raises UserError, with the names, if there is none."""
    if kind not in TARGETS:
        raise UserError(f"There is no sticker target {kind!r}; there are: {', '.join(TARGETS)}.")
    return TARGETS[kind]


def export(cutout: Image.Image, target: Target, name: str, description: str) -> dict[str, bytes]:
    """The files of `target` by name. `cutout` is RGBA of any size. Raises UserError; see `Sticker.export`."""
    figure = trimmed(cutout)
    return {output.name.format(name=name): encode(figure, output, description) for output in target.outputs}


def trimmed(cutout: Image.Image) -> Image.Image:
    """`cutout` cropped to its figure. Raises UserError if it is empty."""
    box = cutout.getchannel("A").point(lambda value: 255 if value >= FAINT else 0).getbbox()
    if box is None:
        raise UserError("The picture is empty: all of it is background.")
    return cutout.crop(box)


def encode(figure: Image.Image, output: Output, description: str = "") -> bytes:
    """The bytes of one file in the best quality within its limit. Raises UserError if no quality is small enough."""
    image = fitted(figure, output.side, output.margin, output.square)
    if output.solid:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    smallest = 0
    for data in _ENCODERS[output.format](image, figure, description):
        if len(data) <= output.max_bytes:
            return data
        smallest = len(data)
    raise UserError(
        f"{output.name.format(name='sticker')} has at least {smallest:,} bytes and may have {output.max_bytes:,};"
        " use a simpler picture."
    )


def zipped(files: dict[str, bytes], name: str) -> tuple[str, bytes]:
    """The single file of `files`, or all of them in a zip called `name`. The zip's bytes are reproducible."""
    if len(files) == 1:
        return next(iter(files.items()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file, data in files.items():
            archive.writestr(zipfile.ZipInfo(file), data)
    return name, buffer.getvalue()


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def _pngs(image: Image.Image, figure: Image.Image, description: str) -> Iterator[bytes]:
    yield _saved(image, "PNG", optimize=True)
    for colours in PALETTES:
        method = Image.Quantize.FASTOCTREE if image.mode == "RGBA" else Image.Quantize.MEDIANCUT
        yield _saved(image.quantize(colours, method), "PNG", optimize=True)


def _webps(image: Image.Image, figure: Image.Image, description: str) -> Iterator[bytes]:
    yield _saved(image, "WEBP", lossless=True)
    for quality in QUALITIES:
        # method=6 takes fifty times as long, for 3 % fewer bytes.
        yield _saved(image, "WEBP", quality=quality, method=4)


def _icos(image: Image.Image, figure: Image.Image, description: str) -> Iterator[bytes]:
    # Each size is scaled from the figure, not from the largest size.
    sides = [fitted(figure, side) for side in ICO_SIDES]
    sizes = [side.size for side in sides]
    yield _saved(sides[-1], "ICO", sizes=sizes, append_images=sides[:-1])


def _heics(image: Image.Image, figure: Image.Image, description: str) -> Iterator[bytes]:
    for quality in QUALITIES:
        yield glyph(figure, description, quality)


_ENCODERS: dict[str, Callable[[Image.Image, Image.Image, str], Iterator[bytes]]] = {
    "PNG": _pngs,
    "WEBP": _webps,
    "ICO": _icos,
    "HEIC": _heics,
}

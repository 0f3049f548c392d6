"""Animated stickers: a drawing that wiggles, bounces, floats or blinks, as APNG, WebP, GIF or WebM.

A motion is a rule: where the whole figure is at each moment, and where the parts of a combination are in it. The parts
of a drawing from `Genmoji.generate` are layers (`Stage`); a picture from a file is moved as a whole.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import pi, sin
from typing import NamedTuple, Protocol

from PIL import Image

from ..errors import UserError, quoted
from .glyph import fitted
from .targets import FAINT, KB, QUALITIES

FRAMES, FRAME_MS = 16, 60
"""Of a loop: its frames, and the milliseconds that each is shown."""

FEWEST_FRAMES = 6
"""A loop that is too large for its place gets fewer frames, down to this."""

ROOM = 0.84
"""The figure's part of the canvas; the rest is room to move."""


class Pose(NamedTuple):
    """Where a figure, or a part of one, is at a moment."""

    down: float = 0.0
    """Moved down by this share of the picture."""
    turned: float = 0.0
    """Degrees clockwise."""
    tall: float = 1.0
    """Scaled in height, about the lower edge; the width changes the other way."""
    alpha: float = 1.0


class Stage(Protocol):
    """The parts of a combination, ready to be drawn in other poses."""

    def drawn(self, pose: Callable[[int], Pose]) -> Image.Image:
        """RGBA; pose: of the part with this number, counted from 1. The subject does not move."""


@dataclass(frozen=True)
class Motion:
    """A motion: the poses of the whole figure, of parts that were added to it, and of a figure without parts.

    Each is a function of the time, 0 to 1, after which it repeats.
    """

    whole: Callable[[float], Pose]
    part: Callable[[float, int], Pose]
    alone: Callable[[float], Pose]


def _wave(time: float, delay: float = 0.0) -> float:
    return sin(2 * pi * (time - delay))


def _jump(time: float) -> Pose:
    height = abs(sin(pi * time))
    return Pose(down=-0.13 * height, tall=1 - 0.12 * (1 - min(3 * height, 1)))


MOTIONS = {
    "wiggle": Motion(
        lambda time: Pose(turned=3 * _wave(time)),
        lambda time, part: Pose(turned=9 * _wave(time, 0.25 * part)),
        lambda time: Pose(turned=7 * _wave(time)),
    ),
    "bounce": Motion(_jump, lambda time, part: Pose(turned=5 * _wave(time, 0.1 * part)), _jump),
    "float": Motion(
        lambda time: Pose(down=0.05 * _wave(time)),
        lambda time, part: Pose(down=0.02 * _wave(time, 0.2 * part), turned=3 * _wave(time, 0.3 * part)),
        lambda time: Pose(down=0.06 * _wave(time), turned=2 * _wave(time, 0.25)),
    ),
    "blink": Motion(
        lambda time: Pose(),
        lambda time, part: Pose(alpha=0.55 + 0.45 * _wave(time, 0.3 * part)),
        lambda time: Pose(alpha=0.65 + 0.35 * _wave(time)),
    ),
}


class Clip(NamedTuple):
    """An animated file that a place takes: format, longer side in pixels, most bytes; `square` as in `Output`."""

    format: str
    side: int
    max_bytes: int
    square: bool = True


SUFFIXES = {".webp": "WEBP", ".png": "APNG", ".apng": "APNG", ".gif": "GIF", ".webm": "WEBM"}
"""The formats of files, by their suffixes."""
SUFFIX_OF = {"WEBP": ".webp", "APNG": ".png", "GIF": ".gif", "WEBM": ".webm"}

FREE = 10**9
SIDE = 320
"""Of a file for no particular place."""

CLIPS = {
    # Slack's help: GIF, 128 px, under 128 KB. Discord's: emoji GIF under 256 KB; stickers APNG of 320 px, 512 KB.
    "slack": Clip("GIF", 128, 128 * KB - 1),
    "discord-emoji": Clip("GIF", 128, 256 * KB - 1),
    "discord-sticker": Clip("APNG", 320, 512 * KB),
    # core.telegram.org/stickers: WebM in VP9, 512 px at one side, at most 3 s, 256 KB; custom emoji 100 px, 64 KB.
    "telegram": Clip("WEBM", 512, 256 * KB, square=False),
    "telegram-emoji": Clip("WEBM", 100, 64 * KB),
    # github.com/WhatsApp/stickers: WebP of 512 px, at most 500 KB. Signal's help: APNG of 512 px, at most 300 KiB, 3 s.
    "whatsapp": Clip("WEBP", 512, 500 * KB),
    "signal": Clip("APNG", 512, 300 * KB),
    # LINE Creators Market: APNG of at most 320 x 270 px, 5 to 20 frames, at most 4 s, 300 KB.
    "line": Clip("APNG", 270, 300 * KB),
    "imessage": Clip("APNG", 408, 500 * KB),
}


def motion_named(name: str) -> Motion:
    """The motion of a name in `MOTIONS`. Raises UserError, with the names, if there is none."""
    if name.lower() not in MOTIONS:
        raise UserError(f"There is no motion {quoted(repr(name))}; there are: {', '.join(MOTIONS)}.")
    return MOTIONS[name.lower()]


def clip_named(target: str) -> Clip:
    """The animated file of a sticker target. Raises UserError if the place takes none."""
    if target not in CLIPS:
        raise UserError(f"{quoted(target)} takes no animated stickers; these do: {', '.join(CLIPS)}.")
    return CLIPS[target]


def frames(figure: Image.Image, stage: Stage | None, motion: Motion, count: int = FRAMES) -> list[Image.Image]:
    """The frames of a loop, RGBA of one size, cropped to what is seen in any of them.

    figure: RGBA. stage: its parts, if it has any; the figure is then drawn from them. Raises UserError if it is empty.
    """
    moments = []
    for i in range(count):
        time = i / count
        if stage is None:
            moments.append(_posed(figure, motion.alone(time)))
        else:
            drawn = stage.drawn(lambda part, time=time: motion.part(time, part))  # type: ignore[misc]
            moments.append(_posed(drawn, motion.whole(time)))
    seen = Image.new("L", moments[0].size)
    for moment in moments:
        seen.paste(255, mask=moment.getchannel("A").point(lambda value: 255 if value >= FAINT else 0))
    box = seen.getbbox()
    if box is None:
        raise UserError("The picture is empty: all of it is background.")
    return [moment.crop(box) for moment in moments]


def _posed(figure: Image.Image, pose: Pose) -> Image.Image:
    """The figure in a pose, on a canvas of its own size with room to move."""
    side = max(figure.size)
    tall = max(round(figure.height * ROOM * pose.tall), 1)
    wide = max(round(figure.width * ROOM * (2 - pose.tall)), 1)
    image = figure.convert("RGBa").resize((wide, tall), Image.Resampling.BICUBIC)
    canvas = Image.new("RGBa", (side, side))
    floor = round(side * (1 + ROOM) / 2 + pose.down * side)
    canvas.paste(image, ((side - wide) // 2, floor - tall))
    if pose.turned:
        canvas = canvas.rotate(-pose.turned, Image.Resampling.BICUBIC, center=(side / 2, floor))
    posed = canvas.convert("RGBA")
    if pose.alpha < 1:
        posed.putalpha(posed.getchannel("A").point(lambda value: round(value * pose.alpha)))
    return posed


def encode(moments: Sequence[Image.Image], clip: Clip) -> bytes:
    """The animated file in the best quality within its limit. Raises UserError if none is small enough."""
    smallest = 0
    for part in _thinned(moments):
        still = [fitted(moment, clip.side, square=clip.square) for moment in part]
        # A loop of fewer frames takes as long.
        duration = round(FRAME_MS * len(moments) / len(part))
        for data in _ENCODERS[clip.format](still, duration):
            if len(data) <= clip.max_bytes:
                return data
            smallest = len(data)
    raise UserError(
        f"The animation has at least {smallest:,} bytes and may have {clip.max_bytes:,}; use a simpler picture."
    )


def _thinned(moments: Sequence[Image.Image]) -> Iterator[Sequence[Image.Image]]:
    """All frames, then evenly chosen fewer."""
    count = len(moments)
    while count >= FEWEST_FRAMES:
        yield [moments[i * len(moments) // count] for i in range(count)]
        count = count * 3 // 4


def _webps(still: Sequence[Image.Image], duration: int) -> Iterator[bytes]:
    for quality in QUALITIES[::2]:
        yield _saved(still, "WEBP", duration=duration, loop=0, quality=quality, method=4)


def _apngs(still: Sequence[Image.Image], duration: int) -> Iterator[bytes]:
    yield _saved(still, "PNG", duration=duration, loop=0, disposal=1, optimize=True)
    for colours in (128, 48):
        fewer = [frame.quantize(colours, Image.Quantize.FASTOCTREE).convert("RGBA") for frame in still]
        yield _saved(fewer, "PNG", duration=duration, loop=0, disposal=1, optimize=True)


def _gifs(still: Sequence[Image.Image], duration: int) -> Iterator[bytes]:
    # A GIF's pixels are clear or not; half clear ones are decided by the middle.
    hard = []
    for frame in still:
        sharp = frame.copy()
        sharp.putalpha(frame.getchannel("A").point(lambda value: 255 if value >= 128 else 0))
        hard.append(sharp)
    for colours in (255, 128, 64, 32):
        few = [frame.quantize(colours, Image.Quantize.FASTOCTREE) for frame in hard]
        yield _saved([frame.convert("RGBA") for frame in few], "GIF", duration=duration, loop=0, disposal=2)


def _saved(still: Sequence[Image.Image], format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    still[0].save(buffer, format, save_all=True, append_images=list(still[1:]), **options)
    return buffer.getvalue()


def _webms(still: Sequence[Image.Image], duration: int) -> Iterator[bytes]:
    """VP9 with transparency, by ffmpeg. Raises UserError where there is no ffmpeg, or it fails."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise UserError(
            "Telegram's animated stickers are WebM files, which need ffmpeg: brew install ffmpeg, or on Linux"
            " sudo apt install ffmpeg"
        )
    width, height = still[0].size
    pixels = b"".join(frame.tobytes() for frame in still)
    reading = [
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgba",
        "-s",
        f"{width}x{height}",
        "-r",
        f"{1000 / duration:.4f}",
        "-i",
        "-",
    ]
    for quality in (24, 34, 44, 54, 63):
        writing = [
            "-c:v",
            "libvpx-vp9",
            "-pix_fmt",
            "yuva420p",
            "-auto-alt-ref",
            "0",
            "-b:v",
            "0",
            "-crf",
            str(quality),
        ]
        command = [program, "-loglevel", "error", *reading, *writing, "-an", "-f", "webm", "-"]
        done = subprocess.run(command, input=pixels, capture_output=True, check=False)
        if done.returncode:
            raise UserError(
                f"ffmpeg cannot write the animation: {quoted(done.stderr.decode(errors='replace').strip())}"
            )
        yield done.stdout


_ENCODERS: dict[str, Callable[[Sequence[Image.Image], int], Iterator[bytes]]] = {
    "WEBP": _webps,
    "APNG": _apngs,
    "GIF": _gifs,
    "WEBM": _webms,
}

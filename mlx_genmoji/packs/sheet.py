"""The contact sheet of a pack: every sticker with its mood's name below, on one picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

CELL, LABEL, MARGIN, TITLE = 176, 24, 8, 40
"""Pixels: the side of a sticker's cell, the height of its label, the margin in a cell, the height of the title."""

COLUMNS = 4
INK, FAINT, PAPER = (28, 32, 40), (96, 104, 116), (250, 250, 252)


def contact_sheet(title: str, stickers: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """`stickers`: mood names and RGBA pictures. RGB, `COLUMNS` wide."""
    columns = min(COLUMNS, len(stickers))
    rows = -(-len(stickers) // columns)
    sheet = Image.new("RGB", (columns * CELL, TITLE + rows * (CELL + LABEL)), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((sheet.width / 2, TITLE / 2 + 4), title, INK, ImageFont.load_default(18), anchor="mm")
    for i, (name, picture) in enumerate(stickers):
        left, top = i % columns * CELL, TITLE + i // columns * (CELL + LABEL)
        side = CELL - 2 * MARGIN
        scale = side / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        scaled = picture.convert("RGBA").resize(size, Image.Resampling.LANCZOS)
        sheet.paste(scaled, (left + (CELL - size[0]) // 2, top + (CELL - size[1]) // 2), scaled)
        label = name.replace("-", " ")
        pen.text((left + CELL / 2, top + CELL + LABEL / 2 - 2), label, FAINT, ImageFont.load_default(14), anchor="mm")
    return sheet

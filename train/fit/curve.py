"""The loss curve of a run as a picture, drawn from its log."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT, MARGIN = 800, 400, 50
COLOURS = ("#b0b0b0", "#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
GRID = "#e8e8e8"
LINES = 4


def draw_curve(curves: Mapping[str, Points], path: Path) -> None:
    """Write a PNG of curves of (step, loss), each named in the legend; from zero loss up, so that heights compare."""
    drawn = {name: points for name, points in curves.items() if points}
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(12)
    last = max((step for points in drawn.values() for step, _ in points), default=0) or 1
    top = 1.05 * max((loss for points in drawn.values() for _, loss in points), default=1) or 1.0

    def place(step: float, loss: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / last
        return x, HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * loss / top

    for i in range(LINES + 1):
        step, loss = last * i / LINES, top * i / LINES
        draw.line([place(0, loss), place(last, loss)], GRID)
        draw.text((MARGIN - 6, place(0, loss)[1]), f"{loss:.3g}", "black", font, anchor="rm")
        draw.text((place(step, 0)[0], HEIGHT - MARGIN + 6), f"{step:.0f}", "black", font, anchor="mt")
    x = float(MARGIN)
    for i, (name, points) in enumerate(drawn.items()):
        colour = COLOURS[i % len(COLOURS)]
        spots = [place(step, loss) for step, loss in points]
        draw.line(spots, colour, width=2)
        for a, b in spots if len(spots) < 100 else ():
            draw.ellipse([a - 2, b - 2, a + 2, b + 2], colour)
        draw.text((x, MARGIN / 2), name, colour, font, anchor="lm")
        x += draw.textlength(name, font) + 16
    image.save(path)

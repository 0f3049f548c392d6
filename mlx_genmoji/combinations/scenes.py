"""Puts sprites together: sprites in, a scene or a picture out."""

from collections.abc import Sequence

from PIL import Image

from .layouts import LAYOUTS, Scene, alone
from .rasterize import cut, draw, frame
from .sprites import Sprite

# The minimum margin at each side, as a fraction of the picture.
MARGIN = 0.02


def picture(kind: str, sprites: Sequence[Sprite], second: str, size: int) -> Image.Image:
    """A composition of one of `relations.KINDS`, RGB `(size, size)` on white.

    sprites: the subject's, then the second part's if that has a picture. second: the second part's name.
    """
    scene = arranged(kind, prepared(kind, sprites, second), second)
    return draw(scene.layers, size, frame(scene, size, MARGIN))


def prepared(kind: str, sprites: Sequence[Sprite], second: str) -> list[Sprite]:
    """The sprites with what the kind changes about them: another colour, or a smiley reduced to its eyes and mouth."""
    if kind == "colour":
        return [sprites[0].in_colour(second)]
    if kind == "emotion":
        return [sprites[0], sprites[1].features]
    return list(sprites)


def arranged(kind: str, sprites: Sequence[Sprite], second: str) -> Scene:
    """The scene of a kind, from sprites as `prepared` returns them."""
    return LAYOUTS[kind](sprites, second)


def together(scenes: Sequence[Scene], subject: Sprite) -> Scene:
    """Merge scenes that all have `subject` as their reference sprite.

    All layers behind the subject come first, then the subject, then all layers in front. The widest window is kept.
    """
    behind, front = [], []
    only_subject = alone([subject], "")
    for scene in scenes:
        depth = next(depth for depth, layer in enumerate(scene.layers) if layer.sprite is subject)
        behind += scene.layers[:depth]
        front += scene.layers[depth + 1 :]
    window = max((scene.window for scene in (only_subject, *scenes)), key=lambda window: window.side)
    return Scene([*behind, *only_subject.layers, *front], window)


def figure(scene: Scene, subject: Sprite, size: int) -> Sprite:
    """Draw a scene at `size` x `size` px and crop it to one sprite, which has the subject's role and no label."""
    whole = Sprite.cut(cut(scene.layers, size, frame(scene, size, MARGIN)), subject.source, "", subject.role)
    return whole or subject

"""Parts put together: sprites in, a picture out."""

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from . import general_anchors
from .layouts import LAYOUTS, Scene, alone
from .more_layouts import general_layout
from .rasterize import cut, draw, frame
from .refacing import painted_over, without_mouth, zones
from .sprites import Sprite

# The least margin at each side, as a fraction.
MARGIN = 0.02


def picture(kind: str, sprites: Sequence[Sprite], second: str, size: int) -> Image.Image:
    """A composition of one of `relations.KINDS`, RGB `(size, size)` on white.

    sprites: the subject's, and that of what it is put together with, where that has a picture; second: its name.
    """
    scene = arranged(kind, prepared(kind, sprites, second), second)
    return draw(scene.layers, size, frame(scene, size, MARGIN))


def prepared(kind: str, sprites: Sequence[Sprite], second: str) -> list[Sprite]:
    """The sprites as they are shown: the subject in its colour, of a smiley its features."""
    if kind == "colour":
        return [sprites[0].in_colour(second)]
    if kind == "emotion":
        return _refaced(sprites[0], sprites[1])
    return list(sprites)


def _refaced(subject: Sprite, smiley: Sprite) -> list[Sprite]:
    """A subject that has eyes is shown without them, and gets those of the smiley; an animal keeps its mouth."""
    eyes = general_anchors.own_eyes(subject)
    if eyes is None:
        return [subject, smiley.features]
    mouth = subject.role != "animal"
    plain = painted_over(subject.image, zones(eyes, subject.aspect, mouth))
    features = smiley.features
    if not mouth:
        features = replace(features, image=without_mouth(features.image))
    return [replace(subject, image=plain), features]


def arranged(kind: str, sprites: Sequence[Sprite], second: str) -> Scene:
    """Where prepared sprites go."""
    layout = general_layout(kind, sprites) or LAYOUTS[kind]
    return layout(sprites, second)


def together(scenes: Sequence[Scene], subject: Sprite) -> Scene:
    """Scenes about one subject, each in its units, as one: what is behind it in any of them, itself, what is before."""
    behind, before = [], []
    own = alone([subject], "")
    for scene in scenes:
        place = next(place for place, layer in enumerate(scene.layers) if layer.sprite is subject)
        behind += scene.layers[:place]
        before += scene.layers[place + 1 :]
    window = max((scene.window for scene in (own, *scenes)), key=lambda window: window.side)
    return Scene([*behind, *own.layers, *before], window)


def figure(scene: Scene, subject: Sprite, size: int) -> Sprite:
    """A scene about a subject as one sprite, to be put together with others; `size` px square before it is cut."""
    whole = Sprite.cut(cut(scene.layers, size, frame(scene, size, MARGIN)), subject.source, "", subject.role)
    return whole or subject

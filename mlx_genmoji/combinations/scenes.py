"""Combines sprites into a scene, and draws a scene as a picture or as a new sprite."""

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from . import general_anchors
from .layers import Scene
from .layouts import LAYOUTS, alone
from .more_layouts import general_layout
from .rasterize import cut, draw, frame
from .refacing import painted_over, without_mouth, zones
from .sprites import Sprite

# The smallest margin at each side, as a fraction of the picture's side.
MARGIN = 0.02


def picture(kind: str, sprites: Sequence[Sprite], second: str, size: int) -> Image.Image:
    """The picture of a subject combined with one thing: RGB, `size` x `size` px, on white.

    kind: the name of one of `relations.KINDS`. sprites: that of the subject, then that of the second part if it has
    one (a colour has none). second: the name of the second part.
    """
    scene = arranged(kind, prepared(kind, sprites, second), second)
    return draw(scene.layers, size, frame(scene, size, MARGIN))


def prepared(kind: str, sprites: Sequence[Sprite], second: str) -> list[Sprite]:
    """The sprites as they are drawn: the subject recoloured, and for an emotion the smiley's eyes and mouth only."""
    if kind == "colour":
        return [sprites[0].in_colour(second)]
    if kind == "emotion":
        return _refaced(sprites[0], sprites[1])
    return list(sprites)


def _refaced(subject: Sprite, smiley: Sprite) -> list[Sprite]:
    """The subject with its face painted over, and the smiley's eyes and mouth to draw in its place.

    A subject without eyes is returned unchanged. An animal keeps its own mouth and gets the smiley's eyes only.
    """
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
    """The scene of sprites that `prepared` returned, in the layout of their kind."""
    layout = general_layout(kind, sprites) or LAYOUTS[kind]
    return layout(sprites, second)


def together(scenes: Sequence[Scene], subject: Sprite) -> Scene:
    """Merge scenes of the same subject into one scene, whose window is the largest of theirs.

    Layers behind the subject in any scene come first, then the subject, then the layers in front of it. All scenes are
    in units of the subject.
    """
    behind, in_front = [], []
    plain = alone([subject], "")
    for scene in scenes:
        place = next(place for place, layer in enumerate(scene.layers) if layer.sprite is subject)
        behind += scene.layers[:place]
        in_front += scene.layers[place + 1 :]
    window = max((scene.window for scene in (plain, *scenes)), key=lambda window: window.side)
    return Scene([*behind, *plain.layers, *in_front], window)


def figure(scene: Scene, subject: Sprite, size: int) -> Sprite:
    """Draw a scene as one sprite, which can be combined with others; the subject's sprite if the scene is empty.

    size: pixels of the square picture that the scene is drawn in before it is cropped.
    """
    whole = Sprite.cut(cut(scene.layers, size, frame(scene, size, MARGIN)), subject.source, "", subject.role)
    return whole or subject

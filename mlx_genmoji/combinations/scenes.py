"""Combines sprites into a scene, and draws a scene as a picture or as a new sprite."""

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from . import general_anchors
from .layers import Scene
from .layouts import LAYOUTS, alone
from .more_layouts import general_layout
from .rasterize import cut, draw, frame
from .refacing import mouth_of, mouth_zone, painted_over, without_letters, without_mouth, zones
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


# Smileys whose mouths say what they feel, so that they replace an animal's own.
TELLING_MOUTHS = frozenset(
    "frowning face; slightly frowning face; frowning face with open mouth; crying face; loudly crying face; angry face;"
    " enraged face; pouting face; pensive face; disappointed face; worried face; confounded face; persevering face;"
    " weary face; tired face; anguished face; fearful face; face screaming in fear; astonished face; hushed face;"
    " face with open mouth; neutral face; expressionless face; unamused face; confused face; grimacing face;"
    " sad but relieved face; anxious face with sweat; downcast face with sweat; woozy face; sleeping face; sleepy face;"
    " nauseated face; yawning face; face with crossed-out eyes; face with spiral eyes".split("; ")
)


def _refaced(subject: Sprite, smiley: Sprite) -> list[Sprite]:
    """The subject with its face painted over, and the smiley's eyes and mouth to draw in its place.

    A subject without eyes is returned unchanged. An animal keeps its own mouth and gets the smiley's eyes only, unless
    its mouth was measured and the smiley's mouth says what it feels. A third sprite is the mouth, to draw where the
    subject's own was.
    """
    eyes = general_anchors.own_eyes(subject)
    if eyes is None:
        return [subject, smiley.features]
    features = smiley.features
    if smiley.label == "sleeping face":
        features = replace(features, image=without_letters(features.image))
    own_mouth, aspect = general_anchors.own_mouth(subject), subject.aspect
    is_animal = subject.role == "animal"
    mouth = mouth_of(features.image) if own_mouth and (not is_animal or smiley.label in TELLING_MOUTHS) else None
    if own_mouth and mouth:
        plain = painted_over(subject.image, [*zones(eyes, aspect, mouth=False), mouth_zone(own_mouth, aspect)])
        eyes_alone = replace(features, image=without_mouth(features.image))
        return [replace(subject, image=plain), eyes_alone, replace(features, image=mouth)]
    plain = painted_over(subject.image, zones(eyes, aspect, mouth=not is_animal))
    if is_animal:
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

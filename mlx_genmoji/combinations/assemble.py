"""A combination from the pictures of its parts, which a model has drawn one by one."""

from collections.abc import Mapping
from dataclasses import replace

from PIL import Image

from ..sticker import Sticker
from .layouts import Scene
from .rasterize import Frame, cut, draw, frame
from .reading import ADDITIONS, PLACEMENTS, TRANSFORMS, Combination, Part
from .scenes import arranged, figure, prepared, together
from .sprites import Sprite

# The least margin at each side, as a fraction; more than that of `scenes`, because edges of drawn parts are soft.
MARGIN = 0.03


def put_together(combination: Combination, pictures: Mapping[Part, Image.Image]) -> Image.Image:
    """The picture of a combination, RGB on white, as large as those of its parts.

    pictures: a square one of each of `combination.parts`, on white. A part whose picture is empty is left out.
    """
    sprites = {}
    for part, picture in pictures.items():
        sprite = Sprite.cut(Sticker(picture).cutout(), combination.source, part.label, part.role)
        if sprite is not None:
            sprites[part] = sprite
    subject, size = sprites.get(combination.subject), pictures[combination.subject].width
    joined = [one for one in combination.joined if one.part is None or one.part in sprites]
    if subject is None:
        return pictures[combination.subject].convert("RGB")
    own = {one: [sprites[one.part]] if one.part else [] for one in joined}
    for one in joined:
        if one.kind in TRANSFORMS:
            shown = prepared(one.kind, [subject, *own[one]], one.second)
            changed = figure(arranged(one.kind, shown, one.second), subject, size)
            # Its outline is as it was, and so is where its head and eyes are.
            subject = replace(changed, label=subject.label)
    scenes = [arranged(one.kind, [subject, *own[one]], one.second) for one in joined if one.kind in ADDITIONS]
    scene = together(scenes, subject)
    for one in joined:
        if one.kind in PLACEMENTS:
            whole = figure(scene, subject, size) if scenes else subject
            scene = arranged(one.kind, [whole, *own[one]], one.second)
    return draw(scene.layers, size, _filled(scene, size))


def _filled(scene: Scene, size: int) -> Frame:
    """The frame in which the scene fills the picture, as an emoji does, and is centred."""
    own = frame(scene, size, MARGIN)
    box = cut(scene.layers, size, own).getchannel("A").getbbox()
    if box is None:
        return own
    left, top, right, bottom = box
    larger = (1 - 2 * MARGIN) * size / max(right - left, bottom - top)
    return Frame(
        own.scale * larger,
        size / 2 + (own.x - (left + right) / 2) * larger,
        size / 2 + (own.y - (top + bottom) / 2) * larger,
    )

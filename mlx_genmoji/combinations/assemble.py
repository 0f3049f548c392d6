"""Puts a combination together from pictures of its parts, which the model draws one by one."""

from collections.abc import Mapping
from dataclasses import replace

from PIL import Image

from ..sticker import Sticker
from .layouts import Scene
from .rasterize import Frame, cut, draw, frame
from .reading import ADDITIONS, PLACEMENTS, TRANSFORMS, Combination, Part
from .scenes import arranged, figure, prepared, together
from .sprites import Sprite

# The minimum margin at each side, a fraction; larger than in `scenes`, because the edges of drawn parts are soft.
MARGIN = 0.03


def put_together(combination: Combination, pictures: Mapping[Part, Image.Image]) -> Image.Image:
    """The picture of a combination, RGB on white, of the same size as the pictures of its parts.

    pictures: a square picture on white for each of `combination.parts`. A part whose picture is empty is left out.
    """
    sprites = {}
    for part, picture in pictures.items():
        sprite = Sprite.cut(Sticker(picture).cutout(), combination.source, part.label, part.role)
        if sprite is not None:
            sprites[part] = sprite
    subject, size = sprites.get(combination.subject), pictures[combination.subject].width
    if subject is None:
        return pictures[combination.subject].convert("RGB")
    joined = [item for item in combination.joined if item.part is None or item.part in sprites]
    seconds = {item: [sprites[item.part]] if item.part else [] for item in joined}
    for item in joined:
        if item.kind in TRANSFORMS:
            transformed = prepared(item.kind, [subject, *seconds[item]], item.second)
            whole = figure(arranged(item.kind, transformed, item.second), subject, size)
            # The outline is unchanged, so the label still tells where head and eyes are.
            subject = replace(whole, label=subject.label)
    additions = [item for item in joined if item.kind in ADDITIONS]
    scenes = [arranged(item.kind, [subject, *seconds[item]], item.second) for item in additions]
    scene = together(scenes, subject)
    for item in joined:
        if item.kind in PLACEMENTS:
            whole = figure(scene, subject, size) if scenes else subject
            scene = arranged(item.kind, [whole, *seconds[item]], item.second)
    return draw(scene.layers, size, _filled(scene, size))


def _filled(scene: Scene, size: int) -> Frame:
    """The frame in which the scene is centred and fills the picture up to its margin."""
    initial = frame(scene, size, MARGIN)
    box = cut(scene.layers, size, initial).getchannel("A").getbbox()
    if box is None:
        return initial
    left, top, right, bottom = box
    zoom = (1 - 2 * MARGIN) * size / max(right - left, bottom - top)
    return Frame(
        initial.scale * zoom,
        size / 2 + (initial.x - (left + right) / 2) * zoom,
        size / 2 + (initial.y - (top + bottom) / 2) * zoom,
    )

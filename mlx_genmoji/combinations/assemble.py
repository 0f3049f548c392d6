"""A combination from the pictures of its parts, which a model has drawn one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from PIL import Image

from ..sticker import Sticker
from .combination import ADDITIONS, PLACEMENTS, SCENERY, TRANSFORMS, Combination, Joined, Part
from .layouts import LEFT, RIGHT, Scene, hand_side
from .more_layouts import beside, group
from .rasterize import Frame, cut, draw, frame
from .scenes import arranged, figure, prepared, together
from .sprites import Sprite

# The least margin at each side, as a fraction; more than that of `scenes`, because edges of drawn parts are soft.
MARGIN = 0.03


def put_together(combination: Combination, pictures: Mapping[Part, Image.Image]) -> Image.Image:
    """The picture of a combination, RGB on white, as large as those of its parts.

    pictures: a square one of each of `combination.parts`, RGB on white, or RGBA. A part whose picture is empty is left
    out.
    """
    return assembled(combination, pictures)[0]


def assembled(combination: Combination, pictures: Mapping[Part, Image.Image]) -> tuple[Image.Image, Image.Image | None]:
    """The picture of `put_together`, and its alpha (mode L); None where the subject's picture is empty."""
    sprites = {}
    for part, picture in pictures.items():
        sprite = Sprite.cut(Sticker(picture).cutout(), combination.source, part.label, part.role)
        if sprite is not None:
            sprites[part] = sprite
    subject, size = sprites.get(combination.subject), pictures[combination.subject].width
    joined = [item for item in combination.joined if item.part is None or item.part in sprites]
    if subject is None:
        return pictures[combination.subject].convert("RGB"), None
    for item in joined:
        if item.kind in TRANSFORMS and item.kind != "frozen":
            subject = _transformed(subject, item, sprites, size)
    if any(item.kind == "frozen" for item in joined):
        subject = subject.frozen
    scene = _around(subject, joined, sprites)
    placed = bool(len(scene.layers) > 1)
    for item, others in _placements(joined, sprites):
        whole = figure(scene, subject, size) if placed else subject
        scene, placed = _placed(item, whole, others), True
    placing = _filled(scene, size)
    return draw(scene.layers, size, placing), cut(scene.layers, size, placing).getchannel("A")


def _transformed(subject: Sprite, item: Joined, sprites: Mapping[Part, Sprite], size: int) -> Sprite:
    """The subject in a colour, or with another face."""
    own = [sprites[item.part]] if item.part else []
    shown = prepared(item.kind, [subject, *own], item.second)
    changed = figure(arranged(item.kind, shown, item.second), subject, size)
    # Its outline is as it was, and so is where its head and eyes are.
    return replace(changed, label=subject.label)


def _around(subject: Sprite, joined: Sequence[Joined], sprites: Mapping[Part, Sprite]) -> Scene:
    """The subject with all that is about it."""
    sides = [RIGHT, LEFT]
    if any(item.kind == "with" for item in joined):
        sides = [-hand_side(subject)]
    scenes = []
    for item in joined:
        if item.kind not in ADDITIONS and item.kind != "frozen":
            continue
        shown = [subject, sprites[item.part]] if item.part else [subject]
        if item.kind == "beside":
            scenes.append(beside(shown, item.second, sides.pop(0)))
        else:
            scenes.append(arranged(item.kind, shown, item.second))
    return together(scenes, subject)


def _placements(joined: Sequence[Joined], sprites: Mapping[Part, Sprite]) -> Iterator[tuple[Joined, list[Sprite]]]:
    """What the subject is placed with, step by step; several others beside it are one step."""
    also = [item for item in joined if item.kind == "and"]
    for item in joined:
        if item.kind in (*PLACEMENTS, *SCENERY) and item not in also[1:]:
            parts = [one.part for one in (also if item in also else [item]) if one.part]
            yield item, [sprites[part] for part in parts]


def _placed(item: Joined, whole: Sprite, others: Sequence[Sprite]) -> Scene:
    if len(others) > 1:
        return group([whole, *others])
    return arranged(item.kind, [whole, *others], item.second)


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

"""Assembles the picture of a combination from the pictures of its parts, which the model drew separately."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from ..sticker import Sticker
from .combination import ADDITIONS, PLACEMENTS, SCENERY, TRANSFORMS, Combination, Joined, Part
from .layers import Layer, Scene
from .layouts import LEFT, RIGHT, hand_side
from .more_layouts import beside, group
from .rasterize import Frame, cut, draw, frame
from .scenes import arranged, figure, prepared, together
from .sprites import Sprite

if TYPE_CHECKING:
    from ..sticker.animation import Pose

# The smallest margin at each side, as a fraction of the picture. It is larger than in `scenes`, because the parts that
# a model draws have soft edges.
MARGIN = 0.03


def put_together(combination: Combination, pictures: Mapping[Part, Image.Image]) -> Image.Image:
    """The picture of a combination, RGB on white, of the same size as the pictures of its parts.

    pictures: a square picture of each of `combination.parts`, RGB on white, or RGBA. A part whose picture is empty is
    left out.
    """
    return assembled(combination, pictures)[0]


def assembled(combination: Combination, pictures: Mapping[Part, Image.Image]) -> tuple[Image.Image, Image.Image | None]:
    """The picture of `put_together`, and its alpha (mode L); None where the subject's picture is empty."""
    stage = staged(combination, pictures)
    if stage is None:
        return pictures[combination.subject].convert("RGB"), None
    return draw(stage.layers, stage.size, stage.frame), cut(stage.layers, stage.size, stage.frame).getchannel("A")


class Stage(NamedTuple):
    """The layers of a combination, back to front, and where they are in a picture of `size` px."""

    layers: Sequence[Layer]
    size: int
    frame: Frame

    def drawn(self, pose: Callable[[int], Pose]) -> Image.Image:
        """RGBA, all layers but the largest, which is the subject, in the poses of their numbers, from 1."""
        areas = [layer.width * layer.height for layer in self.layers]
        subject, number, moved = areas.index(max(areas)), 0, []
        for i, layer in enumerate(self.layers):
            if i != subject:
                number += 1
                layer = _posed(layer, pose(number), self.size / self.frame.scale)
            moved.append(layer)
        return cut(moved, self.size, self.frame)


def _posed(layer: Layer, pose: Pose, side: float) -> Layer:
    """A layer in another pose. side: of the picture, in the layout's units."""
    sprite = layer.sprite
    if pose.alpha < 1:
        image = sprite.image.copy()
        image.putalpha(image.getchannel("A").point(lambda value: round(value * max(pose.alpha, 0))))
        sprite = replace(sprite, image=image)
    turned = layer.turned + (-pose.turned if layer.mirrored else pose.turned)
    return replace(layer, sprite=sprite, turned=turned, top=layer.top + pose.down * side)


def staged(combination: Combination, pictures: Mapping[Part, Image.Image]) -> Stage | None:
    """The layers of `put_together`; None where the subject's picture is empty."""
    sprites = {}
    for part, picture in pictures.items():
        sprite = Sprite.cut(Sticker(picture).cutout(), combination.source, part.label, part.role)
        if sprite is not None:
            sprites[part] = sprite
    subject, size = sprites.get(combination.subject), pictures[combination.subject].width
    joined = [item for item in combination.joined if item.part is None or item.part in sprites]
    if subject is None:
        return None
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
    return Stage(scene.layers, size, _filled(scene, size))


def _transformed(subject: Sprite, item: Joined, sprites: Mapping[Part, Sprite], size: int) -> Sprite:
    """The subject in another colour or with another face, as one sprite.

    size: pixels of the square picture that it is drawn in.
    """
    second = [sprites[item.part]] if item.part else []
    drawn = prepared(item.kind, [subject, *second], item.second)
    changed = figure(arranged(item.kind, drawn, item.second), subject, size)
    # The outline has not changed, so the label still finds the head and the eyes.
    return replace(changed, label=subject.label)


def _around(subject: Sprite, joined: Sequence[Joined], sprites: Mapping[Part, Sprite]) -> Scene:
    """The subject with everything that is attached to it or floats around it: wings, hats, held things, hearts."""
    sides = [RIGHT, LEFT]
    if any(item.kind == "with" for item in joined):
        sides = [-hand_side(subject)]
    scenes = []
    for item in joined:
        if item.kind not in ADDITIONS and item.kind != "frozen":
            continue
        parts = [subject, sprites[item.part]] if item.part else [subject]
        if item.kind == "beside":
            scenes.append(beside(parts, item.second, sides.pop(0)))
        else:
            scenes.append(arranged(item.kind, parts, item.second))
    return together(scenes, subject)


def _placements(joined: Sequence[Joined], sprites: Mapping[Part, Sprite]) -> Iterator[tuple[Joined, list[Sprite]]]:
    """The steps that place the subject on, in or beside other things: each an item and the sprites of its parts.

    All parts beside the subject (kind "and") are placed in one step.
    """
    beside_it = [item for item in joined if item.kind == "and"]
    for item in joined:
        if item.kind in (*PLACEMENTS, *SCENERY) and item not in beside_it[1:]:
            parts = [each.part for each in (beside_it if item in beside_it else [item]) if each.part]
            yield item, [sprites[part] for part in parts]


def _placed(item: Joined, whole: Sprite, others: Sequence[Sprite]) -> Scene:
    """The scene of one step of `_placements`; whole: the subject with everything that is attached to it."""
    if len(others) > 1:
        return group([whole, *others])
    return arranged(item.kind, [whole, *others], item.second)


def _filled(scene: Scene, size: int) -> Frame:
    """The frame that centres a scene in a picture of `size` px and enlarges it up to the margin, as emoji are drawn."""
    window = frame(scene, size, MARGIN)
    box = cut(scene.layers, size, window).getchannel("A").getbbox()
    if box is None:
        return window
    left, top, right, bottom = box
    larger = (1 - 2 * MARGIN) * size / max(right - left, bottom - top)
    return Frame(
        window.scale * larger,
        size / 2 + (window.x - (left + right) / 2) * larger,
        size / 2 + (window.y - (top + bottom) / 2) * larger,
    )

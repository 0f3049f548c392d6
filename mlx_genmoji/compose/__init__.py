"""Emoji put together by rule: what wings, a crown, a cup or a skateboard do to whatever has them.

`kinds` says what there is and how it is said, `anchors` where on a drawing heads, eyes and seats are, `layouts` where
each part goes, `scenes` draws it. Sprites come from a dataset (`scrape.compose`) or from a model (`mlx_genmoji.parts`).
"""

from .scenes import picture
from .sprites import Sprite

__all__ = ["Sprite", "picture"]

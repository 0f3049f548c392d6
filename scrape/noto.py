"""Google's Noto Emoji in the Iconify package: SVG bodies by icon name, and icon names by code points."""

import json
from collections.abc import Iterator, Mapping

from .emojibase import key
from .errors import ScrapeError
from .packages import Package
from .sets import Art, Source

PACKAGE = Package("@iconify-json/noto", "1.2.9", ("chars.json", "icons.json"))

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{body}</svg>'
)


def read(files: Mapping[str, bytes]) -> Iterator[Art]:
    """The picture of each character in the icon set."""
    try:
        chars, icon_set = json.loads(files["chars.json"]), json.loads(files["icons.json"])
        frame = {"left": 0, "top": 0, "width": icon_set["width"], "height": icon_set["height"]}
        for code_points, name in sorted(chars.items()):
            yield Art(key(code_points), f"{name}.svg", SVG.format(**{**frame, **icon_set["icons"][name]}).encode())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScrapeError(f"{PACKAGE.spec} is not laid out as expected ({error!r}); fetch it again.") from error


NOTO = Source("noto", PACKAGE, "Apache-2.0", read)

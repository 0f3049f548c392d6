"""Microsoft's Fluent Emoji in 3D from the package `@lobehub/fluent-emoji-3d`, and corrections of its file names.

The tables are for version 1.1.0, and were checked by eye and by colour against Microsoft's names and drawings.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from .emojibase import key
from .packages import Package
from .sets import Art, Source

PACKAGE = Package("@lobehub/fluent-emoji-3d", "1.1.0", ("assets/*.webp",))

# Code point in a file's name -> code point of the emoji in its picture.
SWAPPED_TONES = {"1F3FC": "1F3FD", "1F3FD": "1F3FC"}

# The same for keys without skin tone that need other corrections than SWAPPED_TONES.
SCRAMBLED = {
    "1F6B5": {"1F3FB": "1F3FF", "1F3FC": "1F3FD", "1F3FD": "1F3FE", "1F3FE": "1F3FC", "1F3FF": "1F3FB"},
    "1F9CF-200D-2640": {**SWAPPED_TONES, "2640": "2642"},
    "1F9CF-200D-2642": {**SWAPPED_TONES, "2642": "2640"},
}

# Two regional indicators, or the black flag with a region spelled in tags.
FLAG = re.compile(r"1F1(E[6-9A-F]|F.)-1F1(E[6-9A-F]|F.)|1F3F4(-E00..)+")

TONES = frozenset(("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"))

# Keys without skin tone of pictures that are not in Microsoft's open set, nor are those with a skin tone.
FOREIGN = frozenset(
    (
        "1F3AE",  # a game controller with a console's mark
        "1F4CE",  # the paperclip with eyes
        # technologists, a Windows logo on the laptop
        "1F468-200D-1F4BB",
        "1F469-200D-1F4BB",
        "1F9D1-200D-1F4BB",
        # people holding hands
        "1F46B",
        "1F46C",
        "1F46D",
        "1F9D1-200D-1F91D-200D-1F9D1",
        # kisses
        "1F48F",
        "1F468-200D-2764-200D-1F48B-200D-1F468",
        "1F469-200D-2764-200D-1F48B-200D-1F468",
        "1F469-200D-2764-200D-1F48B-200D-1F469",
        # couples with a heart
        "1F491",
        "1F468-200D-2764-200D-1F468",
        "1F469-200D-2764-200D-1F468",
        "1F469-200D-2764-200D-1F469",
        # families
        "1F46A",
        "1F468-200D-1F466",
        "1F468-200D-1F466-200D-1F466",
        "1F468-200D-1F467",
        "1F468-200D-1F467-200D-1F466",
        "1F468-200D-1F467-200D-1F467",
        "1F468-200D-1F468-200D-1F466",
        "1F468-200D-1F468-200D-1F466-200D-1F466",
        "1F468-200D-1F468-200D-1F467",
        "1F468-200D-1F468-200D-1F467-200D-1F466",
        "1F468-200D-1F468-200D-1F467-200D-1F467",
        "1F468-200D-1F469-200D-1F466",
        "1F468-200D-1F469-200D-1F466-200D-1F466",
        "1F468-200D-1F469-200D-1F467",
        "1F468-200D-1F469-200D-1F467-200D-1F466",
        "1F468-200D-1F469-200D-1F467-200D-1F467",
        "1F469-200D-1F466",
        "1F469-200D-1F466-200D-1F466",
        "1F469-200D-1F467",
        "1F469-200D-1F467-200D-1F466",
        "1F469-200D-1F467-200D-1F467",
        "1F469-200D-1F469-200D-1F466",
        "1F469-200D-1F469-200D-1F466-200D-1F466",
        "1F469-200D-1F469-200D-1F467",
        "1F469-200D-1F469-200D-1F467-200D-1F466",
        "1F469-200D-1F469-200D-1F467-200D-1F467",
    )
)

# Keys of file names whose pictures show another emoji.
MISNAMED = frozenset(
    (
        "1F431",  # the cat face is the grinning cat, 1F63A
        "1FAC4-1F3FF",  # the pregnant person of dark skin tone has the medium-dark one
    )
)


def read(files: Mapping[str, bytes]) -> Iterator[Art]:
    """The picture of each file, with the key of the emoji it shows, and a fault where it must be left out."""
    for name, data in files.items():
        named = key(PurePosixPath(name).stem)
        yield Art(_corrected(named), name, data, _fault(named))


def _untoned(named: str) -> str:
    return "-".join(part for part in named.split("-") if part not in TONES)


def _corrected(named: str) -> str:
    code_points = SCRAMBLED.get(_untoned(named), SWAPPED_TONES)
    return "-".join(code_points.get(part, part) for part in named.split("-"))


def _fault(named: str) -> str | None:
    if named in MISNAMED:
        return "the picture of another emoji"
    if _untoned(named) in FOREIGN:
        return "not in Microsoft's open set"
    if FLAG.fullmatch(named):
        return "a country's flag, not Microsoft's"
    return None


FLUENT = Source("fluent", PACKAGE, "MIT", read)

"""Twemoji and OpenMoji: packages with one SVG document for each emoji, named by its code points."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from .emojibase import key
from .packages import Package
from .sets import Art, Source


def read(files: Mapping[str, bytes]) -> Iterator[Art]:
    """The picture of each file."""
    for name, data in files.items():
        yield Art(key(PurePosixPath(name).stem), name, data)


TWEMOJI = Source("twemoji", Package("@twemoji/svg", "15.0.0", ("*.svg",)), "CC-BY-4.0", read)

# Share-alike: what is trained on it must be shared under the same licence.
OPENMOJI = Source("openmoji", Package("openmoji", "17.0.0", ("color/svg/*.svg",)), "CC-BY-SA-4.0", read)

"""Makes a dataset of a user's own pictures, with the captions that `own_captions` finds."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from mlx_genmoji.extras import install_command, installed

from .dataset import OWN, Dropped, Form, Picture, Report, check_source, write
from .errors import ScrapeError
from .own_captions import Captions, inside
from .own_captions import decode as decode
from .own_captions import plain as plain

LICENSE = "yours"

SUFFIXES = frozenset(
    ".avif .avifs .bmp .dds .dib .gif .heic .heics .heif .hif .ico .icns .jfif .jfi .jif .jp2 .j2k .jpe .jpeg .jpg .pcx"
    " .pbm .pgm .png .apng .ppm .qoi .sgi .svg .tga .tif .tiff .webp".split()
)
HEIC = frozenset((".heic", ".heics", ".heif", ".hif"))
OTHER_PICTURES = frozenset(
    ".ai .arw .cr2 .cr3 .dng .emf .eps .exr .hdr .jxl .nef .orf .pdf .ps .psd .raf .raw .rw2 .svgz .wmf .xcf".split()
)
"""Suffixes of pictures that are not read: they are counted and named."""

# The largest file that is read.
PICTURE_BYTES = 200_000_000

LINK, LARGE = "a link that leads outside the folder", "a file too large to be a picture of a sticker"


def collect_folder(
    path: Path,
    output: Path,
    *,
    size: int = 256,
    margin: float = 0.0,
    keep_originals: bool = False,
    license: str = LICENSE,
) -> Report:
    """Make the dataset of the pictures in `path` and the folders in it; options as for `scrape.collect`.

    Raises ScrapeError where there are no pictures, a metadata file is invalid, or `output` lies in `path`.
    """
    form = Form(size, margin, keep_originals)
    if not path.is_dir():
        raise ScrapeError(f"There is no folder {path}.")
    if output.resolve().is_relative_to(path.resolve()):
        raise ScrapeError(f"{output} lies in {path}, which is only read; choose another folder.")
    check_source(output, OWN)
    try:
        captions, dropped = Captions(path), Dropped()
        files = list(_pictures(path, dropped))
    except OSError as error:
        raise ScrapeError(f"{path} cannot be read ({error.strerror or error}).") from error
    for name in captions.without_picture(files):
        dropped.add("a caption without a picture in the folder", name)
    if not files:
        raise ScrapeError(f"{path} has no picture ({', '.join(sorted(SUFFIXES))}).")
    return write(output, OWN, plain(license), _read(path, files, captions, dropped), form, dropped)


def _pictures(path: Path, dropped: Dropped) -> Iterator[str]:
    """The names of the pictures in `path`, such as `cats/tom.png`, sorted; hidden files are left out."""
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        hidden = any(part.startswith(".") for part in name.parts)
        suffix = file.suffix.lower()
        if not hidden and suffix in OTHER_PICTURES and file.is_file():
            dropped.add(f"a format that is not read ({suffix})", name.as_posix())
        if hidden or suffix not in SUFFIXES or not file.is_file():
            continue
        if suffix in HEIC and not installed("heic"):
            dropped.add(f"HEIC, which needs pillow-heif: {install_command('heic')}", name.as_posix())
        elif not inside(file, path):
            dropped.add(LINK, name.as_posix())
        elif file.stat().st_size > PICTURE_BYTES:
            dropped.add(LARGE, name.as_posix())
        else:
            yield name.as_posix()


def slug(name: str) -> str:
    """A name as letters, digits and hyphens of ASCII."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "-".join(re.findall("[A-Za-z0-9]+", ascii_name))[:60].strip("-").lower()


def _read(path: Path, files: list[str], captions: Captions, dropped: Dropped) -> Iterator[Picture]:
    for order, name in enumerate(files):
        file = path / name
        try:
            data = file.read_bytes()
            fields = captions.of(name)
        except OSError:
            dropped.add("a file that cannot be read", name)
            continue
        if not fields["text"]:
            dropped.add("no caption", name)
            continue
        # File names may differ in characters that `slug` drops; the digest keeps the stems apart.
        digest = hashlib.sha256(name.encode(errors="surrogateescape") + b"\0" + data).hexdigest()[:12]
        stem = "-".join(part for part in (slug(file.stem), digest) if part)
        yield Picture(stem, name, data, order, {"label": fields["text"], **fields})

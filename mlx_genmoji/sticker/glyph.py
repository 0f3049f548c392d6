"""iOS adaptive glyphs, the format of Genmoji: a HEIC file for `NSAdaptiveImageGlyph(imageContent:)`.

Apple does not document the format. This file follows third-party code whose output iOS accepts: square images with
transparency, of 160, 40, 64, 96 and 320 px in this order. Each has the same content identifier as TIFF's DocumentName,
and a description, which VoiceOver reads, as its ImageDescription. ImageIO writes both to XMP and reads them from Exif
too; here they are in both. No Apple device has confirmed the files yet.
"""

from __future__ import annotations

import hashlib
import io
from uuid import NAMESPACE_OID, uuid5
from xml.sax.saxutils import escape

from PIL import Image

from ..errors import UserError

SIDES = (160, 40, 64, 96, 320)

QUALITY = 95

# The encoder's default preset takes seconds even for pictures as small as these.
FAST = {"preset": "ultrafast"}

# Tags of TIFF 6.0.
DOCUMENT_NAME, IMAGE_DESCRIPTION = 0x010D, 0x010E

DESCRIPTION = "genmoji"

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
><rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><tiff:DocumentName>{identifier}</tiff:DocumentName
><tiff:ImageDescription><rdf:Alt><rdf:li xml:lang="x-default">{description}</rdf:li></rdf:Alt></tiff:ImageDescription
></rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def glyph(figure: Image.Image, description: str, quality: int = QUALITY) -> bytes:
    """The HEIC file of `figure`, RGBA of any size, scaled to fill each of the square images.

    Raises UserError if pillow-heif is missing.
    """
    try:
        import pillow_heif
    except ModuleNotFoundError:
        from ..extras import install_command

        raise UserError(f"HEIC needs pillow-heif; install it with: {install_command('heic')}") from None
    description = " ".join(description.split()) or DESCRIPTION
    identifier = content_identifier(figure, description)
    exif = Image.Exif()
    # Exif holds ASCII only; XMP keeps all letters of the description.
    exif[DOCUMENT_NAME] = identifier
    exif[IMAGE_DESCRIPTION] = description.encode("ascii", "replace").decode()
    xmp = XMP.format(identifier=identifier, description=escape(description)).encode()
    file = pillow_heif.HeifFile()
    for side in SIDES:
        image = file.add_from_pillow(fitted(figure, side))
        image.info["exif"], image.info["xmp"] = exif.tobytes(), xmp
    buffer = io.BytesIO()
    file.save(buffer, format="HEIF", quality=quality, chroma=444, save_all=True, primary_index=0, enc_params=FAST)
    return buffer.getvalue()


def content_identifier(figure: Image.Image, description: str) -> str:
    """A UUID made from the pixels and the description, so the same sticker has the same identifier everywhere."""
    digest = hashlib.sha256(repr((figure.size, description)).encode() + figure.tobytes()).hexdigest()
    return str(uuid5(NAMESPACE_OID, digest)).upper()


def fitted(figure: Image.Image, side: int, margin: int = 0, square: bool = True) -> Image.Image:
    """`figure` scaled to a longer side of `side - 2 * margin` px.

    square: centred in a transparent square of `side` px; otherwise the result has the size of the scaled figure.
    """
    inner = side - 2 * margin
    scale = inner / max(figure.size)
    width, height = (max(1, round(length * scale)) for length in figure.size)
    scaled = figure.resize((width, height), Image.Resampling.LANCZOS)
    if not square:
        return scaled
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(scaled, ((side - width) // 2, (side - height) // 2))
    return canvas

"""Picture files of strangers: recognised, bounded, and read as a viewer shows them.

A library that reads eighty formats is eighty doors. Here a file is first recognised by how it
begins, its size is read from its own header, and what it holds beside the picture is left out;
only then is Pillow asked, for that one format. So no external program is ever started, nothing
is unpacked that was not asked for, and what a file costs follows from its bytes and pixels:

- PNG: chunks other than header, palette and pixels are left out (compressed texts and profiles
  can unpack to a thousand times their size).
- JPEG: baseline and progressive, with few scans (a scan of a few bytes costs a pass over all
  pixels); APP segments that say nothing of the pixels are left out (one EXIF directory can name
  the same megabytes 65,535 times, and Pillow copies them each time).
- WebP: still, or the first frame. So it is with animated PNG: its still image.
- BMP: uncompressed (Pillow unpacks run lengths in Python, one by one).

What is shown: the EXIF orientation is applied, 16 bits are scaled to 8 (the upper ones, which is
what Pillow does where there are colours), what is transparent lies on white, CMYK is turned to RGB
in the plain way. Colour profiles and gamma are ignored.
"""

import io
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgepact.errors import InputError
from edgepact.exhibit import PICTURE_BYTES_MAX, PICTURE_SIDE_MAX

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")

PIXELS_MAX = 2**20
"""Largest picture, but for models that see more. The server decodes on the thread that computes:
at this size the costliest file found (a 16-bit interlaced PNG with transparency, a progressive
CMYK JPEG, a JPEG filled up to `BYTES_MAX`) takes about 0.1 s and 40 MB on one core; usual ones
take a third of it."""

BYTES_MAX = 5 * 2**20
"""Largest picture file: four bytes for each of `PIXELS_MAX`, and what stands around them."""

SIDES_PER_INPUT = 32
"""A picture may be this many times as wide and as high as the model's input, or a strip of as
many pixels: more adds nothing to what the model sees."""

PARTS_MAX = 4096
"""Chunks of a PNG, or segments of a JPEG: each costs time however small it is."""

_THUMBNAIL_SIDES = (PICTURE_SIDE_MAX, 112, 80)
"""That a thumbnail is tried with; the last always fits, whatever it shows."""

SCANS_MAX = 24
"""Scans of a JPEG. Usual progressive files have 6 to 12."""

EXPECTED = "an image file (PNG, JPEG, WebP or BMP)"

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # restarts are no matter
_JPEG_ALONE = 0x01  # has no length
_JPEG_LEFT_OUT = frozenset({0xFE, *range(0xE1, 0xF0)} - {0xEE})
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_DECODED = frozenset({0xC0, 0xC1, 0xC2})
_BMP_PLAIN = frozenset({0, 3, 6})

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_OTHERS = (
    (0, b"GIF8", "a GIF file"),
    (0, b"II*\0", "a TIFF file"),
    (0, b"MM\0*", "a TIFF file"),
    (0, b"II+\0", "a TIFF file"),
    (0, b"MM\0+", "a TIFF file"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"8BPS", "a PSD file"),
    (0, b"DDS ", "a DDS file"),
    (0, b"BLP", "a BLP file"),
    (0, b"SIMPLE", "a FITS file"),
    (0, b"\0\0\1\0", "an ICO file"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
    (4, b"jP  \r\n\x87\n", "a JPEG 2000 file"),
    (4, b"ftypavi", "an AVIF file"),
    (4, b"ftyp", "a HEIF or video file"),
)
"""Offset and signature of other files, to name what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A picture file whose header was read; nothing of it is decoded.

    Attributes:
        format: Pillow's name of it.
        size: width and height, pixels.
        content: the file without what is not needed.
        exif: the EXIF directory that lies outside of `content`.
        colourless: key of a PNG that is transparent where the pixel has this value, 8 or 16 bits
            a channel as its header says.
    """

    format: str
    size: tuple[int, int]
    content: bytes
    exif: bytes = b""
    colourless: tuple[int, ...] | None = None


def pixels_max(image_size: int) -> int:
    """Largest picture for a model whose input has `image_size` pixels a side.

    Example:
        >>> pixels_max(28), pixels_max(224), pixels_max(2000)
        (802816, 1048576, 4000000)
    """
    return max(image_size**2, min(PIXELS_MAX, (SIDES_PER_INPUT * image_size) ** 2))


def read_picture(path: Path) -> bytes:
    """The bytes of a picture file, never more than `BYTES_MAX`.

    Raises:
        InputError: it cannot be read, or is larger.
    """
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise InputError(path, "", EXPECTED, error.strerror or "nothing") from None
    if len(content) > BYTES_MAX:
        raise InputError(path, "", f"at most {BYTES_MAX} bytes", "more")
    return content


def thumbnail(picture: Image.Image) -> bytes:
    """A picture small enough for an exhibit: a PNG file with nothing in it but the pixels."""
    content = b""
    for side in _THUMBNAIL_SIDES:
        small = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
        small = small.copy()
        small.thumbnail((side, side))
        small.info.clear()
        buffer = io.BytesIO()
        small.save(buffer, "PNG")
        content = buffer.getvalue()
        if len(content) <= PICTURE_BYTES_MAX:
            break
    return content


def check_picture(content: bytes, *, image_size: int, source: object = "image") -> None:
    """Refuses what `decoded` would refuse by its header or checksums, at a fraction of the cost.

    Raises:
        InputError: see `decoded`.
    """
    found = _recognised(content, pixels_max(image_size), source)
    try:
        with Image.open(io.BytesIO(found.content), formats=(found.format,)) as opened:
            opened.verify()
    except Exception as error:  # see `decoded`
        raise _undecodable(found.format, error, source) from None


def decoded(content: bytes, *, image_size: int, source: object = "image") -> Image.Image:
    """A picture as a viewer shows it.

    Args:
        content: a PNG, JPEG, WebP or BMP file.
        image_size: height and width of the input of the model that shall see it, pixels.
        source: what errors name, such as a path.

    Returns:
        Upright and opaque, of mode `L` where the file is grey, else `RGB`.

    Raises:
        InputError: the bytes are no such file, cannot be decoded, or go beyond `BYTES_MAX` or
            `pixels_max(image_size)`.
    """
    found = _recognised(content, pixels_max(image_size), source)
    try:
        with Image.open(io.BytesIO(found.content), formats=(found.format,)) as opened:
            if opened.size != found.size:
                sizes = "{}x{} declared as {}x{}".format(*opened.size, *found.size)
                raise ValueError(sizes)
            exif = found.exif or opened.info.get("exif", b"")
            picture = _opaque(opened, found.colourless)
    except Exception as error:  # What decoders raise at strange bytes shares no base.
        raise _undecodable(found.format, error, source) from None
    turn = _TURNS.get(_orientation(exif))
    return picture if turn is None else picture.transpose(turn)


# ---------------------------------------------------------------- private


def _recognised(content: bytes, most: int, source: object) -> _Found:
    if len(content) > BYTES_MAX:
        raise InputError(source, "", f"at most {BYTES_MAX} bytes", len(content))
    if content.startswith(_PNG):
        name, read = "PNG", _png
    elif content.startswith(b"\xff\xd8\xff"):
        name, read = "JPEG", _jpeg
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        name, read = "WEBP", _webp
    elif content.startswith(b"BM"):
        name, read = "BMP", _bmp
    else:
        raise InputError(source, "", EXPECTED, _named(content))
    try:
        found = read(content)
    except (struct.error, IndexError):
        raise InputError(source, "", EXPECTED, f"a {name} file that is cut short") from None
    except ValueError as error:
        raise _undecodable(name, error, source) from None
    width, height = found.size
    if width < 1 or height < 1:
        raise InputError(source, "", "a picture with pixels", f"{width}x{height}")
    if width * height > most:
        raise InputError(source, "", f"at most {most} pixels", f"{width}x{height}")
    return found


def _undecodable(name: str, error: Exception, source: object) -> InputError:
    # Pillow's own words for "no plugin took it" hold the address of an object.
    broken = isinstance(error, UnidentifiedImageError)
    why = "broken header" if broken else str(error) or type(error).__name__
    return InputError(source, "", EXPECTED, f"a {name} file that cannot be decoded ({why})")


def _named(content: bytes) -> str:
    """What bytes seem to be that are none of the formats."""
    if not content:
        return "an empty file"
    for at, signature, name in _OTHERS:
        if content[at : at + len(signature)] == signature:
            return name
    return f"bytes of another kind, which begin with {content[:8].hex(' ')}"


def _png(content: bytes) -> _Found:
    kept, exif, key = [_PNG], b"", None
    width, height, depth, colour = struct.unpack_from(">IIBB", content, 16)
    if content[8:16] != b"\0\0\0\rIHDR":
        raise ValueError("no header")
    at = 8
    for _ in range(PARTS_MAX):
        if at + 8 > len(content):
            break  # cut short: the decoder says so, if it needs more
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if kind == b"IHDR" and at > 8:
            raise ValueError("a second header")
        if kind == b"tRNS" and colour in (0, 2):
            key = _key(content[at + 8 : end - 4], depth, colour)
        elif kind == b"eXIf":
            exif = content[at + 8 : end - 4]
        elif kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(content[at:end])
        if kind == b"IEND":
            break
        at = end
    else:
        raise ValueError(f"more than {PARTS_MAX} chunks")
    return _Found(
        format="PNG", size=(width, height), content=b"".join(kept), exif=exif, colourless=key
    )


def _key(chunk: bytes, depth: int, colour: int) -> tuple[int, ...]:
    """The value that is transparent, as it reads in the decoded picture."""
    values = struct.unpack_from(">H" if colour == 0 else ">3H", chunk)
    if depth == 16:
        # Of colours Pillow gives the upper 8 bits; of grey all 16.
        return values if colour == 0 else tuple(value >> 8 for value in values)
    if depth not in (1, 2, 4, 8):
        raise ValueError(f"{depth} bits")
    return tuple((value & (2**depth - 1)) * 255 // (2**depth - 1) for value in values)


def _jpeg(content: bytes) -> _Found:
    kept, exif, size, scans, at = [content[:2]], b"", None, 0, 2
    for _ in range(PARTS_MAX):
        marker = _JPEG_MARKER.search(content, at)
        if marker is None:
            kept.append(content[at:])
            break
        kind = content[marker.end() - 1]
        if kind == _JPEG_ALONE:
            end = marker.end()
        elif kind == 0xD9:
            kept += (content[at : marker.start()].rstrip(b"\xff"), b"\xff\xd9")
            break
        else:
            end = marker.end() + struct.unpack_from(">H", content, marker.end())[0]
        if kind in _JPEG_FRAMES:
            if kind not in _JPEG_DECODED:
                raise ValueError("neither baseline nor progressive")
            height, width = struct.unpack_from(">HH", content, marker.end() + 3)
            if size is not None:
                raise ValueError("a second frame")
            size = (width, height)
        scans += kind == 0xDA
        if scans > SCANS_MAX:
            raise ValueError(f"more than {SCANS_MAX} scans")
        segment = content[marker.end() + 2 : end] if kind == 0xE1 else b""
        if not exif and segment.startswith(_EXIF):
            exif = segment
        # What stands before a marker belongs to the scan before it. Before the first scan it is
        # filling, which Pillow would step over in Python, byte by byte.
        if scans > (kind == 0xDA):
            kept.append(content[at : marker.start()].rstrip(b"\xff"))
        if kind not in _JPEG_LEFT_OUT:
            kept.append(content[marker.start() : end])
        at = end
    else:
        raise ValueError(f"more than {PARTS_MAX} segments")
    if size is None:
        raise ValueError("no frame")
    return _Found(format="JPEG", size=size, content=b"".join(kept), exif=exif)


def _webp(content: bytes) -> _Found:
    kind = content[12:16]
    if kind == b"VP8X":
        low = struct.unpack_from("<HBHB", content, 24)
        size = (low[0] + (low[1] << 16) + 1, low[2] + (low[3] << 16) + 1)
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    elif kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        size = (width & 0x3FFF, height & 0x3FFF)
    else:
        raise ValueError("no picture")
    return _Found(format="WEBP", size=size, content=content)


def _bmp(content: bytes) -> _Found:
    (header,) = struct.unpack_from("<I", content, 14)
    if header == 12:
        width, height = struct.unpack_from("<HH", content, 18)
        compression = 0
    else:
        width, height, compression = struct.unpack_from("<Ii4xI", content, 18)
    if compression not in _BMP_PLAIN:
        raise ValueError("compressed")
    return _Found(format="BMP", size=(width, abs(height)), content=content)


def _orientation(exif: bytes) -> int:
    """How EXIF says the picture is turned; 1, upright, where it says nothing that can be read.

    Read here, since Pillow reads all of a directory to answer for one entry.
    """
    tiff = exif.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, first)
        for at in range(first + 2, first + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, at)
            if tag == _ORIENTATION:
                return int(value) if (kind, count) == (3, 1) else 1
    except struct.error:
        pass
    return 1


def _opaque(opened: Image.Image, key: tuple[int, ...] | None) -> Image.Image:
    """The decoded picture of mode L or RGB, on white."""
    image: Image.Image = opened
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "CMYK":
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    image.load()
    covered: Image.Image | None = None
    if key is not None:
        values = np.asarray(image).reshape(image.height, image.width, -1)
        shown = (values != np.array(key, values.dtype)).any(axis=-1)
        covered = Image.fromarray(shown.astype(np.uint8) * np.uint8(255))
    elif image.mode in ("LA", "RGBA"):
        covered = image.getchannel("A")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("L" if image.mode in ("L", "LA") else "RGB")
    if covered is not None:
        white = Image.new(image.mode, image.size, "white")
        white.paste(image, mask=covered)
        image = white
    return image

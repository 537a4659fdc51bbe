"""Pictures of strangers: what is refused, what it may cost, and what a viewer would show.

The files in `pictures/` are of users: a photograph that its camera held sideways, a 16-bit scan,
a PostScript picture for which Ghostscript would be started.
"""

import io
import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgepact.errors import InputError
from edgepact.inference import pictures
from edgepact.inference.models import embedded, samples
from edgepact.inference.pictures import (
    BYTES_MAX,
    PARTS_MAX,
    PIXELS_MAX,
    SCANS_MAX,
    SIDES_PER_INPUT,
    check_picture,
    decoded,
    pixels_max,
    read_picture,
)
from edgepact.inference.pipeline import Pipeline, preprocess
from edgepact.inference.zero_shot import KnowledgeBase
from tests.memory import most_bytes

DATA = Path(__file__).parent / "pictures"
REFUSED = r"image: expected an image file \(PNG, JPEG, WebP or BMP\), found "
SIZE = 28
MEMORY_MAX = 24 * 2**20
"""Of Python's own allocations: a largest file, a copy of it, and the pixels of a small picture."""


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(decoded(content, image_size=SIZE))


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG made by hand; each row begins with its filter."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    every = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in every)


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


SAMPLES = [Image.open(path) for path in sorted(samples().glob("*/*.png"))[::10]]
GREY = [np.asarray(image) for image in SAMPLES]


# ---------------------------------------------------------------- what a viewer shows


def turned(grey: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores that says `orientation`, so that `grey` is shown (EXIF 2.3, 4.6.4).

    Row 0 and column 0 of what is stored are: 1 top, left; 2 top, right; 3 bottom, right; 4 bottom,
    left; 5 left, top; 6 right, top; 7 right, bottom; 8 left, bottom.
    """
    rows_are_columns = orientation >= 5
    first_row, first_column = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    if rows_are_columns:
        first_row, first_column = first_column, first_row
    shown = grey[:: -1 if first_row == "bottom" else 1, :: -1 if first_column == "right" else 1]
    return np.ascontiguousarray(shown.T if rows_are_columns else shown)


def with_tag(orientation: int, kind: str) -> Callable[[np.ndarray], bytes]:
    def write(grey: np.ndarray) -> bytes:
        stored = Image.fromarray(turned(grey, orientation))
        options: dict[str, Any] = {"exif": exif_of(orientation)}
        if kind == "WEBP":
            options |= {"lossless": True, "exact": True}
        return file_of(stored, kind, **options)

    return write


def as_16_bits(grey: np.ndarray) -> bytes:
    return file_of(Image.fromarray(grey.astype(np.uint16) * np.uint16(257)))


def as_palette(grey: np.ndarray) -> bytes:
    image = Image.fromarray(255 - grey, "P")
    image.putpalette([255 - level for level in range(256) for _ in range(3)])
    return file_of(image)


def rgba(grey: np.ndarray) -> Image.Image:
    """Black ink, more of it where `grey` is darker: on white it looks like `grey`."""
    black = np.zeros_like(grey)
    return Image.fromarray(np.stack([black, black, black, 255 - grey], axis=-1))


def as_transparent_palette(grey: np.ndarray) -> bytes:
    image = Image.fromarray(grey, "P")
    image.putpalette([0] * 768)
    return file_of(image, transparency=bytes(255 - level for level in range(256)))


def as_grey_ink(grey: np.ndarray) -> bytes:
    return file_of(Image.fromarray(np.stack([np.zeros_like(grey), 255 - grey], axis=-1), "LA"))


def with_key(grey: np.ndarray) -> bytes:
    """White is written as another grey that is transparent: what is seen does not change."""
    unused = next(level for level in range(256) if level not in grey)
    written = np.where(grey == 255, np.uint8(unused), grey)
    return file_of(Image.fromarray(written), transparency=unused)


def with_colour_key(grey: np.ndarray) -> bytes:
    written = np.repeat(grey[..., None], 3, axis=-1)
    written[grey == 255] = (1, 2, 3)
    return file_of(Image.fromarray(written), transparency=(1, 2, 3))


def with_16_bit_key(grey: np.ndarray) -> bytes:
    levels = (grey.astype(np.uint16) * np.uint16(257)).astype(">u2")
    levels[grey == 255] = 300  # its upper half is that of 257, which has to stay
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    return png(SIZE, SIZE, 16, 0, rows, (b"tRNS", struct.pack(">H", 300)))


EXACT: dict[str, Callable[[np.ndarray], bytes]] = {
    "grey": lambda grey: file_of(Image.fromarray(grey)),
    "colour": lambda grey: file_of(Image.fromarray(grey).convert("RGB")),
    "bmp": lambda grey: file_of(Image.fromarray(grey), "BMP"),
    "bmp of 24 bits": lambda grey: file_of(Image.fromarray(grey).convert("RGB"), "BMP"),
    "webp": lambda grey: file_of(Image.fromarray(grey), "WEBP", lossless=True),
    "webp, transparent": lambda grey: file_of(rgba(grey), "WEBP", lossless=True, exact=True),
    "16 bits": as_16_bits,
    "16 bits, colourless": with_16_bit_key,
    "palette": as_palette,
    "transparent palette": as_transparent_palette,
    "transparent": lambda grey: file_of(rgba(grey)),
    "grey and transparent": as_grey_ink,
    "grey, colourless": with_key,
    "colour, colourless": with_colour_key,
    "with a profile": lambda grey: file_of(Image.fromarray(grey), icc_profile=b"\0" * 5000),
    **{
        f"orientation {tag} in {kind}": with_tag(tag, kind)
        for tag in range(1, 9)
        for kind in ("PNG", "WEBP")
    },
}


@pytest.mark.parametrize("written", EXACT)
def test_samples_written_otherwise_look_the_same(written: str) -> None:
    for grey in GREY:
        found = decoded(EXACT[written](grey), image_size=SIZE)
        assert found.mode in ("L", "RGB")
        np.testing.assert_array_equal(np.asarray(found.convert("L")), grey)


@pytest.mark.parametrize("tag", range(1, 9))
def test_jpegs_are_turned_as_their_tag_says(tag: int) -> None:
    for grey in GREY[:8]:
        content = with_tag(tag, "JPEG")(grey)
        stored = np.asarray(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(turned_back(stored, tag), pixels_of(content))
        assert np.abs(pixels_of(content).astype(int) - grey).mean() < 6


def turned_back(stored: np.ndarray, tag: int) -> np.ndarray:
    """By search over the eight ways a picture can lie, for a test without the code's own table."""
    marks = np.arange(stored.size).reshape(stored.shape)
    for turns in range(4):
        for flipped in (False, True):
            shown = np.rot90(marks, turns)
            shown = shown[:, ::-1] if flipped else shown
            if np.array_equal(turned(shown, tag), marks):
                whole = np.rot90(stored, turns)
                return whole[:, ::-1] if flipped else whole
    raise AssertionError


def test_a_tag_turns_a_picture_that_is_not_square() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for tag in range(1, 9):
        np.testing.assert_array_equal(pixels_of(with_tag(tag, "PNG")(grey)), grey)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_are_scaled_and_their_key_too(depth: int) -> None:
    levels = 2**depth
    rows = b"\0" + bytes(
        [sum(at << (8 - depth * (at + 1)) for at in range(min(levels, 8 // depth)))]
    )
    width = min(levels, 8 // depth)
    content = png(width, 1, depth, 0, rows, (b"tRNS", struct.pack(">H", 0)))
    expected = [255, *(at * 255 // (levels - 1) for at in range(1, width))]
    np.testing.assert_array_equal(pixels_of(content)[0], expected)


def test_cmyk_is_shown_in_its_colours() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    found = decoded(file_of(red, "JPEG", quality=95), image_size=SIZE)
    assert found.mode == "RGB"
    np.testing.assert_allclose(np.asarray(found), np.full((16, 16, 3), (255, 0, 0)), atol=3)


def test_one_bit_is_black_and_white() -> None:
    for kind in ("PNG", "BMP"):
        found = pixels_of(file_of(Image.fromarray(GREY[0] > 99), kind))
        np.testing.assert_array_equal(found, np.where(GREY[0] > 99, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    first, *others = [Image.fromarray(grey) for grey in GREY[:4]]
    content = file_of(first, kind, save_all=True, append_images=others, lossless=True)
    found = decoded(content, image_size=SIZE).convert("L")
    np.testing.assert_array_equal(np.asarray(found), GREY[0])


def test_files_of_users_keep_their_labels() -> None:
    info = Pipeline(embedded()).info
    pipeline, classes = Pipeline(embedded()), KnowledgeBase.from_texts(embedded())
    for name in ("turned.jpg", "upright.png", "grey16.png", "grey8.png"):
        pixels = preprocess((DATA / name).read_bytes(), info)
        vector = pipeline.device_part(pixels, info.layers_max)
        assert classes.labels[int(classes.classify(vector).argmax())] == "ankle boot", name
    np.testing.assert_array_equal(
        pixels_of((DATA / "grey16.png").read_bytes()), pixels_of((DATA / "grey8.png").read_bytes())
    )


@given(st.binary(max_size=200))
@example(b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
@example(b"II*\0\xff\xff\xff\xff")
def test_exif_that_cannot_be_read_turns_nothing(exif: bytes) -> None:
    """But eight bytes of it that say so can."""
    grey = GREY[0]
    content = png(SIZE, SIZE, 8, 0, rows_of(grey), (b"eXIf", exif))
    found = pixels_of(content)
    assert any(
        np.array_equal(turned(found, tag), grey) for tag in range(1, 9)
    )  # nothing but a turn can come of it


def rows_of(grey: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in grey)


# ---------------------------------------------------------------- what is refused


def fits() -> bytes:
    cards = [b"SIMPLE  = T", b"BITPIX  = 8", b"NAXIS   = 2", b"NAXIS1  = 9999", b"NAXIS2  = 9999"]
    return b"".join(card.ljust(80) for card in [*cards, b"END"]).ljust(2880)


def spider() -> bytes:
    return struct.pack(">27f", *[float(each) for each in range(27)]) * 12


OTHERS: dict[str, tuple[bytes, str]] = {
    "AVIF": (b"\0\0\0\x1cftypavif\0\0\0\0mif1" + b"\xff" * 60, "an AVIF file"),
    "BLP1": (b"BLP1\0\0\0\1" + b"\xff" * 200, "a BLP file"),
    "BLP2": (b"BLP2\0\0\0\0" + b"\0" * 200, "a BLP file"),
    "DDS": (b"DDS \x7c\0\0\0" + b"\xff" * 124, "a DDS file"),
    "SPIDER": (spider(), "bytes of another kind"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BeginBinary: -9\n", "a PostScript file"),
    "EPS in a DOS file": (b"\xc5\xd0\xd3\xc6" + b"\0" * 30, "a PostScript file"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 60, "a JPEG 2000 file"),
    "JPEG 2000 stream": (b"\xff\x4f\xff\x51\0\x2f" + b"\0" * 60, "a JPEG 2000 file"),
    "FITS": (fits(), "a FITS file"),
    "PSD": (b"8BPS\0\1" + b"\xff" * 60, "a PSD file"),
    "TIFF": (b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 60, "a TIFF file"),
    "big TIFF": (b"MM\0+\0\x08\0\0" + b"\xff" * 60, "a TIFF file"),
    "GIF": (file_of(Image.new("L", (4, 4)), "GIF"), "a GIF file"),
    "ICO": (file_of(Image.new("L", (16, 16)), "ICO"), "an ICO file"),
    "PDF": (b"%PDF-1.7\n", "a PDF file"),
    "text": (b"/* XPM */", "bytes of another kind, which begin with 2f 2a 20 58 50 4d 20 2a"),
    "nothing": (b"", "an empty file"),
}


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow may not be asked."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a decoder was asked")

    monkeypatch.setattr(pictures.Image, "open", never)


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_named_and_never_opened(kind: str) -> None:
    content, named = OTHERS[kind]
    for read in (decoded, check_picture):
        with pytest.raises(InputError, match=REFUSED + named):
            read(content, image_size=SIZE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_pillow_can_write_is_refused_but_for_four_formats() -> None:
    Image.init()
    taken = set()
    for kind in sorted(Image.SAVE):
        try:
            content = file_of(Image.fromarray(GREY[0]), kind)
        except (OSError, ValueError, KeyError, RuntimeError):
            continue  # it writes no greys, or needs a library
        try:
            decoded(content, image_size=SIZE)
        except InputError:
            continue
        taken.add(kind)
    # These write one of the four under another name.
    assert taken - {"MPO", "DIB"} == {"PNG", "JPEG", "WEBP", "BMP"}


def test_no_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = tmp_path / "called"
    for name in ("gs", "gswin32c", "djpeg", "cjpeg"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ntouch {called}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    for place, name in ((subprocess, "Popen"), (os, "system"), (os, "posix_spawn")):
        monkeypatch.setattr(place, name, never)
    for content in ((DATA / "x.eps").read_bytes(), *(content for content, _ in OTHERS.values())):
        with pytest.raises(InputError):
            decoded(content, image_size=SIZE)
    assert not called.exists()


def bmp(width: int, height: int, compression: int = 0, bits: int = 24) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + header + b"\1" * 64


def jpeg(width: int, height: int, frame: int = 0xC0) -> bytes:
    content = file_of(Image.new("L", (8, 8)), "JPEG")
    at = content.index(b"\xff\xc0")
    return (
        content[:at] + struct.pack(">BBHBHH", 255, frame, 11, 8, height, width) + content[at + 9 :]
    )


def webp(kind: bytes, body: bytes) -> bytes:
    parts = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


GIANTS = {
    "PNG of 2^31": png(2**31, 2**31, 8, 6, b""),
    "PNG of 2^31 - 1": png(2**31 - 1, 1, 1, 0, b""),
    "PNG of 2^32 - 1": png(2**32 - 1, 2**32 - 1, 16, 6, b""),
    "PNG just too large": png(pixels_max(SIZE) + 1, 1, 8, 0, b""),
    "PNG without width": png(0, 4, 8, 0, b""),
    "BMP": bmp(2**31 - 1, 2**31 - 1),
    "BMP upside down": bmp(2**20, -(2**31)),
    "BMP without width": bmp(0, 1),
    "JPEG": jpeg(65535, 65535),
    "JPEG without height": jpeg(8, 0),
    "WebP canvas": webp(b"VP8X", b"\2\0\0\0" + b"\xff" * 6),
    "WebP lossless": webp(b"VP8L", b"\x2f\xff\xff\xff\x0f" + b"\0" * 20),
    "WebP lossy": webp(b"VP8 ", b"\x10\0\0\x9d\1\x2a\xff\x3f\xff\x3f" + b"\0" * 20),
}


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("kind", GIANTS)
def test_giants_are_refused_before_a_decoder_is_asked(kind: str) -> None:
    most = "a picture with pixels" if "without" in kind else f"at most {pixels_max(SIZE)} pixels"
    for read in (decoded, check_picture):
        with pytest.raises(InputError, match=f"{most}, found [0-9]+x"):
            read(GIANTS[kind], image_size=SIZE)


def many_scans(count: int) -> bytes:
    image = Image.fromarray(np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8))
    content = file_of(image, "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (count - content.count(b"\xff\xda")) + b"\xff\xd9"


COSTLY = {
    "a JPEG of many scans": (many_scans(SCANS_MAX + 1), "scans"),
    "a JPEG of many segments": (
        b"\xff\xd8" + b"\xff\xe5\0\2" * PARTS_MAX + jpeg(8, 8)[2:],
        "segments",
    ),
    "a PNG of many chunks": (
        png(1, 1, 8, 0, b"\0\0", *[(b"teXt", b"")] * PARTS_MAX),
        "chunks",
    ),
    "a BMP of run lengths": (bmp(8, 8, compression=1, bits=8), "compressed"),
    "an arithmetic JPEG": (jpeg(8, 8, frame=0xC9), "neither baseline nor progressive"),
    "a JPEG without a frame": (b"\xff\xd8\xff\xd9", "no frame"),
    "a JPEG of two frames": (jpeg(8, 8)[:-2] + jpeg(8, 8)[2:], "a second frame"),
    "a PNG of two headers": (
        png(1, 1, 8, 0, b"\0\0", (b"IHDR", struct.pack(">IIBBBBB", 9**9, 9**9, 8, 0, 0, 0, 0))),
        "a second header",
    ),
    "a WebP without a picture": (webp(b"EXIF", b"\0" * 40), "no picture"),
}


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("kind", COSTLY)
def test_costly_files_are_refused_before_a_decoder_is_asked(kind: str) -> None:
    content, why = COSTLY[kind]
    with pytest.raises(InputError, match=rf"that cannot be decoded \(.*{why}"):
        decoded(content, image_size=SIZE)


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\xd0"])
def test_what_fills_a_jpeg_is_left_out_before_its_first_scan(
    filling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow steps over it one byte at a time: 8 MiB of it took 3 s."""
    whole = file_of(Image.fromarray(GREY[0]), "JPEG")
    filled = whole[:2] + filling * 2**20 + whole[2:]
    handed = []
    opens = Image.open

    def noted(file: io.BytesIO, **options: Any) -> Image.Image:
        handed.append(len(file.getvalue()))
        return opens(file, **options)

    monkeypatch.setattr(pictures.Image, "open", noted)
    np.testing.assert_array_equal(pixels_of(filled), pixels_of(whole))
    assert max(handed) <= len(whole)


def test_usual_scans_are_read() -> None:
    assert decoded(many_scans(SCANS_MAX), image_size=SIZE).size == (64, 64)


def test_texts_of_a_png_are_never_unpacked() -> None:
    bomb = zlib.compress(bytes(2**22))
    chunks = [
        (b"zTXt", b"k\0\0" + bomb),
        (b"iTXt", b"k\0\1\0\0\0" + bomb),
        (b"iCCP", b"k\0\0" + bomb),
    ]
    content = png(SIZE, SIZE, 8, 0, rows_of(GREY[0]), *chunks * 100)
    np.testing.assert_array_equal(pixels_of(content), GREY[0])
    assert most_bytes(lambda: pixels_of(content)) < MEMORY_MAX


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_exif_directory_is_not_copied_out(kind: str) -> None:
    """Each of its entries names the same bytes: read by a library, they are copied 5,000 times."""
    entries = b"".join(struct.pack("<HHII", 0x9000 + at, 7, 60_000, 0) for at in range(5000))
    exif = b"II*\0" + struct.pack("<IH", 8, 5000) + entries + b"\0" * 4
    if kind == "PNG":
        content = png(SIZE, SIZE, 8, 0, rows_of(GREY[0]), (b"eXIf", exif))
    else:
        whole = file_of(Image.fromarray(GREY[0]), "JPEG")
        segment = b"Exif\0\0" + exif[:60_000]
        content = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + whole[2:]
    assert decoded(content, image_size=SIZE).size == (SIZE, SIZE)
    assert most_bytes(lambda: decoded(content, image_size=SIZE)) < MEMORY_MAX


def test_pixels_that_unpack_to_more_than_declared_are_left() -> None:
    content = png(SIZE, SIZE, 8, 0, rows_of(GREY[0]) + bytes(2**26))
    np.testing.assert_array_equal(pixels_of(content), GREY[0])
    assert most_bytes(lambda: pixels_of(content)) < MEMORY_MAX


def test_the_limits_are_near_the_need(tmp_path: Path) -> None:
    """A file at the limits takes about 0.1 s and 40 MB: see `PIXELS_MAX`."""
    assert PIXELS_MAX <= 2**20
    assert BYTES_MAX <= 5 * 2**20
    assert all(size**2 <= pixels_max(size) <= max(size**2, PIXELS_MAX) for size in range(1, 4097))
    with pytest.raises(InputError, match=f"at most {BYTES_MAX} bytes, found {BYTES_MAX + 1}"):
        decoded(b"\0" * (BYTES_MAX + 1), image_size=SIZE)
    large = tmp_path / "large.png"
    large.write_bytes(b"\0" * (BYTES_MAX + 1))
    with pytest.raises(InputError, match=rf"large\.png: expected at most {BYTES_MAX} bytes"):
        read_picture(large)
    with pytest.raises(InputError, match=r"none\.png: expected an image file"):
        read_picture(tmp_path / "none.png")


def test_the_page_for_operators_states_the_limits() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "operate-a-market.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    for said in (
        f"up to {BYTES_MAX >> 20} MiB, and up to {SIDES_PER_INPUT} times as wide",
        f"never more than 2^{PIXELS_MAX.bit_length() - 1} pixels",
        f"The embedded model takes {pixels_max(SIZE):,} pixels",
        f"more than {SCANS_MAX} scans",
    ):
        assert said in text


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_files_cut_short_are_refused(kind: str) -> None:
    whole = file_of(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)), kind
    )
    for length in (*range(1, 60), len(whole) // 2, len(whole) * 3 // 4):
        with pytest.raises(InputError, match="image: expected"):
            decoded(whole[:length], image_size=SIZE)


# ---------------------------------------------------------------- any bytes

WHOLE = [
    *(write(GREY[3]) for write in EXACT.values()),
    file_of(Image.fromarray(GREY[3]), "JPEG", progressive=True, exif=exif_of(6)),
    file_of(Image.fromarray(GREY[3]).convert("CMYK"), "JPEG"),
    file_of(Image.fromarray(GREY[3] > 99)),
    file_of(SAMPLES[0], "WEBP", save_all=True, append_images=SAMPLES[1:3]),
]
STARTS = [b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff", b"BM", b""]
STARTS += [b"RIFF\0\1\0\0WEBP" + kind for kind in (b"VP8 ", b"VP8L", b"VP8X", b"")]


def shown_or_refused(content: bytes) -> None:
    """Either a picture within the limits comes, or an `InputError` that names it."""
    found = None
    told = ["image: expected"]
    for read in (check_picture, decoded):
        try:
            found = read(content, image_size=SIZE)
        except InputError as error:
            told.append(str(error))
    assert all(each.startswith("image: expected") and "object at" not in each for each in told)
    if found is None:
        assert len(told) > 1
    else:
        assert found.mode in ("L", "RGB")
        assert found.width * found.height <= pixels_max(SIZE)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*STARTS, *(content[:12] for content, _ in OTHERS.values())]), st.binary())
def test_random_bytes_are_shown_or_refused(start: bytes, rest: bytes) -> None:
    shown_or_refused(start + rest)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_files_are_shown_or_refused(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(
            st.integers(0, min(len(content), 200) - 1) | st.integers(0, len(content) - 1)
        )
        content[at] = data.draw(st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
    shown_or_refused(bytes(content[: data.draw(st.none() | st.integers(1, len(content)))]))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_chunks_of_any_content_are_shown_or_refused(data: st.DataObject) -> None:
    """Damage that checksums do not show."""
    kinds = st.sampled_from(
        [b"tRNS", b"PLTE", b"eXIf", b"zTXt", b"iCCP", b"acTL", b"fcTL", b"IDAT"]
    )
    chunks = data.draw(st.lists(st.tuples(kinds, st.binary(max_size=40)), max_size=4))
    depth = data.draw(st.sampled_from([1, 2, 4, 8, 16, 3]))
    colour = data.draw(st.sampled_from([0, 2, 3, 4, 6, 5]))
    sides = data.draw(st.tuples(st.integers(0, 40), st.integers(0, 40)))
    shown_or_refused(png(*sides, depth, colour, data.draw(st.binary(max_size=200)), *chunks))

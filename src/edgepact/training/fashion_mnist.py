"""Reading Fashion-MNIST, the images the embedded CLIP is trained and tested on.

The data set is 60,000 training and 10,000 test images of 28x28 grey pixels in
ten classes (Xiao, Rasul and Vollgraf 2017, MIT licence), stored as gzipped IDX
files. Debian ships them as `dataset-fashion-mnist`, so nothing is downloaded
here. Files come from outside: each is checked before it is believed.
"""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from edgepact.errors import InputError, shown
from edgepact.training.data_set import DEBIAN_FOLDER as DEBIAN_FOLDER
from edgepact.training.data_set import IMAGE_SIZE as IMAGE_SIZE

# The class names of the data set, in the order of its label numbers, in the singular
# that fits "a photo of a ...". The data set's "T-shirt/top" holds hardly any other top.
LABELS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

_STEMS = {"train": "train", "test": "t10k"}
_UBYTE = 0x08
# The largest file that is a Fashion-MNIST file holds 60,000 images; a crafted gzip could hold more.
_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImages:
    """Images and their class numbers, in the order of the files.

    Args:
        images: grey levels 0..255, shape `images 28 28`.
        labels: indices into `LABELS`, shape `images`.
    """

    images: UInt8[np.ndarray, "images 28 28"]
    labels: UInt8[np.ndarray, " images"]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> "LabelledImages":
        """Only the first of them."""
        return LabelledImages(images=self.images[:count], labels=self.labels[:count])


def read(folder: Path, split: str) -> LabelledImages:
    """One half of the data set.

    Args:
        folder: where the four `*-ubyte.gz` files lie.
        split: `"train"` or `"test"`.

    Raises:
        InputError: a file is missing, damaged or not what its name says.
    """
    if split not in _STEMS:
        raise InputError("split", "", " or ".join(_STEMS), shown(split))
    stem = _STEMS[split]
    images_path = folder / f"{stem}-images-idx3-ubyte.gz"
    labels_path = folder / f"{stem}-labels-idx1-ubyte.gz"
    images = read_idx(images_path, dimensions=3)
    labels = read_idx(labels_path, dimensions=1)
    if images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        height, width = images.shape[1:]
        raise InputError(
            images_path, "sizes", f"{IMAGE_SIZE}x{IMAGE_SIZE} images", f"{height}x{width}"
        )
    if len(images) != len(labels):
        raise InputError(labels_path, "sizes", f"{len(images)} labels", len(labels))
    if len(labels) and labels.max() >= len(LABELS):
        raise InputError(labels_path, "data", f"labels below {len(LABELS)}", int(labels.max()))
    return LabelledImages(images=images, labels=labels)


def read_idx(path: Path, *, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """A gzipped IDX file of unsigned bytes.

    The format: two zero bytes, the type (8 for unsigned bytes), the number of
    dimensions, each size as a big-endian 32-bit integer, then the data.

    Args:
        path: the file.
        dimensions: how many the file must have.

    Raises:
        InputError: the file is missing, not gzip, or its header and data disagree.
    """
    data = _gunzip(path)
    header_bytes = 4 + 4 * dimensions
    if len(data) < header_bytes:
        raise InputError(
            path, "header", f"{header_bytes} bytes", f"{len(data)} bytes (truncated file)"
        )
    magic = bytes((0, 0, _UBYTE, dimensions))
    if data[:4] != magic:
        raise InputError(path, "magic", f"0x{magic.hex()}", f"0x{data[:4].hex()}")
    sizes = [int(size) for size in np.frombuffer(data, ">u4", dimensions, 4)]
    count = 1
    for size in sizes:
        count *= size
    if len(data) - header_bytes != count:
        shape = "x".join(map(str, sizes))
        raise InputError(
            path, "data", f"{count} bytes for {shape}", f"{len(data) - header_bytes} bytes"
        )
    return np.frombuffer(data, np.uint8, count, header_bytes).reshape(sizes)


def _gunzip(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            data = file.read(_BYTES_MAX + 1)
    except FileNotFoundError:
        raise InputError(
            path,
            "",
            "a Fashion-MNIST file (Debian: apt-get install dataset-fashion-mnist)",
            "no such file",
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(path, "", "a complete gzip file", str(error)) from None
    except OSError as error:
        raise InputError(path, "", "a readable file", error.strerror or str(error)) from None
    if len(data) > _BYTES_MAX:
        raise InputError(path, "", f"at most {_BYTES_MAX} bytes of data", "more")
    return data

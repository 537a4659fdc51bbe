import gzip
import struct

import numpy as np
import pytest

from edgepact.errors import InputError
from edgepact.training import fashion_mnist

MAGIC_IMAGES, MAGIC_LABELS = 0x00000803, 0x00000801


def write_idx(path, magic, sizes, data):
    header = struct.pack(f">{1 + len(sizes)}I", magic, *sizes)
    path.write_bytes(gzip.compress(header + bytes(data)))


@pytest.fixture
def folder(tmp_path):
    """A data set of three images that is right in every way."""
    pixels = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8)
    for stem in ("train", "t10k"):
        write_idx(
            tmp_path / f"{stem}-images-idx3-ubyte.gz", MAGIC_IMAGES, (3, 28, 28), pixels.tobytes()
        )
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte.gz", MAGIC_LABELS, (3,), [9, 0, 4])
    return tmp_path


@pytest.mark.parametrize("split", ["train", "test"])
def test_reads_pixels_and_labels_in_file_order(folder, split):
    data = fashion_mnist.read(folder, split)
    assert data.labels.tolist() == [9, 0, 4]
    assert data.images.shape == (3, 28, 28)
    assert data.images.ravel()[:300].tolist() == [value % 256 for value in range(300)]
    assert len(data.first(2)) == 2


def test_missing_file_names_the_debian_package(tmp_path):
    with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
        fashion_mnist.read(tmp_path, "test")


def test_unknown_split(tmp_path):
    with pytest.raises(InputError, match="train or test"):
        fashion_mnist.read(tmp_path, "validation")


@pytest.mark.parametrize(
    ("magic", "sizes", "count", "field"),
    [
        (MAGIC_LABELS, (3, 28, 28), 3 * 784, "magic"),
        (0x00000D03, (3, 28, 28), 3 * 784, "magic"),  # floats instead of bytes
        (MAGIC_IMAGES, (3, 28, 28), 3 * 784 - 1, "data"),
        (MAGIC_IMAGES, (3, 28, 28), 3 * 784 + 1, "data"),
        (MAGIC_IMAGES, (2**32 - 1, 2**32 - 1, 2**32 - 1), 5, "data"),
        (MAGIC_IMAGES, (3, 14, 56), 3 * 784, "sizes"),
    ],
)
def test_wrong_images_name_file_and_field(folder, magic, sizes, count, field):
    path = folder / "t10k-images-idx3-ubyte.gz"
    write_idx(path, magic, sizes, bytes(count))
    with pytest.raises(InputError) as error:
        fashion_mnist.read(folder, "test")
    assert error.value.source == str(path)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("labels", "field"), [([9, 0], "sizes"), ([9, 0, 4, 1], "sizes"), ([9, 0, 10], "data")]
)
def test_labels_that_do_not_fit(folder, labels, field):
    path = folder / "t10k-labels-idx1-ubyte.gz"
    write_idx(path, MAGIC_LABELS, (len(labels),), labels)
    with pytest.raises(InputError) as error:
        fashion_mnist.read(folder, "test")
    assert (error.value.source, error.value.field) == (str(path), field)


@pytest.mark.parametrize("kept", [0, 5, 20, -4])
def test_truncated_file(folder, kept):
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError) as error:
        fashion_mnist.read(folder, "test")
    assert error.value.source == str(path)


def test_header_cut_short(folder):
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(b"\x00\x00\x08\x03\x00\x00"))
    with pytest.raises(InputError, match="header"):
        fashion_mnist.read(folder, "test")


def test_not_gzip(folder):
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"P5 28 28 255\n" + bytes(784))
    with pytest.raises(InputError, match="gzip"):
        fashion_mnist.read(folder, "test")


def test_a_gzip_bomb_is_not_unpacked(folder, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "_BYTES_MAX", 1000)
    with pytest.raises(InputError, match="at most 1000 bytes"):
        fashion_mnist.read(folder, "test")

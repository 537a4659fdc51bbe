"""Compressed bodies: what comes out is what went in, or a refusal before memory is taken."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError
from edgepact.market.protocol.compression import (
    Inflating,
    TooLarge,
    accepted,
    compressed,
    encoding_of,
)
from tests.memory import most_bytes

ENCODINGS = ("gzip", "deflate")


def inflated(encoding: str, body: bytes, bytes_max: int, chunk: int = 64 * 1024) -> bytes:
    stream = Inflating(encoding, bytes_max)
    parts = [stream.inflate(body[at : at + chunk]) for at in range(0, len(body), chunk)]
    stream.end()
    return b"".join(parts)


@given(st.binary(max_size=5000), st.sampled_from(ENCODINGS), st.integers(1, 700))
def test_what_is_compressed_comes_back(content: bytes, encoding: str, chunk: int) -> None:
    assert inflated(encoding, compressed(content, encoding), len(content), chunk) == content


def test_raw_deflate_is_read_too() -> None:
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    assert inflated("deflate", raw.compress(b"abc" * 100) + raw.flush(), 300) == b"abc" * 100


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bomb_is_refused_before_it_is_inflated(encoding: str) -> None:
    bomb = compressed(bytes(64 * 2**20), encoding)
    assert len(bomb) < 2**20
    bytes_max = 2**20

    def refused() -> None:
        with pytest.raises(TooLarge, match="inflates to at most 1048576 bytes"):
            inflated(encoding, bomb, bytes_max)

    assert most_bytes(refused) < 4 * bytes_max


@given(st.binary(min_size=1, max_size=500), st.sampled_from(ENCODINGS), st.data())
def test_cut_stream_is_refused(content: bytes, encoding: str, data: st.DataObject) -> None:
    whole = compressed(content, encoding)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(InputError, match="stream"):
        inflated(encoding, cut, len(content))


@pytest.mark.parametrize("chunk", [1, 10, 10_000])
def test_what_follows_the_end_is_refused(chunk: int) -> None:
    twice = gzip.compress(b"one") + gzip.compress(b"two")
    with pytest.raises(InputError, match="found more behind it"):
        inflated("gzip", twice, 100, chunk)


@given(st.binary(max_size=300), st.sampled_from(ENCODINGS))
def test_any_bytes_are_read_or_refused(content: bytes, encoding: str) -> None:
    try:
        found = inflated(encoding, content, 1000)
    except InputError:
        return
    assert len(found) <= 1000


@pytest.mark.parametrize("header", ["br", "zstd", "gzip, gzip", "gzip;q=1"])
def test_other_encodings_are_refused(header: str) -> None:
    with pytest.raises(InputError, match="expected gzip, deflate or none"):
        encoding_of(header)


def test_encoding_is_read_as_it_is_written() -> None:
    assert [encoding_of(header) for header in ("", "identity", " GZIP ", "deflate")] == [
        None,
        None,
        "gzip",
        "deflate",
    ]


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", None),
        ("*", None),
        ("gzip", "gzip"),
        ("deflate, gzip;q=0.2", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=nonsense", None),
    ],
)
def test_answer_is_compressed_as_asked(header: str, chosen: str | None) -> None:
    assert accepted(header) == chosen

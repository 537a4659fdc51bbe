"""Whatever a file holds, a reader reads it or says in one line what is wrong with it."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepact.errors import InputError, InputWarning
from edgepact.files import mechanism_of
from edgepact.files.auction import read_auction
from edgepact.files.columns import read_columns
from edgepact.files.contract import read_contract, read_measurements
from edgepact.files.fleet import read_fleet
from edgepact.files.scenario import read_scenario
from edgepact.files.stackelberg import read_game

EXAMPLES = Path(__file__).parents[2] / "examples"

COLUMNS: dict[str, Any] = {
    "name": ["cam-1", "カメラ"],
    "alpha": [3.0, 4.5],
    "capacity": pa.array([9, 11]),
    "A": pa.array([1.0, 1.0]).dictionary_encode(),
    "B": [0.5, 0.5],
}


def parquet_bytes(compression: str) -> bytes:
    held = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(COLUMNS), held, compression=compression)
    return held.getvalue()


def read_bids(path: Path) -> object:
    return read_columns(path, ("bid", "value"), row="bid")


Reader = Callable[[Path], object]

TOML: list[tuple[Reader, str]] = [
    (read_game, "five-cameras.toml"),
    (read_game, "may-decline.toml"),
    (read_contract, "contract.toml"),
    (read_contract, "two-costs.toml"),
    (read_auction, "auction.toml"),
    (read_auction, "auction-optimal.toml"),
    (read_auction, "auction-scored.toml"),
    (read_scenario, "scenario-selection.toml"),
    (read_scenario, "scenario-partition.toml"),
    (mechanism_of, "five-cameras.toml"),
]
TABLES: list[tuple[Reader, str, bytes]] = [
    (read_fleet, "fleet.csv", b"name,alpha,capacity,A,B\ncam-1,3.0,9,1,0.5\ncam-2,4.5,11,1,0.5\n"),
    (read_bids, "bids.csv", b'"bid",value,name\r\n1.0,"4.0",a\r\n2e0,.5,b\r\n'),
    (read_measurements, "accuracy.csv", b"rate,accuracy\n0.1,0.5\n0.2,0.75\n"),
    (read_fleet, "fleet.parquet", parquet_bytes("none")),
    (read_fleet, "fleet.parquet", parquet_bytes("snappy")),
]

PIECES = st.sampled_from(
    [
        *(b"\xff", b"\0", b"\n", b"\r", b'"', b"'", b",", b";", b"=", b"[", b"]]", b"{", b"-"),
        *(
            b"inf",
            b"nan",
            b"1e400",
            b"9" * 400,
            b"true",
            b"\xef\xbb\xbf",
            b"name",
            b"#",
            b".",
            b" ",
        ),
        *("カ".encode(), b"\x1b[31m", b"1979-05-27", b"[[device]]\n", b"price_min = 0\n", b"PAR1"),
    ]
)


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Some cuts, repetitions, insertions and changed bytes, at places relative to the length."""
    changes = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["cut", "end", "repeat", "insert", "change"]),
                st.floats(0.0, 1.0),
                st.integers(1, 20),
                PIECES,
                st.integers(0, 255),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def mutate(content: bytes) -> bytes:
        for kind, place, length, piece, byte in changes:
            at = int(place * len(content))
            match kind:
                case "cut":
                    content = content[:at] + content[at + length :]
                case "end":
                    content = content[:at]
                case "repeat":
                    content = content[: at + length] + content[at:]
                case "insert":
                    content = content[:at] + piece + content[at:]
                case _:
                    content = content[:at] + bytes([byte]) + content[at + 1 :]
        return content

    return mutate


def assert_read_or_refused(reader: Reader, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        try:
            reader(path)
        except InputError as error:
            refused = str(error)
    if refused is not None:
        assert refused.startswith(str(path.parent))
        assert refused.isprintable()
        assert ": expected " in refused
        assert len(refused) < 1500


def named(value: object) -> str:
    """A test's name that is the same in every process."""
    return getattr(value, "__name__", str(value)[:30])


@pytest.mark.parametrize(("reader", "example"), TOML, ids=named)
@given(mutate=mutations())
def test_changed_toml(
    tmp_path_factory: pytest.TempPathFactory,
    reader: Reader,
    example: str,
    mutate: Callable[[bytes], bytes],
) -> None:
    path = tmp_path_factory.getbasetemp() / example
    assert_read_or_refused(reader, path, mutate((EXAMPLES / example).read_bytes()))


@pytest.mark.parametrize(("reader", "name", "content"), TABLES, ids=named)
@given(mutate=mutations())
def test_changed_tables(
    tmp_path_factory: pytest.TempPathFactory,
    reader: Reader,
    name: str,
    content: bytes,
    mutate: Callable[[bytes], bytes],
) -> None:
    assert_read_or_refused(reader, tmp_path_factory.getbasetemp() / name, mutate(content))


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        *((reader, "any.toml") for reader, _ in TOML[::2]),
        *((reader, name) for reader, name, _ in TABLES[:4]),
    ],
    ids=named,
)
@given(content=st.one_of(st.binary(max_size=400), st.lists(PIECES, max_size=30).map(b"".join)))
def test_random_bytes(
    tmp_path_factory: pytest.TempPathFactory, reader: Reader, name: str, content: bytes
) -> None:
    assert_read_or_refused(reader, tmp_path_factory.getbasetemp() / name, content)

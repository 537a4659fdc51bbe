"""Tables of numbers as people have them: read, told what is passed over, or refused in words."""

import gzip
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from edgepact.errors import InputError, InputWarning
from edgepact.files.columns import read_columns
from edgepact.files.fleet import read_fleet
from edgepact.fleet import COLUMNS

GOOD = "name,alpha,capacity,A,B\ncam-1,3.0,9,1,0.5\ncam-2,4.5,11,1,0.5\n"
NUMBERS: dict[str, Any] = {
    "alpha": [3.0, 4.5],
    "capacity": [9.0, 11.0],
    "A": [1.0, 1.0],
    "B": [0.5, 0.5],
}


def csv_file(folder: Path, text: str | bytes, name: str = "fleet.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parquet_file(folder: Path, **columns: Any) -> Path:
    path = folder / "fleet.parquet"
    pyarrow.parquet.write_table(pa.table(NUMBERS | columns), path)
    return path


def assert_is_good(path: Path, names: list[str] | None) -> None:
    fleet, found = read_fleet(path)
    for name in COLUMNS:
        column = getattr(fleet, name)
        assert column.dtype == np.float64
        assert column.tolist() == NUMBERS[name]
    assert found == names


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text("B,A,name,capacity,alpha\n0.5,1,cam,7,2e0\n")
    fleet, names = read_fleet(path)
    assert [getattr(fleet, name).tolist() for name in COLUMNS] == [[2.0], [7.0], [1.0], [0.5]]
    assert names == ["cam"]


def test_names_are_words_even_if_they_look_like_numbers(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text("name,alpha,capacity,A,B\n007,1,2,1,0\n7,1,2,1,0\n1e3,1,2,1,0\nnan,1,2,1,0\n")
    assert read_fleet(path)[1] == ["007", "7", "1e3", "nan"]


@pytest.mark.parametrize(
    "alpha",
    [
        pa.array([1, 2], pa.int16()),
        pa.array([1.0, 2.0], pa.float32()),
        pa.array([np.float16(1.0), np.float16(2.0)], pa.float16()),
        pa.array([Decimal("1.00"), Decimal("2.00")]),
    ],
)
def test_numbers_of_every_kind_become_float64(tmp_path: Path, alpha: pa.Array) -> None:
    columns = {"alpha": alpha, "capacity": [2.0, 2.0], "A": [1.0, 1.0], "B": [0.0, 0.0]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "fleet.parquet")
    fleet, names = read_fleet(tmp_path / "fleet.parquet")
    assert fleet.alpha.tolist() == [1.0, 2.0]
    assert fleet.alpha.dtype == np.float64
    assert names is None


def test_a_word_far_down_a_long_table_is_found(tmp_path: Path) -> None:
    # pyarrow reads in blocks and guesses types from the first.
    rows = ["1.000000000000000,2.000000000000000,1.000000000000000,0"] * 30_000
    rows[29_000] = "1,2,one,0"
    path = tmp_path / "fleet.csv"
    path.write_text("alpha,capacity,A,B\n" + "\n".join(rows) + "\n")
    with pytest.raises(InputError, match=r"device\[29001\]\.A: expected a number, found \"one\""):
        read_fleet(path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD, id="plain"),
        pytest.param(b"\xef\xbb\xbf" + GOOD.encode(), id="byte order mark"),
        pytest.param(b"\xef\xbb\xbf" * 2 + GOOD.encode(), id="two byte order marks"),
        pytest.param(b"\xef\xbb\xbf\r\n\r\n" + GOOD.encode(), id="blank lines first"),
        pytest.param(GOOD.replace("\n", "\r\n"), id="lines of Windows"),
        pytest.param(GOOD.replace("\n", "\r"), id="lines of old Macs"),
        pytest.param(GOOD.replace(",", ", "), id="padded"),
        pytest.param(GOOD.replace(",", " , "), id="padded on both sides"),
        pytest.param(GOOD.replace("\n", ",\n"), id="a comma at the end of each line"),
        pytest.param(GOOD.replace("\n", ", \n"), id="a blank last column"),
        pytest.param(GOOD.replace("alpha", '"alpha"').replace("3.0", '"3.0"'), id="quoted"),
    ],
)
@pytest.mark.parametrize("name", ["fleet.csv", "fleet.CSV", "Fleet.Csv"])
def test_csv_as_people_have_it(tmp_path: Path, text: str | bytes, name: str) -> None:
    assert_is_good(csv_file(tmp_path, text, name), ["cam-1", "cam-2"])


NAMES = ["cam-1", "カメラ"]


@pytest.mark.parametrize(
    "names",
    [
        pa.array(NAMES),
        pa.array(NAMES, pa.large_string()),
        pa.array(NAMES).cast(pa.string_view()),
        pa.array([name.encode() for name in NAMES]),
        pa.array([name.encode() for name in NAMES], pa.large_binary()),
        pa.array([name.encode().ljust(16, b"\0") for name in NAMES], pa.binary(16)),
        pa.array([name.encode().ljust(16) for name in NAMES], pa.binary(16)),
        pa.array(NAMES).dictionary_encode(),
        pa.array([name.encode() for name in NAMES]).dictionary_encode(),
    ],
    ids=lambda names: str(names.type),
)
def test_names_in_parquet_are_text_whatever_their_type(tmp_path: Path, names: pa.Array) -> None:
    assert_is_good(parquet_file(tmp_path, name=names), NAMES)


@pytest.mark.parametrize(
    "alpha",
    [
        pa.array([3.0, 4.5]).dictionary_encode(),
        pa.array([Decimal("3.00"), Decimal("4.50")]),
        pa.array([3.0, 4.5], pa.float32()),
    ],
    ids=lambda column: str(column.type),
)
def test_numbers_in_parquet_are_numbers_whatever_their_type(
    tmp_path: Path, alpha: pa.Array
) -> None:
    path = parquet_file(tmp_path, alpha=alpha)
    assert_is_good(path.rename(tmp_path / "FLEET.PARQUET"), None)


@pytest.mark.parametrize(
    ("header", "cells", "told"),
    [
        ("C,D", "1,x", 'the columns "C", "D"'),
        ("Name", "x", '"Name" (did you mean "name"?)'),
        ("", "0", 'the column ""'),
        ("a\x1b[31m", "1", r'the column "a\u001b[31m"'),
        ("C", b"\xff", 'the column "C"'),
    ],
)
def test_columns_nobody_asked_for_are_told_and_passed_over(
    tmp_path: Path, header: str, cells: str | bytes, told: str
) -> None:
    cells = cells if isinstance(cells, bytes) else cells.encode()
    rows = [b"alpha,capacity,A,B", b"3.0,9,1,0.5", b"4.5,11,1,0.5"]
    more = [header.encode(), cells, cells]
    for sides in ((more, rows), (rows, more)):
        text = b"\n".join(b",".join(both) for both in zip(*sides, strict=True)) + b"\n"
        path = csv_file(tmp_path, text)
        with pytest.warns(InputWarning) as caught:
            assert_is_good(path, None)
        (warned,) = caught
        assert str(warned.message).startswith(f"{path}: passes over the column")
        assert told in str(warned.message)


def test_columns_nobody_asked_for_are_told_of_parquet_too_and_not_of_measurements(
    tmp_path: Path,
) -> None:
    path = parquet_file(tmp_path, C=[1, 2])
    with pytest.warns(InputWarning, match='passes over the column "C"'):
        assert_is_good(path, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_columns(path, COLUMNS, row="row", tells=False)


def having(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "found an empty file"),
        ("\n\n", "found an empty file"),
        ("\ufeff", "found an empty file"),
        (GOOD.encode("utf-16"), "found a byte order mark of UTF-16: save it as UTF-8"),
        (GOOD.encode("utf-16-le"), "UTF-16"),
        (GOOD.encode("utf-32"), "found a byte order mark of UTF-32: save it as UTF-8"),
        (
            having("cam-2", "Küche").encode("latin-1"),
            "found a byte of another encoding (0xfc, line 3): save it as UTF-8",
        ),
        (
            having("cam-2", "Küche").replace("\n", "\r").encode("latin-1"),
            "found a byte of another encoding (0xfc, line 3): save it as UTF-8",
        ),
        (
            having("4.5", "4.5\xa0").encode("latin-1"),
            "found a byte of another encoding (0xa0, line 3): save it as UTF-8",
        ),
        (
            b"\n" + having("alpha", "älpha").encode("latin-1"),
            "found a byte of another encoding (0xe4, line 2): save it as UTF-8",
        ),
        pytest.param(having("4.5", "4.5\0"), "found bytes that are 0", id="NUL soon"),
        pytest.param(
            GOOD + "cam-3,1,2,3,4\n" * 20 + "cam-4,1\0,2,3,4\n",
            "found a byte of another encoding (0x00, line 24): save it as UTF-8",
            id="NUL late",
        ),
        pytest.param(
            GOOD + "cam-3,1,2,3,4\n" * 20 + "cam\0-4,1,2,3,4\n",
            "device[23].name: expected a line of text",
            id="NUL late in a name",
        ),
        (GOOD.splitlines()[0], "rows: expected 1 to 20000000 devices, found 0"),
        (GOOD.splitlines()[0] + "\n", "rows: expected 1 to 20000000 devices, found 0"),
        (gzip.compress(GOOD.encode(), mtime=0), "found a compressed file (gzip): unpack it"),
        (having(",", ";"), "expected columns separated by commas, and numbers with decimal points"),
        (having(",", ";").replace(".", ","), "found columns separated by semicolons"),
        (having(",", "\t"), "found columns separated by tabs"),
        (
            having("3.0", '"3,0"'),
            'device[1].alpha: expected a number with a decimal point, found "3,0"',
        ),
        (having("3.0", "3,0"), "5 cells in each row, found a row of 6 (decimal commas?)"),
        (having("3.0", ""), "device[1].alpha: expected a number, found an empty cell"),
        (having("3.0", " "), 'device[1].alpha: expected a number, found " "'),
        (having("4.5", "1e31"), "device[2].alpha: expected a number of at most 1e+30, found 1e+31"),
        (having("4.5", "1e400"), "device[2].alpha: expected a finite number above 0, found inf"),
        (having("4.5", "1e-40"), "at least 1e-30"),
        (having("alpha", "Alpha"), 'alpha: expected a column of this name, found "Alpha"; did you'),
        (having("capacity", "capcity"), 'found "capcity"; did you mean `capacity`?'),
        (having("alpha", " gamma"), '"name", " gamma", "capacity"'),
        (having("capacity", " alpha"), "alpha: expected one column of this name, found 2"),
        (having("cam-1", "a\x1b[31m"), r'device[1].name: expected a line of text, found "a\u001b'),
        (having("cam-1", "x" * 5000), "device[1].name: expected a text of 1 to 4096 printable ch"),
        (having("name,", '"name,'), "expected a line with the names of columns"),
    ],
)
def test_csv_that_cannot_be_meant_is_refused_in_words(
    tmp_path: Path, text: str | bytes, says: str
) -> None:
    with pytest.raises(InputError) as refused:
        read_fleet(csv_file(tmp_path, text))
    assert says in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (
            {"alpha": pa.array([3.0, None])},
            "device[2].alpha: expected a number, found an empty cell",
        ),
        ({"alpha": pa.array([None, None])}, "device[1].alpha: expected a number, found an empty"),
        ({"alpha": ["3.0", "4.5"]}, "alpha: expected a column of numbers, found string"),
        ({"alpha": [True, False]}, "alpha: expected a column of numbers, found bool"),
        ({"alpha": [[1.0], [2.0]]}, "alpha: expected a column of numbers, found list"),
        ({"name": ["a", None]}, "device[2].name: expected a line of text, found an empty cell"),
        (
            {"name": [b"a", b"\xff"]},
            "device[2].name: expected a line of text, found bytes that are",
        ),
        ({"name": [1.5, 2.5]}, "name: expected a column of text, found double"),
        ({"name": ["a", "b\nc"]}, r'device[2].name: expected a line of text, found "b\nc"'),
        ({"alpha": [3.0, 1e31]}, "device[2].alpha: expected a number of at most 1e+30"),
    ],
)
def test_parquet_that_cannot_be_meant_is_refused_in_words(
    tmp_path: Path, columns: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError) as refused:
        read_fleet(parquet_file(tmp_path, **columns))
    assert says in str(refused.value)


def test_text_in_parquet_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    path = parquet_file(tmp_path, name=pa.array(["cam-1", "cam-2"]))
    path.write_bytes(path.read_bytes().replace(b"cam-2", b"\xff\xff\xff\xff\xff"))
    with pytest.raises(InputError, match="a readable parquet file, found Column 4: "):
        read_fleet(path)


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name, says in (
        ("folder.csv", "found a folder"),
        ("none.csv", "found none there"),
        ("fleet.csv.gz", "found .gz: unpack the file"),
        ("fleet.xlsx", "a .csv or .parquet file, found .xlsx"),
        ("fleet", "found no suffix"),
    ):
        with pytest.raises(InputError, match=says):
            read_fleet(tmp_path / name)
    with pytest.raises(InputError, match="found an empty file"):
        read_fleet(csv_file(tmp_path, b"", "fleet.parquet"))
    with pytest.raises(InputError, match="a readable parquet file"):
        read_fleet(csv_file(tmp_path, GOOD, "fleet.parquet"))

"""Results of a study as tables: every CSV beside a Parquet file, and all of a folder at once.

Tables are tidy: a row is one observation, a column one variable, and file and column names say
which. They are read as Arrow tables, which pandas and Polars take over as they are
(`table.to_pandas()`, `polars.from_arrow(table)`); neither is needed to read them.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

from edgepact.errors import InputError, InputWarning
from edgepact.fields import check_table, expect_file, file_exists
from edgepact.studies import STUDIES
from edgepact.studies.place import FACTS, held_in


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResults:
    """What a study left in its folder.

    Attributes:
        study: its name.
        folder: of the results.
        smoke: whether it was a smoke run, whose figures mean nothing.
        config: settings as they were played.
        metrics: the figures of `metrics.json`, provenance left out.
        provenance: command, versions, commit and machine.
        tables: Arrow tables by the name of their file: `tables["curves"].to_pandas()`.
    """

    study: str
    folder: Path
    smoke: bool
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    provenance: Mapping[str, Any]
    tables: Mapping[str, Any] = field(repr=False)


def write_parquet(folder: Path) -> bool:
    """Writes a Parquet file beside each CSV of a folder; False where pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        return False
    from pyarrow.parquet import write_table

    for path in sorted(folder.glob("*.csv")):
        write_table(_read_csv(path), path.with_suffix(".parquet"), compression="zstd")
    return True


def load(folder: Path) -> StudyResults:
    """Reads what a study left.

    Raises:
        InputError: there is no study in the folder, or its files cannot be read.
    """
    expected = f"a folder that `edgepact study` wrote, with {FACTS}"
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        source = facts.pop("provenance")
        config = source["config"]
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("load_study", "folder", expected, f"{folder}, which has none") from None
    except LookupError as error:
        raise InputError(folder / FACTS, "", "facts of a study", f"none of {error}") from error
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        found = f"a file that cannot be read ({_line(error)})"
        raise InputError(folder / FACTS, "", "facts of a study", found) from error
    study = held_in(folder)
    if study is None or study not in STUDIES:
        raise InputError("load_study", "folder", expected, f"{folder}, which holds {study}")
    check_table(folder / FACTS, "provenance.config", config, kind="a JSON object")
    return StudyResults(
        study=study,
        folder=folder,
        smoke=bool(source.get("smoke", False)),
        config=config,
        metrics=facts,
        provenance=source,
        tables=dict(sorted(_tables_in(folder), key=itemgetter(0))),
    )


def _tables_in(folder: Path) -> Iterator[tuple[str, Any]]:
    written = {path.stem for path in folder.glob("*.csv")}
    for name in written:
        yield name, _read(folder / f"{name}.csv")
    for path in folder.glob("*.parquet"):
        if path.stem not in written:
            yield path.stem, _read_parquet(path)


def _read(path: Path) -> Any:
    """The Parquet file beside a CSV, or the CSV where there is none, an older or a broken one."""
    expect_file(path, "a table of a study")
    quick = path.with_suffix(".parquet")
    if file_exists(quick) and quick.stat().st_mtime >= path.stat().st_mtime:
        try:
            return _read_parquet(quick)
        except InputError as error:
            told = f"{error}; the CSV beside it is read"
            warnings.warn(told, InputWarning, stacklevel=6)
    return _read_csv(path)


def _read_parquet(path: Path) -> Any:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        return read_table(path)
    except (ArrowException, OSError) as error:
        raise InputError(path, "", "a Parquet file", _line(error)) from error


def _read_csv(path: Path) -> Any:
    from pyarrow import ArrowException
    from pyarrow.csv import read_csv

    try:
        return read_csv(path)
    except (ArrowException, OSError) as error:
        raise InputError(path, "", "a table of a study", _line(error)) from error


def _line(error: Exception) -> str:
    return next(iter(f"{error}".splitlines()), type(error).__name__)

"""Market files: TOML in, a checked game out.

Every error names the file, the field, what was expected and what was found.
"""

import json
import math
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError
from edgepact.fleet import (
    COLUMNS,
    DEVICES_MAX,
    SIZE_EXPECTED,
    Fleet,
    checked_fleet,
    file_exists,
    has_size,
    read_fleet,
)
from edgepact.mechanisms.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg import Game

LAYERS_MAX = 1000
"""Most layers of a model; real ones have tens."""

FILE_BYTES_MAX = 256 * 2**20
"""Largest TOML file read; larger fleets come as CSV or Parquet."""

SHOWN_CHARS_MAX = 60
"""Longest value an error repeats."""

CELLS_MAX = 200_000_000
"""Most devices times layers of an integer game: a dozen arrays of this size are held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """A game as a file states it.

    Attributes:
        source: the file.
        game: float64 NumPy arrays, devices in file order.
        names: of the devices; `device-1`, `device-2`, ... where the file has none.
    """

    source: Path
    game: Game
    names: list[str]


class Table:
    """One TOML table, read field by field; `close` refuses what nobody asked for."""

    def __init__(self, source: Path, path: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise InputError(source, path, "a table", _shown(values))
        self._source, self._path, self._values = source, path, dict(values)
        self._known: list[str] = []

    def number(self, name: str, *, above: float | None = None, least: float | None = None) -> float:
        """A finite number, larger than `above` or at least `least`, of a reasonable size."""
        expected = "a finite number"
        if above is not None:
            expected += f" above {above:g}"
        elif least is not None:
            expected += f" of at least {least:g}"
        value = self._take(name, expected)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        # An integer beyond the range of floats cannot be converted, only compared.
        good = good and abs(value) <= 1e300 and math.isfinite(value)
        if not good or (above is not None and value <= above):
            raise self._wrong(name, expected, value)
        if least is not None and value < least:
            raise self._wrong(name, expected, value)
        if not has_size(float(value)):
            raise self._wrong(name, SIZE_EXPECTED, value)
        return float(value)

    def whole(self, name: str, *, least: int, most: int) -> int:
        """A whole number in a range."""
        expected = f"a whole number from {least} to {most}"
        value = self._take(name, expected)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(name, expected, value)
        return value

    def choice(self, name: str, options: tuple[str, ...], default: str | None = None) -> str:
        """One of a few words."""
        expected = "one of " + ", ".join(options)
        value = self._take(name, expected, default)
        if not isinstance(value, str) or value not in options:
            raise self._wrong(name, expected, value)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self._take(name, "true or false", default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def text(self, name: str, default: str) -> str:
        """A line of text."""
        value = self._take(name, "a line of text", default)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self._wrong(name, "a line of text", value)
        return value

    def raw(self, name: str, expected: str) -> Any:
        """A value of any type, to be checked by the caller."""
        return self._take(name, expected)

    def close(self) -> None:
        """Raises if the table holds a field that nobody read."""
        for name in self._values:
            raise InputError(
                self._source, self._field(name), f"one of {', '.join(self._known)}", "this field"
            )

    def _take(self, name: str, expected: str, default: Any = None) -> Any:
        self._known.append(name)
        if name in self._values:
            return self._values.pop(name)
        if default is None:
            raise InputError(self._source, self._field(name), expected, "nothing")
        return default

    def _wrong(self, name: str, expected: str, value: Any) -> InputError:
        return InputError(self._source, self._field(name), expected, _shown(value))

    def _field(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def _shown(value: Any) -> str:
    """A value as the file spells it, shortened where it is long."""
    if isinstance(value, bool | str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, int) and abs(value) > 10**SHOWN_CHARS_MAX:
        text = f"a whole number of {value.bit_length()} bits"  # str() refuses the longest
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list):
        text = "a list" if value else "an empty list"
    else:
        text = str(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"


def read_market(path: Path) -> Market:
    """Reads a file with `mechanism = "stackelberg"`.

    Raises:
        InputError: the file is missing, not TOML, or says something impossible.
    """
    document = _load(path)
    table = Table(path, "", document)
    table.choice("mechanism", ("stackelberg",))
    layers = table.choice("layers", ("integer", "continuous"), "integer")
    satisfaction = table.choice("satisfaction", tuple(FAMILIES), "log1p")
    outside_option = table.flag("outside_option", False)
    server = Table(path, "server", table.raw("server", "a table [server]"))
    revenue = server.number("revenue")
    beta = server.number("beta", least=0.0)
    layers_max = server.whole("layers_max", least=1, most=LAYERS_MAX)
    price_min = server.number("price_min", least=0.0)
    price_max = server.number("price_max", least=price_min)
    server.close()
    fleet, names = _devices(path, table, document)
    table.close()
    if layers == "integer" and len(fleet) * layers_max > CELLS_MAX:
        expected = f"at most {CELLS_MAX} devices times layers with layers = 'integer'"
        raise InputError(path, "devices", expected, len(fleet) * layers_max)
    game = Game(
        fleet=fleet,
        revenue=revenue,
        beta=beta,
        price_min=price_min,
        price_max=price_max,
        layers_max=layers_max,
        integer=layers == "integer",
        satisfaction=FAMILIES[satisfaction],
        outside_option=outside_option,
    )
    return Market(source=path, game=game, names=names)


def _load(path: Path) -> dict[str, Any]:
    if not file_exists(path):
        raise InputError(path, "", "a TOML file", "none there")
    if path.stat().st_size > FILE_BYTES_MAX:
        raise InputError(path, "", f"at most {FILE_BYTES_MAX} bytes", path.stat().st_size)
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    # ValueError: not TOML, not UTF-8, or a number of too many digits.
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(path, "", "TOML", f"{error}") from None


def _devices(path: Path, table: Table, document: dict[str, Any]) -> tuple[Fleet, list[str]]:
    if "devices" in document:
        if "device" in document:
            raise InputError(path, "device", "either devices = FILE or [[device]]", "both")
        file = path.parent / table.text("devices", "")
        if not file_exists(file):
            raise InputError(path, "devices", "a file that exists", f"no file {_shown(str(file))}")
        fleet, names = read_fleet(file)
    else:
        fleet, names = _listed_devices(path, table.raw("device", "[[device]] or devices = FILE"))
    if names is None:
        names = [f"device-{at + 1}" for at in range(len(fleet))]
    if len(set(names)) < len(names):
        repeated = Counter(names).most_common(1)[0][0]
        expected = "names that differ"
        raise InputError(path, "device.name", expected, f"{_shown(repeated)} more than once")
    return fleet, names


def _listed_devices(path: Path, entries: Any) -> tuple[Fleet, list[str]]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= DEVICES_MAX:
        raise InputError(path, "device", "one or more [[device]] tables", _shown(entries))
    columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
    names = []
    for at, entry in enumerate(entries, start=1):
        device = Table(path, f"device[{at}]", entry)
        names.append(device.text("name", f"device-{at}"))
        columns["alpha"].append(device.number("alpha", above=0.0))
        columns["capacity"].append(device.number("capacity", least=0.0))
        columns["A"].append(device.number("A", above=0.0))
        columns["B"].append(device.number("B", least=0.0))
        device.close()
    fleet = Fleet(**{name: np.asarray(column) for name, column in columns.items()})
    return checked_fleet(path, fleet), names

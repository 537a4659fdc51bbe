"""Files with `mechanism = "stackelberg"`: TOML in, a checked game out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepact.errors import InputError
from edgepact.fields import Table, checked_names, load, shown, table_file, terms_in
from edgepact.files.columns import ROWS_MAX
from edgepact.files.fleet import read_fleet
from edgepact.fleet import COLUMNS, Fleet, fleet_of
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import LAYERS_MAX, LEAST, Game


@dataclass(frozen=True, slots=True, kw_only=True)
class GameFile:
    """A game as a file states it.

    Attributes:
        source: the file.
        game: float64 NumPy arrays, devices in file order.
        names: of the devices; `device-1`, `device-2`, ... where the file has none.
    """

    source: Path
    game: Game
    names: list[str]


def read_game(path: Path) -> GameFile:
    """Reads a file with `mechanism = "stackelberg"`.

    Raises:
        InputError: the file is missing, not TOML, or says something impossible.
    """
    return game_of(path, load(path))


def game_of(path: Path, document: dict[str, Any]) -> GameFile:
    """What a document with `mechanism = "stackelberg"` states.

    Args:
        path: of its file, for errors and for the files that it names.
        document: all of it; the tables of a scenario are passed over.

    Raises:
        InputError: it says something impossible.
    """
    document = terms_in(document)
    table = Table(path, "", document)
    table.choice("mechanism", ("stackelberg",))
    layers = table.choice("layers", ("integer", "continuous"), "integer")
    satisfaction = table.choice("satisfaction", tuple(FAMILIES), "log1p")
    outside_option = table.flag("outside_option", False)
    server = Table(path, "server", table.raw("server", "a table [server]"))
    revenue = server.number("revenue")
    beta = server.number("beta", least=LEAST)
    layers_max = server.whole("layers_max", least=1, most=LAYERS_MAX)
    price_min, price_max = server.interval("price_min", "price_max", least=LEAST)
    server.close()
    fleet, names = _devices(path, table, document)
    table.close()
    try:
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
    except InputError as error:  # what only all of it together can show
        raise InputError(path, "devices", error.expected, error.found) from None
    return GameFile(source=path, game=game, names=names)


def _devices(path: Path, table: Table, document: dict[str, Any]) -> tuple[Fleet, list[str]]:
    if "devices" in document:
        if "device" in document:
            raise InputError(path, "device", "either devices = FILE or [[device]]", "both")
        file = table_file(path, "devices", table.text("devices", ""))
        fleet, names = read_fleet(file)
    else:
        fleet, names = _listed_devices(path, table.raw("device", "[[device]] or devices = FILE"))
    return fleet, checked_names(path, "device", names, len(fleet))


def _listed_devices(path: Path, entries: Any) -> tuple[Fleet, list[str]]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= ROWS_MAX:
        raise InputError(path, "device", "one or more [[device]] tables", shown(entries))
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
    return fleet_of(path, columns), names

"""Files with `mechanism = "stackelberg"`: TOML in, a checked game out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepact.errors import InputError
from edgepact.fields import Table, load, terms_in
from edgepact.files.columns import ROWS_MAX
from edgepact.files.fleet import read_devices
from edgepact.files.scenario import is_scenario, scenario_of
from edgepact.fleet import COLUMNS, fleet_of
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import LAYERS_MAX, LEAST, Game

FIELDS = (
    *("mechanism", "layers", "satisfaction", "outside_option"),
    *("server", "device", "devices"),
)
"""All that a file says at its top."""


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
    """Reads a file with `mechanism = "stackelberg"`, which may be the one of a whole scenario.

    Raises:
        InputError: the file is missing, not TOML, or says something impossible, in the tables of
            a scenario too.
    """
    document = load(path)
    if is_scenario(document):
        scenario_of(path, document)
    return game_of(path, document)


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
    table.expect_known(*FIELDS)
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
    columns, names = read_devices(path, table, COLUMNS, most=ROWS_MAX)
    fleet = fleet_of(path, columns)
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

"""Files with `mechanism = "stackelberg"`: TOML in, a checked game out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepact.errors import InputError
from edgepact.fields import Table, load, terms_in
from edgepact.files.columns import ROWS_MAX
from edgepact.files.fleet import read_devices
from edgepact.fleet import COLUMNS, Fleet, checked_fleet
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import Game

LAYERS_MAX = 1000
"""Most layers of a model; real ones have tens."""

CELLS_MAX = 200_000_000
"""Most devices times layers of an integer game: a dozen arrays of this size are held."""


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
    table.expect_known(*FIELDS)
    table.choice("mechanism", ("stackelberg",))
    layers = table.choice("layers", ("integer", "continuous"), "integer")
    satisfaction = table.choice("satisfaction", tuple(FAMILIES), "log1p")
    outside_option = table.flag("outside_option", False)
    server = Table(path, "server", table.raw("server", "a table [server]"))
    revenue = server.number("revenue")
    beta = server.number("beta", least=0.0)
    layers_max = server.whole("layers_max", least=1, most=LAYERS_MAX)
    price_min, price_max = server.interval("price_min", "price_max", least=0.0)
    server.close()
    columns, names = read_devices(path, table, COLUMNS, most=ROWS_MAX)
    fleet = checked_fleet(path, Fleet(**columns))
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
    return GameFile(source=path, game=game, names=names)

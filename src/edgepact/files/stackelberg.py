"""Files with `mechanism = "stackelberg"`: TOML in, a checked game out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepact.errors import InputError, shown
from edgepact.fields import Table, check_list, load, terms_in
from edgepact.files.buyers import buyers_of, mean_revenue
from edgepact.files.columns import ROWS_MAX
from edgepact.files.fleet import read_devices
from edgepact.files.scenario import is_scenario, scenario_of
from edgepact.fleet import COLUMNS, fleet_of
from edgepact.mechanisms.stackelberg.link import LINK_COLUMNS, Links, Traffic, link_costs
from edgepact.mechanisms.stackelberg.satisfaction import FAMILIES
from edgepact.mechanisms.stackelberg.terms import LAYERS_MAX, LEAST, Game

FIELDS = (
    *("mechanism", "layers", "satisfaction", "outside_option"),
    *("server", "device", "devices", "traffic", "buyer"),
)
"""All that a file says at its top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GameFile:
    """A game as a file states it.

    Attributes:
        source: the file.
        game: float64 NumPy arrays, devices in file order.
        names: of the devices; `device-1`, `device-2`, ... where the file has none.
        links: of the devices, arrays `(devices,)`; None where they cost nothing.
        traffic: what travels at each cut; None where links cost nothing.
    """

    source: Path
    game: Game
    names: list[str]
    links: Links | None = None
    traffic: Traffic | None = None


def read_game(path: Path) -> GameFile:
    """Reads a file with `mechanism = "stackelberg"`, which may be the one of a whole scenario.

    Raises:
        InputError: the file is missing, not TOML, or says something impossible, in the tables of
            a scenario too.
    """
    document = load(path)
    if is_scenario(document):
        if (mechanism := document.get("mechanism", "stackelberg")) != "stackelberg":
            expected = '"stackelberg" of a fleet; `edgepact run FILE` plays others'
            raise InputError(path, "mechanism", expected, shown(mechanism))
        scenario_of(path, document)
    return game_of(path, document)


def game_of(
    path: Path, document: dict[str, Any], *, traffic: Callable[[], Traffic] | None = None
) -> GameFile:
    """What a document with `mechanism = "stackelberg"` states.

    Args:
        path: of its file, for errors and for the files that it names.
        document: all of it; the tables of a scenario are passed over.
        traffic: what travels at each cut, where `[traffic]` does not state it; None where nobody
            knows.

    Raises:
        InputError: it says something impossible.
    """
    document = terms_in(document)
    table = Table(path, "", document)
    table.choice("mechanism", ("stackelberg",))  # first: other mechanisms have other fields
    table.expect_known(*FIELDS)
    layers = table.choice("layers", ("integer", "continuous"), "integer")
    satisfaction = table.choice("satisfaction", tuple(FAMILIES), "log1p")
    outside_option = table.flag("outside_option", False)
    server = Table(path, "server", table.raw("server", "a table [server]"))
    buyers = buyers_of(path, document)
    if buyers:
        table.raw("buyer", "tables [[buyer]]")
        if "revenue" in server:
            expected = "nothing beside [[buyer]], who say what a unit brings"
            raise InputError(path, "server.revenue", expected, document["server"]["revenue"])
    revenue = 0.0 if buyers else server.number("revenue")
    beta = server.number("beta", least=LEAST)
    layers_max = server.whole("layers_max", least=1, most=LAYERS_MAX)
    price_min, price_max = server.interval("price_min", "price_max", least=LEAST)
    server.close()
    travels = _traffic(path, table, layers_max, traffic) if "traffic" in table else None
    wanted = COLUMNS if travels is None else (*COLUMNS, *LINK_COLUMNS)
    columns, names = read_devices(path, table, wanted, most=ROWS_MAX)
    fleet = fleet_of(path, {name: columns[name] for name in COLUMNS})
    if buyers:  # a unit of each device
        revenue = len(fleet) * mean_revenue(buyers)
    links = None if travels is None else Links(**{name: columns[name] for name in LINK_COLUMNS})
    table.close()
    if links is not None and layers != "integer":
        expected = "'integer': what travels is known at the cuts alone"
        raise InputError(path, "layers", expected, layers)
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
            link=None if links is None or travels is None else link_costs(links, travels, np),
        )
    except InputError as error:  # what only all of it together can show
        raise InputError(path, "devices", error.expected, error.found) from None
    return GameFile(source=path, game=game, names=names, links=links, traffic=travels)


def _traffic(
    path: Path, top: Table, layers_max: int, otherwise: Callable[[], Traffic] | None
) -> Traffic:
    """What travels for an image at each cut."""
    table = Table(path, "traffic", top.raw("traffic", "a table [traffic]"))
    stated = {}
    expected = f"{layers_max + 1} numbers, from no layers to all of them"
    for name in ("sent_bytes", "round_trips"):
        if name in table or (name == "sent_bytes" and otherwise is None):
            stated[name] = table.raw(name, expected)
            many = layers_max + 1
            check_list(path, f"traffic.{name}", stated[name], of="numbers", least=many, most=many)
    table.close()
    try:
        travels = Traffic(**stated) if "sent_bytes" in stated or otherwise is None else otherwise()
    except InputError as error:
        raise InputError(path, f"traffic.{error.field}", error.expected, error.found) from None
    if len(travels.sent_bytes) != layers_max + 1:  # another model's
        raise InputError(path, "traffic.sent_bytes", expected, f"{len(travels.sent_bytes)}")
    return travels
